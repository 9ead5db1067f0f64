"""Parsed parts by score or size: which regions a single stage and a cascade choose among."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from vlpart.losses.by_kind import compute_losses
from vlpart.losses.matching import sample_regions
from vlpart.losses.options import LossOptions, ParsedPartAssignment
from vlpart.losses.weak_labels import weak_label_loss
from vlpart.models.build import build_detector
from vlpart.models.config import ARCHITECTURES
from vlpart.models.roi_align import pool_regions
from vlpart.models.rpn import ProposalOptions, select_proposals
from vlpart.types import AnnotationKind, Batch, ImageBatch, Targets


@pytest.mark.parametrize("choice", ["max_score", "max_size"])
@pytest.mark.parametrize("architecture", ["tiny", "swin_b_cascade"])
def test_a_single_stage_chooses_among_sampled_regions(architecture: str, choice: ParsedPartAssignment) -> None:
    sizes = replace(ARCHITECTURES[architecture], backbone="efficientnet_lite0", channels=16, box_width=16)
    torch.manual_seed(0)
    detector = build_detector(replace(sizes, mask_width=16, text_dim=8))
    target = Targets(
        boxes_xyxy=torch.tensor([[8.0, 8, 40, 40], [20.0, 4, 60, 60]]),
        labels=torch.tensor([1, 0]),
        masks=None,
        image_labels=torch.zeros(0, dtype=torch.int64),
    )
    images = ImageBatch(pixels=torch.randn(1, 3, 64, 64), sizes_hw=[(64, 64)])
    batch = Batch(images=images, targets=[target], source="a", kind=AnnotationKind.PARSED_PARTS)
    options = LossOptions(
        proposals_before_nms=60,
        proposals=40,
        roi_regions=12,
        image_label_proposals=30,
        parsed_part_assignment=choice,
        parsed_part_weight=0.1,
    )
    text = torch.randn(3, 8)
    losses = compute_losses(detector, batch, text, options, generator=torch.Generator().manual_seed(5))

    pyramid = detector.pyramid(images.pixels)
    proposals = select_proposals(detector.rpn(pyramid), images.sizes_hw, ProposalOptions(pre_nms=60, post_nms=40))
    generator = torch.Generator().manual_seed(5)
    sampled = [r.boxes_xyxy for r in sample_regions(proposals, [target], 3, options, generator)]
    best = [p.boxes_xyxy[:30] for p in proposals]
    regions, name = (sampled, "parsed_part") if architecture == "tiny" else (best, "parsed_part_0")
    assert len(sampled[0]) == 12 and len(best[0]) == 30
    logits, _ = detector.roi_heads.stages[0](pool_regions(pyramid, regions, 7), text)
    expected = 0.1 * weak_label_loss([logits], regions, [target.labels], choice)
    torch.testing.assert_close(losses[name], expected, rtol=1e-4, atol=1e-6)
