"""What another total batch does to a recipe, and what another length does."""

from __future__ import annotations

from pathlib import Path

import pytest

from vlpart.recipes import get_recipe
from vlpart.training.recipe import images_per_step, scaled, with_iterations

R50 = get_recipe("r50_pascalpart", Path("datasets"))


def test_the_published_batch_changes_nothing():
    for recipe, world_size in ((R50, 8), (R50.changed(accumulate=8), 1), (R50.with_batch_size(4), 4)):
        assert images_per_step(recipe, world_size) == 16
        assert scaled(recipe, world_size).recipe is recipe
        assert scaled(recipe, world_size).changes == ()


def test_one_process_sees_as_many_images_in_more_steps():
    fitted = scaled(R50.changed(evaluate_every=500), 1)
    recipe = fitted.recipe
    assert recipe.learning_rate == pytest.approx(5e-5 / 8)
    assert (recipe.iterations, recipe.steps, recipe.warmup_iterations) == (80_000, (48_000, 64_000), 8_000)
    assert (recipe.checkpoint_every, recipe.evaluate_every) == (16_000, 4_000)
    text = "\n".join(fitted.changes)
    for part in ("one step sees 2 images", "instead of 16", "iterations: 10000 -> 80000", "--accumulate 8"):
        assert part in text
    assert "1 process)" in text


def test_more_processes_take_fewer_steps():
    recipe = scaled(R50, 32).recipe
    assert (recipe.learning_rate, recipe.iterations, recipe.steps) == (2e-4, 2_500, (1_500, 2_000))


def test_the_root_and_nothing():
    root = scaled(R50.changed(batch_scaling="sqrt"), 32).recipe
    assert (root.learning_rate, root.iterations) == (pytest.approx(1e-4), 2_500)
    plain = scaled(R50.changed(batch_scaling="none"), 32)
    assert plain.recipe.learning_rate == 5e-5 and plain.recipe.iterations == 10_000
    assert len(plain.changes) == 1
    tiny = get_recipe("tiny", Path("data"))
    assert scaled(tiny, 5).recipe is tiny


def test_other_sources_keep_their_proportion():
    recipe = get_recipe("r50_lvis_paco_pascalpart_ins11_ins11parsed", Path("datasets"))
    assert [s.batch_size for s in recipe.sources] == [2, 2, 2, 8, 4]
    assert [s.batch_size for s in recipe.with_batch_size(1).sources] == [1, 1, 1, 4, 2]
    assert [s.batch_size for s in recipe.with_batch_size(6).sources] == [6, 6, 6, 24, 12]


def test_another_length_keeps_the_shape():
    short = with_iterations(R50, 1_000)
    assert (short.iterations, short.steps, short.warmup_iterations) == (1_000, (600, 800), 100)
    assert with_iterations(R50, 40_000).warmup_iterations == 1_000
    assert with_iterations(R50, 1).warmup_iterations == 0
