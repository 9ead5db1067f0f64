"""The regions that the ROI heads learn from: proposals (and ground truth) with their labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vlpart.losses.matching import match_regions, subsample
from vlpart.losses.options import LossOptions
from vlpart.models import boxes
from vlpart.models.rpn import Proposals
from vlpart.types import Targets


@dataclass(frozen=True, kw_only=True)
class LabelledRegions:
    """Regions of one image against its ground truth.

    Attributes:
        boxes_xyxy: (N, 4) pixels of the network input.
        labels: (N,) int64 class, or C (the number of classes of the source) for background.
        truth_index: (N,) int64 the best-overlapping ground truth (0 where there is none).
        overlap: (N,) float32 IoU with it.
        classes: number C of classes of the source.
    """

    boxes_xyxy: Tensor
    labels: Tensor
    truth_index: Tensor
    overlap: Tensor
    classes: int

    @property
    def foreground(self) -> Tensor:
        """(N,) bool: regions that are matched; their ground truth is `truth_index`."""
        return self.labels < self.classes

    def take(self, index: Tensor) -> LabelledRegions:
        """The regions at `index` (indices or bool)."""
        return LabelledRegions(
            boxes_xyxy=self.boxes_xyxy[index],
            labels=self.labels[index],
            truth_index=self.truth_index[index],
            overlap=self.overlap[index],
            classes=self.classes,
        )


def label_regions(regions_xyxy: Tensor, target: Targets, classes: int, threshold: float) -> LabelledRegions:
    """Every region with the class of its best ground truth from `threshold` IoU on, else background.

    Args:
        regions_xyxy: (N, 4).
        target: ground truth of the image.
        classes: number C of classes of the source.
        threshold: IoU, inclusive.
    """
    index, positive, overlap = match_regions(boxes.iou(target.boxes_xyxy, regions_xyxy), threshold)
    labels = torch.full_like(index, classes)
    if len(target.labels):
        labels = torch.where(positive, target.labels[index], labels)
    return LabelledRegions(boxes_xyxy=regions_xyxy, labels=labels, truth_index=index, overlap=overlap, classes=classes)


def sample_regions(
    proposals: Sequence[Proposals],
    targets: Sequence[Targets],
    classes: int,
    options: LossOptions,
    generator: torch.Generator | None = None,
) -> list[LabelledRegions]:
    """Label proposals and ground truth for the first stage and draw a sample of each image."""
    sampled = []
    for proposal, target in zip(proposals, targets, strict=True):
        candidates = torch.cat((proposal.boxes_xyxy, target.boxes_xyxy))
        regions = label_regions(candidates, target, classes, options.stage_ious[0])
        positive = regions.foreground
        keep = subsample(positive, ~positive, options.roi_regions, options.roi_positive_fraction, generator)
        sampled.append(regions.take(keep))
    return sampled
