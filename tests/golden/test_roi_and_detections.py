"""Text classifier, RoIAlign, cascade refinement and postprocessing against torchvision and numbers by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import roi_align as torchvision_roi_align

from vlpart.models.postprocess import Detections, rescale, select_detections
from vlpart.models.roi_align import level_of, roi_align
from vlpart.models.roi_heads import RoiHeads
from vlpart.models.rpn import Proposals
from vlpart.models.text_classifier import TextClassifier
from vlpart.types import DetectionOptions


def test_logits_are_50_cosines():
    classifier = TextClassifier(2, 2)
    classifier.linear.weight.data = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    classifier.linear.bias.data = torch.tensor([0.0, 2.0])
    # (3, 1) -> (3, 4), of length 5; names along x, along -y, and (3, 4) * 2
    logits = classifier(torch.tensor([[3.0, 1.0]]), torch.tensor([[7.0, 0.0], [0.0, -0.1], [6.0, 8.0]]))
    torch.testing.assert_close(logits, torch.tensor([[30.0, -40.0, 50.0]]))


def test_roi_align_is_torchvisions():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 3, 20, 30, generator=generator)
    images = torch.tensor([0, 1, 1, 0])
    regions = torch.tensor(
        [[3.3, 5.1, 90.7, 60.2], [-9.0, -5.0, 40.0, 130.0], [50.0, 50.0, 50.5, 50.5], [0, 0, 120, 80]]
    )
    indexed = torch.cat((images[:, None].float(), regions), 1)
    expected = torchvision_roi_align(features, indexed, 7, 0.25, sampling_ratio=0, aligned=True)
    torch.testing.assert_close(roi_align(features, images, regions, 7, 0.25), expected, rtol=1e-4, atol=1e-5)


def test_levels_change_at_112_and_224_and_448_pixels():
    sides = torch.tensor([10.0, 111.0, 113.0, 223.0, 225.0, 447.0, 449.0, 2000.0])
    regions = torch.stack((torch.zeros(8), torch.zeros(8), sides, sides), 1)
    assert level_of(regions).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


class _Fixed(nn.Module):
    """A stage with the same answer everywhere: a logit, and a shift of whole widths to the right."""

    def __init__(self, logit: float, shift: float) -> None:
        super().__init__()
        self.logit, self.shift = logit, shift

    def judge(self, pooled: Tensor, text: Tensor) -> tuple[Tensor, Tensor, None]:
        return torch.full((len(pooled), len(text)), self.logit), torch.full((len(pooled), 4), self.shift), None

    def refine(self, boxes_xyxy: Tensor, deltas: Tensor) -> Tensor:
        return boxes_xyxy + deltas * torch.tensor([1.0, 0.0, 1.0, 0.0])


def test_a_cascade_averages_probabilities_and_clips_between_stages():
    """Stages say 3/4, 1/2 and 1/4: 1/2 on average, and with objectness 1/2 the score is sqrt(1/4)."""
    stages = [_Fixed(math.log(3), 30.0), _Fixed(0.0, -20.0), _Fixed(-math.log(3) + 0.0, 0.0)]
    pyramid = [torch.zeros(1, 1, size, size) for size in (32, 16, 8, 4)]
    proposals = [Proposals(boxes_xyxy=torch.tensor([[40.0, 10.0, 90.0, 50.0]]), logits=torch.zeros(1))]
    scores, regions = RoiHeads(stages, nn.Identity()).classify_and_refine(
        pyramid, proposals, [(100, 100)], torch.ones(2, 4)
    )
    torch.testing.assert_close(scores[0], torch.full((1, 2), 0.5))
    # 40..90 moves to 70..120, clipped to 70..100, then back to 50..80
    torch.testing.assert_close(regions[0], torch.tensor([[50.0, 10.0, 80.0, 50.0]]))


def test_selection_by_hand():
    """IoU of boxes 0 and 1 is 8 / 10, of 0 and 2 exactly 1 / 2, which is not more than the threshold."""
    boxes = torch.tensor([[0.0, 0, 10, 10], [0.0, 0, 10, 8], [0.0, 0, 10, 5], [50.0, 0, 60, 10]])
    scores = torch.tensor([[0.75, 0.125], [0.625, 0.25], [0.5, 0.0], [0.375, 0.125]])  # 0.125 is not above 0.125
    options = DetectionOptions(score_threshold=0.125, nms_iou=0.5, max_detections=3)
    found = select_detections(scores, boxes, options)
    assert list(zip(found.labels.tolist(), found.scores.tolist(), strict=True)) == [(0, 0.75), (0, 0.5), (0, 0.375)]
    more = select_detections(scores, boxes, DetectionOptions(score_threshold=0.125, nms_iou=0.5))
    assert list(zip(more.labels.tolist(), more.scores.tolist(), strict=True))[3:] == [(1, 0.25)]


def test_rescaling_clips_and_drops_what_is_empty():
    found = Detections(
        boxes_xyxy=torch.tensor([[10.0, 10.0, 60.0, 30.0], [100.0, 0.0, 120.0, 10.0]]),
        scores=torch.tensor([0.9, 0.8]),
        labels=torch.tensor([1, 2]),
        mask_logits=torch.zeros(2, 28, 28),
    )
    moved = rescale(found, (50, 100), (100, 200))
    assert moved.boxes_xyxy.tolist() == [[20.0, 20.0, 120.0, 60.0]]
    clipped = rescale(found, (50, 100), (40, 50))
    assert clipped.boxes_xyxy.tolist() == [[5.0, pytest.approx(8.0), 30.0, pytest.approx(24.0)]]
