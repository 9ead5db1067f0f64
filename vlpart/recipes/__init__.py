"""The experiments: every recipe is a function that returns a complete frozen `Recipe`; families in one file each."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path

from vlpart.errors import TrainingError
from vlpart.recipes import (
    coco,
    joint,
    joint_in,
    lvis,
    paco,
    partimagenet,
    partimagenet_ablation,
    pascal_part,
    pascal_part_ablation,
    voc,
)
from vlpart.recipes.tiny import tiny
from vlpart.training.recipe import Recipe

RECIPES: dict[str, Callable[[Path], Recipe]] = {
    function.__name__: function
    for function in (
        tiny,
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
    """Names of all recipes, in the order of the families."""
    return list(RECIPES)


def get_recipe(name: str, data_root: Path) -> Recipe:
    """The recipe `name` over the data sets below `data_root`; `name` may be a Python file, see `recipes.files`.

    Raises:
        TrainingError: no recipe of that name (near names are listed), or the file has none.
    """
    if name.endswith(".py"):
        from vlpart.recipes.files import load_recipe_file

        return load_recipe_file(Path(name), data_root)
    return recipe_function(name)(data_root)


def recipe_function(name: str) -> Callable[[Path], Recipe]:
    """The function of a recipe; its docstring says what it is.

    Raises:
        TrainingError: no recipe of that name (near names are listed).
    """
    if name not in RECIPES:
        near = get_close_matches(name, RECIPES, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else "`vlpart recipes list` shows them"
        raise TrainingError(f"unknown recipe {name!r}: {hint}")
    return RECIPES[name]
