"""Losses on order, against sums worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from vlpart.losses.matching import LabelledRegions
from vlpart.losses.ranking import SHARPNESS, name_ranking_loss, quality_loss, region_ranking_loss
from vlpart.types import Targets

CLASSES = 2


def regions(labels: list[int], overlap: list[float]) -> LabelledRegions:
    return LabelledRegions(
        boxes_xyxy=torch.tensor([[0.0, 0, 10, 10]]).repeat(len(labels), 1),
        labels=torch.tensor(labels),
        truth_index=torch.zeros(len(labels), dtype=torch.int64),
        overlap=torch.tensor(overlap),
        num_classes=CLASSES,
    )


def test_a_name_is_ranked_over_the_regions_of_the_whole_batch() -> None:
    logits = torch.tensor([[2.0, 0.0], [1.0, 5.0], [0.0, 0.0]])
    batch = [regions([0, 2], [0.8, 0.1]), regions([2], [0.0])]
    wanted = -(2 - math.log(math.exp(2) + math.exp(1) + 1))  # class 1 is nowhere: no part of the loss
    assert float(region_ranking_loss(logits, batch, None)) == pytest.approx(wanted)


def test_regions_of_more_overlap_are_wanted_more() -> None:
    logits = torch.zeros(2, CLASSES)
    share = 1 / (1 + math.exp((0.6 - 0.8) / SHARPNESS))
    logits[0, 0] = math.log(share / (1 - share))  # the softmax is then the target: the loss is its entropy
    entropy = -(share * math.log(share) + (1 - share) * math.log(1 - share))
    assert float(region_ranking_loss(logits, [regions([0, 0], [0.8, 0.6])], None)) == pytest.approx(entropy)


def test_where_a_name_is_unknown_it_is_not_ranked() -> None:
    logits = torch.tensor([[2.0, 0.0], [9.0, 0.0]])
    weights = torch.tensor([[1.0, 1.0], [0.0, 1.0]])
    assert float(region_ranking_loss(logits, [regions([0, 2], [0.8, 0.0])], weights)) == pytest.approx(0.0)
    assert float(region_ranking_loss(logits, [regions([0, 2], [0.8, 0.0])], None)) > 6.9


def test_names_compete_at_matched_regions_only() -> None:
    logits = torch.tensor([[1.0, 2.0], [50.0, -50.0]])
    batch = [regions([0, 2], [0.8, 0.1])]
    assert float(name_ranking_loss(logits, batch, None)) == pytest.approx(math.log(1 + math.e))
    unknown = torch.tensor([[0.0, 0.0], [1.0, 1.0]])  # the region's own name always takes part
    assert float(name_ranking_loss(logits, batch, unknown)) == pytest.approx(0.0)


def test_without_a_match_the_losses_are_zero_and_have_a_gradient() -> None:
    logits = torch.zeros(2, CLASSES, requires_grad=True)
    for loss in (region_ranking_loss, name_ranking_loss):
        value = loss(logits, [regions([2, 2], [0.1, 0.0])], None)
        assert float(value.detach()) == 0
        value.backward()
    assert torch.equal(logits.grad, torch.zeros(2, CLASSES))  # type: ignore[arg-type]


def test_quality_is_the_overlap_of_the_refined_box() -> None:
    target = Targets(
        boxes_xyxy=torch.tensor([[0.0, 0, 10, 10]]),
        labels=torch.tensor([0]),
        masks=None,
        image_labels=torch.zeros(0, dtype=torch.int64),
    )
    moved = torch.tensor([[0.0, 0, 10, 5], [0, 0, 10, 2], [50, 50, 60, 60]])  # IoU 0.5, 0.2 (counts as 0), 0
    region = regions([0, 2, 2], [0.6, 0.3, 0.0])
    logits = torch.tensor([0.0, 0.0, 0.0])
    assert float(quality_loss(logits, [moved], [region], [target])) == pytest.approx(math.log(2))
    sure = torch.tensor([0.0, -30.0, -30.0])
    assert float(quality_loss(sure, [moved], [region], [target])) == pytest.approx(math.log(2) / 3)
    target.pseudo_labels = torch.tensor([True])  # its outline is not known: only the boxes that miss count
    assert float(quality_loss(torch.tensor([9.0, -30.0, -30.0]), [moved], [region], [target])) == pytest.approx(0.0)
    target.pseudo_labels, target.unknown_labels = (
        None,
        torch.tensor([True, False]),
    )  # and far away may be something else
    assert float(quality_loss(torch.tensor([0.0, -30.0, 9.0]), [moved], [region], [target])) == pytest.approx(
        math.log(2) / 2
    )
