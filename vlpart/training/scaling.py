"""What becomes of a recipe's learning rate and step counts when the total batch is not the one it was made for.

Published numbers are for 16 images a step (8 processes of 2). With f = images now / images then, step counts are
divided by f, so that the run sees as many images in all. The learning rate is multiplied by f ("linear"), or by its
root ("sqrt"), which some prefer with Adam. Accumulated batches count: one process with `accumulate=8` needs no scaling.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from vlpart.training.recipe import Recipe

COUNTS = ("iterations", "warmup_iterations", "checkpoint_every", "evaluate_every")


@dataclass(frozen=True, kw_only=True)
class ScaledRecipe:
    """A recipe for the batch that it really gets, and what was changed, in words (empty = nothing)."""

    recipe: Recipe
    changes: tuple[str, ...]


def images_per_step(recipe: Recipe, world_size: int) -> int:
    """Images of the first source that one step sees on all processes."""
    return recipe.sources[0].batch_size * recipe.accumulate * world_size


def scaled(recipe: Recipe, world_size: int = 1) -> ScaledRecipe:
    """Adapt learning rate, iterations, warm-up, decay steps and intervals to the total batch.

    Args:
        recipe: as published; with `reference_batch` None, or `batch_scaling` "none", nothing changes.
        world_size: number of training processes.
    """
    total, wanted = images_per_step(recipe, world_size), recipe.reference_batch
    if wanted is None or total == wanted:
        return ScaledRecipe(recipe=recipe, changes=())
    sees = (
        f"one step sees {total} images ({recipe.sources[0].batch_size} per batch, {recipe.accumulate} accumulated, "
        f"{world_size} process{'es' if world_size > 1 else ''}) instead of {wanted}"
    )
    if recipe.batch_scaling == "none":
        return ScaledRecipe(recipe=recipe, changes=(f"{sees}; nothing is scaled, as asked for",))
    factor = total / wanted
    rate = recipe.learning_rate * (factor if recipe.batch_scaling == "linear" else math.sqrt(factor))
    new: dict[str, object] = {"learning_rate": rate}
    for name in COUNTS:
        if (count := getattr(recipe, name)) is not None:
            new[name] = _divided(count, factor)
    new["steps"] = tuple(_divided(step, factor) for step in recipe.steps)
    changes = [f"{name}: {before} -> {new[name]}" for name in new if (before := getattr(recipe, name)) != new[name]]
    return ScaledRecipe(recipe=recipe.changed(**new), changes=(sees, *changes, _alternative(recipe, world_size)))


def with_iterations(recipe: Recipe, iterations: int) -> Recipe:
    """Another length: decay steps keep their place in the run, the warm-up takes at most a tenth of it."""
    factor = recipe.iterations / iterations
    return recipe.changed(
        iterations=iterations,
        steps=tuple(_divided(step, factor) for step in recipe.steps),
        warmup_iterations=min(recipe.warmup_iterations, iterations // 10),
    )


def _divided(count: int, factor: float) -> int:
    """A step count of at least 1 (0 stays 0)."""
    return max(min(count, 1), round(count / factor))


def _alternative(recipe: Recipe, world_size: int) -> str:
    """How to keep the published numbers."""
    wanted = recipe.reference_batch or 1
    each = recipe.sources[0].batch_size * world_size
    if wanted % each == 0 and wanted > each:
        return f"with --accumulate {wanted // each} nothing would change; --scaling none keeps the numbers anyway"
    return "--scaling none keeps the numbers of the recipe anyway"
