"""Parts in the right object, parts as labels of pixels, and class-agnostic recall."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.evaluation.made_up import CATEGORIES, annotation, image, pycocotools_tensors, random_case, region
from vlpart.evaluation import average_precision as coco
from vlpart.evaluation.pairs import pair_precision
from vlpart.evaluation.part_iou import part_iou
from vlpart.evaluation.recall import LIMITS, box_recall

LEFT, RIGHT = (2, 2, 30, 50), (44, 2, 30, 50)
LEFT_WHEEL, RIGHT_WHEEL = (6, 30, 10, 10), (60, 30, 10, 10)


def checked(truth, detections, rule="coco"):
    return coco.check(truth, detections, rule=rule, max_detections=100, kinds=("masks", "boxes"))


def two_cars():
    """Two cars side by side, each with a wheel."""
    return {
        "images": [image(1, pos_category_ids=[3, 7])],
        "annotations": [
            annotation(11, LEFT, 1, 3),
            annotation(12, RIGHT, 1, 3),
            annotation(13, LEFT_WHEEL, 1, 7, object_annotation_id=11),
            annotation(14, RIGHT_WHEEL, 1, 7, object_annotation_id=12),
        ],
        "categories": CATEGORIES,
    }


def found(box, category, score=0.9):
    return region(box, 1, category, score=score)


ALL = [found(LEFT, 3), found(RIGHT, 3), found(LEFT_WHEEL, 7), found(RIGHT_WHEEL, 7)]


@pytest.mark.parametrize("rule", ["coco", "lvis"])
def test_pairs_need_the_right_object(rule):
    assert pair_precision(checked(two_cars(), ALL, rule)).ap == pytest.approx(1.0)
    without_object = pair_precision(checked(two_cars(), [ALL[0], *ALL[2:]], rule))
    assert coco.score_detections(two_cars(), [ALL[0], *ALL[2:]]).masks.per_class["car:wheel"].ap == pytest.approx(1.0)
    assert without_object.ap50 == pytest.approx(51 / 101)  # half of the recall, no mistake before it
    wrong_class = [found(LEFT, 9), found(RIGHT, 3), *ALL[2:]]
    assert pair_precision(checked(two_cars(), wrong_class, rule)).ap50 == pytest.approx(51 / 101)


def test_a_part_of_the_wrong_object_is_a_mistake():
    truth = two_cars()
    truth["annotations"][2]["object_annotation_id"] = 12  # the annotation says: the left wheel is the right car's
    result = pair_precision(checked(truth, [*ALL[:2], found(LEFT_WHEEL, 7, 0.95), found(RIGHT_WHEEL, 7, 0.5)]))
    assert result.ap50 == pytest.approx(0.5 * 51 / 101)  # one mistake first, then one of two found
    assert result.classes == 1


def test_parts_without_object_count_neither_way():
    truth = two_cars()
    truth["annotations"][3]["object_annotation_id"] = None
    assert pair_precision(checked(truth, ALL[:3])).ap == pytest.approx(1.0)
    loose = [found(LEFT, 3), found(LEFT_WHEEL, 7), found(RIGHT_WHEEL, 7, 0.99)]
    assert pair_precision(checked(truth, loose)).ap == pytest.approx(1.0)
    for each in truth["annotations"]:
        each.pop("object_annotation_id", None)
    assert pair_precision(checked(truth, ALL)) is None


def test_the_owner_field_of_paco_is_read():
    truth = two_cars()
    for each in truth["annotations"]:
        each["obj_ann_id"] = each.pop("object_annotation_id", each["id"])
    assert pair_precision(checked(truth, ALL)).ap == pytest.approx(1.0)


def test_part_iou_by_hand():
    truth = two_cars()
    half = (LEFT_WHEEL[0], LEFT_WHEEL[1], 5, 10)
    both = [found(half, 7, 0.8), found(RIGHT_WHEEL, 9, 0.7), found((70, 50, 5, 5), 7, 0.1)]
    truth["annotations"].append(annotation(15, (20, 10, 10, 10), 1, 9))
    whole, inside = part_iou(checked(truth, both))
    assert whole.per_class == {"car:wheel": pytest.approx(50 / 200), "car:door": pytest.approx(0.0)}
    assert whole.miou == pytest.approx(0.125)
    assert inside.per_class["car:wheel"] == pytest.approx(50 / 200)
    assert math.isnan(whole.hiou)
    painted = part_iou(checked(truth, both), score_threshold=0.05)[0]
    assert painted.per_class["car:wheel"] == pytest.approx(50 / 225)  # the doubtful one is painted, outside of it all
    assert part_iou(checked(truth, both), score_threshold=0.05)[1].per_class["car:wheel"] == pytest.approx(50 / 200)


def test_part_iou_of_base_and_novel():
    truth = two_cars()
    truth["annotations"].append(annotation(15, (20, 10, 10, 10), 1, 9))
    detections = [found(LEFT_WHEEL, 7), found((20, 10, 10, 5), 9)]
    whole, _ = part_iou(checked(truth, detections), split=([7], [9]))
    assert (whole.base, whole.novel) == (pytest.approx(0.5), pytest.approx(0.5))
    assert whole.hiou == pytest.approx(0.5)
    nothing, _ = part_iou(checked(truth, []), split=([7], [9]))
    assert nothing.hiou == 0.0 and nothing.miou == 0.0


def test_the_best_detection_and_the_smallest_annotation_are_on_top():
    truth = two_cars()
    truth["annotations"].append(annotation(15, (4, 28, 20, 20), 1, 9, area=400))  # a door around the wheel
    detections = [found((4, 28, 20, 20), 9, 0.6), found(LEFT_WHEEL, 7, 0.9), found(RIGHT_WHEEL, 7, 0.9)]
    whole, _ = part_iou(checked(truth, detections))
    assert whole.per_class == {"car:wheel": pytest.approx(1.0), "car:door": pytest.approx(1.0)}
    hidden = [found((4, 28, 20, 20), 9, 0.95), *detections[1:]]
    assert part_iou(checked(truth, hidden))[0].per_class["car:wheel"] == pytest.approx(0.5)


@pytest.mark.parametrize("seed", [0, 1])
def test_recall_equals_pycocotools_without_classes(seed):
    truth, detections = random_case(seed, size=(200, 240), sides=(10, 130))
    recall = box_recall(checked(truth, detections))
    expected = pycocotools_tensors(truth, detections, "bbox", LIMITS, use_categories=False)[1][:, 0]
    for a, size in enumerate(("all", "small", "medium", "large")):
        for m, limit in enumerate(LIMITS):
            assert getattr(recall, size)[limit] == pytest.approx(expected[:, a, m].mean(), abs=1e-9)
    assert recall.source == "detections" and recall.large[100] > 0


def test_recall_of_proposals():
    truth = two_cars()
    boxes = [(*LEFT, 0.9), (*LEFT_WHEEL, 0.8)]
    recall = box_recall(checked(truth, []), {1: boxes})
    assert recall.source == "proposals" and recall.all[100] == pytest.approx(0.5)
    many = {1: [(0, 0, 1, 1, 1 - k / 1000) for k in range(150)] + [(*LEFT, 0.01)]}
    assert box_recall(checked(truth, []), many).all == {100: 0.0, 300: pytest.approx(0.25), 1000: pytest.approx(0.25)}
    assert np.isfinite(recall.medium[300])
