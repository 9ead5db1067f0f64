from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import Run
from vlpart.text.vocabulary import Vocabulary


def test_list_has_a_line_for_every_list(run: Run) -> None:
    _, *rows = [line.split("\t") for line in run("vocabularies", "list").out.splitlines()]
    assert [row[0] for row in rows] == Vocabulary.available()
    assert ["pascal_part", "93"] in [row[:2] for row in rows]


def test_show_prints_how_a_text_is_understood(run: Run) -> None:
    outcome = run("vocabularies", "show", "car: wheel; person")
    assert outcome.out.splitlines() == [
        "id\tname\tpart of\tpart",
        "1\tcar\t\t",
        "2\tcar:wheel\tcar\twheel",
        "3\tperson\t\t",
    ]


def test_show_json_is_a_vocabulary_file(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "words.json"
    file.write_text(run("vocabularies", "show", "pascal_part", "--json").out, encoding="utf-8")
    assert Vocabulary.load(file) == Vocabulary.load("pascal_part")


def test_an_unknown_list_is_an_error_with_near_names(run: Run) -> None:
    outcome = run("vocabularies", "show", "pascal_prat")
    assert (outcome.code, "pascal_part" in outcome.err) == (1, True)
