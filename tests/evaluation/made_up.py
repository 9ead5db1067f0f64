"""Made-up ground truth and detections, and the reference evaluators that they are scored with."""

from __future__ import annotations

import contextlib
import io
import json
import warnings
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

HEIGHT, WIDTH = 60, 80
CATEGORIES = [
    {"id": 3, "name": "car", "part": None, "object": "car", "frequency": "f"},
    {"id": 7, "name": "car:wheel", "part": "wheel", "object": "car", "frequency": "c"},
    {"id": 9, "name": "car:door", "part": "door", "object": "car", "frequency": "r"},
    {"id": 11, "name": "car:hood", "part": "hood", "object": "car", "frequency": "f"},  # never annotated
]


def rle_of(box, size=(HEIGHT, WIDTH)) -> dict[str, Any]:
    x, y, w, h = box
    bitmap = np.zeros(size, dtype=np.uint8, order="F")
    bitmap[y : y + h, x : x + w] = 1
    rle = coco_mask.encode(bitmap)
    return {"size": list(rle["size"]), "counts": rle["counts"].decode()}


def region(box, image_id, category_id, size=(HEIGHT, WIDTH), **more) -> dict[str, Any]:
    """A filled box as an annotation or detection."""
    return {
        "image_id": image_id,
        "category_id": category_id,
        "bbox": list(box),
        "segmentation": rle_of(box, size),
        **more,
    }


def annotation(number, box, image_id, category_id, size=(HEIGHT, WIDTH), **more) -> dict[str, Any]:
    return {**region(box, image_id, category_id, size), "id": number, "area": box[2] * box[3], "iscrowd": 0, **more}


def image(image_id, size=(HEIGHT, WIDTH), **more) -> dict[str, Any]:
    return {"id": image_id, "height": size[0], "width": size[1], "file_name": f"{image_id}.png", **more}


def random_box(rng, size=(HEIGHT, WIDTH), sides=(4, 30)):
    w, h = (int(side) for side in rng.integers(*sides, size=2))
    return int(rng.integers(0, size[1] - w)), int(rng.integers(0, size[0] - h)), w, h


def random_case(seed, images=12, size=(HEIGHT, WIDTH), sides=(4, 30), crowds=0.05, scores=None):
    """Ground truth and detections that hit, miss and confuse classes.

    `scores`: how many different ones there are (few = many ties); None = all different.
    """
    rng = np.random.default_rng(seed)
    annotations, detections = [], []

    def any_score():
        return float(rng.random()) if scores is None else float(rng.integers(0, scores)) / scores

    for image_id in range(1, images + 1):
        for _ in range(int(rng.integers(1, 6))):
            box, category = random_box(rng, size, sides), int(rng.choice([3, 7, 9]))
            crowd = int(rng.random() < crowds)
            annotations.append(annotation(len(annotations) + 1, box, image_id, category, size, iscrowd=crowd))
            x, y, w, h = box
            moved = (min(max(x + int(rng.integers(-2, 3)), 0), size[1] - w), y, w, max(h - int(rng.integers(0, 4)), 1))
            guess = category if rng.random() < 0.8 else int(rng.choice([3, 7, 9, 11]))
            detections.append(region(moved, image_id, guess, size, score=any_score()))
        detections.append(region(random_box(rng, size, sides), image_id, 9, size, score=any_score()))
    entries = []
    for image_id in range(1, images + 1):
        present = sorted({a["category_id"] for a in annotations if a["image_id"] == image_id})
        absent = [k for k in (3, 7, 9, 11) if k not in present]
        entries.append(image(image_id, size, pos_category_ids=present))
        entries[-1]["neg_category_ids"] = [k for k in absent if rng.random() < 0.5]
        entries[-1]["not_exhaustive_category_ids"] = [k for k in present if rng.random() < 0.2]
    return {"images": entries, "annotations": annotations, "categories": CATEGORIES}, detections


def copied(value: Any) -> Any:
    return json.loads(json.dumps(value))


def without_boxes(detections):
    """For masks: pycocotools and lvis-api take the size of a detection from its box where there is one."""
    return [{k: v for k, v in d.items() if k != "bbox"} for d in copied(detections)]


def pycocotools_tensors(truth, detections, kind, limits=(1, 10, 100), use_categories=True):
    """(precision, recall) of pycocotools."""
    with contextlib.redirect_stdout(io.StringIO()):
        index = COCO()
        index.dataset = copied(truth)
        index.createIndex()
        given = without_boxes(detections) if kind == "segm" else copied(detections)
        evaluator = COCOeval(index, index.loadRes(given), kind)
        evaluator.params.maxDets = list(limits)
        evaluator.params.useCats = int(use_categories)
        evaluator.evaluate()
        evaluator.accumulate()
    return evaluator.eval["precision"], evaluator.eval["recall"]


def lvis_tensors(truth, detections, kind, monkeypatch, max_detections=300):
    """(precision, recall) of lvis-api, which has not been kept up with numpy."""
    pytest.importorskip("lvis", reason="lvis-api is not installed", exc_type=ImportError)
    monkeypatch.setattr(np, "float", float, raising=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from lvis import LVIS, LVISEval, LVISResults

        index = LVIS.__new__(LVIS)
        import logging

        index.logger = logging.getLogger("lvis")
        index.dataset = copied(truth)
        index._create_index()
        given = without_boxes(detections) if kind == "segm" else copied(detections)
        results = LVISResults(index, given, max_dets=max_detections)
        evaluator = LVISEval(index, results, kind)
        evaluator.evaluate()
        evaluator.accumulate()
    return evaluator.eval["precision"], evaluator.eval["recall"]
