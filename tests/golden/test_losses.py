"""Classification, mask and weak-label losses against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from vlpart.losses.boxes_and_masks import classification_loss, mask_targets
from vlpart.losses.weak_labels import weak_label_loss


def softplus(x: float) -> float:
    """Sigmoid BCE of logit x against 0; against 1 it is softplus(-x)."""
    return math.log1p(math.exp(x))


def test_classification_is_summed_over_classes_and_divided_by_regions():
    logits = torch.tensor([[2.0, -1.0, 0.5], [-3.0, 0.0, 1.0]])
    matched = softplus(-2.0) + softplus(-1.0) + softplus(0.5)  # class 0
    background = softplus(-3.0) + softplus(0.0) + softplus(1.0)  # label 3 = C: zero everywhere
    loss = classification_loss(logits, torch.tensor([0, 3]))
    assert loss.item() == pytest.approx((matched + background) / 2, rel=1e-6)


def test_classes_that_do_not_count_leave_the_divisor_alone():
    logits = torch.tensor([[2.0, -1.0], [-3.0, 0.5]])
    loss = classification_loss(logits, torch.tensor([0, 2]), torch.tensor([1.0, 0.0]))
    assert loss.item() == pytest.approx((softplus(-2.0) + softplus(-3.0)) / 2, rel=1e-6)


def test_mask_targets_of_a_half_plane():
    """Columns 0..27 of 56 are set. One bin of a 28 px region is one pixel, so the region from x = 14 to 42 has 14
    set columns; the region of the whole image has bins of two pixels, again 14 set columns."""
    masks = torch.zeros(2, 56, 56, dtype=torch.bool)
    masks[1, :, :28] = True
    regions = torch.tensor([[14.0, 14.0, 42.0, 42.0], [0.0, 0.0, 56.0, 56.0], [0.0, 0.0, 56.0, 56.0]])
    targets = mask_targets(masks, torch.tensor([1, 1, 0]), regions)
    half = torch.zeros(28, 28)
    half[:, :14] = 1
    assert torch.equal(targets, torch.stack((half, half, torch.zeros(28, 28))))


def test_mask_targets_include_a_pixel_covered_by_exactly_half():
    """Regions shifted by half a pixel: the bin at the edge is the mean of a set and an empty pixel, 0.5, and is set."""
    masks = torch.zeros(1, 56, 56, dtype=torch.bool)
    masks[0, :, :28] = True
    (target,) = mask_targets(masks, torch.tensor([0]), torch.tensor([[14.5, 14.0, 42.5, 42.0]]))
    assert target.sum(dim=1).tolist() == [14.0] * 28


LOGITS = torch.tensor([[1.0, -2.0], [0.5, 3.0], [2.0, 4.0]])
SIZES = torch.tensor([[0.0, 0.0, 4.0, 4.0], [0.0, 0.0, 6.0, 6.0], [0.0, 0.0, 9.0, 9.0]])


def test_an_image_label_teaches_the_largest_proposal_but_never_the_last():
    """Proposal 2 is larger but last; proposal 1 learns label 0. The background column adds softplus(0) = ln 2."""
    loss = weak_label_loss([LOGITS], [SIZES], [torch.tensor([0])], "max_size")
    assert loss.item() == pytest.approx(softplus(-0.5) + softplus(3.0) + math.log(2), rel=1e-6)


def test_a_label_teaches_its_best_scoring_proposal():
    """Label 0 scores best at proposal 2, label 1 too; the last one counts here. Mean over labels, then over images."""
    label0 = softplus(-2.0) + softplus(4.0) + math.log(2)
    label1 = softplus(2.0) + softplus(-4.0) + math.log(2)
    empty = torch.zeros(0, dtype=torch.int64)
    loss = weak_label_loss([LOGITS, LOGITS], [SIZES, SIZES], [torch.tensor([0, 1]), empty], "max_score")
    assert loss.item() == pytest.approx((label0 + label1) / 2 / 2, rel=1e-6)
