"""The experiments: every recipe is a function that returns a complete frozen `Recipe`; families in one file each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from vlpart.errors import TrainingError
from vlpart.names import config_name, did_you_mean
from vlpart.recipes import (
    coco,
    joint,
    joint_in,
    ladder,
    lvis,
    paco,
    partimagenet,
    partimagenet_ablation,
    pascal_part,
    pascal_part_ablation,
    voc,
)
from vlpart.recipes.finetune import finetune
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
        coco.r50_coco,
        coco.swinbase_cascade_coco,
        lvis.r50_lvis,
        lvis.swinbase_cascade_lvis,
        paco.r50_paco,
        paco.swinbase_cascade_paco,
        partimagenet.r50_partimagenet,
        partimagenet.swinbase_cascade_partimagenet,
        pascal_part.r50_pascalpart,
        pascal_part.swinbase_cascade_pascalpart,
        voc.r50_voc,
        voc.swinbase_cascade_voc,
        joint.r50_lvis_paco,
        joint.r50_lvis_paco_pascalpart,
        joint.r50_lvis_paco_pascalpart_partimagenet,
        joint.swinbase_cascade_lvis_paco,
        joint.swinbase_cascade_lvis_paco_pascalpart,
        joint.swinbase_cascade_lvis_paco_pascalpart_partimagenet,
        joint_in.r50_lvis_paco_pascalpart_partimagenet_in,
        joint_in.r50_lvis_paco_pascalpart_partimagenet_inparsed,
        joint_in.swinbase_cascade_lvis_paco_pascalpart_partimagenet_in,
        joint_in.swinbase_cascade_lvis_paco_pascalpart_partimagenet_inparsed,
        partimagenet_ablation.r50_partimagenet_of,
        partimagenet_ablation.r50_pascalpart_ins11,
        partimagenet_ablation.r50_pascalpart_ins11_ins11parsed,
        partimagenet_ablation.r50_pascalpart_ins11_ins11maxscore,
        partimagenet_ablation.r50_pascalpart_ins11_ins11maxsize,
        partimagenet_ablation.r50_lvis_paco_pascalpart_ins11,
        partimagenet_ablation.r50_lvis_paco_pascalpart_ins11_ins11parsed,
        pascal_part_ablation.r50_pascalpart_of,
        pascal_part_ablation.r50_pascalpartbase,
        pascal_part_ablation.r50_pascalpartbase_voc,
        pascal_part_ablation.r50_pascalpartbase_voc_ins20,
        pascal_part_ablation.r50_pascalpartbase_voc_ins20_ins20parsed,
        pascal_part_ablation.r50_pascalpartbase_voc_ins20parsed,
    )
}


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


def recipe_function(name: str) -> Callable[[Path], Recipe]:
    """The function of a recipe; its docstring says what it is.

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
