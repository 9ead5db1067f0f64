"""Numbers that stay: motion, doubt, names, parts; and smoothing."""

from __future__ import annotations

import numpy as np
import pytest

from vlpart.masks.stack import MaskStack
from vlpart.results.result import Result
from vlpart.text.vocabulary import Vocabulary

pytest.importorskip("trackers", reason='needs pip install "vlpart[video]"')
from vlpart.video.tracking import Smoother, Tracker

WORDS = Vocabulary.parse("car: wheel; dog")


def frame(*found: tuple[str, float, float, float]) -> Result:
    """Detections of (name, score, left, top); cars and dogs are 40 x 20, wheels 8 x 8."""
    sizes = [(8, 8) if name == "car:wheel" else (40, 20) for name, *_ in found]
    boxes = [[x, y, x + w, y + h] for (_, _, x, y), (w, h) in zip(found, sizes, strict=True)]
    return Result(
        image_size=(100, 400),
        boxes_xyxy=np.array(boxes, dtype=np.float32).reshape(-1, 4),
        scores=[score for _, score, *_ in found],
        class_ids=np.array([WORDS.index(name) for name, *_ in found], dtype=np.int64),
        masks=MaskStack(np.ones((len(found), 4, 4)), np.array(boxes).reshape(-1, 4), (100, 400)),
        vocabulary=WORDS,
    )


def test_objects_keep_their_numbers_and_parts_have_those_of_their_objects() -> None:
    tracker = Tracker(rate=10, threshold=0.5)
    for step in range(8):
        x = 5.0 * step
        result, numbers = tracker.update(
            frame(("car", 0.9, x, 10), ("car", 0.8, 300 - x, 60), ("car:wheel", 0.7, x + 4, 20), ("dog", 0.6, 200, 10))
        )
        found = {(name, int(box[1])): n for name, box, n in zip(result.names, result.boxes_xyxy, numbers, strict=True)}
        expected = {("car", 10): 1, ("car", 60): 2, ("car:wheel", 20): 1, ("dog", 10): 3}
        assert found == (expected if step else dict.fromkeys(expected, 0))


def test_a_doubtful_detection_continues_an_object_but_begins_none() -> None:
    tracker = Tracker(rate=10, threshold=0.5)
    assert len(tracker.update(frame(("car", 0.3, 10, 10)))[0]) == 0
    assert tracker.update(frame(("car", 0.9, 10, 10)))[1].tolist() == [0]
    assert tracker.update(frame(("car", 0.9, 10, 10)))[1].tolist() == [1]
    result, numbers = tracker.update(frame(("car", 0.3, 12, 10), ("dog", 0.3, 200, 10), ("car:wheel", 0.3, 14, 20)))
    assert (result.names, numbers.tolist()) == (["car"], [1])


def test_an_object_comes_back_and_another_name_does_not_take_its_place() -> None:
    tracker = Tracker(rate=10, threshold=0.5)
    car, dog, nothing = frame(("car", 0.9, 10, 10)), frame(("dog", 0.9, 10, 10)), frame()
    seen = [tracker.update(each)[1].tolist() for each in (car, car, nothing, dog, dog, car)]
    assert seen == [[0], [1], [], [0], [2], [1]]
    for _ in range(15):
        tracker.update(nothing)
    assert [tracker.update(car)[1].tolist() for _ in range(2)] == [[0], [3]]


def test_smoothing_averages_what_has_one_number() -> None:
    smoother = Smoother(0.5)
    one, two = np.array([1]), np.array([1])
    smoother.smooth(frame(("car", 0.9, 10, 10)), one)
    moved = smoother.smooth(frame(("car", 0.9, 20, 10)), two)
    assert moved.boxes_xyxy.tolist() == [[15, 10, 55, 30]]
    assert moved.masks is not None
    assert moved.masks.maps is not None
    assert moved.masks.maps[1].tolist() == [[15, 10, 55, 30]]
    other = smoother.smooth(frame(("car", 0.9, 200, 10)), np.array([2]))
    assert other.boxes_xyxy.tolist() == [[200, 10, 240, 30]]
