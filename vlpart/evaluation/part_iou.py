"""Parts as labels of pixels: IoU per part class, mIoU and hIoU (OV-PARTS, Wei et al., NeurIPS 2023).

Detections above a score are painted, the best on top; annotated parts are painted, the smallest on top. Intersections
and unions are summed over the data set. Two settings: over all pixels ("Pred-All"), and only over pixels that
carry a part, where only the parts of that pixel's object compete ("Oracle-Obj").
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlpart.errors import EvaluationError
from vlpart.evaluation.average_precision import Checked, class_labels
from vlpart.evaluation.scores import NAN, PartIou
from vlpart.evaluation.truth import is_part, ordered_categories
from vlpart.masks.rle import coco_rle

SCORE_THRESHOLD = 0.3
Labels = NDArray[np.int32]
PartIds = tuple[Collection[int], Collection[int]]


def part_iou(
    checked: Checked, *, split: PartIds | None = None, score_threshold: float = SCORE_THRESHOLD
) -> tuple[PartIou, PartIou] | None:
    """(all pixels, within objects), or None where the ground truth has no parts.

    Args:
        checked: with masks.
        split: category ids of the base and of the novel parts.
        score_threshold: of the detections that are painted.

    Raises:
        EvaluationError: the detections have no masks.
    """
    if checked.table.masks is None:
        raise EvaluationError("part IoU needs masks")
    ordered = ordered_categories(checked.truth)
    parts = [category for category in ordered if is_part(category)]
    part_ids = {category["id"] for category in parts}
    if not any(annotation["category_id"] in part_ids for annotation in checked.annotations):
        return None
    counts = _count(checked, parts, score_threshold)
    labels = dict(zip((category["id"] for category in ordered), class_labels(checked.truth), strict=True))
    names = [labels[category["id"]] for category in parts]
    ids = [category["id"] for category in parts]
    whole, inside = (_averages(each, names, ids, split, score_threshold) for each in counts)
    return whole, inside


def _count(
    checked: Checked, parts: Sequence[Mapping[str, Any]], score_threshold: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Two (P + 1, P + 1) counts of pixels by annotated and predicted label; 0 is "no part"."""
    label_of = {category["id"]: k for k, category in enumerate(parts, start=1)}
    owner_names = {category["id"]: _object_name(category) for category in parts}
    owners = sorted(set(owner_names.values()))
    owner_of_label = np.array([-1] + [owners.index(owner_names[category["id"]]) for category in parts])
    size = len(parts) + 1
    whole, inside = np.zeros((2, size * size), dtype=np.int64)
    truth_by_image: dict[int, list[dict[str, Any]]] = {}
    for annotation in checked.annotations:
        if annotation["category_id"] in label_of and not annotation["iscrowd"]:
            truth_by_image.setdefault(annotation["image_id"], []).append(annotation)
    table = checked.table
    chosen = np.flatnonzero((table.scores >= score_threshold) & np.isin(table.category_ids, list(label_of)))
    chosen = chosen[np.argsort(table.scores[chosen], kind="stable")]
    found_by_image: dict[int, list[int]] = {}
    for row in chosen.tolist():
        found_by_image.setdefault(int(table.image_ids[row]), []).append(row)
    assert table.masks is not None
    for image in checked.truth["images"]:
        known, rows = truth_by_image.get(image["id"], []), found_by_image.get(image["id"], [])
        if not known and not rows:
            continue
        canvas = (image["height"], image["width"])
        known = sorted(known, key=lambda annotation: -annotation["area"])
        truth_map = _paint(canvas, [a["segmentation"] for a in known], [label_of[a["category_id"]] for a in known])
        masks, values = [table.masks[row] for row in rows], [label_of[int(table.category_ids[row])] for row in rows]
        whole += _pairs(truth_map, _paint(canvas, masks, values), size)
        owner_map = owner_of_label[truth_map]
        for owner in {int(owner_of_label[label_of[a["category_id"]]]) for a in known}:
            own = [i for i, value in enumerate(values) if owner_of_label[value] == owner]
            painted = _paint(canvas, [masks[i] for i in own], [values[i] for i in own])
            pixels = owner_map == owner
            inside += _pairs(truth_map[pixels], painted[pixels], size)
    return whole.reshape(size, size), inside.reshape(size, size)


def _object_name(category: Mapping[str, Any]) -> str:
    return str(category.get("object") or str(category["name"]).partition(":")[0]).casefold()


def _paint(size_hw: tuple[int, int], masks: Sequence[Any], values: Sequence[int]) -> Labels:
    """(H, W) labels; later masks cover earlier ones."""
    from pycocotools import mask as coco_mask

    canvas = np.zeros(size_hw, dtype=np.int32)
    for mask, value in zip(masks, values, strict=True):
        canvas[coco_mask.decode(coco_rle(mask, size_hw)) > 0] = value
    return canvas


def _pairs(truth: Labels, painted: Labels, size: int) -> NDArray[np.int64]:
    return np.bincount((truth.astype(np.int64) * size + painted).reshape(-1), minlength=size * size)


def _averages(
    counts: NDArray[np.int64], names: Sequence[str], ids: Sequence[int], split: PartIds | None, score_threshold: float
) -> PartIou:
    shared = np.diag(counts)[1:]
    annotated, painted = counts.sum(axis=1)[1:], counts.sum(axis=0)[1:]
    present = annotated > 0
    ious = np.where(present, shared / np.maximum(annotated + painted - shared, 1), np.nan)

    def mean(chosen: NDArray[np.bool_]) -> float:
        return float(ious[chosen & present].mean()) if (chosen & present).any() else NAN

    base, novel = (mean(np.isin(ids, list(side))) for side in split) if split else (NAN, NAN)
    return PartIou(
        miou=mean(np.ones_like(present)),
        base=base,
        novel=novel,
        hiou=2 * base * novel / (base + novel) if base + novel > 0 else (0.0 if base + novel == 0 else NAN),
        score_threshold=score_threshold,
        per_class={name: float(iou) for name, iou in zip(names, ious, strict=True) if not np.isnan(iou)},
    )
