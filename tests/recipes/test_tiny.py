"""The recipe of the embedded model: only train splits, what the data asks for, and a frozen, checked dataclass."""

import dataclasses
import json
from pathlib import Path

import pytest

from vlpart.data.indexing import load_source
from vlpart.errors import TrainingError
from vlpart.recipes import get_recipe, list_recipes
from vlpart.training.recipe import check_same_recipe

ROOT = Path("data")


def test_tiny_trains_on_the_train_splits_only():
    recipe = get_recipe("tiny", ROOT)
    ratios = {source.name: source.ratio for source in recipe.sources}
    assert list(ratios) == ["car_parts", "faces", "ade_parts", "coco128"]
    assert max(ratios, key=ratios.__getitem__) == "ade_parts"
    assert all(Path(source.annotations).name == "train.json" for source in recipe.sources)
    assert all(each.annotations.name == "val.json" for each in recipe.evaluate_on)
    by_name = {source.name: source for source in recipe.sources}
    assert [name for name, source in by_name.items() if source.unlabelled == "unknown"] == ["ade_parts"]
    assert [name for name, source in by_name.items() if source.flip_swaps_left_right] == ["car_parts"]
    assert [each.name for each in recipe.evaluate_on if each.annotated_classes_only] == ["ade_parts"]
    json.dumps(recipe.to_dict())


def test_tiny_over_the_real_data(shared):
    recipe = get_recipe("tiny", shared / "data")
    sizes = {source.name: len(load_source(source)) for source in recipe.sources}
    assert sizes == {"car_parts": 400, "faces": 700, "ade_parts": 2006, "coco128": 98}


def test_unknown_names_list_near_ones():
    assert "tiny" in list_recipes()
    with pytest.raises(TrainingError, match="tiny"):
        get_recipe("tinny", ROOT)


def test_recipes_are_frozen_and_checked():
    recipe = get_recipe("tiny", ROOT)
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe.seed = 1
    assert recipe.changed(iterations=7, seed=None).iterations == 7
    for options, message in (
        ({"iterations": 0}, "iterations"),
        ({"sources": recipe.sources[:1] * 2}, "two sources"),
        ({"sources": ()}, "at least one source"),
        ({"schedule": "step"}, "schedule"),
        ({"precision": "fp8"}, "precision"),
        ({"ema_decay": 1.0}, "ema_decay"),
        ({"iteration": 3}, "no field iteration"),
    ):
        with pytest.raises(TrainingError, match=message):
            recipe.changed(**options)


def test_what_a_resumed_run_may_change():
    recipe = get_recipe("tiny", ROOT)
    saved = recipe.to_dict()
    assert check_same_recipe(recipe, saved) == []
    assert check_same_recipe(recipe.changed(iterations=9000, log_every=5), saved) == ["iterations", "log_every"]
    elsewhere = get_recipe("tiny", Path("other"))
    assert set(check_same_recipe(elsewhere, saved)) == {"sources", "evaluate_on"}
    with pytest.raises(TrainingError, match="sources"):
        check_same_recipe(recipe.changed(sources=recipe.sources[:2]), saved)
