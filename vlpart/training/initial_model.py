"""What `--init` names, as far as a recipe has to know it: architecture, text encoder, and the names it came with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vlpart.errors import TrainingError
from vlpart.zoo.catalogue import ModelEntry, list_models
from vlpart.zoo.run_folder import RunFolder, entry_of_file, open_model

if TYPE_CHECKING:
    from vlpart.training.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class InitialModel:
    """A detector to go on from.

    Attributes:
        architecture, text_encoder: what the run needs, too.
        vocabulary: list or file of the names that it was made to find.
        score_threshold, detections_per_image: of its evaluation.
    """

    architecture: str
    text_encoder: str
    vocabulary: str
    score_threshold: float
    detections_per_image: int


def initial_model(init: str) -> InitialModel:
    """The model of the zoo, the weight file, or the run folder that `init` names. Nothing is downloaded.

    A weight file that `entry_of_file` does not know is taken for one with the vocabulary of the first model of its
    architecture.

    Raises:
        TrainingError: "imagenet" or "none", which are no detectors.
        ModelNotFoundError: nothing of that name.
        WeightsError: the file or the run cannot be read.
    """
    if init in ("imagenet", "none"):
        raise TrainingError(
            f"fine-tuning goes on from a detector, not from {init!r}: give --init tiny, a model of the zoo, a weight "
            "file or a run folder (a recipe file trains from scratch: `vlpart recipes export tiny`)"
        )
    model = open_model(init)
    if isinstance(model, RunFolder):
        return _of(model.entry, vocabulary=str(model.known_vocabulary or model.entry.vocabulary))
    return _of(_entry_of_file(model) if isinstance(model, Path) else model)


def check_other_init(recipe: Recipe, init: str) -> None:
    """Look whether a recipe with a teacher can go on from other first weights than those it was made for.

    Raises:
        TrainingError: `init` has another architecture or text encoder, or came with other names than the recipe holds.
        ModelNotFoundError, WeightsError: see `initial_model`.
    """
    if recipe.teacher_vocabulary is None or init == recipe.init:
        return
    other = initial_model(init)
    again = f"export it again with --init {init}"
    own, theirs = (f"{each.architecture} with the text encoder {each.text_encoder}" for each in (recipe, other))
    if own != theirs:
        raise TrainingError(f"this recipe was made for {own}, {init} is {theirs}: {again}")
    if recipe.teacher_loss_weight > 0 and recipe.teacher_vocabulary != other.vocabulary:
        raise TrainingError(
            f"this recipe holds the names of {recipe.teacher_vocabulary}, {init} came with those of "
            f"{other.vocabulary}: {again}, set init and teacher_vocabulary in it, or hold nothing with --teacher 0"
        )


def _of(entry: ModelEntry, vocabulary: str | None = None) -> InitialModel:
    return InitialModel(
        architecture=entry.architecture,
        text_encoder=entry.text_encoder,
        vocabulary=vocabulary or entry.vocabulary,
        score_threshold=entry.score_threshold,
        detections_per_image=entry.detections_per_image,
    )


def _entry_of_file(path: Path) -> ModelEntry:
    from vlpart.models.load import architecture_of
    from vlpart.zoo.published_names import convert, is_published
    from vlpart.zoo.weights import load_state_dict

    state = load_state_dict(path)
    found = architecture_of(convert(state).state if is_published(state) else state, path)
    return entry_of_file(path, found) or next(entry for entry in list_models() if entry.architecture == found)
