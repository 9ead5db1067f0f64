"""What a shell offers after Tab (`vlpart --install-completion`): names of models, recipes, vocabularies, formats."""

from __future__ import annotations

from collections.abc import Iterable


def _starting(names: Iterable[str], begun: str) -> list[str]:
    return [name for name in names if name.startswith(begun)]


def complete_models(incomplete: str) -> list[str]:
    """Models of the catalogue, and run folders below `runs/`."""
    from pathlib import Path

    from vlpart.zoo.catalogue import list_models

    runs = sorted(path.parent.as_posix() for path in Path("runs").glob("*/recipe.json"))
    return _starting([*(entry.name for entry in list_models()), *runs], incomplete)


def complete_recipes(incomplete: str) -> list[str]:
    """Recipes of `vlpart recipes list`."""
    from vlpart.recipes import FINETUNE, RECIPES

    return _starting([*RECIPES, FINETUNE], incomplete)


def complete_vocabularies(incomplete: str) -> list[str]:
    """Lists of `vlpart vocabularies list`."""
    from vlpart.text.vocabulary import Vocabulary

    return _starting(Vocabulary.available(), incomplete)


def complete_formats(incomplete: str) -> list[str]:
    """Output formats; after a comma those that are not named yet."""
    from vlpart.inference.output import FORMATS

    *named, last = incomplete.split(",")
    return [",".join([*named, name]) for name in FORMATS if name.startswith(last) and name not in named]
