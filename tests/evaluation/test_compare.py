"""Two sets of detections for the same images: figures as in their own evaluations, and how sure the difference is."""

from __future__ import annotations

import json

import pytest

from tests.evaluation.made_up import CATEGORIES, random_case
from vlpart.errors import EvaluationError
from vlpart.evaluation.average_precision import check, score_detections
from vlpart.evaluation.compare import compare

GROUPS = {"all": [3, 7, 9, 11], "wheels": [7], "never annotated": [11]}


def checked(truth, detections, rule="coco"):
    return check(truth, detections, rule=rule, max_detections=100, kinds=("masks",))


def worse(detections):
    """Wheels have other names in most images."""
    return [
        {**each, "category_id": 9 if each["category_id"] == 7 and each["image_id"] % 4 else each["category_id"]}
        for each in detections
    ]


@pytest.mark.parametrize("rule", ["coco", "lvis"])
def test_figures_are_those_of_the_evaluations(rule):
    truth, detections = random_case(5, images=20, crowds=0)
    truth["images"] = [{**image, "neg_category_ids": [11]} for image in truth["images"]]
    pair = worse(detections), detections
    found = compare(*(checked(truth, each, rule) for each in pair), "masks", GROUPS, samples=30)
    assert set(found) == {"all", "wheels"}
    scores = [score_detections(truth, each, rule=rule, kinds=("masks",), groups=GROUPS).masks.groups for each in pair]
    for group, figures in found.items():
        for key, difference in figures.items():
            expected = [getattr(each[group], key) for each in scores]
            assert [difference.first, difference.second] == pytest.approx(expected, abs=1e-9)
            assert difference.low <= difference.high
    wheels = found["wheels"]["ap"]
    assert wheels.change > 0.1 and wheels.low > 0


def test_the_same_detections_differ_by_nothing():
    truth, detections = random_case(6)
    same = checked(truth, detections)
    seen = []
    found = compare(
        same,
        checked(truth, detections),
        "masks",
        GROUPS,
        samples=10,
        progress=lambda label, done, total: seen.append((done, total)),
    )
    assert seen == [(1, 3), (2, 3), (3, 3)]
    figures = found["all"]["ap50"]
    assert (figures.change, figures.low, figures.high) == (0, 0, 0)


def test_the_interval_grows_with_the_confidence():
    truth, detections = random_case(7, images=20)
    pair = checked(truth, worse(detections)), checked(truth, detections)
    narrow, wide = (
        compare(*pair, "masks", GROUPS, samples=100, confidence=confidence)["wheels"]["ap"] for confidence in (0.2, 0.9)
    )
    assert wide.low < narrow.low < narrow.high < wide.high


def test_different_rules_or_ground_truth_are_refused():
    truth, detections = random_case(8)
    other, others = random_case(9)
    first = checked(truth, detections)
    for second in (checked(truth, detections, "lvis"), checked(other, others)):
        with pytest.raises(EvaluationError, match="same ground truth under the same rule"):
            compare(first, second, "masks", GROUPS)
    voc = check(truth, detections, rule="voc", max_detections=100, kinds=("boxes",))
    with pytest.raises(EvaluationError, match="not under that of VOC"):
        compare(voc, voc, "boxes", GROUPS)


def test_the_command_prints_and_writes_the_change(command, data, perfect, tmp_path):
    found = json.loads(perfect.read_text())
    before = tmp_path / "before.json"
    before.write_text(json.dumps([each for each in found if each["category_id"] != found[-1]["category_id"]]))
    base = (
        "evaluate",
        "--predictions",
        perfect,
        "--on",
        "car_parts",
        "--data",
        data,
        "--quick",
        "-o",
        tmp_path / "out",
    )
    code, out, err = command(*base, "--against", before)
    assert (code, err) == (0, "")
    assert f"change from {before} (in brackets: 90% of the draws" in out
    saved = json.loads((tmp_path / "out" / "scores.json").read_text())["against"]
    assert set(saved) == {"all", "parts", "objects"}
    all_classes = saved["all"]["ap"]
    assert all_classes["second"] > all_classes["first"]
    line = f"  all: AP {100 * all_classes['first']:.1f} -> {100 * all_classes['second']:.1f}, +"
    assert line in out
    assert "change from" not in command(*base)[1]


@pytest.mark.parametrize(
    ("text", "message"),
    [("[{]", "before.json"), ('[{"image_id": 1}]', "detection 0"), (None, "cannot read")],
)
def test_a_bad_file_to_compare_with_is_one_line(command, data, perfect, tmp_path, text, message):
    before = tmp_path / "before.json"
    if text is not None:
        before.write_text(text)
    code, out, err = command(
        "evaluate", "--predictions", perfect, "--on", "car_parts", "--data", data, "--against", before
    )
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert message in err


assert {category["id"] for category in CATEGORIES} == set(GROUPS["all"])
