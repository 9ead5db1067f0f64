"""Boundary AP against a plain computation: bands by erosion, the smaller of two IoUs, matching and AP written out."""

from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from scipy.ndimage import binary_erosion

from tests.evaluation.made_up import CATEGORIES, random_case
from vlpart.errors import EvaluationError
from vlpart.evaluation.average_precision import check
from vlpart.evaluation.boundary import DILATION, boundary_precision, library

pytest.importorskip("vernier", reason="the extra boundary is not installed")


def band(bitmap):
    """Pixels nearer to the outline than the width of the band, in steps of the eight neighbours."""
    width = max(1, round(DILATION * float(np.hypot(*bitmap.shape))))
    return bitmap & ~binary_erosion(bitmap, np.ones((3, 3)), iterations=width, border_value=0)


def decoded(region):
    code = region["segmentation"]
    counts = code["counts"]
    return coco_mask.decode({**code, "counts": counts.encode() if isinstance(counts, str) else counts}).astype(bool)


def overlap(one, other):
    return (one & other).sum() / max((one | other).sum(), 1)


def average_precision(truth, detections, category, iou):
    """One class at one IoU; no crowds."""
    rows, positives = [], 0
    for image in truth["images"]:
        known = [a for a in truth["annotations"] if (a["image_id"], a["category_id"]) == (image["id"], category)]
        found = [d for d in detections if (d["image_id"], d["category_id"]) == (image["id"], category)]
        masks = [(decoded(each), band(decoded(each))) for each in known]
        positives += len(known)
        taken = set()
        for detection in sorted(found, key=lambda d: -d["score"]):
            mask = decoded(detection)
            edge = band(mask)
            overlaps = {
                k: min(overlap(mask, other), overlap(edge, other_edge))
                for k, (other, other_edge) in enumerate(masks)
                if k not in taken
            }
            best = max(overlaps, key=lambda k: (overlaps[k], k), default=None)
            hit = best is not None and overlaps[best] >= iou
            taken |= {best} if hit else set()
            rows.append((detection["score"], hit))
    if not positives:
        return None
    hits = np.cumsum([hit for _, hit in sorted(rows, key=lambda row: -row[0])])
    precision = np.maximum.accumulate((hits / np.arange(1, len(hits) + 1))[::-1])[::-1]
    places = np.searchsorted(hits / positives, np.linspace(0, 1, 101))
    return float(np.mean([precision[p] if p < len(precision) else 0.0 for p in places]))


@pytest.mark.parametrize("seed", [0, 1])
def test_it_is_what_the_paper_says(seed):
    truth, found = random_case(seed, images=6, sides=(8, 40), crowds=0.0)
    checked = check(truth, found, rule="coco", max_detections=100, kinds=("masks",))
    measured = boundary_precision(checked)
    for name, chosen in {
        "all": [c["id"] for c in CATEGORIES],
        "parts": [c["id"] for c in CATEGORIES if ":" in c["name"]],
        "objects": [c["id"] for c in CATEGORIES if ":" not in c["name"]],
    }.items():
        for iou, value in ((0.5, measured[name].ap50), (0.75, measured[name].ap75)):
            each = [average_precision(truth, found, category, iou) for category in chosen]
            assert value == pytest.approx(np.mean([ap for ap in each if ap is not None]), abs=1e-9), (name, iou)
    assert 0 < measured["all"].ap < measured["all"].ap50


def test_sharp_outlines_count_more_than_in_mask_ap():
    """A large square one pixel too wide on every side: mask IoU 0.9, boundary IoU 0.5."""
    from tests.evaluation.made_up import annotation, image, region

    size = (200, 200)
    truth = {"images": [image(1, size)], "categories": CATEGORIES[:1]}
    truth["annotations"] = [annotation(1, (40, 40, 100, 100), 1, truth["categories"][0]["id"], size)]
    found = [region((36, 36, 108, 108), 1, truth["categories"][0]["id"], size, score=0.9)]
    from vlpart.evaluation.average_precision import score

    checked = check(truth, found, rule="coco", max_detections=100, kinds=("masks",))
    plain = score(checked, kinds=("masks",)).masks
    assert plain is not None and plain.all.ap75 > 0.999
    assert boundary_precision(checked)["all"].ap50 == 0.0


def test_what_it_cannot_score_is_said():
    truth, found = random_case(0)
    with pytest.raises(EvaluationError, match="COCO's rule only"):
        boundary_precision(check(truth, found, rule="lvis", max_detections=100, kinds=("masks",)))
    with pytest.raises(EvaluationError, match="is of masks"):
        boundary_precision(check(truth, found, rule="coco", max_detections=100, kinds=("boxes",)))


def test_without_the_library_there_is_one_line(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "vernier", None)
    with pytest.raises(EvaluationError, match=r"vlpart\[boundary\]"):
        library()
