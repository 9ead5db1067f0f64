"""The VOC 2007 rule, against a plain reading of it, and by hand."""

from __future__ import annotations

import numpy as np
import pytest

from tests.evaluation.made_up import CATEGORIES, annotation, image, random_case, region
from vlpart.errors import EvaluationError
from vlpart.evaluation.average_precision import score_detections


def plain_ap(truth, detections, category, threshold):
    """One class at one threshold, word by word: sort, take the best overlap, count, interpolate at eleven recalls."""
    known = {}
    for each in truth["annotations"]:
        if each["category_id"] == category:
            known.setdefault(each["image_id"], []).append({"box": each["bbox"], "hard": each.get("difficult", 0)})
    positives = sum(not entry["hard"] for entries in known.values() for entry in entries)
    right = wrong = 0
    points = []
    for found in sorted((d for d in detections if d["category_id"] == category), key=lambda d: -d["score"]):
        best, match = -1.0, None
        for entry in known.get(found["image_id"], []):
            (x, y, w, h), (u, v, s, t) = found["bbox"], entry["box"]
            across, down = min(x + w, u + s) - max(x, u), min(y + h, v + t) - max(y, v)
            shared = max(across, 0) * max(down, 0)
            overlap = shared / (w * h + s * t - shared)
            if overlap > best:
                best, match = overlap, entry
        if match is not None and best > threshold:
            if match["hard"]:
                continue
            taken = match.setdefault("taken", False)
            right, wrong = (right, wrong + 1) if taken else (right + 1, wrong)
            match["taken"] = True
        else:
            wrong += 1
        points.append((right / positives, right / (right + wrong)))
    at = [max((p for r, p in points if r >= k / 10), default=0.0) for k in range(11)]
    return sum(at) / 11


@pytest.mark.parametrize("seed", range(4))
def test_equal_to_a_plain_reading(seed):
    truth, detections = random_case(seed, images=8)
    rng = np.random.default_rng(seed)
    for each in truth["annotations"]:
        each["iscrowd"], each["difficult"] = 0, int(rng.random() < 0.2)
    result = score_detections(truth, detections, rule="voc", kinds=("boxes",)).boxes
    thresholds = [t / 100 for t in range(50, 100, 5)]
    for category, name in ((3, "car"), (7, "car:wheel"), (9, "car:door")):
        values = [plain_ap(truth, detections, category, threshold) for threshold in thresholds]
        scores = result.per_class[name]
        assert scores.ap50 == pytest.approx(values[0], abs=1e-9)
        assert scores.ap75 == pytest.approx(values[5], abs=1e-9)
        assert scores.ap == pytest.approx(np.mean(values), abs=1e-9)
    assert result.all.ap == pytest.approx(np.mean([result.per_class[n].ap for n in result.per_class]))
    assert 0.05 < result.all.ap50 < 0.99


def test_difficult_objects_count_neither_way():
    truth = {
        "images": [image(1)],
        "annotations": [annotation(1, (0, 0, 10, 10), 1, 7), annotation(2, (40, 30, 10, 10), 1, 7, difficult=1)],
        "categories": CATEGORIES,
    }
    hard = region((40, 30, 10, 10), 1, 7, score=0.9)
    easy = region((0, 0, 10, 10), 1, 7, score=0.5)
    assert score_detections(truth, [hard, hard, easy], rule="voc", kinds=("boxes",)).boxes.all.ap == pytest.approx(1.0)
    missed = score_detections(truth, [hard], rule="voc", kinds=("boxes",)).boxes
    assert missed.all.ap == 0.0 and missed.all.classes == 1
    twice = score_detections(truth, [easy, {**easy, "score": 0.4}], rule="voc", kinds=("boxes",)).boxes.all
    assert twice.ap == pytest.approx(1.0)  # the double comes after full recall
    first = score_detections(truth, [{**hard, "bbox": [20, 5, 9, 9]}, easy], rule="voc", kinds=("boxes",)).boxes.all
    assert first.ap50 == pytest.approx(0.5)


def test_masks_are_refused():
    truth, detections = random_case(0, images=1)
    with pytest.raises(EvaluationError, match="boxes only"):
        score_detections(truth, detections, rule="voc")
