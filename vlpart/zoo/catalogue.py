"""The models that can be loaded by name: 30 published checkpoints and the embedded `tiny` (`models.json`)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlpart.errors import ModelNotFoundError
from vlpart.names import did_you_mean

if TYPE_CHECKING:
    from vlpart.text.prompts import Prompt

CATALOGUE = Path(__file__).with_name("models.json")
ASSETS = Path(__file__).resolve().parents[1] / "assets" / "models"


#: Every architecture, and the text encoder that its models were trained with.
TEXT_ENCODERS = {
    "r50_mask_rcnn": "clip_rn50",
    "swin_b_cascade": "clip_rn50",
    "tiny2": "phrase",
    "tiny": "static",
}
EDITIONS = ("tiny", "tiny2")
"""Architectures of the embedded model, the first edition first; weights of all of them can be loaded."""


@dataclass(frozen=True, kw_only=True)
class PublishedResult:
    """One row of a published table.

    Attributes:
        table: which table; row: the name of the row.
        metrics: percent; a pair where the table has one, as for "VOC AP/AP50".
    """

    table: str
    row: str
    metrics: Mapping[str, float | tuple[float, ...]]


@dataclass(frozen=True, kw_only=True)
class ModelEntry:
    """One model.

    Attributes:
        architecture: "r50_mask_rcnn", "swin_b_cascade" or "tiny".
        url: where the weights are; None for an embedded model, whose file is `file` in `vlpart/assets/models`.
        size, sha256: of the weight file, where known.
        recipe: name of the recipe that trains it.
        vocabulary: the list that is used unless another is asked for.
        text_encoder: "clip_rn50" or "static".
        prompt: how names become phrases for it, see `vlpart.text.prompts`.
        mask_on: whether it has a mask head; without one it finds boxes only.
        score_threshold, detections_per_image: defaults of the recipe.
        image_size: shorter side, and longest allowed, of the network input; None = those of the architecture.
        training_time: as published.
        published: rows of the published tables; measured rows for `tiny`.
        note: licence limits or other remarks, one line.
    """

    name: str
    architecture: str
    recipe: str
    vocabulary: str
    text_encoder: str
    score_threshold: float
    detections_per_image: int
    prompt: Prompt = "name"
    mask_on: bool = True
    image_size: tuple[int, int] | None = None
    url: str | None = None
    file: str | None = None
    size: int | None = None
    sha256: str | None = None
    training_time: str = ""
    published: tuple[PublishedResult, ...] = field(default=())
    note: str = ""

    @property
    def embedded(self) -> bool:
        """Whether the weights come with the package."""
        return self.file is not None

    @property
    def file_name(self) -> str:
        """Name of the weight file on disk."""
        return self.file or (self.url or self.name).rsplit("/", 1)[-1]


@cache
def _catalogue() -> dict[str, ModelEntry]:
    rows = json.loads(CATALOGUE.read_text(encoding="utf-8"))["models"]
    return {row["name"]: _entry(row) for row in rows}


def _entry(row: dict[str, Any]) -> ModelEntry:
    published = tuple(
        PublishedResult(
            table=item["table"],
            row=item["row"],
            metrics={k: tuple(v) if isinstance(v, list) else v for k, v in item["metrics"].items()},
        )
        for item in row.pop("published", ())
    )
    return ModelEntry(**row, published=published)


def list_models() -> tuple[ModelEntry, ...]:
    """Every model: the embedded one first, then the published ones in the order of their tables.

    Examples:
        >>> [model.name for model in list_models() if model.embedded]
        ['tiny']
    """
    return tuple(_catalogue().values())


def model_like(architecture: str) -> ModelEntry:
    """The first model of an architecture.

    For one that no model has (any more), the embedded model's entry with that architecture and its text encoder: own
    weights of it can still be loaded.

    Raises:
        ModelNotFoundError: no such architecture.
    """
    for entry in list_models():
        if entry.architecture == architecture:
            return entry
    if architecture not in TEXT_ENCODERS:
        raise ModelNotFoundError(f"no architecture {architecture!r}: there are {', '.join(TEXT_ENCODERS)}")
    encoder = TEXT_ENCODERS[architecture]
    embedded = next(entry for entry in list_models() if entry.embedded)
    return replace(embedded, architecture=architecture, text_encoder=encoder, size=None, sha256=None, published=())


def get_model(name: str) -> ModelEntry:
    """The entry of a model.

    Raises:
        ModelNotFoundError: no model of that name; near names are listed.
    """
    models = _catalogue()
    if name in models:
        return models[name]
    raise ModelNotFoundError(f"No model '{name}'; {did_you_mean(name, models) or '`vlpart models list` shows them.'}")
