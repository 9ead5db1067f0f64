"""Box deltas, anchors and matching against numbers worked out by hand."""

from __future__ import annotations

import math

import torch
from torchvision.ops import box_iou

from vlpart.losses.matching import IGNORED, NEGATIVE, POSITIVE, label_regions, match_anchors, match_regions
from vlpart.models import boxes
from vlpart.models.rpn import AnchorGenerator
from vlpart.types import Targets

# Sizes 10 x 20 and 20 x 10, centres (5, 10) and (11, 7): dx = 6 / 10, dy = -3 / 20, dw = ln 2, dh = -ln 2.
BOX = torch.tensor([[0.0, 0.0, 10.0, 20.0]])
MOVED = torch.tensor([[1.0, 2.0, 21.0, 12.0]])
WEIGHTS = (10.0, 10.0, 5.0, 5.0)
DELTAS = torch.tensor([[6.0, -1.5, 5 * math.log(2), -5 * math.log(2)]])


def test_encode_by_hand():
    torch.testing.assert_close(boxes.encode(BOX, MOVED, WEIGHTS), DELTAS)


def test_decode_by_hand():
    torch.testing.assert_close(boxes.decode(DELTAS, BOX, WEIGHTS), MOVED, rtol=0, atol=1e-5)


def test_a_growing_box_stops_at_1000_over_16_times_its_size():
    decoded = boxes.decode(torch.tensor([[0.0, 0.0, 99.0, 99.0]]), BOX, (1.0, 1.0, 1.0, 1.0))
    # 62.5 times 10 x 20 is 625 x 1250, about the centre (5, 10)
    torch.testing.assert_close(decoded, torch.tensor([[-307.5, -615.0, 317.5, 635.0]]), rtol=1e-5, atol=1e-3)


def test_overlaps_are_torchvisions():
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(40, 4, generator=generator) * 50
    made = torch.cat((torch.minimum(corners[:, :2], corners[:, 2:]), torch.maximum(corners[:, :2], corners[:, 2:])), 1)
    torch.testing.assert_close(boxes.iou(made[:15], made[15:]), box_iou(made[:15], made[15:]), rtol=1e-5, atol=1e-6)


def test_anchors_by_hand():
    """Side 32: the area is 1024 whatever the shape; height / width = 1/2, 1, 2; centres at multiples of the stride."""
    (anchors,) = AnchorGenerator([32], [8])([torch.zeros(1, 1, 2, 3)])
    root = math.sqrt(2)
    half = torch.tensor([[16 * root, 8 * root], [16, 16], [8 * root, 16 * root]])
    expected = [
        torch.cat((torch.tensor([x, y]) - size, torch.tensor([x, y]) + size))
        for y in (0.0, 8.0)
        for x in (0.0, 8.0, 16.0)
        for size in half
    ]
    torch.testing.assert_close(anchors, torch.stack(expected))


def test_anchors_between_the_thresholds_are_ignored_unless_they_are_the_best():
    iou = torch.tensor([[0.75, 0.74, 0.25, 0.24, 0.00, 0.80], [0.00, 0.10, 0.00, 0.00, 0.40, 0.00]])
    index, state = match_anchors(iou, 0.25, 0.75)  # binary fractions: 0.75 is exactly the upper threshold
    assert state.tolist() == [POSITIVE, IGNORED, IGNORED, NEGATIVE, POSITIVE, POSITIVE]
    assert index.tolist()[:2] == [0, 0] and index[4] == 1


def test_anchors_of_an_image_without_objects_are_negative():
    assert match_anchors(torch.zeros(0, 3))[1].tolist() == [NEGATIVE] * 3


def test_regions_are_positive_from_the_threshold_on():
    index, positive, best = match_regions(torch.tensor([[0.5, 0.49, 0.1], [0.2, 0.3, 0.6]]), 0.5)
    assert index.tolist() == [0, 0, 1]
    assert positive.tolist() == [True, False, True]
    torch.testing.assert_close(best, torch.tensor([0.5, 0.49, 0.6]))


def test_regions_take_the_class_of_their_match_or_the_background():
    target = Targets(
        boxes_xyxy=torch.tensor([[0.0, 0.0, 10.0, 10.0], [20.0, 0.0, 30.0, 10.0]]),
        labels=torch.tensor([4, 2]),
        masks=None,
        image_labels=torch.zeros(0, dtype=torch.int64),
    )
    # IoU: half of the first box, 1 / 2; 90 / 100 of the second; 40 / 100 of the second.
    regions = torch.tensor([[0.0, 0.0, 10.0, 5.0], [20.0, 1.0, 30.0, 10.0], [20.0, 6.0, 30.0, 10.0]])
    assert label_regions(regions, target, 7, 0.5).labels.tolist() == [4, 2, 7]
    assert label_regions(regions, target, 7, 0.6).labels.tolist() == [7, 2, 7]
