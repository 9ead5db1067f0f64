"""What a run folder says about itself besides its log and checkpoints, so that it can be used as a model."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from vlpart.errors import OutputError
from vlpart.files import write_file
from vlpart.text.vocabulary import Entry, Vocabulary
from vlpart.training.assemble import Assembly
from vlpart.training.checkpoint import list_checkpoints, save_weights
from vlpart.training.recipe import Recipe
from vlpart.zoo.run_folder import HELD_VOCABULARY, INITIAL_WEIGHTS, KNOWN_VOCABULARY, RECIPE, VOCABULARY, WEIGHTS


def describe_run(recipe: Recipe, parts: Assembly, output: Path) -> None:
    """Write the recipe, the vocabulary, and what is still needed of the first weights (see `vlpart.zoo.run_folder`).

    Raises:
        OutputError, TrainingError: a file cannot be written.
    """
    taught = joined((source.vocabulary for source in parts.sources), recipe.name)
    _write(output / RECIPE, recipe.to_dict())
    _write(output / VOCABULARY, taught.to_dict())
    if parts.held is not None:
        _write(output / KNOWN_VOCABULARY, joined((taught, parts.held), recipe.name).to_dict())
        _write(output / HELD_VOCABULARY, parts.held.to_dict())
    if parts.initial is not None and not list_checkpoints(output / "checkpoints"):  # a resumed run has them already
        save_weights(output / INITIAL_WEIGHTS, parts.initial)


def set_aside_weights(output: Path, step: int) -> Path | None:
    """Rename the weights exported at `step` before training goes on: a run answers with them while they are there.

    Returns:
        Their new path, or None if there are none.

    Raises:
        OutputError: they cannot be renamed.
    """
    exported = output / WEIGHTS
    aside = exported.with_stem(f"{exported.stem}_{step:08d}")
    try:
        exported.replace(aside)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise OutputError(f"cannot rename {exported} to {aside.name}: {error.strerror}; move it away") from error
    return aside


def joined(vocabularies: Iterable[Vocabulary], title: str) -> Vocabulary:
    """All names, each once (case does not count), in the order of their first occurrence; ids count from 1."""
    entries: dict[str, Entry] = {}
    for vocabulary in vocabularies:
        for entry in vocabulary.entries:
            entries.setdefault(entry.name.casefold(), entry)
    return Vocabulary(tuple(replace(e, id=i) for i, e in enumerate(entries.values(), 1)), title=title)


def _write(path: Path, content: Any) -> None:
    write_file(path, (json.dumps(content, indent=1) + "\n").encode())
