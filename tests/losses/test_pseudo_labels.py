"""Annotations that a program found teach what is there, not its outline."""

from __future__ import annotations

import pytest
import torch

from vlpart.losses.boxes_and_masks import box_loss
from vlpart.losses.by_kind import compute_losses
from vlpart.losses.matching import label_regions
from vlpart.losses.options import LossOptions
from vlpart.losses.rpn import rpn_losses
from vlpart.models.build import build_detector
from vlpart.models.config import ARCHITECTURES
from vlpart.models.rpn import RpnOutput
from vlpart.types import AnnotationKind, Batch, ImageBatch, Targets

DRAWN, FOUND = [0.0, 0, 40, 40], [50.0, 50, 90, 90]


def target(pseudo: list[bool] | None, masks: bool = False) -> Targets:
    outlines = torch.zeros(2, 96, 96, dtype=torch.bool)
    outlines[0, :40, :40] = outlines[1, 50:90, 50:90] = True
    return Targets(
        boxes_xyxy=torch.tensor([DRAWN, FOUND]),
        labels=torch.tensor([0, 1]),
        masks=outlines if masks else None,
        image_labels=torch.zeros(0, dtype=torch.int64),
        pseudo_labels=None if pseudo is None else torch.tensor(pseudo),
    )


@pytest.mark.parametrize(
    ("pseudo", "moved"), [(None, [True, True]), ([False, False], [True, True]), ([False, True], [True, False])]
)
def test_regression_is_learned_from_exact_boxes(pseudo: list[bool] | None, moved: list[bool]) -> None:
    truth = target(pseudo)
    near = truth.boxes_xyxy + torch.tensor([2.0, 0, 2, 0])
    deltas = torch.zeros(2, 4, requires_grad=True)
    box_loss(deltas, [label_regions(near, truth, 2, 0.5)], [truth], (10, 10, 5, 5)).backward()
    assert deltas.grad is not None
    assert (deltas.grad.abs().sum(dim=1) > 0).tolist() == moved

    logits, anchor_deltas = torch.zeros(1, 2, requires_grad=True), torch.zeros(1, 2, 4, requires_grad=True)
    output = RpnOutput(logits=[logits], deltas=[anchor_deltas], anchors_xyxy=[near])
    sum(rpn_losses(output, [truth], LossOptions(rpn_anchors=4)).values(), torch.zeros(())).backward()
    assert logits.grad is not None and anchor_deltas.grad is not None
    assert (logits.grad < 0).all()  # both are objects
    assert (anchor_deltas.grad[0].abs().sum(dim=1) > 0).tolist() == moved


@pytest.mark.parametrize("architecture", ["tiny", "swin_b_cascade"])
def test_a_batch_without_exact_boxes_teaches_names_only(architecture: str) -> None:
    torch.manual_seed(0)
    detector = build_detector(architecture).train()
    text = torch.randn(2, ARCHITECTURES[architecture].text_dim)
    images = ImageBatch(pixels=torch.randn(1, 3, 96, 96), sizes_hw=[(96, 96)])
    options = LossOptions(proposals_before_nms=20, proposals=10, roi_regions=16)

    def losses(pseudo: list[bool]) -> dict[str, float]:
        truth = target(pseudo, masks=True)
        batch = Batch(images=images, targets=[truth], source="made", kind=AnnotationKind.PARTS)
        found = compute_losses(detector, batch, text, options, generator=torch.Generator().manual_seed(0))
        return {name: value.item() for name, value in found.items()}

    with torch.no_grad():
        drawn, found = losses([False, False]), losses([True, True])
    assert {n for n in drawn if found[n] == 0} == {n for n in drawn if n.startswith(("box", "mask", "rpn_box"))}
    assert {n for n in drawn if n.startswith(("classification", "rpn_objectness"))} <= {
        n for n in drawn if found[n] > 0
    }
    assert all(value > 0 for value in drawn.values())
