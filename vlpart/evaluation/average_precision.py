"""Average precision of masks and boxes: all classes, parts, objects, groups, and each class (docs/method.md,
'Evaluation').

Under the COCO rule the numbers are those of pycocotools, under the LVIS rule those of lvis-api, with the size of a
detected mask taken from the mask (as the published evaluations do); under the VOC rule see `voc_tensors`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vlpart.checks import typed, whole
from vlpart.errors import DataError, EvaluationError
from vlpart.evaluation import engine
from vlpart.evaluation.detections import Detection, DetectionTable, check_detections
from vlpart.evaluation.scores import NAN, AveragePrecision, Evaluation, Rule, Scores
from vlpart.evaluation.truth import (
    Truth,
    check_form,
    clean_annotations,
    federated_categories,
    for_kind,
    ordered_categories,
    part_name,
    read_ground_truth,
)

Groups = Mapping[str, Collection[int]]
FREQUENCIES = {"r": "rare", "c": "common", "f": "frequent"}


@dataclass(frozen=True, kw_only=True)
class Checked:
    """Ground truth and detections that may be scored: checked, and cut down to what the rule lets count.

    Attributes:
        truth: see `check_form`.
        annotations: see `clean_annotations`.
        index: the ground truth in the form of the metric library.
        mask_index: the same for masks, where some annotations have none (`for_kind`); None where all have one.
        table: the detections that count.
    """

    truth: Truth
    annotations: list[dict[str, Any]]
    index: engine.Index
    table: DetectionTable
    rule: Rule
    max_detections: int
    mask_index: engine.Index | None = None

    def index_of(self, kind: str) -> engine.Index:
        """The index for "masks" or "boxes"."""
        return self.mask_index if kind == "masks" and self.mask_index is not None else self.index

    def counted(self, kind: str) -> DetectionTable:
        """The detections that count for "masks" or "boxes": lvis-api leaves out what has no area, by mask or by box."""
        return self.table.take(self.table.areas(kind) > 0) if self.rule == "lvis" else self.table


@typed("annotated_classes_only", "max_detections", "kinds", "groups")
def score_detections(
    ground_truth: Mapping[str, Any] | Path | str,
    detections: Iterable[Detection],
    *,
    annotated_classes_only: bool = False,
    rule: Rule | None = None,
    max_detections: int = 100,
    kinds: Sequence[str] = ("masks", "boxes"),
    groups: Groups | None = None,
) -> Evaluation:
    """Score COCO-style detections.

    Args:
        ground_truth: content or path of a COCO file.
        detections: dictionaries with image_id, category_id, score (finite), bbox [x, y, w, h] in pixels and, for masks,
            segmentation (compressed or uncompressed RLE of the image's size). Ids are those of the ground truth.
        annotated_classes_only: short for `rule="lvis"`.
        rule: "coco" (default): everything counts, `max_detections` is per image and class. "lvis": in each image
            only the classes annotated in it and its `neg_category_ids` count, and unmatched detections of its
            `not_exhaustive_category_ids` do not; the best `max_detections` of an image are kept, over all classes.
            "voc": boxes, 11-point interpolation, annotations marked `difficult` are ignored. Crowd regions (`iscrowd`)
            are ignored under every rule, also under that of LVIS, whose own tool does not know them and scores them as
            objects.
        max_detections: see above.
        kinds: "masks", "boxes" or both.
        groups: category ids of what is to be averaged besides all, parts and objects. LVIS frequencies are added.

    Raises:
        DataError: the ground truth is malformed.
        EvaluationError: a detection has an unknown id, a wrong mask size, a NaN, or lacks a field.
    """
    checked = check(
        ground_truth,
        detections,
        rule=rule if rule is not None else "lvis" if annotated_classes_only else "coco",
        max_detections=max_detections,
        kinds=kinds,
    )
    return score(checked, kinds=kinds, groups=groups)


def check(
    ground_truth: Mapping[str, Any] | Path | str,
    detections: Iterable[Detection],
    *,
    rule: Rule,
    max_detections: int,
    kinds: Sequence[str],
) -> Checked:
    """The first half of `score_detections`: everything that can be wrong is found here."""
    known = isinstance(ground_truth, Mapping)
    truth = check_form(ground_truth, "the ground truth") if known else read_ground_truth(Path(ground_truth))  # type: ignore[arg-type]
    if isinstance(detections, Mapping | str | bytes):
        raise EvaluationError(f"detections must be a list of dictionaries, got a {type(detections).__name__}")
    if not kinds:
        raise EvaluationError("no kind to score: use masks, boxes or both")
    if unknown := [kind for kind in kinds if kind not in engine.IOU_TYPES]:
        raise EvaluationError(f"unknown kind {unknown[0]!r}: use masks or boxes")
    if rule not in ("coco", "lvis", "voc"):
        raise EvaluationError(f"unknown rule {rule!r}: use coco, lvis or voc")
    if rule == "voc" and "masks" in kinds:
        raise EvaluationError("the VOC rule scores boxes only: leave masks out")
    max_detections = whole("max_detections", max_detections, 1, 10**9)
    annotations = clean_annotations(truth, with_masks="masks" in kinds)
    table = check_detections(truth, detections, with_masks="masks" in kinds)
    if rule == "lvis":
        counted = federated_categories(truth)
        annotations = [annotation for annotation in annotations if annotation["area"] > 0]
        table = _federated(table, counted, max_detections)
    mixed = None  # boxes only
    if "masks" in kinds:
        mixed = not all(annotation["segmentation"] for annotation in annotations)
    return Checked(
        truth=truth,
        annotations=annotations,
        index=engine.Index(truth, for_kind(annotations, "masks" if mixed is False else "boxes")),
        mask_index=engine.Index(truth, for_kind(annotations, "masks")) if mixed else None,
        table=table,
        rule=rule,
        max_detections=max_detections,
    )


def score(checked: Checked, *, kinds: Sequence[str], groups: Groups | None = None) -> Evaluation:
    """The second half of `score_detections`."""
    truth, rule = checked.truth, checked.rule
    group_ids = {**(groups or {}), **_frequency_groups(truth, rule)}
    scores: dict[str, Scores | None] = {"masks": None, "boxes": None}
    for kind in kinds:
        if rule == "voc":
            scores[kind] = _voc_scores(truth, checked.table, group_ids)
            continue
        tensors = engine.measure(
            checked.index_of(kind), checked.counted(kind), kind, rule=rule, max_detections=checked.max_detections
        )
        scores[kind] = summarise(truth, tensors, group_ids)
    return Evaluation(
        masks=scores["masks"],
        boxes=scores["boxes"],
        rule=rule,
        images=len(truth["images"]),
        annotations=sum(not annotation["iscrowd"] for annotation in checked.annotations),
        detections=len(checked.table),
        max_detections=checked.max_detections,
    )


def _federated(table: DetectionTable, counted: Mapping[int, set[int]], max_detections: int) -> DetectionTable:
    """The best `max_detections` of each image, of those the ones of classes that count in it; the order stays."""
    order = np.lexsort((np.arange(len(table)), -table.scores, table.image_ids))
    images = table.image_ids[order]
    first = np.searchsorted(images, images, side="left")
    best = np.zeros(len(table), dtype=bool)
    best[order[np.arange(len(table)) - first < max_detections]] = True
    pairs = zip(table.image_ids.tolist(), table.category_ids.tolist(), strict=True)
    counts = np.array([category in counted[image] for image, category in pairs], dtype=bool)
    return table.take(best & counts)


def _frequency_groups(truth: Truth, rule: Rule) -> dict[str, list[int]]:
    """LVIS' rare, common and frequent classes, if every category says which it is."""
    categories = truth["categories"]
    if rule != "lvis" or not all(category.get("frequency") in FREQUENCIES for category in categories):
        return {}
    return {name: [c["id"] for c in categories if c["frequency"] == letter] for letter, name in FREQUENCIES.items()}


def summarise(truth: Truth, tensors: engine.Tensors, groups: Groups) -> Scores:
    """Averages of the tensors over classes. Every class weighs the same: all have 10 x 101 figures, or none (-1)."""
    precision = _none_to_nan(tensors.precision.mean(axis=1))  # (10, K, 4)
    recall = _none_to_nan(tensors.recall)  # (10, K, 4, limits)
    values = {"ap50": precision[0, :, 0], "ap75": precision[5, :, 0]}
    for a, ending in enumerate(("", "_small", "_medium", "_large")):
        values[f"ap{ending}"] = precision[:, :, a].mean(axis=0)
        values[f"ar{ending}"] = recall[:, :, a, -1].mean(axis=0)
    for m, limit in enumerate(tensors.limits):
        if limit in (1, 10):
            values[f"ar{limit}"] = recall[:, :, 0, m].mean(axis=0)
    return over_classes(truth, values, tensors.precision[(0, 5), :, :, 0], groups)


def _none_to_nan(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(values < 0, np.nan, values)


def over_classes(
    truth: Truth, values: Mapping[str, NDArray[np.float64]], curves: NDArray[np.float64], groups: Groups
) -> Scores:
    """`Scores` from figures per class.

    Args:
        truth: its categories, in ascending id, are the classes.
        values: (K,) by field of `AveragePrecision`, NaN without ground truth; "ap" says which classes have some.
        curves: (2, 101, K) precision at IoU 0.50 and 0.75.
        groups: category ids by name of the group.

    Raises:
        DataError: a group names a category that is not there.
    """
    ordered = ordered_categories(truth)
    part_names = [part_name(category) for category in ordered]
    part = np.array([name is not None for name in part_names], dtype=bool)
    place = {category["id"]: k for k, category in enumerate(ordered)}
    chosen: dict[str, NDArray[np.bool_]] = {}
    for name, ids in groups.items():
        if unknown := set(ids) - set(place):
            raise DataError(f"group {name!r}: there is no category with the id {min(unknown)}")
        chosen[name] = np.isin(np.arange(len(ordered)), [place[i] for i in ids])
    names, table = list(values), np.stack(list(values.values()))
    present = ~np.isnan(values["ap"])

    def average(rows: NDArray[np.bool_]) -> AveragePrecision:
        """Mean over the classes of some rows that have ground truth."""
        rows = rows & present
        if not rows.any():
            return AveragePrecision()
        there = ~np.isnan(table[:, rows])
        sums, counts = np.where(there, table[:, rows], 0).sum(axis=1), there.sum(axis=1)
        means = [float(s / n) if n else NAN for s, n in zip(sums, counts, strict=True)]
        return AveragePrecision(**dict(zip(names, means, strict=True)), classes=int(rows.sum()))

    def by_name() -> AveragePrecision:
        """Mean over part names, each the mean over its objects."""
        each = [average(np.array([n == name for n in part_names])) for name in sorted(set(part_names) - {None})]  # type: ignore[type-var]
        scored = [precision for precision in each if precision.classes]
        columns = {name: [x for p in scored if (x := getattr(p, name)) == x] for name in names}
        means = {name: float(np.mean(values)) if values else NAN for name, values in columns.items()}
        return AveragePrecision(**means, classes=len(scored)) if scored else AveragePrecision()

    labels, with_truth = class_labels(truth), np.flatnonzero(present).tolist()
    columns = table.T.tolist()
    return Scores(
        all=average(np.ones_like(part)),
        parts=average(part),
        objects=average(~part),
        parts_by_name=by_name(),
        groups={name: average(mask) for name, mask in chosen.items()},
        per_class={
            labels[k]: AveragePrecision(**dict(zip(names, columns[k], strict=True)), classes=1) for k in with_truth
        },
        curves={labels[k]: np.maximum(curves[:, :, k], 0) for k in with_truth},
    )


def class_labels(truth: Truth) -> list[str]:
    """The names of the categories in ascending id; a name that was there before gets its id behind it."""
    labels: list[str] = []
    seen: set[str] = set()
    for category in ordered_categories(truth):
        name = str(category["name"])
        labels.append(f"{name} ({category['id']})" if name in seen else name)
        seen.add(name)
    return labels


def _voc_scores(truth: Truth, table: DetectionTable, groups: Groups) -> Scores:
    """Scores under the VOC rule."""
    measured = voc_tensors(truth, table)
    values = {"ap": measured.ap.mean(axis=0), "ap50": measured.ap[0], "ap75": measured.ap[5]}
    return over_classes(truth, {**values, "ar": measured.recall.mean(axis=0)}, measured.curves, groups)


# ---- the rule of Pascal VOC


IOU_THRESHOLDS = np.arange(50, 100, 5) / 100
RECALLS_11 = np.arange(11) / 10
RECALLS_101 = np.arange(101) / 100

Floats = NDArray[np.float64]


class VocTensors(NamedTuple):
    """`ap`, `recall`: (10 IoUs, K classes), NaN without ground truth; `curves`: (2, 101, K) at IoU 0.50 and 0.75."""

    ap: Floats
    recall: Floats
    curves: Floats


class _ClassTruth(NamedTuple):
    """Boxes of one class in one image, and which are difficult."""

    boxes_xywh: Floats
    difficult: NDArray[np.bool_]


def voc_tensors(truth: Mapping[str, Any], table: DetectionTable) -> VocTensors:
    """AP of every class under the VOC rule, in ascending category id."""
    grouped: dict[int, dict[int, list[Mapping[str, Any]]]] = {category["id"]: {} for category in truth["categories"]}
    for annotation in truth["annotations"]:
        grouped[annotation["category_id"]].setdefault(annotation["image_id"], []).append(annotation)
    ids = sorted(grouped)
    ap = np.full((len(IOU_THRESHOLDS), len(ids)), np.nan)
    recall = ap.copy()
    curves = np.full((2, 101, len(ids)), -1.0)
    for k, category_id in enumerate(ids):
        per_image = {image: _class_truth(rows) for image, rows in grouped[category_id].items()}
        positives = sum(int((~known.difficult).sum()) for known in per_image.values())
        if not positives:
            continue
        rows = np.flatnonzero(table.category_ids == category_id)
        rows = rows[np.argsort(-table.scores[rows], kind="stable")]
        hits, counted = _match(per_image, table.image_ids[rows], table.boxes_xywh[rows])
        for t in range(len(IOU_THRESHOLDS)):
            right = np.cumsum(hits[t][counted[t]])
            reached = right / positives
            precise = right / np.arange(1, len(right) + 1)
            ap[t, k] = _interpolated(reached, precise, RECALLS_11).mean()
            recall[t, k] = reached[-1] if len(reached) else 0.0
            if t in (0, 5):
                curves[t // 5, :, k] = _interpolated(reached, precise, RECALLS_101)
    return VocTensors(ap, recall, curves)


def _class_truth(rows: list[Mapping[str, Any]]) -> _ClassTruth:
    boxes = np.array([row["bbox"] for row in rows], dtype=np.float64)
    return _ClassTruth(boxes, np.array([bool(row.get("difficult", 0)) for row in rows]))


def _match(
    per_image: Mapping[int, _ClassTruth], image_ids: NDArray[np.int64], boxes_xywh: Floats
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """((10, N) right, (10, N) counts at all) of detections in descending score."""
    hits = np.zeros((len(IOU_THRESHOLDS), len(image_ids)), dtype=bool)
    counted = np.ones_like(hits)
    taken = {image: np.zeros((len(IOU_THRESHOLDS), len(known.difficult)), bool) for image, known in per_image.items()}
    for row, image in enumerate(image_ids.tolist()):
        known = per_image.get(image)
        if known is None:
            continue
        overlaps = _overlaps(boxes_xywh[row], known.boxes_xywh)
        best = int(np.argmax(overlaps))
        over = overlaps[best] > IOU_THRESHOLDS
        if known.difficult[best]:
            counted[over, row] = False
            continue
        hits[:, row] = over & ~taken[image][:, best]
        taken[image][over, best] = True
    return hits, counted


def _overlaps(box_xywh: Floats, others_xywh: Floats) -> Floats:
    """(G,) intersection over union."""
    low = np.maximum(box_xywh[:2], others_xywh[:, :2])
    high = np.minimum(box_xywh[:2] + box_xywh[2:], others_xywh[:, :2] + others_xywh[:, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=1)
    union = np.prod(box_xywh[2:]) + np.prod(others_xywh[:, 2:], axis=1) - shared
    ious: Floats = shared / np.maximum(union, 1e-12)
    return ious


def _interpolated(recall: Floats, precision: Floats, at: Floats) -> Floats:
    """The best precision at this recall or a higher one, for every recall asked for; 0 where none is reached."""
    best = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(recall, at, side="left")
    return np.concatenate([best, [0.0]])[places]
