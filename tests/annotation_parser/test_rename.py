from __future__ import annotations

import pytest

from vlpart.annotation_parser.rename import Renamer
from vlpart.text.vocabulary import Vocabulary


@pytest.mark.parametrize(
    ("names", "label", "part", "expected"),
    [
        ("partimagenet", "Quadruped", "paw", "Quadruped Foot"),
        ("partimagenet", "Quadruped", "torso", "Quadruped Body"),
        ("partimagenet", "Quadruped", "leg", None),
        ("partimagenet", "Bottle", "cap", "Bottle Mouth"),
        ("pascal_part", "bus", "wheel", "bus:wheel"),
        ("pascal_part", "dog", "foot", "dog:paw"),
        ("pascal_part", "boat", "wheel", None),
        ("paco", "trash_can", "body", "trash_can:body"),
        ("paco", "trash can", "Body", "trash_can:body"),
        ("addition_part", "elephant", "foot", "elephant:paw"),
    ],
)
def test_published_vocabularies(names: str, label: str, part: str, expected: str | None) -> None:
    assert Renamer(Vocabulary.load(names))(label, part) == expected


def test_the_own_name_goes_before_a_synonym() -> None:
    vocabulary = Vocabulary.parse("ape: hand, foot")
    assert [Renamer(vocabulary)("ape", part) for part in ("foot", "hand", "paw")] == [
        "ape:foot",
        "ape:hand",
        "ape:foot",
    ]


def test_own_synonyms_and_none() -> None:
    vocabulary = Vocabulary.parse("bench: back rest")
    assert Renamer(vocabulary)("bench", "back") is None
    assert Renamer(vocabulary, [frozenset({"back", "back_rest"})])("bench", "back") == "bench:back rest"


def test_without_a_vocabulary_every_part_is_taken() -> None:
    assert Renamer(None)("swivel chair", "seat") == "swivel chair:seat"


def test_entries_that_are_no_parts_are_never_chosen() -> None:
    assert Renamer(Vocabulary.load("voc"))("car", "wheel") is None
