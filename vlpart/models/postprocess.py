"""From scores of every proposal to the detections of an image, in the pixels of the original picture."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import batched_nms

from vlpart.models import boxes


@dataclass(frozen=True, kw_only=True)
class DetectionOptions:
    """Which detections are kept: score strictly above the threshold, NMS per class, the best over all classes."""

    score_threshold: float = 0.05
    nms_iou: float = 0.5
    max_detections: int = 100


@dataclass(frozen=True, kw_only=True)
class Detections:
    """Detections of one image, best first.

    Attributes:
        boxes_xyxy: (N, 4) float32 pixels; of the network input, and after `rescale` of the picture.
        scores: (N,) float32 in 0..1.
        labels: (N,) int64 indices into the vocabulary.
        mask_logits: (N, 28, 28) float32 over the box; empty until masks are predicted.
    """

    boxes_xyxy: Tensor
    scores: Tensor
    labels: Tensor
    mask_logits: Tensor


@torch.no_grad()
def select_detections(scores: Tensor, boxes_xyxy: Tensor, options: DetectionOptions) -> Detections:
    """Threshold, class-wise NMS and the best N.

    Args:
        scores: (P, C) float32.
        boxes_xyxy: (P, 4), shared by all classes, already clipped.
        options: thresholds and limits.
    """
    finite = boxes_xyxy.isfinite().all(dim=1) & scores.isfinite().all(dim=1)
    scores, boxes_xyxy = scores[finite], boxes_xyxy[finite]
    row, label = (scores > options.score_threshold).nonzero(as_tuple=True)
    candidates, candidate_scores = boxes_xyxy[row], scores[row, label]
    keep = batched_nms(candidates, candidate_scores, label, options.nms_iou)[: options.max_detections]
    return Detections(
        boxes_xyxy=candidates[keep],
        scores=candidate_scores[keep],
        labels=label[keep],
        mask_logits=scores.new_zeros(0, 28, 28),
    )


def rescale(detections: Detections, input_hw: tuple[int, int], picture_hw: tuple[int, int]) -> Detections:
    """Detections in the pixels of the picture: scaled, clipped, empty boxes dropped (SPEC.md 6.9).

    Args:
        detections: with boxes in the frame of the network input and masks predicted.
        input_hw: unpadded size of the network input.
        picture_hw: size of the original picture.
    """
    scale = detections.boxes_xyxy.new_tensor([picture_hw[1] / input_hw[1], picture_hw[0] / input_hw[0]] * 2)
    scaled = boxes.clip(detections.boxes_xyxy * scale, picture_hw)
    keep = boxes.nonempty(scaled)
    return Detections(
        boxes_xyxy=scaled[keep],
        scores=detections.scores[keep],
        labels=detections.labels[keep],
        mask_logits=detections.mask_logits[keep],
    )
