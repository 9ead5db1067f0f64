"""How the detections of a result lie on each other: which part belongs to which object, and what lies on a better one.

Of owners the vocabulary says what may belong, the masks say what does. Of overlaps the masks alone decide, and the
boxes where there are none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vlpart.types import NamedDetections

if TYPE_CHECKING:
    from vlpart.masks.stack import MaskStack
    from vlpart.text.vocabulary import Vocabulary


MINIMUM_CONTAINMENT = 0.5
# Of the mask, of the box: enough for parts that are finer than the object's mask (chair legs).
_PARTLY_INSIDE = (0.1, 0.8)
_TIE = 0.05  # containments this close say nothing
# A part just outside its object's mask: so far away at most, in its own width and height, and then so much of it is in.
_REACH = 0.25
_REACHED = 0.1
_DIRECTIONS = tuple((dx, dy) for dx in (-1, 0, 1) for dy in (-1, 0, 1) if (dx, dy) != (0, 0))


def assign_parts(
    boxes_xyxy: NDArray[np.float32],
    scores: NDArray[np.float32],
    class_ids: NDArray[np.int64],
    masks: MaskStack | None,
    vocabulary: Vocabulary,
    minimum: float = MINIMUM_CONTAINMENT,
) -> NDArray[np.int64]:
    """(N,) int64: for every part the index of the object it belongs to; -1 for objects and for parts without one.

    A part may belong to the detected objects that carry its object's name. It goes to the one that holds the largest
    share of its mask (of its box where there are no masks), if that is at least `minimum`, or if the object's box holds
    it and its mask at least a little of it. A part that no object holds goes to one that it touches: where it would be
    partly inside after a move by a quarter of its own size (a wheel just below the mask of its car). Where several hold
    it about equally, the higher score / sqrt(box area) wins: the tighter of two nested objects, the surer of two
    detections of the same one.
    """
    owners = np.full(len(class_ids), -1, dtype=np.int64)
    members: dict[str, tuple[list[int], list[int]]] = {}
    for i, class_id in enumerate(class_ids.tolist()):
        wholes, parts = members.setdefault(vocabulary.object_name(class_id).casefold(), ([], []))
        (parts if vocabulary.is_part(class_id) else wholes).append(i)
    areas = np.prod(np.maximum(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2], 1e-6), axis=1)
    preference = scores / np.sqrt(areas)
    for wholes, parts in members.values():
        if not wholes or not parts:
            continue
        in_boxes = _box_containment(boxes_xyxy[parts], boxes_xyxy[wholes])
        for part, in_box in zip(parts, in_boxes, strict=True):
            near = np.flatnonzero(in_box > 0)
            candidates = np.asarray(wholes)[near]
            choice = _choose(part, candidates, in_box[near], masks, preference[candidates], minimum)
            if choice is None:
                candidates = np.asarray(wholes)
                choice = _touched(part, candidates, boxes_xyxy, masks, preference[candidates])
            if choice is not None:
                owners[part] = candidates[choice]
    return owners


def _touched(
    part: int,
    candidates: NDArray[np.int64],
    boxes_xyxy: NDArray[np.float32],
    masks: MaskStack | None,
    preference: NDArray[np.float32],
) -> int | None:
    """The object that most of a part is in after a small move, if that is enough."""
    reach = _REACH * (boxes_xyxy[part, 2:] - boxes_xyxy[part, :2])
    moves = np.array(_DIRECTIONS, dtype=np.float32) * reach
    moved = boxes_xyxy[[part]] + np.concatenate([moves, moves], axis=1)
    in_box = _box_containment(moved, boxes_xyxy[candidates])
    near = np.flatnonzero((in_box >= _REACHED).any(axis=0))
    if not len(near):
        return None
    share = in_box[:, near].max(axis=0)
    if masks is not None:
        share = masks.moved_fractions_inside(part, candidates[near].tolist(), moves, limit=128).max(axis=0)
    tied = np.flatnonzero(share >= max(_REACHED, share.max() - _TIE))
    return int(near[tied[np.argmax(preference[near[tied]])]]) if len(tied) else None


def _choose(
    part: int,
    candidates: NDArray[np.int64],
    in_box: NDArray[np.float64],
    masks: MaskStack | None,
    preference: NDArray[np.float32],
    minimum: float,
) -> int | None:
    if not len(candidates):
        return None
    inside = in_box
    if masks is not None:
        in_mask = masks.fractions_inside(part, candidates.tolist())
        empty = not in_mask.any() and not masks.runs(part).size
        inside = in_box if empty else in_mask
        if inside.max() < minimum:
            inside = np.where((in_mask >= _PARTLY_INSIDE[0]) & (in_box >= _PARTLY_INSIDE[1]), 1.0, 0.0)
    if inside.max() < minimum:
        return None
    tied = np.flatnonzero(inside >= inside.max() - _TIE)
    return int(tied[np.argmax(preference[tied])])


def _box_containment(parts: NDArray[np.float32], wholes: NDArray[np.float32]) -> NDArray[np.float64]:
    """(P, O): share of each part box inside each object box; boxes without area count as a point."""
    low = np.maximum(parts[:, None, :2], wholes[None, :, :2])
    high = np.minimum(parts[:, None, 2:], wholes[None, :, 2:])
    sides = np.maximum(parts[:, 2:] - parts[:, :2], 1e-6)[:, None]
    shares: NDArray[np.float64] = np.prod(np.clip(high - low + 1e-6, 0, sides) / sides, axis=2, dtype=np.float64)
    return shares


# ---- what lies on what


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
