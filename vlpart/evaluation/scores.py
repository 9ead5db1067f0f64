"""What an evaluation says: plain dataclasses of figures, in 0..1."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Rule = Literal["coco", "lvis", "voc"]
NAN = math.nan


@dataclass(frozen=True, kw_only=True)
class AveragePrecision:
    """Average precision and recall in 0..1, NaN where there is nothing to score.

    Attributes:
        ap: mean over IoU 0.50:0.95.
        ap50, ap75: at IoU 0.50 and 0.75.
        ap_small, ap_medium, ap_large: of regions under 32^2, up to 96^2 and over 96^2 pixels.
        ar, ar_small, ar_medium, ar_large: average recall over IoU 0.50:0.95 with all detections that count.
        ar1, ar10: with the best 1 or 10 of an image and class.
        classes: number of classes with ground truth, the ones averaged.
    """

    ap: float = NAN
    ap50: float = NAN
    ap75: float = NAN
    ap_small: float = NAN
    ap_medium: float = NAN
    ap_large: float = NAN
    ar: float = NAN
    ar1: float = NAN
    ar10: float = NAN
    ar_small: float = NAN
    ar_medium: float = NAN
    ar_large: float = NAN
    classes: int = 0


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Scores of one kind of region.

    Attributes:
        all, parts, objects: averages over all classes, over the parts, over the whole objects.
        parts_by_name: the parts again, averaged at two levels: over the objects with a part of this name, then over the
            names ("car:wheel" and "bus:wheel" together weigh as much as "dog:tail"); `classes` counts names.
        groups: averages over the groups that a benchmark reports ("base", "rare", "quadruped", ...).
        per_class: by category name; classes without ground truth are left out. Where two categories share a name, the
            later ones are written "name (id)".
        curves: by category name, (2, 101) precision at recall 0, 0.01, ..., 1 for IoU 0.50 and 0.75.
    """

    all: AveragePrecision
    parts: AveragePrecision
    objects: AveragePrecision
    parts_by_name: AveragePrecision
    groups: Mapping[str, AveragePrecision]
    per_class: Mapping[str, AveragePrecision]
    curves: Mapping[str, NDArray[np.float64]] = field(repr=False, compare=False)


@dataclass(frozen=True, kw_only=True)
class PartIou:
    """Part segmentation as labelling of pixels, in the sense of OV-PARTS.

    Attributes:
        miou: mean over the part classes of intersection over union, summed over the data set.
        base, novel, hiou: the same over base and novel classes, and their harmonic mean; NaN without such a split.
        score_threshold: detections below it were not painted.
        per_class: by category name.
    """

    miou: float
    base: float
    novel: float
    hiou: float
    score_threshold: float
    per_class: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Recall:
    """Class-agnostic recall of boxes, averaged over IoU 0.50:0.95; NaN where there is no such box.

    Attributes:
        source: "proposals" (of the region proposal network) or "detections".
        all, small, medium, large: recall by the number of boxes per image.
    """

    source: str
    all: Mapping[int, float]
    small: Mapping[int, float]
    medium: Mapping[int, float]
    large: Mapping[int, float]


@dataclass(frozen=True, kw_only=True)
class ClassOperation:
    """Detections of one class (or of all) at a score threshold.

    Attributes:
        right, wrong: detections that are and that are not annotated; missed: annotations that were not found.
        precision, recall, f1: in 0..1, NaN where there is nothing to divide by.
        best_threshold, best_f1: the score with the highest F1, and that; NaN for all classes together.
    """

    right: int
    wrong: int
    missed: int
    precision: float
    recall: float
    f1: float
    best_threshold: float = NAN
    best_f1: float = NAN


@dataclass(frozen=True, kw_only=True)
class ConfusionCounts:
    """`counts[i][j]`: annotations of class i found as class j, by `names`; the last one is "nothing"."""

    names: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, kw_only=True)
class OperatingPoint:
    """What happens at one score threshold, see `vlpart.evaluation.operating`.

    Attributes:
        kind: "masks" or "boxes".
        threshold: of the score.
        all: sums over all classes.
        per_class: by category name.
        confusion: None under the rule of VOC.
    """

    kind: str
    threshold: float
    all: ClassOperation
    per_class: Mapping[str, ClassOperation]
    confusion: ConfusionCounts | None = None


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The scores of a set of detections.

    Attributes:
        masks, boxes: None where that kind was not asked for.
        rule: "coco", "lvis" (only the classes annotated in an image count) or "voc".
        images, annotations, detections: how many were scored (after the rule and its limits).
        max_detections: limit per image (lvis) or per image and class (coco).
        pairs: AP of parts that must also lie in the right object; None where the data does not say which that is.
        part_iou: all pixels; part_iou_in_objects: only pixels that carry a part, and only that object's parts compete.
        recall: class-agnostic.
        boundary: of "all", "parts" and "objects", see `vlpart.evaluation.boundary`; None where that was not asked for.
        operating: what happens at one score threshold; None where that was not asked for.
        notes: what a reader of the figures must know, one line each.
    """

    masks: Scores | None
    boxes: Scores | None
    rule: Rule
    images: int
    annotations: int
    detections: int
    max_detections: int
    pairs: AveragePrecision | None = None
    part_iou: PartIou | None = None
    part_iou_in_objects: PartIou | None = None
    recall: Recall | None = None
    boundary: Mapping[str, AveragePrecision] | None = None
    operating: OperatingPoint | None = None
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the curves; NaN becomes None."""
        plain = _plain(self)
        assert isinstance(plain, dict)
        return plain


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        named = ((each.name, getattr(value, each.name)) for each in fields(value))
        return {name: _plain(item) for name, item in named if name != "curves"}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
