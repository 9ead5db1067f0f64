"""Box AP under the Pascal VOC 2007 rule, over IoU 0.50:0.95 (docs/method.md, 'Evaluation').

A detection belongs to the annotation of its class that it overlaps most. It is right if the overlap exceeds the
threshold and no better scored detection has taken that annotation; if the annotation is marked difficult, it counts
neither way. Interpolation over the recalls 0, 0.1, ..., 1 (Everingham et al., IJCV 2010). Boxes are [x0, x1): the
corners (xmin - 1, ymin - 1, xmax, ymax) of the files.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vlpart.evaluation.detections import DetectionTable

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


def measure(truth: Mapping[str, Any], table: DetectionTable) -> VocTensors:
    """AP of every class, in ascending category id."""
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
