"""Which part belongs to which object: the vocabulary says what may belong, the masks say what does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

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
        others = candidates[near].tolist()
        share = np.max([masks.fractions_inside(part, others, limit=128, shift_xy=(x, y)) for x, y in moves], axis=0)
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
