"""Recipes as Python files: what `vlpart recipes export` writes, and what `vlpart train my_recipe.py` reads.

The file defines `recipe(data_root)`, which returns a `Recipe`. There is no other configuration format.
"""

from __future__ import annotations

import importlib.util
from dataclasses import fields
from enum import Enum
from pathlib import Path
from typing import Any

from vlpart.data.source import Source
from vlpart.errors import TrainingError
from vlpart.files import is_file
from vlpart.losses.options import LossOptions
from vlpart.training.recipe import EvaluationSet, Recipe

_HEAD = '''"""{title}

Train it with `vlpart train THIS_FILE.py --data FOLDER`.
"""

from pathlib import Path

from vlpart.data.source import Source
from vlpart.losses.options import LossOptions
from vlpart.training.recipe import EvaluationSet, Recipe
from vlpart.types import AnnotationKind


def recipe(data_root: Path) -> Recipe:
    return {body}
'''


def to_python(recipe: Recipe, data_root: Path) -> str:
    """The source text of a file that gives this recipe.

    Every field of the run is spelled out, so that it can be changed; of sources, those that differ from the default.

    Args:
        recipe: the run.
        data_root: what it was made with; the file takes its own.
    """
    title = f"The recipe {recipe.name}, to be changed at will; give it another name to keep its runs apart."
    return _HEAD.format(title=title, body=_call(recipe, data_root, 1))


def _call(value: Recipe | Source | EvaluationSet | LossOptions, root: Path, depth: int) -> str:
    """A constructor call, one argument a line."""
    lines = []
    for field in fields(value):
        content = getattr(value, field.name)
        if isinstance(value, Recipe | LossOptions) or content != field.default:
            lines.append(f"{'    ' * (depth + 1)}{field.name}={_literal(content, root, depth + 1)},\n")
    return f"{type(value).__name__}(\n{''.join(lines)}{'    ' * depth})"


def _literal(value: Any, root: Path, depth: int) -> str:
    """A value as Python source."""
    if isinstance(value, Source | EvaluationSet | LossOptions):
        return _call(value, root, depth)
    if isinstance(value, Path):
        inside = value.is_relative_to(root)
        return f'data_root / "{value.relative_to(root).as_posix()}"' if inside else f"Path({str(value)!r})"
    if isinstance(value, Enum):
        return f"{type(value).__name__}.{value.name}"
    if isinstance(value, frozenset):
        return f"frozenset({sorted(value)!r})"
    if isinstance(value, tuple) and value and isinstance(value[0], Source | EvaluationSet):
        indent = "    " * (depth + 1)
        items = "".join(f"{indent}{_literal(item, root, depth + 1)},\n" for item in value)
        return f"(\n{items}{'    ' * depth})"
    return repr(value).replace("'", '"') if isinstance(value, str) else repr(value)


def load_recipe_file(path: Path, data_root: Path) -> Recipe:
    """Run a Python file and call its `recipe(data_root)`.

    Raises:
        TrainingError: there is no such file, it fails, or it does not give a `Recipe`.
    """
    if not is_file(path):
        raise TrainingError(f"there is no recipe file {path}; `vlpart recipes export NAME` writes one to start from")
    spec = importlib.util.spec_from_file_location("vlpart_recipe_file", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        recipe = module.recipe(data_root)
    except TrainingError:
        raise
    except (Exception, SystemExit) as error:  # whatever the user's program leads to
        raise TrainingError(
            f"{path} fails ({type(error).__name__}: {error}); it must define recipe(data_root)"
        ) from error
    if not isinstance(recipe, Recipe):
        raise TrainingError(f"{path}: recipe(data_root) gives a {type(recipe).__name__}, expected a Recipe")
    return recipe
