from __future__ import annotations

import json
from pathlib import Path

import pytest

from vlpart.data.indexing import load_source
from vlpart.recipes import get_recipe, list_recipes
from vlpart.recipes.ladder import NOVEL_OBJECTS, START
from vlpart.types import AnnotationKind

LADDER = [name for name in list_recipes() if name.startswith("ladder_")]
ARMS = [name for name in LADDER if name not in ("ladder_start", "ladder_base")]


def test_arms_differ_in_their_sources_only() -> None:
    assert len(ARMS) == 6
    arms = [get_recipe(name, Path("data")).to_dict() for name in ARMS]
    same = [{key: value for key, value in arm.items() if key not in ("name", "sources")} for arm in arms]
    assert all(each == same[0] for each in same)
    assert same[0]["init"] == START


@pytest.mark.parametrize("name", LADDER)
def test_no_part_of_a_novel_object_is_annotated(name: str) -> None:
    for source in get_recipe(name, Path("data")).sources:
        if source.name == "image_labels":
            assert (source.kind, source.take) == (AnnotationKind.IMAGE_LABELS, "all")
        elif source.name == "parsed":
            assert source.annotations == Path("runs", f"{name}.json")
        elif (name, source.name) != ("ladder_oracle", "novel_parts"):
            assert source.exclude_objects == NOVEL_OBJECTS or source.take == "objects"


def test_the_split_is_that_of_the_data(shared: Path) -> None:
    root = shared / "data"
    split = json.loads((root / "ade_parts" / "train.json").read_text())["info"]["ov_parts_zero_shot"]
    assert set(split["novel_objects"]) == NOVEL_OBJECTS
    *annotated, labels = get_recipe("ladder_labels", root).sources
    seen = {name for source in annotated for name in load_source(source).vocabulary.names}
    assert {name for name in seen if name.split(":")[0] in NOVEL_OBJECTS} == NOVEL_OBJECTS
    assert {name.split(":")[0] for name in seen} == {*split["base_objects"], *split["novel_objects"]}
    assert len(load_source(labels).vocabulary) > 990
