"""Classification and box losses of the ROI heads on labelled regions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from vlpart.losses.matching import exact, maybe_unlabelled
from vlpart.losses.regions import LabelledRegions
from vlpart.models import boxes
from vlpart.types import Targets


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """(N, C) float32 targets; the background label C gives a row of zeros."""
    return F.one_hot(labels, classes + 1)[:, :classes].float()


def classification_loss(logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Sigmoid BCE summed over the classes, divided by the number of regions (SPEC.md section 2).

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

    Unknown is a class that may occur unlabelled in the picture, at a region that overlaps no annotation by `below_iou`
    or lies inside of an object whose parts may be unlabelled. Another region beside an annotation is a poor box of that
    annotation, which the classifier has to learn to reject. Classes of `Targets.only_at_matches` are unknown wherever
    nothing is matched.
    """
    if all(target.unknown_labels is None and target.only_at_matches is None for target in targets):
        return None
    rows = []
    for region, target in zip(regions, targets, strict=True):
        weight = region.boxes_xyxy.new_ones(len(region.labels), region.classes)
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
            wanted = boxes.encode(region.boxes_xyxy[matched], truth, delta_weights)
            loss = loss + (image_deltas[matched] - wanted).abs().sum()
    return loss / max(len(deltas), 1)
