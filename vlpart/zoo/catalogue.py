"""The models that can be loaded by name: 30 published checkpoints and the embedded `tiny` (`models.json`)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from vlpart.errors import ModelNotFoundError
from vlpart.names import did_you_mean

CATALOGUE = Path(__file__).with_name("models.json")
ASSETS = Path(__file__).resolve().parents[1] / "assets" / "models"


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
        score_threshold, detections_per_image: defaults of the recipe.
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


def get_model(name: str) -> ModelEntry:
    """The entry of a model.

    Raises:
        ModelNotFoundError: no model of that name; near names are listed.
    """
    models = _catalogue()
    if name in models:
        return models[name]
    raise ModelNotFoundError(f"No model '{name}'; {did_you_mean(name, models) or '`vlpart models list` shows them.'}")
