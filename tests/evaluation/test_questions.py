"""Parts asked for alone, precision and recall at a threshold, absent names, two names on a region: hand-made cases."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.evaluation.made_up import annotation, region, rle_of
from vlpart.evaluation.absent import ask_absent, random_strings
from vlpart.evaluation.average_precision import check
from vlpart.evaluation.dataset import open_dataset
from vlpart.evaluation.operating import counts_over, doubly_named
from vlpart.evaluation.referring import ask
from vlpart.masks.stack import MaskStack
from vlpart.results.result import Result
from vlpart.text.vocabulary import Vocabulary

SIZE = (40, 60)
CATEGORIES = [
    {"id": 1, "name": "car", "object": "car", "part": None},
    {"id": 2, "name": "car:wheel", "object": "car", "part": "wheel"},
    {"id": 3, "name": "car:door", "object": "car", "part": "door"},
]


def result(vocabulary: Vocabulary, found: list[tuple[str, float, tuple[int, int, int, int]]]) -> Result:
    """Detections (name, score, box x y w h), the mask of each being its box."""
    boxes = np.array([[x, y, x + w, y + h] for _, _, (x, y, w, h) in found], dtype=np.float32).reshape(-1, 4)
    rles = [rle_of(box, SIZE) for _, _, box in found]
    return Result(
        image_size=SIZE,
        boxes_xyxy=boxes,
        scores=np.array([score for _, score, _ in found], dtype=np.float32),
        class_ids=np.array([vocabulary.index(name) for name, _, _ in found], dtype=np.int64),
        masks=MaskStack.from_rles(rles, SIZE) if rles else MaskStack.from_bitmaps([], SIZE),
        vocabulary=vocabulary,
    )


class Scripted:
    """Answers the questions of each image from a list; keeps what it was asked."""

    name = "scripted"

    def __init__(self, answers: dict[str, list[tuple[str, float, tuple[int, int, int, int]]]]) -> None:
        self.answers, self.asked = answers, []  # type: ignore[var-annotated]

    def read(self, source: Any) -> Any:
        return source

    def detect(self, images: Any, vocabulary: Any = None, **options: Any) -> list[Result]:
        return [self.answer(image, vocabulary, **options) for image in images]

    def answer(self, image: Any, vocabulary: Any, **options: Any) -> Result:
        self.asked.append((Path(image).name, list(vocabulary.names), options))
        known = [
            a
            for a in self.answers.get(Path(image).name, [])
            if a[0] in vocabulary and a[1] > options["score_threshold"]
        ]
        return result(vocabulary, known)


@pytest.fixture
def dataset(tmp_path: Path) -> Any:
    """Two images: a car with a wheel of 10 x 10 and a door, and one with two wheels."""
    boxes = [
        (1, 1, (0, 0, 50, 30)), (1, 2, (0, 20, 10, 10)), (1, 3, (20, 0, 10, 20)),
        (2, 2, (0, 0, 10, 10)), (2, 2, (30, 0, 20, 10)),
    ]  # fmt: skip
    images = [{"id": i, "file_name": f"{i}.png", "height": SIZE[0], "width": SIZE[1]} for i in (1, 2)]
    found = [annotation(n, box, image, category, SIZE) for n, (image, category, box) in enumerate(boxes, 1)]
    file = tmp_path / "val.json"
    file.write_text(json.dumps({"images": images, "annotations": found, "categories": CATEGORIES}))
    for image in images:
        (tmp_path / image["file_name"]).touch()  # the model of these tests opens none
    return open_dataset(file, tmp_path)


def test_the_first_answer_is_judged_by_the_nearest_annotation(dataset: Any) -> None:
    model = Scripted(
        {
            # the first answer for the wheel covers half of it and nothing else (IoU 50 / 100), the second all of it
            "1.png": [("car:wheel", 0.9, (0, 20, 5, 10)), ("car:wheel", 0.8, (0, 20, 10, 10))],
            # nearest is the second wheel: 10 x 10 of its 20 x 10, IoU 100 / 200
            "2.png": [("car:wheel", 0.4, (40, 0, 10, 10))],
        }
    )
    asked = ask(model, dataset)
    assert [(a.image_id, a.name, a.iou, a.any_rank) for a in asked.answers] == [
        (1, "car:wheel", 0.5, 1.0),
        (1, "car:door", 0.0, 0.0),  # not found: its 200 pixels count as union
        (2, "car:wheel", 0.5, 0.5),
    ]
    assert asked.mean_iou == pytest.approx(1 / 3)
    assert asked.cumulative_iou == pytest.approx((50 + 0 + 100) / (100 + 200 + 200))
    assert asked.p50 == pytest.approx(2 / 3)
    assert asked.p50_95 == pytest.approx(2 / 30)
    assert asked.any_rank == pytest.approx(0.5)
    assert [names for _, names, _ in model.asked] == [["car:wheel", "car:door"], ["car:wheel"]]
    assert all(o == {"score_threshold": 0.0, "max_detections": 100 * len(n)} for _, n, o in model.asked)
    assert asked.to_dict()["per_class"]["car:wheel"] == {"questions": 2, "mean_iou": 0.5}


def test_ranks_beyond_the_hundredth_do_not_count(dataset: Any) -> None:
    wrong = [("car:wheel", 0.9 - i / 1000, (50, 30, 5, 5)) for i in range(100)]
    at_100 = ask(Scripted({"1.png": [*wrong[:99], ("car:wheel", 0.1, (0, 20, 10, 10))]}), dataset)
    at_101 = ask(Scripted({"1.png": [*wrong, ("car:wheel", 0.1, (0, 20, 10, 10))]}), dataset)
    assert (at_100.answers[0].any_rank, at_101.answers[0].any_rank) == (1.0, 0.0)
    assert at_100.answers[0].iou == 0.0


def test_precision_and_recall_count_what_lies_over_the_threshold(dataset: Any) -> None:
    detections = [
        region((0, 0, 50, 30), 1, 1, SIZE, score=0.9),  # right
        region((0, 20, 10, 10), 1, 2, SIZE, score=0.5),  # right, at the threshold
        region((0, 20, 10, 10), 1, 2, SIZE, score=0.6),  # right, so that the one before is a duplicate: wrong
        region((20, 0, 10, 20), 1, 3, SIZE, score=0.4),  # too low: the door is missed
        region((50, 30, 5, 5), 2, 2, SIZE, score=0.8),  # wrong; both wheels of image 2 are missed
    ]
    checked = check(dataset.truth, detections, rule="coco", max_detections=100, kinds=("masks",))
    point = counts_over(checked, "masks", 0.5)
    assert (point.right, point.wrong, point.missed) == (2, 2, 3)
    assert (point.precision, point.recall) == (0.5, 0.4)
    nothing = counts_over(checked, "masks", 0.95)
    assert nothing.precision != nothing.precision
    assert nothing.recall == 0


def test_two_names_on_one_region_are_both_counted() -> None:
    names = Vocabulary.parse("cat; dog; bird")
    box, near, far = (0, 0, 20, 10), (0, 0, 19, 10), (30, 20, 10, 10)
    twice = result(names, [("cat", 0.9, box), ("dog", 0.8, near), ("bird", 0.7, far)])
    same_name = result(names, [("cat", 0.9, box), ("cat", 0.8, near)])
    less = result(names, [("cat", 0.9, box), ("dog", 0.8, (0, 0, 15, 10))])  # IoU 0.75
    assert doubly_named([twice]) == (2, 3)
    assert doubly_named([same_name, less, result(names, [])]) == (0, 4)


class Finds(Scripted):
    """Finds the first name of every question, with the score given."""

    def __init__(self, score: float) -> None:
        super().__init__({})
        self.score = score

    def answer(self, image: Any, vocabulary: Any, **options: Any) -> Result:
        self.asked.append((Path(image).name, list(vocabulary.names), options))
        found = self.score > options["score_threshold"]
        return result(vocabulary, [(vocabulary.names[0], self.score, (0, 0, 5, 5))] if found else [])


def test_absent_names_are_unlike_what_is_there(dataset: Any) -> None:
    found = ask_absent(Finds(0.6), dataset, 30)
    assert (found.images, found.names, found.detections, found.per_image) == (2, 30, 2, 1.0)
    assert (found.strings, found.strings_found) == (30, 1)  # the same first string in both images
    none = ask_absent(Finds(0.5), dataset, 30)
    assert (none.detections, none.strings_found, none.worst) == (0, 0, ())
    model = Finds(0.6)
    ask_absent(model, dataset, 400)
    asked = {name for _, names, _ in model.asked[:2] for name in names}
    assert not asked & {"car", "cab", "minivan", "wheel", "sports car"}
    assert len(asked) > 500  # each image gets names of its own


def test_random_strings_differ_and_come_again() -> None:
    strings = random_strings(300)
    assert len(set(strings)) == 300
    assert strings == random_strings(300)
    assert any("а" <= s[0] <= "я" for s in strings)
    assert any(s.isascii() and s.isalpha() for s in strings)
