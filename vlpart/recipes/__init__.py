"""The experiments: every recipe is a function from the data root to a complete frozen `Recipe`. Those of the paper are
the rows of one table, `vlpart.recipes.published`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path

from vlpart.checks import one_of
from vlpart.errors import TrainingError
from vlpart.names import config_name, did_you_mean
from vlpart.recipes import ladder
from vlpart.recipes.finetune import finetune
from vlpart.recipes.published import PUBLISHED
from vlpart.recipes.tiny import tiny
from vlpart.recipes.tiny2 import tiny2
from vlpart.training.initial_weights import check_other_init
from vlpart.training.recipe import Recipe

#: The recipe that is made from a folder of the user's and the weights to start from.
FINETUNE = "finetune"

RECIPES: dict[str, Callable[[Path], Recipe]] = {
    function.__name__: function
    for function in (
        tiny,
        tiny2,
        ladder.ladder_start,
        ladder.ladder_base,
        ladder.ladder_parts,
        ladder.ladder_objects,
        ladder.ladder_labels,
        ladder.ladder_parsed,
        ladder.ladder_parsed_published,
        ladder.ladder_oracle,
    )
} | {name: row.to_recipe for name, row in PUBLISHED.items()}


def list_recipes() -> list[str]:
    """Names of the recipes that need nothing but the data root, in the order of the families: all but "finetune"."""
    return list(RECIPES)


def get_recipe(
    name: str,
    data_root: Path,
    *,
    init: str | None = None,
    validation_split: float | None = None,
    teacher_loss_weight: float | None = None,
) -> Recipe:
    """The recipe `name` over the data sets below `data_root`; `name` may be a Python file, see `recipes.files`.

    Args:
        name: a recipe, also as the path of its published configuration (`config_name`), a recipe file, or "finetune",
            which is made from the data and the first weights.
        data_root: where the data sets are; for "finetune" the folder of one.
        init: first weights, instead of those of the recipe.
        validation_split: see `recipes.finetune`.
        teacher_loss_weight: instead of that of the recipe; 0 holds no names, so that any first weights fit.

    Raises:
        TrainingError: no recipe of that name (near names are listed), the file has none, or `validation_split` with
            another recipe than "finetune", or a recipe file with a teacher does not fit `init`.
        DataError, ModelNotFoundError, WeightsError: see `recipes.finetune`.
    """
    one_of("name", name, str)
    data_root = Path(data_root)
    if name != FINETUNE and validation_split is not None:
        raise TrainingError(
            f"--validation-split is for {FINETUNE}; in a recipe it is a field of Source and EvaluationSet"
        )
    if name == FINETUNE:
        recipe = finetune(data_root, init or "tiny", validation_split)
    elif name.endswith(".py"):
        from vlpart.recipes.files import load_recipe_file

        recipe = load_recipe_file(Path(name), data_root)
    else:
        recipe = recipe_function(name)(data_root)
    recipe = recipe.changed(teacher_loss_weight=teacher_loss_weight)
    if init is not None and name.endswith(".py"):
        check_other_init(recipe, init)
    return recipe.changed(init=init)


def describe_recipe(name: str) -> str:
    """What a recipe is, in lines, with its command and the figures it reached.

    Raises:
        TrainingError: see `recipe_function`.
    """
    row = PUBLISHED.get(config_name(name))
    return row.describe() if row is not None else inspect.getdoc(recipe_function(name)) or ""


def recipe_function(name: str) -> Callable[[Path], Recipe]:
    """The function of a recipe.

    Raises:
        TrainingError: no recipe of that name (near names are listed).
    """
    name = config_name(name)
    if name == FINETUNE:
        return finetune
    if name not in RECIPES:
        hint = did_you_mean(name, [FINETUNE, *RECIPES]) or "`vlpart recipes list` shows them"
        raise TrainingError(f"unknown recipe {name!r}: {hint}")
    return RECIPES[name]
