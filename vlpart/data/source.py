"""One training source: what it is (`Source`), and what loading it gives (`LoadedSource`)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from vlpart.checks import check_fields
from vlpart.errors import DataError
from vlpart.types import AnnotationKind

if TYPE_CHECKING:
    from vlpart.data.records import RecordStore
    from vlpart.text.vocabulary import Vocabulary


#: Former names of values, for recipe files that have them.
_FORMER = {"inexact": "pseudo"}


@dataclass(frozen=True, kw_only=True)
class Source:
    """A data set with everything that is said about it in a recipe. Sizes are pixels (docs/method.md, 'Training path').

    Attributes:
        name: unique in a recipe; state and logs are keyed by it.
        annotations: the annotation file.
        images: folder of the images.
        reader: annotation format, see `readers.get_reader`.
        vocabulary: "dataset" (the categories of the file, by id) or what `Vocabulary.load` takes.
        kind: what the annotations are, hence which loss.
        ratio: weight among the sources of a recipe.
        batch_size: images of one batch on one process.
        short_sides: the shorter side is one of these, or lies between the two.
        short_side_sampling: "choice" of one, or uniform integer in the "range" of exactly two.
        max_side: the longer side is at most this.
        repeat_threshold: t of the repeat factors max(1, sqrt(t / frequency)); None or 0 = none.
        federated: only present and sampled classes count in the loss.
        validation_split: this part of the images, chosen by their names, is left out for evaluation, see
            `vlpart.data.validation_split`.
        filter_empty: leave images without annotations (image labels for that kind) out.
        masks: use segmentations. False trains on boxes only. Parsed parts and image labels never carry masks.
        boxes_from_masks: after augmentation a box is the tight box of its mask (where there are masks).
        unlabelled: "absent" = what is not annotated is not there; "unknown" = see `Targets.unknown_labels` and
            `indexing.unknown_classes`.
        inside_objects: "background", or "unknown" = the file may label an object and not its parts, so what lies inside
            of an object, without an annotation of its own, is no background for the proposals, and where `unlabelled`
            is "unknown", no negative of unknown classes, see `Targets.ignore_inside`.
        scored_annotations: "exact" = those with a `score` (parsed, not drawn by a person) train like any other, or
            "pseudo" = pseudo labels, which teach which name is where, but not the regression of boxes, nor masks.
        negative_names: which names of the other sources may be taken as absent from its images (`Recipe.distractors`):
            "none", "own_objects" = parts of objects that it labels, where that object is not in the image, "all" =
            everything unlike what it labels, or "at_matches" = the names of the other sources with this rule, but only
            on regions matched to an annotation: several sources share out one list of names, and what is annotated as
            one of them is none of the others.
        only_objects, exclude_objects: object names; annotations of other / these objects and of their parts are left
            out, and so are their classes. For zero-shot runs.
        take: "all" categories, whole "objects" only, or "parts" only; the others are left out in the same way.
        flip: probability of a horizontal flip.
        flip_swaps_left_right: on a flip, swap labels whose names differ in left / right only. The published recipes
            don't.
        scale_jitter: (lo, hi): a random factor on the scale; what is larger than the un-jittered size is cropped to it.
        mosaic: probability that an image is shown beside one or three others of the source, see `data/mosaic.py`.
        min_visible: an annotation that keeps less than this part of its area after a crop is dropped.
        color_jitter: strength of brightness, contrast and saturation jitter (hue: a quarter of it); 0 = none.
        strong_augmentation: colour jitter, grey, blur and erasing as published for parsed sources.
        annotations_from, images_from: the command that makes them, or says what to download; named in the error where
            they are missing.
    """

    name: str
    annotations: str | Path
    images: str | Path
    reader: str = "coco"
    vocabulary: str = "dataset"
    kind: AnnotationKind = AnnotationKind.BOXES
    ratio: float = 1.0
    batch_size: int = 2
    short_sides: Sequence[int] = (640, 672, 704, 736, 768, 800)
    short_side_sampling: Literal["choice", "range"] = "choice"
    max_side: int = 1333
    repeat_threshold: float | None = None
    federated: bool = False
    validation_split: float = 0.0
    filter_empty: bool = True
    masks: bool = True
    boxes_from_masks: bool = True
    unlabelled: Literal["absent", "unknown"] = "absent"
    inside_objects: Literal["background", "unknown"] = "background"
    scored_annotations: Literal["exact", "pseudo"] = "exact"
    negative_names: Literal["none", "own_objects", "all", "at_matches"] = "none"
    only_objects: Collection[str] | None = None
    exclude_objects: Collection[str] = frozenset()
    take: Literal["all", "objects", "parts"] = "all"
    flip: float = 0.5
    flip_swaps_left_right: bool = False
    scale_jitter: tuple[float, float] | None = None
    mosaic: float = 0.0
    min_visible: float = 0.3
    color_jitter: float = 0.0
    strong_augmentation: bool = False
    annotations_from: str = ""
    images_from: str = ""

    def __post_init__(self) -> None:
        check_fields(self)
        object.__setattr__(self, "short_sides", tuple(self.short_sides))
        scored = _FORMER.get(self.scored_annotations, self.scored_annotations)
        object.__setattr__(self, "scored_annotations", scored)
        if self.only_objects is not None:
            object.__setattr__(self, "only_objects", frozenset(self.only_objects))
        object.__setattr__(self, "exclude_objects", frozenset(self.exclude_objects))
        for problem in self._problems():
            raise DataError(f"source {self.name!r}: {problem}")

    def _problems(self) -> list[str]:
        checks = {
            "short_sides needs at least one side, all of them at least 1": bool(self.short_sides)
            and min(self.short_sides) >= 1,
            "short_side_sampling is 'choice' or 'range'": self.short_side_sampling in ("choice", "range"),
            "short_side_sampling 'range' needs two sides, lower first": self.short_side_sampling != "range"
            or (len(self.short_sides) == 2 and self.short_sides[0] <= self.short_sides[1]),
            "max_side must be at least 1": self.max_side >= 1,
            "ratio must be above 0": self.ratio > 0,
            "batch_size must be at least 1": self.batch_size >= 1,
            "validation_split lies between 0 and 0.9": 0 <= self.validation_split <= 0.9,
            "repeat_threshold must not be negative": (self.repeat_threshold or 0) >= 0,
            "unlabelled is 'absent' or 'unknown'": self.unlabelled in ("absent", "unknown"),
            "take is 'all', 'objects' or 'parts'": self.take in ("all", "objects", "parts"),
            "inside_objects is 'background' or 'unknown'": self.inside_objects in ("background", "unknown"),
            "scored_annotations is 'exact' or 'pseudo'": self.scored_annotations in ("exact", "pseudo"),
            "negative_names is 'none', 'own_objects', 'all' or 'at_matches'": self.negative_names
            in ("none", "own_objects", "all", "at_matches"),
            "flip, mosaic and min_visible lie between 0 and 1": all(
                0 <= value <= 1 for value in (self.flip, self.mosaic, self.min_visible)
            ),
            "a mosaic needs boxes: image labels say nothing about its tiles": not self.mosaic
            or self.kind is not AnnotationKind.IMAGE_LABELS,
            "scale_jitter is (lo, hi) with 0 < lo <= hi": self.scale_jitter is None
            or (len(self.scale_jitter) == 2 and 0 < self.scale_jitter[0] <= self.scale_jitter[1]),
            "color_jitter lies between 0 and 1": 0 <= self.color_jitter <= 1,
            "name must not be empty or contain '|'": bool(self.name) and "|" not in self.name,
        }
        return [message for message, fine in checks.items() if not fine]

    @property
    def wants_masks(self) -> bool:
        """Whether segmentations are read at all."""
        return self.masks and self.kind in (AnnotationKind.BOXES, AnnotationKind.PARTS)


def missing_data(missing: Mapping[Path, str]) -> DataError:
    """The error about data that is not there.

    Args:
        missing: path -> the command that helps, or "".
    """
    by_command: dict[str, list[str]] = {}
    for path, command in sorted(missing.items()):
        by_command.setdefault(command, []).append(str(path))
    rows = [", ".join(paths) + (f" (`{command}`)" if command else "") for command, paths in by_command.items()]
    return DataError(f"missing data: {'; '.join(rows)}; --data names the folder that holds the data sets")


@dataclass(kw_only=True)
class LoadReport:
    """What loading kept and what it left out, and why. `str()` gives a few lines to print.

    Attributes:
        images, annotations: how many are used.
        dropped_annotations, dropped_images: reason -> how many.
        examples: reason -> ids of the first few (annotation ids, image ids for images).
        notes: what else is worth knowing, one line each.
    """

    source: str
    images: int = 0
    annotations: int = 0
    dropped_annotations: dict[str, int] = field(default_factory=dict)
    dropped_images: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[int | str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def drop_annotation(self, reason: str, annotation_id: int | str) -> None:
        """Count an annotation that is left out."""
        self.dropped_annotations[reason] = self.dropped_annotations.get(reason, 0) + 1
        self._example(reason, annotation_id)

    def drop_image(self, reason: str, image_id: int | str) -> None:
        """Count an image that is left out."""
        self.dropped_images[reason] = self.dropped_images.get(reason, 0) + 1
        self._example(reason, image_id)

    def _example(self, reason: str, identifier: int | str) -> None:
        known = self.examples.setdefault(reason, [])
        if len(known) < 5:
            known.append(identifier)

    def __str__(self) -> str:
        lines = [f"{self.source}: {self.images} images, {self.annotations} annotations"]
        for what, dropped in (("annotations", self.dropped_annotations), ("images", self.dropped_images)):
            for reason, count in sorted(dropped.items()):
                lines.append(f"  {count} {what} left out: {reason} (first ids {self.examples[reason]})")
        return "\n".join(lines + [f"  {note}" for note in self.notes])


@dataclass(frozen=True, kw_only=True)
class LoadedSource:
    """A source in memory.

    Attributes:
        source: what was loaded.
        store: the images that are used.
        vocabulary: C classes; labels in the store are indices into it.
        image_counts: (C,) int64, images of the store in which a class is annotated.
        flip_labels: (C,) int64, the class a class becomes when the image is flipped.
        report: what was left out, and why.
    """

    source: Source
    store: RecordStore
    vocabulary: Vocabulary
    image_counts: NDArray[np.int64]
    flip_labels: NDArray[np.int64]
    report: LoadReport

    @property
    def name(self) -> str:
        """Name of the source."""
        return self.source.name

    def __len__(self) -> int:
        return len(self.store)
