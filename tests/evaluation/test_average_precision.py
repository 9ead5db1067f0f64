"""Averages, the federated rule, ground truth that is not exhaustive, and the refusal of what is malformed."""

from __future__ import annotations

import json
import math

import pytest

from tests.evaluation.made_up import (
    CATEGORIES,
    HEIGHT,
    WIDTH,
    pycocotools_tensors,
    random_case,
    region,
)
from vlpart.errors import DataError, EvaluationError
from vlpart.evaluation.average_precision import score_detections
from vlpart.evaluation.detections import check_detections
from vlpart.evaluation.truth import is_part, read_ground_truth


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_equal_to_pycocotools(seed):
    truth, detections = random_case(seed)
    result = score_detections(truth, detections)
    for scores, kind in ((result.masks, "segm"), (result.boxes, "bbox")):
        expected = pycocotools_tensors(truth, detections, kind)[0][:, :, :, 0, -1]
        assert 0.05 < scores.all.ap50 < 0.999  # the case is neither empty nor perfect
        valid = expected[expected > -1]
        assert scores.all.ap == pytest.approx(valid.mean(), abs=1e-9)
        assert scores.all.ap50 == pytest.approx(expected[0][expected[0] > -1].mean(), abs=1e-9)
        assert scores.per_class["car:wheel"].ap == pytest.approx(expected[:, :, 1].mean(), abs=1e-9)
        assert scores.parts.ap75 == pytest.approx(expected[5, :, 1:3].mean(), abs=1e-9)
        assert scores.objects.ap == pytest.approx(expected[:, :, 0].mean(), abs=1e-9)
        assert (scores.all.classes, scores.parts.classes, scores.objects.classes) == (3, 2, 1)
        assert "car:hood" not in scores.per_class


def test_perfect_and_empty():
    truth, _ = random_case(3)
    truth["annotations"] = [a | {"iscrowd": 0} for a in truth["annotations"]]
    perfect = [
        {key: a[key] for key in ("image_id", "category_id", "bbox", "segmentation")} | {"score": 0.9}
        for a in truth["annotations"]
    ]
    result = score_detections(truth, perfect)
    assert result.masks.all.ap == pytest.approx(1.0) and result.boxes.all.ap50 == pytest.approx(1.0)
    nothing = score_detections(truth, [])
    assert nothing.masks.all.ap == 0.0 and nothing.masks.all.classes == 3
    json.dumps(nothing.to_dict(), allow_nan=False)


def test_annotated_classes_only_ignores_the_other_classes():
    box, other = (10, 10, 20, 20), (40, 30, 20, 20)
    image = {"id": 1, "width": WIDTH, "height": HEIGHT, "pos_category_ids": [7]}
    second = {"id": 2, "width": WIDTH, "height": HEIGHT, "pos_category_ids": [9]}
    truth = {
        "images": [image, second],
        "annotations": [
            region(box, 1, 7, id=1, area=400, iscrowd=0),
            region(box, 2, 9, id=2, area=400, iscrowd=0),
        ],
        "categories": CATEGORIES,
    }
    detections = [
        region(other, 2, 7, score=0.9),  # a wheel where nobody looked for wheels
        region(box, 1, 7, score=0.5),
        region(box, 2, 9, score=0.5),
    ]
    assert score_detections(truth, detections).masks.per_class["car:wheel"].ap == pytest.approx(0.5, abs=0.01)
    federated = score_detections(truth, detections, annotated_classes_only=True)
    assert federated.masks.per_class["car:wheel"].ap == pytest.approx(1.0)
    assert federated.detections == 2
    crowded = score_detections(truth, detections, annotated_classes_only=True, max_detections=1)
    assert crowded.masks.per_class["car:door"].ap == 0.0  # the wheel took the only place of image 2
    second["neg_category_ids"] = [7]  # now somebody looked and there is none
    with_negative = score_detections(truth, detections, annotated_classes_only=True)
    assert with_negative.masks.per_class["car:wheel"].ap == pytest.approx(0.5, abs=0.01)
    second["not_exhaustive_category_ids"] = [7]
    assert score_detections(truth, detections, annotated_classes_only=True).masks.per_class[
        "car:wheel"
    ].ap == pytest.approx(1.0)
    del second["pos_category_ids"], second["neg_category_ids"]
    with pytest.raises(DataError, match="neither neg_category_ids nor pos_category_ids"):
        score_detections(truth, detections, annotated_classes_only=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"score": math.nan}, "score"),
        ({"bbox": [0, 0, math.inf, 3]}, "bbox"),
        ({"bbox": [0, 0, -1, 3]}, "bbox"),
        ({"image_id": 99}, "image_id 99"),
        ({"category_id": 1}, "category_id 1"),
        ({"segmentation": {"size": [WIDTH, HEIGHT], "counts": "0"}}, "mask: .*size"),
        ({"segmentation": {"size": [HEIGHT, WIDTH], "counts": "garbage!"}}, "mask: "),
        ({"segmentation": {"size": [HEIGHT, WIDTH], "counts": "\x7f\x80"}}, "mask: "),
        ({"segmentation": {"size": [HEIGHT, WIDTH], "counts": [10, 20]}}, "mask: "),
        ({"segmentation": [[1, 2, 3, 4, 5, 6]]}, "RLE"),
    ],
)
def test_malformed_detections_are_refused(change, message):
    truth, detections = random_case(0, images=2)
    with pytest.raises(EvaluationError, match=message):
        score_detections(truth, [*detections, detections[0] | change])


def test_missing_field_and_boxes_without_masks():
    truth, detections = random_case(0, images=2)
    bare = [{k: v for k, v in d.items() if k != "segmentation"} for d in detections]
    with pytest.raises(EvaluationError, match="has no segmentation"):
        score_detections(truth, bare)
    only_boxes = score_detections(truth, bare, kinds=("boxes",))
    assert only_boxes.masks is None and only_boxes.boxes.all.ap == score_detections(truth, detections).boxes.all.ap


def test_ground_truth_files(tmp_path):
    path = tmp_path / "truth.json"
    with pytest.raises(DataError, match="cannot read"):
        read_ground_truth(path)
    path.write_text("[]")
    with pytest.raises(DataError, match="not a COCO file"):
        read_ground_truth(path)
    path.write_text("{")
    with pytest.raises(DataError, match="not valid JSON"):
        read_ground_truth(path)
    path.write_text('{"images": [{"id": 1}], "annotations": [], "categories": [{"id": 1}]}')
    with pytest.raises(DataError, match="some categories have no name"):
        read_ground_truth(path)
    assert (
        is_part({"name": "car:wheel"}) and not is_part({"name": "car"}) and not is_part({"name": "a:b", "part": None})
    )


@pytest.mark.parametrize("number", [2**63, 2**64, 10**30, -(10**30)])
def test_whole_numbers_of_any_length_are_numbers(number):
    truth = {
        "images": [{"id": 1, "width": 32, "height": 24, "file_name": "a.jpg"}],
        "categories": [{"id": 1, "name": "dog"}],
        "annotations": [],
    }
    detection = {"image_id": 1, "category_id": 1, "bbox": [number, 2.0, 3, 4], "score": 0.5}
    table = check_detections(truth, [detection, detection | {"bbox": [1, 2.0, 3, 4]}], with_masks=False)
    assert table.boxes_xywh[0].tolist() == [float(number), 2, 3, 4]
