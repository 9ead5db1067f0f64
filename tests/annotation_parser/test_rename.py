from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from vlpart.annotation_parser.rename import Renamer
from vlpart.recipes.parser import FINDS, get_find_recipe
from vlpart.text.vocabulary import Vocabulary


@pytest.mark.parametrize(
    ("names", "label", "part", "expected"),
    [
        ("partimagenet", "Quadruped", "paw", "Quadruped Foot"),
        ("partimagenet", "Biped", "paw", "Biped Hand"),
        ("partimagenet", "Quadruped", "torso", "Quadruped Body"),
        ("partimagenet", "Quadruped", "leg", None),
        ("partimagenet", "Bottle", "cap", "Bottle Mouth"),
        ("pascal_part", "bus", "wheel", "bus:wheel"),
        ("pascal_part", "dog", "body", "dog:torso"),
        ("pascal_part", "dog", "paw", "dog:paw"),
        ("pascal_part", "dog", "foot", None),
        ("pascal_part", "bottle", "mouth", None),
        ("pascal_part", "boat", "wheel", None),
        ("paco", "trash_can", "body", "trash_can:body"),
        ("paco", "trash can", "Body", "trash_can:body"),
        ("addition_part", "elephant", "foot", None),
    ],
)
def test_published_vocabularies(names: str, label: str, part: str, expected: str | None) -> None:
    assert Renamer(Vocabulary.load(names))(label, part) == expected


def test_the_table_is_ordered_and_goes_one_way() -> None:
    every = Renamer(Vocabulary.parse("ape: paw, foot, hand, torso, body, cap, mouth"))
    tried = ("paw", "foot", "hand", "torso", "body", "cap", "mouth")
    written = [(every("ape", part) or "").partition(":")[2] for part in tried]
    assert written == ["hand", "foot", "hand", "body", "body", "mouth", "mouth"]


def test_whole_objects_keep_their_name_whatever_the_label() -> None:
    paco = Vocabulary.load("paco")
    renamer = Renamer(paco)
    assert renamer.found("mug", paco, paco.names.index("bench")) == "bench"
    assert Renamer(Vocabulary.load("voc")).whole("Bicycle") == "bicycle"
    assert Renamer(Vocabulary.load("pascal_part")).whole("dog") is None
    assert Renamer(None).whole("dog") == "dog"


def test_own_renames_and_none() -> None:
    vocabulary = Vocabulary.parse("bench: back rest")
    assert Renamer(vocabulary)("bench", "back") is None
    assert Renamer(vocabulary, {"back": ("back_rest",)})("bench", "back") == "bench:back rest"


def test_without_a_vocabulary_every_part_is_taken() -> None:
    assert Renamer(None)("swivel chair", "seat") == "swivel chair:seat"


def test_entries_that_are_no_parts_are_never_chosen_for_a_part() -> None:
    assert Renamer(Vocabulary.load("voc"))("car", "wheel") is None


def rule(label: str, base: str, base_separator: str, novel: Iterable[str], novel_separator: str) -> str | None:
    """The published rule on bare strings, written independently of the class."""
    names = {name.lower(): name for name in novel}
    if base_separator not in base:
        return names.get(base.lower())
    part = base.split(base_separator, 1)[1].lower()
    table = {"body": "body torso", "torso": "body torso", "paw": "hand foot paw", "cap": "mouth cap"}
    for each in table[part].split() if part in table else [part]:
        if (written := f"{label}{novel_separator}{each}".lower()) in names:
            return names[written]
    return None


@pytest.mark.parametrize("run", FINDS)
def test_every_pair_of_label_and_found_class_equals_the_rule(run: str, shared: Path) -> None:
    """All labels of a published run times all classes that it can find, with the category lists of the facts."""
    find = get_find_recipe(run)
    listed = {"in_s11": "partimagenet_supercategories", "in_s20": "imagenet_s20"}.get(run)
    labels, base, novel = (
        [entry["name"] for entry in facts_list(shared, name)]
        for name in (listed or run.removesuffix("_swinbase"), find.vocabulary, find.names)
    )
    vocabulary, renamer = Vocabulary.load(find.vocabulary), Renamer(Vocabulary.load(find.names))
    separators = [" " if name == "partimagenet" else ":" for name in (find.vocabulary, find.names)]
    assert list(vocabulary.names) == base
    kept = 0
    for label in labels:
        for index, name in enumerate(base):
            expected = rule(label, name, separators[0], novel, separators[1])
            assert renamer.found(label, vocabulary, index) == expected, (label, name)
            kept += expected is not None
    assert kept > 0


def facts_list(shared: Path, name: str) -> list[dict[str, str]]:
    content = json.loads((shared / "facts" / "vocabularies" / f"{name}.json").read_text())
    return content if isinstance(content, list) else content.get("entries") or content["categories"]
