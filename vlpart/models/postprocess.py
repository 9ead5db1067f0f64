"""From scores of every proposal to the detections of an image, in the pixels of the original image."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vlpart.models import boxes
from vlpart.models.operators import batched_nms
from vlpart.types import DetectionOptions


@dataclass(frozen=True, kw_only=True)
class Detections:
    """Detections of one image, best first.

    Attributes:
        boxes_xyxy: (N, 4) float32 pixels; of the network input, and after `rescale` of the image.
        scores: (N,) float32 in 0..1.
        labels: (N,) int64 indices into the vocabulary.
        mask_logits: (N, 28, 28) float32 over the box; None until masks are predicted, or where there is no mask head.
    """

    boxes_xyxy: Tensor
    scores: Tensor
    labels: Tensor
    mask_logits: Tensor | None = None


@torch.no_grad()
def select_detections(scores: Tensor, boxes_xyxy: Tensor, options: DetectionOptions) -> Detections:
    """Threshold, class-wise NMS and the best N.

    Args:
        scores: (P, C) float32.
        boxes_xyxy: (P, 4), shared by all classes, already clipped.
        options: thresholds and limits.
    """
    best = scores.amax(dim=1) if scores.shape[1] else scores.new_zeros(len(scores))  # in 0..1, or NaN
    wanted = boxes_xyxy.isfinite().all(dim=1) & (best > options.score_threshold) & best.isfinite()
    if not wanted.all():  # of many names, few proposals have any
        scores, boxes_xyxy = scores[wanted], boxes_xyxy[wanted]
    row, label = (scores > options.score_threshold).nonzero(as_tuple=True)
    keep = _suppress(boxes_xyxy, scores[row, label], row, label, options)
    return Detections(
        boxes_xyxy=boxes_xyxy[row[keep]],
        scores=scores[row[keep], label[keep]],
        labels=label[keep],
    )


def _suppress(boxes_xyxy: Tensor, scores: Tensor, row: Tensor, label: Tensor, options: DetectionOptions) -> Tensor:
    """Indices of the best candidates that class-wise NMS leaves, best first.

    A thousand proposals times a thousand names make a million candidates, but only a better one of the same class can
    suppress a candidate: NMS among the best few thousand is exact for them, and mostly leaves enough.
    """
    count = 16 * options.max_detections + 1024
    while True:
        best = scores.topk(min(count, len(scores))).indices
        kept = batched_nms(boxes_xyxy[row[best]], scores[best], label[best], options.nms_iou)
        if len(kept) >= options.max_detections or len(best) == len(scores):
            return best[kept[: options.max_detections]]
        count *= 8


def mask_confidence(probabilities: Tensor) -> Tensor:
    """(N,) float32: the mean probability of the cells that belong to a mask, 0 where none does.

    Ours, a named option of an architecture: a score speaks of a box and its name, and where masks are hard to draw
    (small objects, crowds) the box may be right and the mask wrong.

    Args:
        probabilities: (N, H, W) float32 of masks.
    """
    inside = (probabilities >= 0.5).float()
    return (probabilities * inside).sum(dim=(1, 2)) / inside.sum(dim=(1, 2)).clamp(min=1)


def weighted(detections: Detections, weights: Tensor, score_threshold: float) -> Detections:
    """Scores times (N,) weights in 0..1; those still above the threshold, best first."""
    scores = detections.scores * weights
    order = scores.argsort(descending=True, stable=True)
    order = order[scores[order] > score_threshold]
    return Detections(
        boxes_xyxy=detections.boxes_xyxy[order],
        scores=scores[order],
        labels=detections.labels[order],
        mask_logits=None if detections.mask_logits is None else detections.mask_logits[order],
    )


def rescale(detections: Detections, input_hw: tuple[int, int], image_hw: tuple[int, int]) -> Detections:
    """Detections in the pixels of the image: scaled, clipped, empty boxes dropped (docs/method.md, 'Scores and
    detections').

    Args:
        detections: with boxes in the frame of the network input, and masks predicted if there will be any.
        input_hw: unpadded size of the network input.
        image_hw: size of the original image.
    """
    scale = detections.boxes_xyxy.new_tensor([image_hw[1] / input_hw[1], image_hw[0] / input_hw[0]] * 2)
    scaled = boxes.clip(detections.boxes_xyxy * scale, image_hw)
    keep = boxes.nonempty(scaled)
    return Detections(
        boxes_xyxy=scaled[keep],
        scores=detections.scores[keep],
        labels=detections.labels[keep],
        mask_logits=None if detections.mask_logits is None else detections.mask_logits[keep],
    )
