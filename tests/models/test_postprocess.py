"""Choosing detections: threshold, class-wise NMS, limit, rescaling."""

from __future__ import annotations

import torch
from torchvision.ops import batched_nms

from vlpart.models.postprocess import Detections, mask_confidence, rescale, select_detections, weighted
from vlpart.types import DetectionOptions


def random_boxes(count: int, generator: torch.Generator) -> torch.Tensor:
    corner = torch.rand(count, 2, generator=generator) * 100
    return torch.cat((corner, corner + 5 + torch.rand(count, 2, generator=generator) * 60), dim=1)


def test_the_shortcut_gives_what_all_candidates_give() -> None:
    generator = torch.Generator().manual_seed(0)
    for proposals, classes, limit in ((200, 60, 5), (60, 300, 100), (30, 3, 100), (300, 1, 3)):
        boxes = random_boxes(proposals, generator)
        scores = torch.rand(proposals, classes, generator=generator)
        found = select_detections(scores, boxes, DetectionOptions(score_threshold=0.1, max_detections=limit))
        row, label = (scores > 0.1).nonzero(as_tuple=True)
        keep = batched_nms(boxes[row], scores[row, label], label, 0.5)[:limit]
        assert torch.equal(found.boxes_xyxy, boxes[row[keep]])
        assert torch.equal(found.labels, label[keep])
        assert torch.equal(found.scores, scores[row, label][keep])


def test_many_copies_of_one_box_widen_the_search() -> None:
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0]]).repeat(5000, 1)
    boxes[-1] = torch.tensor([50.0, 50.0, 70.0, 70.0])
    scores = torch.full((5000, 1), 0.9)
    scores[-1] = 0.3
    found = select_detections(scores, boxes, DetectionOptions(max_detections=2))
    assert found.scores.tolist() == torch.tensor([0.9, 0.3]).tolist()


def test_the_threshold_is_strict_and_nan_is_left_out() -> None:
    boxes = random_boxes(3, torch.Generator().manual_seed(0))
    scores = torch.tensor([[0.5], [0.6], [0.9]])
    boxes[2, 0] = torch.nan
    found = select_detections(scores, boxes, DetectionOptions(score_threshold=0.5, nms_iou=1.0))
    assert found.scores.tolist() == scores[1].tolist()


def test_nothing_over_the_threshold() -> None:
    found = select_detections(torch.zeros(4, 2), torch.zeros(4, 4), DetectionOptions())
    assert len(found.scores) == len(found.labels) == len(found.boxes_xyxy) == 0


def test_rescaling_clips_and_drops_what_became_empty() -> None:
    detections = Detections(
        boxes_xyxy=torch.tensor([[0.0, 0.0, 50.0, 40.0], [100.0, 80.0, 100.0, 90.0]]),
        scores=torch.tensor([0.9, 0.8]),
        labels=torch.tensor([1, 0]),
        mask_logits=torch.zeros(2, 28, 28),
    )
    found = rescale(detections, (80, 100), (160, 200))
    assert found.boxes_xyxy.tolist() == [[0.0, 0.0, 100.0, 80.0]]
    assert found.labels.tolist() == [1]
    assert len(found.mask_logits) == 1


def test_a_mask_is_as_sure_as_the_mean_of_its_own_cells() -> None:
    probabilities = torch.tensor([[[0.9, 0.7], [0.5, 0.1]], [[0.4, 0.2], [0.3, 0.1]], [[1.0, 1.0], [1.0, 1.0]]])
    expected = torch.tensor([(0.9 + 0.7 + 0.5) / 3, 0.0, 1.0])  # by hand; a cell of 0.5 belongs to the mask
    torch.testing.assert_close(mask_confidence(probabilities), expected)


def test_weights_order_anew_and_the_threshold_holds_again() -> None:
    found = Detections(
        boxes_xyxy=torch.arange(16.0).view(4, 4),
        scores=torch.tensor([0.8, 0.6, 0.5, 0.4]),
        labels=torch.tensor([3, 2, 1, 0]),
        mask_logits=torch.arange(4.0).view(4, 1, 1),
    )
    kept = weighted(found, torch.tensor([0.5, 1.0, 0.5, 1.0]), 0.25)
    torch.testing.assert_close(kept.scores, torch.tensor([0.6, 0.4, 0.4]))  # 0.25 itself is not above 0.25
    assert kept.labels.tolist() == [2, 3, 0]  # equal scores stay in order
    assert kept.boxes_xyxy[:, 0].tolist() == [4.0, 0.0, 12.0]
    assert kept.mask_logits is not None
    assert kept.mask_logits.flatten().tolist() == [1.0, 0.0, 3.0]
