"""Which detections of a result lie on or in better ones: what a picture leaves out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vlpart.types import NamedDetections

#: Share of a better detection of the same name that is inside, from which on one is around it.
AROUND = 0.75


def not_nested(result: NamedDetections, share: float) -> list[int]:
    """Detections of which less than `share` is inside a better one of the same class, see `Result.without_nested`."""
    keep: list[int] = []
    for i in range(len(result)):
        better = [k for k in keep if result.class_ids[k] == result.class_ids[i]]
        if not better or inside(result, i, better).max() < share:
            keep.append(i)
    return keep


def replaced_by(result: NamedDetections, limit: float) -> NDArray[np.int64]:
    """(N,) int64: why a detection is left out, or -1; see `Result.replaced_by`."""
    parts = [result.is_part(i) for i in range(len(result))]
    keep: list[int] = []
    replaced = np.arange(len(result), dtype=np.int64)
    for i in range(len(result)):
        near = [k for k in keep if _boxes_touch(result, i, k)]
        overlaps = ious(result, i, near) if near and limit < 1 else np.zeros(0)
        rivals = [k for k, overlap in zip(near, overlaps, strict=False) if overlap >= limit]
        alike = [k for k in near if result.class_ids[k] == result.class_ids[i]] if limit < 1 else []
        if any(inside(result, k, [i])[0] >= AROUND for k in alike):
            continue
        own = [k for k in rivals if parts[k] and not parts[i] and result.owners[k] == i]
        if len(own) == len(rivals):
            keep = [k for k in keep if k not in own] + [i]
            replaced[own], replaced[i] = i, -1
    return replaced


def ious(result: NamedDetections, i: int, others: Sequence[int]) -> NDArray[np.float64]:
    """(len(others),): intersection over union with detection `i`; from the shares each has of the other."""
    of_this = inside(result, i, others)
    of_them = np.array([inside(result, k, [i])[0] if share else 0.0 for k, share in zip(others, of_this, strict=True)])
    both = (of_this > 0) & (of_them > 0)
    a, b = np.where(both, of_this, 1.0), np.where(both, of_them, 1.0)
    return np.where(both, 1 / (1 / a + 1 / b - 1), 0.0)


def inside(result: NamedDetections, i: int, others: Sequence[int]) -> NDArray[np.float64]:
    """(len(others),): which share of the mask of detection `i` (of its box, without masks) is in each of the others."""
    if result.masks is not None:
        return result.masks.fractions_inside(i, list(others))
    boxes, of_others = result.boxes_xyxy, result.boxes_xyxy[list(others)]
    low, high = np.maximum(boxes[i, :2], of_others[:, :2]), np.minimum(boxes[i, 2:], of_others[:, 2:])
    area = float(np.prod(boxes[i, 2:] - boxes[i, :2], dtype=np.float64))
    shared = np.prod(np.clip(high - low, 0, None), axis=1, dtype=np.float64)
    return shared / area if area > 0 else np.zeros(len(others))


def _boxes_touch(result: NamedDetections, i: int, k: int) -> bool:
    a, b = result.boxes_xyxy[i], result.boxes_xyxy[k]
    return bool((np.minimum(a[2:], b[2:]) > np.maximum(a[:2], b[:2])).all())
