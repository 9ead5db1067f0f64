"""The tensors equal those of pycocotools and lvis-api, on random cases and on hard ones."""

from __future__ import annotations

import numpy as np
import pytest

from tests.evaluation.made_up import (
    CATEGORIES,
    annotation,
    copied,
    image,
    lvis_tensors,
    pycocotools_tensors,
    random_case,
    region,
)
from vlpart.evaluation import average_precision as coco
from vlpart.evaluation import engine

KINDS = {"masks": "segm", "boxes": "bbox"}


def our_tensors(truth, detections, kind, rule="coco", max_detections=100):
    checked = coco.check(truth, detections, rule=rule, max_detections=max_detections, kinds=(kind,))
    table = checked.table
    if rule == "lvis":
        table = table.take(table.areas(kind) > 0)
    return engine.measure(checked.index, table, kind, rule=rule, max_detections=max_detections)


def ties(seed):
    """Scores of three values only, every detection twice."""
    truth, detections = random_case(seed, scores=3)
    return truth, detections + copied(detections)


def area_edges(seed):
    """Regions of exactly 32^2 and 96^2 pixels and one row more or less, in a large image."""
    size = (300, 300)
    boxes = [(0, 0, 32, 32), (40, 0, 32, 31), (80, 0, 32, 33), (0, 50, 96, 96), (110, 50, 96, 95), (0, 150, 96, 97)]
    truths = [annotation(i + 1, box, 1, 7, size) for i, box in enumerate(boxes)]
    found = [region((x, y, w, h - 1), 1, 7, size, score=0.9 - i / 10) for i, (x, y, w, h) in enumerate(boxes)]
    lists = {"neg_category_ids": [], "not_exhaustive_category_ids": []}
    return {"images": [image(1, size, **lists)], "annotations": truths, "categories": CATEGORIES}, found


def degenerate(seed):
    """Empty masks, boxes without area, single pixels, boxes beyond the image, negative scores, large ids."""
    truth, detections = random_case(seed, images=4, crowds=0.0)
    rng = np.random.default_rng(seed)
    for entry in truth["images"]:
        entry["id"] += 10**9
    for each in truth["annotations"] + detections:
        each["image_id"] += 10**9
    for each in detections[::5]:
        each["bbox"] = [*each["bbox"][:2], 0, 0]
        each["segmentation"] = region((0, 0, 0, 0), 0, 0)["segmentation"]
    for each in detections[1::5]:
        each["bbox"][2] += 500
        each["score"] -= 2.0
    x, y = (int(v) for v in rng.integers(0, 50, 2))
    truth["annotations"].append(annotation(900, (x, y, 1, 1), 10**9 + 1, 9))
    detections.append(region((x, y, 1, 1), 10**9 + 1, 9, score=0.31))
    return truth, detections


def many(seed):
    """Over a hundred detections of one class in one image."""
    truth, detections = random_case(seed, images=2)
    rng = np.random.default_rng(seed)
    crowd = [
        region(
            (int(rng.integers(0, 60)), int(rng.integers(0, 40)), 12, 12), 1, 7, score=float(rng.integers(0, 40)) / 40
        )
        for _ in range(150)
    ]
    return truth, detections + crowd


def polygons(seed):
    """Ground truth as polygons, and detections of images without any annotation."""
    truth, detections = random_case(seed, images=5, crowds=0.0)
    for each in truth["annotations"]:
        x, y, w, h = each["bbox"]
        each["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    lists = {"neg_category_ids": [7], "not_exhaustive_category_ids": []}
    truth["images"].append(image(77, **lists))
    return truth, [*detections, region((3, 3, 20, 20), 77, 7, score=0.99), region((3, 3, 9, 9), 77, 9, score=0.98)]


CASES = {
    **{f"random {seed}": (random_case, seed) for seed in range(4)},
    **{f"hard {make.__name__}": (make, 5) for make in (ties, area_edges, degenerate, many, polygons)},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CASES)
def test_equal_to_pycocotools(name, kind):
    make, seed = CASES[name]
    truth, detections = make(seed)
    ours = our_tensors(truth, detections, kind)
    precision, recall = pycocotools_tensors(truth, detections, KINDS[kind])
    assert (precision[..., 0, -1] > 0.01).any()  # the case has something to find
    np.testing.assert_allclose(ours.precision, precision[..., -1], atol=1e-6, rtol=0)
    np.testing.assert_allclose(ours.recall, recall, atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("limit", [300, 2])
@pytest.mark.parametrize("name", CASES)
def test_equal_to_lvis_api(name, kind, limit, monkeypatch):
    make, seed = CASES[name]
    truth, detections = make(seed)
    for each in truth["annotations"]:
        each["iscrowd"] = 0  # LVIS has none
    ours = our_tensors(truth, detections, kind, "lvis", limit)
    precision, recall = lvis_tensors(truth, detections, KINDS[kind], monkeypatch, limit)
    assert (precision[..., 0] > 0.01).any()
    np.testing.assert_allclose(ours.precision, precision, atol=1e-6, rtol=0)
    np.testing.assert_allclose(ours.recall[..., -1], recall, atol=1e-6, rtol=0)
