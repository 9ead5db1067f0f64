"""A result as labels of FiftyOne. Needs FiftyOne, but not its database."""

from __future__ import annotations

import numpy as np
import pytest

from vlpart import Result, Vocabulary
from vlpart.masks.stack import MaskStack

HEIGHT, WIDTH = 40, 80


def a_car(masks: bool = True) -> Result:
    bitmaps = np.zeros((3, HEIGHT, WIDTH), dtype=bool)
    bitmaps[0, 5:35, 10:70] = True
    bitmaps[1, 25:35, 15:25] = True
    bitmaps[1, 28:30, 18:20] = False
    bitmaps[2, 0:4, 70:76] = True
    boxes = [[10, 5, 70, 35], [15, 25, 25, 35], [70, 0, 76, 4]]
    return Result(
        image_size=(HEIGHT, WIDTH),
        boxes_xyxy=boxes,
        scores=[0.9, 0.8, 0.7],
        class_ids=[0, 1, 2],
        vocabulary=Vocabulary.parse("car: wheel; dog"),
        masks=MaskStack.from_bitmaps(bitmaps) if masks else None,
    )


def test_masks_scores_words_and_owners() -> None:
    pytest.importorskip("fiftyone", reason="needs fiftyone")
    result = a_car()
    labels = result.to_fiftyone().detections
    assert [label.label for label in labels] == ["car", "car:wheel", "dog"]
    assert [label.confidence for label in labels] == pytest.approx([0.9, 0.8, 0.7])
    assert [(label["object"], label["part"]) for label in labels] == [("car", None), ("car", "wheel"), ("dog", None)]
    assert [label["owner"] for label in labels] == [None, labels[0].id, None]
    for i, label in enumerate(labels):
        x, y, width, height = np.array(label.bounding_box) * [WIDTH, HEIGHT, WIDTH, HEIGHT]
        again = np.zeros((HEIGHT, WIDTH), dtype=bool)
        again[round(y) : round(y + height), round(x) : round(x + width)] = label.mask
        assert np.array_equal(again, result.masks[i])
        drawn = label.to_segmentation(frame_size=(WIDTH, HEIGHT), target=1).mask  # what FiftyOne itself makes of it
        assert np.array_equal(drawn > 0, result.masks[i])


def test_boxes_alone_and_nothing() -> None:
    pytest.importorskip("fiftyone", reason="needs fiftyone")
    labels = a_car(masks=False).to_fiftyone().detections
    assert labels[0].bounding_box == pytest.approx([0.125, 0.125, 0.75, 0.75]) and labels[0].mask is None
    nothing = a_car()
    assert nothing[nothing.scores > 1].to_fiftyone().detections == []
