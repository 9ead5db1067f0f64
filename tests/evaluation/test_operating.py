"""Precision, recall and F1 at a threshold, by hand."""

from __future__ import annotations

import math

import pytest

from tests.evaluation.made_up import CATEGORIES, annotation, image, random_case, region
from vlpart.evaluation import engine
from vlpart.evaluation.average_precision import check
from vlpart.evaluation.operating import counts_over, operating_point


def case():
    """Two cars and a wheel; the second car is found late, and something is called a door."""
    annotations = [
        annotation(1, (5, 5, 20, 20), 1, 3),
        annotation(2, (40, 5, 20, 20), 1, 3),
        annotation(3, (8, 40, 10, 10), 1, 7),
        annotation(4, (60, 40, 15, 15), 1, 3, iscrowd=1),
    ]
    found = [
        region((5, 5, 20, 20), 1, 3, score=0.9),
        region((5, 5, 20, 19), 1, 3, score=0.8),  # a double
        region((40, 5, 20, 20), 1, 3, score=0.4),
        region((8, 40, 10, 10), 1, 9, score=0.7),  # the wheel as a door
        region((62, 42, 8, 8), 1, 3, score=0.6),  # in the crowd
    ]
    return {"images": [image(1)], "annotations": annotations, "categories": CATEGORIES}, found


@pytest.mark.parametrize("kind", ["masks", "boxes"])
def test_by_hand(kind):
    truth, found = case()
    checked = check(truth, found, rule="coco", max_detections=100, kinds=("masks", "boxes"))
    point = operating_point(checked, kind, 0.5)
    car, wheel, door = (point.per_class[name] for name in ("car", "car:wheel", "car:door"))
    assert (car.right, car.wrong, car.missed) == (1, 1, 1)
    assert (car.precision, car.recall, car.f1) == (0.5, 0.5, 0.5)
    assert (car.best_threshold, car.best_f1) == (0.4, pytest.approx(0.8))
    assert (wheel.right, wheel.wrong, wheel.missed) == (0, 0, 1) and math.isnan(wheel.precision)
    assert (door.right, door.wrong, door.missed) == (0, 1, 0) and math.isnan(door.best_threshold)
    assert (point.all.right, point.all.wrong, point.all.missed) == (1, 2, 2)
    assert "car:hood" not in point.per_class
    low = operating_point(checked, kind, 0.4)
    assert (low.per_class["car"].right, low.per_class["car"].wrong) == (2, 1)
    assert point.confusion is not None
    names = point.confusion.names
    assert point.confusion.counts[names.index("car:wheel")][names.index("car:door")] == 1


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_recall_at_zero_is_that_of_the_metric(seed):
    """The recall of the metric library at IoU 0.5 with all detections, class by class."""
    from vlpart.evaluation import engine

    truth, found = random_case(seed)
    checked = check(truth, found, rule="coco", max_detections=100, kinds=("masks",))
    point = operating_point(checked, "masks", 0.0)
    tensors = engine.measure(checked.index_of("masks"), checked.table, "masks", rule="coco", max_detections=100)
    for place, category in enumerate(sorted(CATEGORIES, key=lambda c: c["id"])):
        expected = tensors.recall[0, place, 0, -1]
        if expected >= 0:
            assert point.per_class[category["name"]].recall == pytest.approx(expected)


def test_the_command(command, data, perfect):
    code, out, _ = command("evaluate", "--on", "car_parts", "--data", data, "--predictions", perfect, "--at", "0.5")
    assert code == 0
    assert "detections with a score of 0.5 or more (masks, IoU 0.5):" in out
    assert "1 x car:door found as (nothing)" in out


def library_counts(checked, kind, threshold):
    """(right, wrong, missed) as the metric library counts them, its own matching at one threshold."""
    judge = engine.evaluator(
        checked.index_of(kind),
        checked.table.take(checked.table.scores >= threshold),
        kind,
        federated=checked.rule == "lvis",
        limits=(checked.max_detections,),
    )
    each = judge.image_diagnostics(iou_thr=0.5, score_thr=threshold)["img_summary"].values()
    return tuple(sum(int(summary[key]) for summary in each) for key in ("tp", "fp", "fn"))


@pytest.mark.parametrize("rule", ["coco", "lvis"])
@pytest.mark.parametrize("seed", range(6))
def test_one_count_for_the_line_the_table_and_the_library(seed, rule):
    """What is always printed, what --at prints, and what the metric library counts; crowds and partly annotated too."""
    truth, found = random_case(seed, crowds=0.2)
    checked = check(truth, found, rule=rule, max_detections=100, kinds=("masks", "boxes"))
    for kind in ("masks", "boxes"):
        for threshold in (0.0, 0.3, 0.8):
            whole, line = operating_point(checked, kind, threshold).all, counts_over(checked, kind, threshold)
            assert (whole.right, whole.wrong, whole.missed) == (line.right, line.wrong, line.missed)
            assert (line.right, line.wrong, line.missed) == library_counts(checked, kind, threshold)
            assert (whole.precision, whole.recall) == pytest.approx((line.precision, line.recall), nan_ok=True)


@pytest.mark.parametrize(("rule", "counts"), [("coco", (1, 1, 2)), ("voc", (0, 1, 2))])
def test_difficult_annotations_are_left_out_by_the_rule_that_knows_them(rule, counts):
    truth, found = case()
    truth["annotations"][0]["difficult"] = 1
    found = [found[1], found[3], found[2]]  # on the difficult one, the wheel as a door, a late car
    checked = check(truth, found, rule=rule, max_detections=100, kinds=("boxes",))
    point = counts_over(checked, "boxes", 0.5)
    assert (point.right, point.wrong, point.missed) == counts


def test_no_more_detections_than_the_limit_count():
    truth, found = case()
    checked = check(truth, found, rule="coco", max_detections=1, kinds=("boxes",))
    point = operating_point(checked, "boxes", 0.0).per_class["car"]
    assert (point.right, point.wrong) == (1, 0)
