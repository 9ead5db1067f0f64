"""A run folder as a model: its weights, its architecture and text encoder, and the names that it was trained on.

`vlpart train` leaves in a run folder: `recipe.json`, `vocabulary.json`, `checkpoints/`, and `weights.safetensors` once
the run is finished; where the first weights still matter, also `initial.safetensors`, `known_vocabulary.json` (what a
next run holds) and `held_vocabulary.json` (what this one does).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlpart.errors import WeightsError
from vlpart.files import read_json
from vlpart.zoo.catalogue import TEXT_ENCODERS, ModelEntry, model_like
from vlpart.zoo.weights import interpolated, load_state_dict

if TYPE_CHECKING:
    from torch import Tensor

RECIPE = "recipe.json"
VOCABULARY = "vocabulary.json"
KNOWN_VOCABULARY = "known_vocabulary.json"
HELD_VOCABULARY = "held_vocabulary.json"
WEIGHTS = "weights.safetensors"
MAX_RECIPE_BYTES = 50_000_000
INITIAL_WEIGHTS = "initial.safetensors"


@dataclass(frozen=True, kw_only=True)
class RunFolder:
    """A folder of `vlpart train`.

    Attributes:
        folder: the run.
        recipe: content of `recipe.json`.
        weights: the exported weights, or the checkpoint that stands in for them.
    """

    folder: Path
    recipe: dict[str, Any]
    weights: Path

    @property
    def finished(self) -> bool:
        """Whether the training has exported its weights; until then a checkpoint stands in for them."""
        return self.weights.name == WEIGHTS

    @property
    def vocabulary(self) -> Path:
        """The file of the names that the run was trained on."""
        return self.folder / VOCABULARY

    @property
    def known_vocabulary(self) -> Path | None:
        """The file of those names and of the ones that a teacher held, if there was a teacher."""
        path = self.folder / KNOWN_VOCABULARY
        return path if path.is_file() else None

    @property
    def entry(self) -> ModelEntry:
        """The run as a model of the catalogue, `vocabulary` being a path."""
        return entry_of_recipe(self.recipe, self.folder.resolve().name, str(self.vocabulary))

    def state(self) -> dict[str, Tensor]:
        """The weights by name: of a checkpoint the moving average, with the share of the first weights.

        Raises:
            WeightsError: a file is missing or damaged.
        """
        weights = load_state_dict(self.weights)
        share = self.recipe.get("initial_share", 0.0)
        if share and self.weights.name != WEIGHTS:
            return interpolated(weights, load_state_dict(self.folder / INITIAL_WEIGHTS), share)
        return weights


def entry_of_recipe(recipe: Mapping[str, Any], name: str, vocabulary: str) -> ModelEntry:
    """The model that a recipe makes, as one of the catalogue: it is asked as it was trained.

    Args:
        recipe: content of `recipe.json`; fields that were added later may be missing.
        name: of the model.
        vocabulary: what it looks for where the recipe has no `inference_vocabulary`.
    """
    like = model_like(recipe["architecture"])
    return replace(
        like,
        name=name,
        recipe=recipe["name"],
        vocabulary=recipe.get("inference_vocabulary") or vocabulary,
        text_encoder=recipe["text_encoder"],
        prompt=recipe.get("prompt", "name"),
        mask_on=recipe.get("mask_on", True),
        image_size=tuple(size) if (size := recipe.get("image_size")) else None,
        score_threshold=recipe["score_threshold"],
        detections_per_image=recipe["detections_per_image"],
        published=(),
    )


def open_run(folder: Path) -> RunFolder:
    """The run in a folder, with its exported weights; before there are any, with its best or newest checkpoint.

    Raises:
        WeightsError: the folder is no run, a run of an unknown architecture, or one without weights; the message says
            what is missing.
    """
    recipe = run_recipe(folder)
    known = sorted(TEXT_ENCODERS)
    if recipe["architecture"] not in known:
        raise WeightsError(
            f"{folder / RECIPE} names the architecture {recipe['architecture']!r}, which this version does not have; "
            f"known: {', '.join(known)}"
        )
    if not (recipe.get("inference_vocabulary") or (folder / VOCABULARY).is_file()):
        raise WeightsError(
            f"{folder} has no {VOCABULARY}, the names that it was trained on (an older run?): "
            f"give {folder / WEIGHTS} as model, and a vocabulary"
        )
    return RunFolder(folder=folder, recipe=recipe, weights=_weights(folder))


def run_recipe(folder: Path) -> dict[str, Any]:
    """The recipe of the run in a folder, as `Recipe.to_dict` wrote it.

    Raises:
        WeightsError: the folder is no run, or its recipe is damaged.
    """
    try:
        recipe = read_json(folder / RECIPE, MAX_RECIPE_BYTES)
        for key in ("architecture", "text_encoder", "name", "score_threshold", "detections_per_image"):
            recipe[key]
    except OSError as error:
        raise WeightsError(
            f"{folder} is not the folder of a run: it has no readable {RECIPE} ({error.strerror}); "
            "give a folder that `vlpart train` made, a model name or a weight file"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{folder / RECIPE} is damaged ({type(error).__name__}: {error})") from None
    if problem := _malformed(recipe):
        raise WeightsError(f"{folder / RECIPE} is damaged ({problem})")
    return recipe


def _malformed(recipe: dict[str, Any]) -> str:
    """What is wrong with the values of a recipe that inference reads; empty if nothing is."""
    for key in ("architecture", "text_encoder", "name"):
        if not isinstance(recipe[key], str) or not recipe[key]:
            return f"{key!r} is not a name"
    ranges = {"score_threshold": (0, 1), "detections_per_image": (1, 1_000_000), "initial_share": (0, 1)}
    for key, (low, high) in ranges.items():
        value = recipe.get(key, low)
        if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
            return f"{key!r} is not a number from {low} to {high}"
    if not isinstance(recipe["detections_per_image"], int):
        return "'detections_per_image' is not a whole number"
    sets = recipe.get("evaluate_on") or []
    texts = ("name", "annotations", "images")
    if not isinstance(sets, list) or not all(
        isinstance(each, dict) and all(isinstance(each.get(key), str) for key in texts) for each in sets
    ):
        return "'evaluate_on' is no list of data sets"
    size = recipe.get("image_size")
    if size is not None and not (
        isinstance(size, list) and len(size) == 2 and all(type(side) is int and 1 <= side <= 10**5 for side in size)
    ):
        return "'image_size' is not two whole numbers"
    if not isinstance(recipe.get("inference_vocabulary"), str | None):
        return "'inference_vocabulary' is not a name"
    return ""


def _weights(folder: Path) -> Path:
    exported, checkpoints = folder / WEIGHTS, folder / "checkpoints"
    steps = sorted(checkpoints.glob("step_*.pt"))
    if exported.is_file():
        return exported
    best = checkpoints / "best.pt"
    if best.is_file():
        return best
    if steps:
        return steps[-1]
    raise WeightsError(f"{folder} has neither {WEIGHTS} nor a checkpoint yet: train it first, or go on with --resume")
