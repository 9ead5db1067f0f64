"""Boundary AP: AP where two masks overlap as much as the bands along their outlines do (Cheng et al., "Boundary IoU",
CVPR 2021), which tells a sharp mask of a large object from a blunt one.

The overlap is the smaller of mask IoU and boundary IoU; a band is 2 % of the diagonal of the image wide. `vernier` (an
extra) computes it, to the last digit what a plain computation from the paper gives.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from typing import Any

import numpy as np

from vlpart.errors import EvaluationError
from vlpart.evaluation.average_precision import Checked
from vlpart.evaluation.scores import NAN, AveragePrecision
from vlpart.evaluation.truth import for_kind, is_part, ordered_categories
from vlpart.masks.rle import coco_rle

#: Width of the bands, as part of the diagonal of the image.
DILATION = 0.02


def library() -> Any:
    """The module that computes it.

    Raises:
        EvaluationError: it is not installed.
    """
    try:
        import vernier
    except ImportError as error:
        raise EvaluationError('boundary AP needs vernier: pip install "vlpart[boundary]"') from error
    return vernier


def boundary_precision(checked: Checked) -> Mapping[str, AveragePrecision]:
    """Boundary AP of masks by COCO's rule, over "all", "parts" and "objects"; those without annotations are left out.

    Args:
        checked: with masks.

    Raises:
        EvaluationError: `vernier` is not installed, the rule is another one, or masks are not scored.
    """
    vernier = library()
    if checked.rule != "coco":
        raise EvaluationError("boundary AP is computed by COCO's rule only: leave --boundary away here")
    if checked.table.masks is None:
        raise EvaluationError("boundary AP is of masks: leave --boundary away where boxes are scored")
    truth, detections = _coco_pair(checked)
    with contextlib.redirect_stdout(io.StringIO()):
        judge = vernier.COCOeval(truth, detections, iouType="boundary", dilation_ratio=DILATION)
        judge.params.maxDets = [1, 10, checked.max_detections]
        judge.evaluate()
        judge.accumulate()
    precision = np.asarray(judge.eval["precision"])[:, :, :, 0, -1]  # (IoU, recall, class)
    measured = (precision > -1).any(axis=(0, 1))
    per_class = np.where(measured, precision.mean(axis=1), np.nan)  # (IoU, class)
    categories = ordered_categories(checked.truth)
    parts = np.array([is_part(category) for category in categories])
    groups = {"all": np.ones(len(parts), dtype=bool), "parts": parts, "objects": ~parts}
    return {name: _mean(per_class, chosen & measured) for name, chosen in groups.items() if (chosen & measured).any()}


def _mean(per_class: Any, chosen: Any) -> AveragePrecision:
    values = per_class[:, chosen].mean(axis=1)
    places = np.linspace(0.5, 0.95, 10).round(2).tolist()
    at = dict(zip(places, values.tolist(), strict=True))
    return AveragePrecision(
        ap=float(values.mean()), ap50=at.get(0.5, NAN), ap75=at.get(0.75, NAN), classes=int(chosen.sum())
    )


def _coco_pair(checked: Checked) -> tuple[Any, Any]:
    """Ground truth and detections as pycocotools holds them."""
    from pycocotools.coco import COCO

    images = [
        {"id": image["id"], "height": image["height"], "width": image["width"]} for image in checked.truth["images"]
    ]
    sizes = {image["id"]: (image["height"], image["width"]) for image in images}
    annotations = [
        {**annotation, "segmentation": _text(coco_rle(annotation["segmentation"], sizes[annotation["image_id"]]))}
        for annotation in for_kind(checked.annotations, "masks")
    ]
    table = checked.counted("masks")
    assert table.masks is not None
    areas = table.areas("masks").tolist()
    columns = zip(table.image_ids.tolist(), table.category_ids.tolist(), table.scores.tolist(), strict=True)
    detections = [
        {
            "id": row + 1,
            "image_id": image_id,
            "category_id": category_id,
            "score": score,
            "segmentation": table.masks[row],
            "bbox": table.boxes_xywh[row].tolist(),
            "area": areas[row],
            "iscrowd": 0,
        }
        for row, (image_id, category_id, score) in enumerate(columns)
    ]
    categories = [{"id": c["id"], "name": c["name"]} for c in ordered_categories(checked.truth)]
    pair = []
    with contextlib.redirect_stdout(io.StringIO()):
        for entries in (annotations, detections):
            held = COCO()
            held.dataset = {"images": images, "categories": categories, "annotations": entries}
            held.createIndex()
            pair.append(held)
    return pair[0], pair[1]


def _text(rle: Mapping[str, Any]) -> dict[str, Any]:
    counts = rle["counts"]
    return {"size": list(rle["size"]), "counts": counts.decode("ascii") if isinstance(counts, bytes) else counts}
