"""What a model does at one score threshold: precision, recall and F1, of all and of every class, the threshold with the
best F1, which classes are taken for which, and regions with two names.

A detection is right if it overlaps an annotation of its class in its image with an IoU of 0.5 or more that no better
scored detection has taken. The rule of the evaluation holds here, too: crowd regions count neither way, under that of
VOC nor do annotations marked difficult, under that of LVIS nor do unmatched detections of a class that an image does
not annotate exhaustively.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlpart.evaluation import engine
from vlpart.evaluation.average_precision import Checked, class_labels
from vlpart.evaluation.detections import DetectionTable
from vlpart.evaluation.scores import NAN, ClassOperation, ConfusionCounts, OperatingPoint, Rule
from vlpart.evaluation.truth import for_kind, ordered_categories
from vlpart.masks.rle import coco_rle
from vlpart.results.result import Result

IOU = 0.5
SAME_REGION = 0.8
"""Mask IoU from which on two detections are of one region."""


@dataclass(frozen=True, kw_only=True)
class ThresholdCounts:
    """Counts over all images and classes at one threshold on the score.

    Attributes:
        threshold: detections of that score or more count.
        right, wrong, missed: true positives, false positives, false negatives.
    """

    threshold: float
    right: int
    wrong: int
    missed: int

    @property
    def precision(self) -> float:
        """Share of the detections that are right; NaN without one."""
        return _rates(self.right, self.wrong, self.missed)["precision"]

    @property
    def recall(self) -> float:
        """Share of the annotations that are found; NaN without one."""
        return _rates(self.right, self.wrong, self.missed)["recall"]


def counts_over(checked: Checked, kind: str, threshold: float = 0.5) -> ThresholdCounts:
    """The counts of `operating_point(...).all` alone; detections below the threshold are not looked at.

    Args:
        checked: ground truth and detections.
        kind: "masks" or "boxes".
        threshold: on the score.
    """
    judged = _judged(checked, kind, threshold).values()
    total = sum(len(scores) for scores, _, _ in judged)
    right = sum(int(hits.sum()) for _, hits, _ in judged)
    there = sum(positives for _, _, positives in judged)
    return ThresholdCounts(threshold=threshold, right=right, wrong=total - right, missed=there - right)


def operating_point(checked: Checked, kind: str, threshold: float) -> OperatingPoint:
    """Figures at a threshold.

    Args:
        checked: ground truth and detections.
        kind: "masks" or "boxes".
        threshold: detections with a lower score do not count; the best thresholds are searched among all scores.
    """
    judged = _judged(checked, kind)
    labels = class_labels(checked.truth)
    per_class = {}
    totals = np.zeros(3, dtype=np.int64)
    for category, label in zip(ordered_categories(checked.truth), labels, strict=True):
        scores, right, positives = judged[category["id"]]
        if not positives and not len(scores):
            continue
        per_class[label] = _class_operation(scores, right, positives, threshold)
        found = per_class[label]
        totals += (found.right, found.wrong, found.missed)
    whole = ClassOperation(
        right=int(totals[0]), wrong=int(totals[1]), missed=int(totals[2]), **_rates(*totals.tolist())
    )
    return OperatingPoint(
        kind=kind,
        threshold=threshold,
        all=whole,
        per_class=per_class,
        confusion=confusion(checked, kind, threshold, labels),
    )


def _class_operation(
    scores: NDArray[np.float64], right: NDArray[np.bool_], positives: int, threshold: float
) -> ClassOperation:
    """Of one class; `scores` in descending order."""
    count = int(np.searchsorted(-scores, -threshold, side="right"))
    hits = int(right[:count].sum())
    best, best_f1 = NAN, NAN
    if positives and len(scores):
        true_positives = np.cumsum(right)
        f1 = 2 * true_positives / (np.arange(1, len(scores) + 1) + positives)
        last = np.append(scores[1:] != scores[:-1], True)  # a threshold takes all detections of one score
        f1 = np.where(last, f1, -1)
        place = int(np.argmax(f1))
        best, best_f1 = float(scores[place]), float(f1[place])
    return ClassOperation(
        right=hits,
        wrong=count - hits,
        missed=positives - hits,
        best_threshold=best,
        best_f1=best_f1,
        **_rates(hits, count - hits, positives - hits),
    )


def _rates(right: int, wrong: int, missed: int) -> dict[str, float]:
    return {
        "precision": right / (right + wrong) if right + wrong else NAN,
        "recall": right / (right + missed) if right + missed else NAN,
        "f1": 2 * right / (2 * right + wrong + missed) if right + wrong + missed else NAN,
    }


def _judged(
    checked: Checked, kind: str, lowest: float = 0.0
) -> dict[int, tuple[NDArray[np.float64], NDArray[np.bool_], int]]:
    """By class: scores in descending order, whether each detection is right, and the number of annotations.

    Detections with a score below `lowest` are left out; those above are judged the same without them.
    """
    known: dict[tuple[int, int], list[Mapping[str, Any]]] = {}
    for annotation in for_kind(checked.annotations, kind):
        known.setdefault((annotation["category_id"], annotation["image_id"]), []).append(annotation)
    table = checked.counted(kind)
    table = table.take(table.scores >= lowest)
    images = checked.truth["images"]
    partly = {image["id"]: set(image.get("not_exhaustive_category_ids") or ()) for image in images}
    limit = checked.max_detections if checked.rule == "coco" else None  # of an image and class; else it is cut already
    order = np.argsort(-table.scores, kind="stable")
    rows: dict[tuple[int, int], list[int]] = {}
    for row in order.tolist():
        rows.setdefault((int(table.category_ids[row]), int(table.image_ids[row])), []).append(row)
    sizes = {image["id"]: (image.get("height") or 1, image.get("width") or 1) for image in images}
    collected: dict[int, list[tuple[float, bool]]] = {category["id"]: [] for category in checked.truth["categories"]}
    positives: dict[int, int] = dict.fromkeys(collected, 0)
    for (category_id, _), group in known.items():
        positives[category_id] += sum(not _ignored(annotation, checked.rule) for annotation in group)
    for (category_id, image_id), places in rows.items():
        group, places = known.get((category_id, image_id), []), places[:limit]
        size = sizes[image_id]
        free = np.array([not _ignored(annotation, checked.rule) for annotation in group], dtype=bool)
        verdicts = _match(_regions(table, kind, places, size), group, free, kind, size)
        if checked.rule == "lvis" and category_id in partly[image_id]:
            verdicts = [verdict or None for verdict in verdicts]
        scored = zip(table.scores[places].tolist(), verdicts, strict=True)
        collected[category_id] += [(score, verdict) for score, verdict in scored if verdict is not None]
    judged = {}
    for category_id, pairs in collected.items():
        pairs.sort(key=lambda pair: -pair[0])
        scores = np.array([score for score, _ in pairs], dtype=np.float64)
        judged[category_id] = (scores, np.array([right for _, right in pairs], dtype=bool), positives[category_id])
    return judged


def _ignored(annotation: Mapping[str, Any], rule: Rule) -> bool:
    return bool(annotation["iscrowd"] or (rule == "voc" and annotation.get("difficult")))


def _regions(table: DetectionTable, kind: str, places: Sequence[int], size: tuple[int, int]) -> Any:
    if kind == "boxes":
        return table.boxes_xywh[places]
    assert table.masks is not None
    return [coco_rle(table.masks[place], size) for place in places]


def _match(
    found: Any,
    annotations: Sequence[Mapping[str, Any]],
    counted: NDArray[np.bool_],
    kind: str,
    size: tuple[int, int],
) -> list[bool | None]:
    """For detections of one class in one image, best first: right, wrong, or None (counts neither way).

    Args:
        found: their regions.
        annotations: of the class in the image.
        counted: (N,) whether each of them is to be found; the others are ignored.
        kind, size: of the regions.
    """
    from pycocotools import mask as coco_mask

    if not annotations:
        return [False] * len(found)
    if kind == "boxes":
        regions: Any = np.array([annotation["bbox"] for annotation in annotations], dtype=np.float64)
    else:
        regions = [coco_rle(annotation["segmentation"], size) for annotation in annotations]
    ious = np.asarray(coco_mask.iou(found, regions, [int(a["iscrowd"]) for a in annotations]))
    free, ignored = counted.copy(), ~counted
    verdicts: list[bool | None] = []
    for overlaps in ious.reshape(len(found), len(annotations)):
        best = int(np.argmax(np.where(free, overlaps, -1.0)))
        if free[best] and overlaps[best] >= IOU:
            free[best] = False
            verdicts.append(True)
        else:
            verdicts.append(None if (overlaps[ignored] >= IOU).any() else False)
    return verdicts


def confusion(checked: Checked, kind: str, threshold: float, labels: Sequence[str]) -> ConfusionCounts | None:
    """Which class is found as which, at IoU 0.5; None under the rule of VOC."""
    if checked.rule == "voc":
        return None
    judge = engine.evaluator(
        checked.index_of(kind),
        checked.table.take(checked.table.scores >= threshold),
        kind,
        federated=checked.rule == "lvis",
        limits=(max(checked.max_detections, 1),),
    )
    confusion = judge.confusion_matrix(iou_thr=IOU, min_score=threshold)
    matrix = np.asarray(confusion["matrix"], dtype=np.int64)
    place = {category_id: k for k, category_id in enumerate(confusion["cat_ids"])}
    order = [place[category["id"]] for category in ordered_categories(checked.truth)] + [len(place)]
    return ConfusionCounts(
        names=(*labels, "(nothing)"), counts=tuple(map(tuple, matrix[np.ix_(order, order)].tolist()))
    )


def doubly_named(results: Iterable[Result]) -> tuple[int, int]:
    """Detections that share their region (mask IoU over 0.8) with one of another name, and all detections.

    Args:
        results: with masks.
    """
    shared, total = 0, 0
    for result in results:
        count = len(result)
        total += count
        if count < 2 or result.masks is None:
            continue
        flat = np.asarray(result.masks, dtype=bool).reshape(count, -1).astype(np.float32)
        inter = flat @ flat.T
        areas = flat.sum(axis=1)
        iou = inter / np.maximum(areas[:, None] + areas[None] - inter, 1)
        other_name = np.asarray(result.class_ids)[:, None] != np.asarray(result.class_ids)[None]
        shared += int(((iou > SAME_REGION) & other_name).any(axis=1).sum())
    return shared, total
