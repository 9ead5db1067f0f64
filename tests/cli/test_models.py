from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run


def test_list_has_a_line_for_every_model(run: Run, private_cache: Path) -> None:
    (private_cache / "models").mkdir()
    (private_cache / "models" / "r50_paco.pth").write_bytes(b"")
    headings, *rows = [line.split("\t") for line in run("models", "list").out.splitlines()]
    assert headings == ["name", "architecture", "vocabulary", "weights"]
    assert len(rows) == 31
    assert rows[0] == ["tiny", "tiny2", rows[0][2], "in the package"]
    where = {row[0]: row[3] for row in rows}
    assert where["r50_paco"] == "downloaded"
    assert where["r50_pascalpart"] == "to download"


def test_show_tells_the_published_figures(run: Run) -> None:
    outcome = run("models", "show", "swinbase_cascade_pascalpart")
    assert outcome.code == 0
    assert "swin_b_cascade" in outcome.out
    assert "27.4 / 56.1" in outcome.out


def test_json_is_the_whole_entry(run: Run) -> None:
    entries = json.loads(run("models", "list", "--json").out)
    shown = json.loads(run("models", "show", "r50_paco", "--json").out)
    assert shown in entries
    assert shown["url"].endswith("r50_paco.pth")


def test_download_of_the_embedded_model_prints_where_it_is(run: Run, tiny_weights: Path) -> None:
    outcome = run("models", "download", "tiny")
    assert (outcome.code, outcome.out) == (0, f"{tiny_weights}\n")


def test_download_fetches_the_text_encoder_too(run: Run, private_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def download(url: str, target: Path, **_: object) -> Path:
        asked.append(url.rsplit("/", 1)[-1])
        return target

    monkeypatch.setattr("vlpart.zoo.download.download_file", download)
    outcome = run("models", "download", "r50_voc", "r50_coco", "--no-progress")
    assert outcome.code == 0, outcome.err
    assert asked == ["r50_voc.pth", "r50_coco.pth", "RN50.pt"]
    assert outcome.out.splitlines()[-1] == str(private_cache / "clip" / "RN50.pt")
    monkeypatch.setenv("VLPART_CLIP_WEIGHTS", "elsewhere.pt")
    assert run("models", "download", "r50_voc").out.splitlines()[-1] == "elsewhere.pt"
    assert asked[3:] == ["r50_voc.pth"]


def test_download_checks_every_name_first(run: Run) -> None:
    outcome = run("models", "download", "r50_pascalpart", "r50_nothing")
    assert (outcome.code, "r50_nothing" in outcome.err) == (1, True)
