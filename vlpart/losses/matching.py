"""Which ground truth an anchor or a region answers to, which are sampled, and the regions that the ROI heads learn
from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vlpart.losses.options import LossOptions
from vlpart.models import boxes
from vlpart.models.rpn import Proposals
from vlpart.types import Targets

NEGATIVE, IGNORED, POSITIVE = 0, -1, 1

#: A box that overlaps an object by less is no attempt at that object; inside of it, it may be an unlabelled part.
NO_ATTEMPT = 0.3

#: So much of its area lies in the object that it is inside of.
INSIDE_SHARE = 0.8


def match_anchors(iou: Tensor, low: float = 0.3, high: float = 0.7) -> tuple[Tensor, Tensor]:
    """Match anchors to ground truth; the best anchors of every ground truth are positive whatever their overlap.

    Args:
        iou: (G, N) float32.
        low: below it an anchor is negative.
        high: from it on an anchor is positive.

    Returns:
        (N,) index of the best ground truth and (N,) state: positive, negative, or ignored in between.
    """
    if len(iou) == 0:
        empty = torch.zeros(iou.shape[1], dtype=torch.int64, device=iou.device)
        return empty, torch.full_like(empty, NEGATIVE)
    best, index = iou.max(dim=0)
    state = torch.full_like(index, IGNORED)
    state[best < low] = NEGATIVE
    state[best >= high] = POSITIVE
    best_of_truth = iou.amax(dim=1, keepdim=True)
    state[(iou == best_of_truth).any(dim=0)] = POSITIVE
    return index, state


def maybe_unlabelled(boxes_xyxy: Tensor, overlap: Tensor, target: Targets) -> Tensor:
    """Boxes that may hold what nobody annotated: inside of an object whose parts are not all known.

    Args:
        boxes_xyxy: (N, 4) anchors or regions.
        overlap: (N,) IoU with the best annotation.
        target: ground truth of the image.

    Returns:
        (N,) bool. Boxes that are matched to an annotation, or a poor box of the object itself, are none of them.
    """
    if target.ignore_inside is None or not target.ignore_inside.any():
        return torch.zeros(len(boxes_xyxy), dtype=torch.bool, device=boxes_xyxy.device)
    objects = target.boxes_xyxy[target.ignore_inside]
    return (overlap < NO_ATTEMPT) & boxes.inside(boxes_xyxy, objects, INSIDE_SHARE)


def exact(index: Tensor, target: Targets) -> Tensor:
    """(N,) bool: whether the ground truth at `index` has an outline to learn from."""
    if target.pseudo_labels is None:
        return torch.ones_like(index, dtype=torch.bool)
    return ~target.pseudo_labels[index]


def match_regions(iou: Tensor, threshold: float) -> tuple[Tensor, Tensor, Tensor]:
    """Match regions to ground truth by the best overlap.

    Args:
        iou: (G, N) float32.
        threshold: from it on a region is positive.

    Returns:
        (N,) index of the best ground truth, (N,) bool positive, (N,) best overlap.
    """
    if len(iou) == 0:
        index = torch.zeros(iou.shape[1], dtype=torch.int64, device=iou.device)
        return index, torch.zeros_like(index, dtype=torch.bool), iou.new_zeros(iou.shape[1])
    best, index = iou.max(dim=0)
    return index, best >= threshold, best


def subsample(
    positive: Tensor, negative: Tensor, count: int, fraction: float, generator: torch.Generator | None
) -> Tensor:
    """Indices of at most `count` members, at most `fraction` of them positive, drawn without replacement.

    Args:
        positive, negative: (N,) bool, disjoint.
        count: how many to draw.
        fraction: upper limit of positives among `count`.
        generator: random numbers; None takes torch's own.

    Returns:
        (M,) int64, positives first.
    """

    def draw(members: Tensor, limit: int) -> Tensor:
        """Indices of at most `limit` members, at random."""
        index = members.nonzero().squeeze(1)
        order = torch.randperm(len(index), generator=generator)[:limit]
        return index[order.to(index.device)]

    positives = draw(positive, int(count * fraction))
    negatives = draw(negative, count - len(positives))
    return torch.cat((positives, negatives))


@dataclass(frozen=True, kw_only=True)
class LabelledRegions:
    """Regions of one image against its ground truth.

    Attributes:
        boxes_xyxy: (N, 4) pixels of the network input.
        labels: (N,) int64 class, or C (the number of classes of the source) for background.
        truth_index: (N,) int64 the best-overlapping ground truth (0 where there is none).
        overlap: (N,) float32 IoU with it.
        num_classes: number C of classes of the source.
    """

    boxes_xyxy: Tensor
    labels: Tensor
    truth_index: Tensor
    overlap: Tensor
    num_classes: int

    @property
    def foreground(self) -> Tensor:
        """(N,) bool: regions that are matched; their ground truth is `truth_index`."""
        return self.labels < self.num_classes

    def take(self, index: Tensor) -> LabelledRegions:
        """The regions at `index` (indices or bool)."""
        return LabelledRegions(
            boxes_xyxy=self.boxes_xyxy[index],
            labels=self.labels[index],
            truth_index=self.truth_index[index],
            overlap=self.overlap[index],
            num_classes=self.num_classes,
        )


def label_regions(regions_xyxy: Tensor, target: Targets, num_classes: int, threshold: float) -> LabelledRegions:
    """Every region with the class of its best ground truth from `threshold` IoU on, else background.

    Args:
        regions_xyxy: (N, 4).
        target: ground truth of the image.
        num_classes: number C of classes of the source.
        threshold: IoU, inclusive.
    """
    index, positive, overlap = match_regions(boxes.iou(target.boxes_xyxy, regions_xyxy), threshold)
    labels = torch.full_like(index, num_classes)
    if len(target.labels):
        labels = torch.where(positive, target.labels[index], labels)
    return LabelledRegions(
        boxes_xyxy=regions_xyxy, labels=labels, truth_index=index, overlap=overlap, num_classes=num_classes
    )


def sample_regions(
    proposals: Sequence[Proposals],
    targets: Sequence[Targets],
    num_classes: int,
    options: LossOptions,
    generator: torch.Generator | None = None,
) -> list[LabelledRegions]:
    """Label proposals and ground truth for the first stage and draw a sample of each image."""
    sampled = []
    for proposal, target in zip(proposals, targets, strict=True):
        candidates = torch.cat((proposal.boxes_xyxy, target.boxes_xyxy))
        regions = label_regions(candidates, target, num_classes, options.stage_ious[0])
        positive = regions.foreground
        keep = subsample(positive, ~positive, options.roi_regions, options.roi_positive_fraction, generator)
        sampled.append(regions.take(keep))
    return sampled
