"""Classification, box and mask losses of the ROI heads on labelled regions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import roi_align

from vlpart.losses.matching import LabelledRegions, exact, maybe_unlabelled
from vlpart.models import boxes
from vlpart.types import Targets


def one_hot(labels: Tensor, num_classes: int) -> Tensor:
    """(N, C) float32 targets; the background label C gives a row of zeros."""
    return F.one_hot(labels, num_classes + 1)[:, :num_classes].float()


def classification_loss(logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Sigmoid BCE summed over the classes, divided by the number of regions (docs/method.md, 'Losses of boxes and
    masks').

    Args:
        logits: (N, C) float32.
        labels: (N,) int64, C is background.
        weights: (N, C) or (C,) factors, 0 for what does not count; None counts everything.
    """
    loss = F.binary_cross_entropy_with_logits(logits, one_hot(labels, logits.shape[1]), reduction="none")
    if weights is not None:
        loss = loss * weights
    return loss.sum() / max(len(logits), 1)


def known_weights(regions: Sequence[LabelledRegions], targets: Sequence[Targets], below_iou: float) -> Tensor | None:
    """(N, C) 0 where a class is unknown at a region, else 1; None where every image is labelled exhaustively.

    Unknown is a class that may occur unlabelled in the image, at a region that overlaps no annotation by `below_iou`
    or lies inside of an object whose parts may be unlabelled. Another region beside an annotation is a poor box of that
    annotation, which the classifier has to learn to reject. Classes of `Targets.only_at_matches` are unknown wherever
    nothing is matched.
    """
    if all(target.unknown_labels is None and target.only_at_matches is None for target in targets):
        return None
    rows = []
    for region, target in zip(regions, targets, strict=True):
        weight = region.boxes_xyxy.new_ones(len(region.labels), region.num_classes)
        if target.unknown_labels is not None:
            far = (region.overlap < below_iou) | maybe_unlabelled(region.boxes_xyxy, region.overlap, target)
            weight[far] = (~target.unknown_labels).float()
        if target.only_at_matches is not None:
            weight[~region.foreground] *= (~target.only_at_matches).float()
        rows.append(weight)
    return torch.cat(rows)


def box_loss(
    deltas: Tensor, regions: Sequence[LabelledRegions], targets: Sequence[Targets], delta_weights: Sequence[float]
) -> Tensor:
    """L1 over the regions matched to exact boxes, divided by the number of all regions.

    Args:
        deltas: (N, 4) predictions for the regions of all images.
        regions: labelled regions of every image.
        targets: ground truth of every image.
        delta_weights: factors of the stage.
    """
    loss = deltas.new_zeros(())
    for image_deltas, region, target in zip(
        deltas.split([len(r.labels) for r in regions]), regions, targets, strict=True
    ):
        matched = region.foreground.nonzero().squeeze(1)
        matched = matched[exact(region.truth_index[matched], target)]
        if len(matched):
            truth = target.boxes_xyxy[region.truth_index[matched]]
            true_deltas = boxes.encode(region.boxes_xyxy[matched], truth, delta_weights)
            loss = loss + (image_deltas[matched] - true_deltas).abs().sum()
    return loss / max(len(deltas), 1)


MASK_SIDE = 28


def mask_targets(masks: Tensor, index: Tensor, regions_xyxy: Tensor) -> Tensor:
    """(N, 28, 28) float32 0/1: each region's own mask cropped to it: RoIAlign of the bitmap, >= 0.5.

    Source: docs/method.md, 'Losses of boxes and masks'.

    Args:
        masks: (G, H, W) bool ground truth.
        index: (N,) which mask belongs to which region.
        regions_xyxy: (N, 4) pixels.
    """
    rois = torch.cat((index[:, None].to(regions_xyxy.dtype), regions_xyxy), dim=1)
    cropped = roi_align(masks[:, None].float(), rois, MASK_SIDE, spatial_scale=1.0, sampling_ratio=0, aligned=True)
    return (cropped.squeeze(1) >= 0.5).float()


def mask_loss(
    logits: Sequence[Tensor], regions_xyxy: Sequence[Tensor], index: Sequence[Tensor], targets: Sequence[Targets]
) -> Tensor:
    """Mean BCE over the pixels of all matched regions; 0 where nothing is matched.

    Args:
        logits: for every image (F, 28, 28) float32.
        regions_xyxy: for every image (F, 4) its matched regions.
        index: for every image (F,) their ground truth.
        targets: ground truth with masks.
    """
    true_masks = [
        mask_targets(target.masks, i, regions)
        for regions, i, target in zip(regions_xyxy, index, targets, strict=True)
        if target.masks is not None
    ]
    all_logits = torch.cat(list(logits))
    if len(all_logits) == 0:
        return all_logits.sum()
    return F.binary_cross_entropy_with_logits(all_logits, torch.cat(true_masks))
