"""The detector: the whole path from an image and a text to detections, on one screen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from vlpart.models.evidence import Levels, propose_seen
from vlpart.models.fpn import FeaturePyramid
from vlpart.models.postprocess import Detections, mask_confidence, select_detections, weighted
from vlpart.models.roi_heads import RoiHeads
from vlpart.models.rpn import ProposalOptions, Proposals, RegionProposalNetwork, select_proposals
from vlpart.types import DetectionOptions, ImageBatch


class Detector(nn.Module):
    """Open-vocabulary detector and part segmenter (docs/method.md, 'Inference path').

    The vocabulary is an argument of the call and never a state of the model, so threads may use different ones at once.

    Args:
        mask_confidence: multiply the score of a detection by how sure its mask is of itself.
    """

    def __init__(
        self,
        *,
        backbone: nn.Module,
        fpn: FeaturePyramid,
        rpn: RegionProposalNetwork,
        roi_heads: RoiHeads,
        proposal_options: ProposalOptions,
        mask_confidence: bool = False,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.fpn = fpn
        self.rpn = rpn
        self.roi_heads = roi_heads
        self.proposal_options = proposal_options
        self.mask_confidence = mask_confidence

    @property
    def mask_on(self) -> bool:
        """Whether it has a mask head; without one its detections are boxes only."""
        return self.roi_heads.mask_head is not None

    def pyramid(self, pixels: Tensor) -> list[Tensor]:
        """p2..p6 of normalised, padded pixels (B, 3, H, W), with what a trunk has seen where there is one."""
        maps = self.backbone(pixels)
        evidence = self.roi_heads.evidence
        return Levels(self.fpn(maps), None if evidence is None else evidence.look(maps))

    def propose(
        self,
        pyramid: Sequence[Tensor],
        sizes_hw: Sequence[tuple[int, int]],
        options: ProposalOptions | None = None,
    ) -> list[Proposals]:
        """Proposals of every image; by default as many as the detector takes at test time."""
        chosen = select_proposals(self.rpn(pyramid), sizes_hw, options or self.proposal_options)
        return propose_seen(chosen, pyramid, sizes_hw)

    @torch.no_grad()
    def forward(self, images: ImageBatch, text: Tensor, options: DetectionOptions) -> list[Detections]:
        """Detections of every image, in pixels of the unpadded network input.

        Args:
            images: normalised and padded.
            text: (C, D) embeddings of the vocabulary.
            options: thresholds and limits.
        """
        pyramid = self.pyramid(images.pixels)
        proposals = self.propose(pyramid, images.sizes_hw)
        scores, regions = self.roi_heads.classify_and_refine(pyramid, proposals, images.sizes_hw, text)
        found = [select_detections(s, r, options) for s, r in zip(scores, regions, strict=True)]
        return self._with_masks(pyramid, found, options.score_threshold)

    def _with_masks(
        self, pyramid: Sequence[Tensor], found: Sequence[Detections], score_threshold: float
    ) -> list[Detections]:
        """Boxes and masks belong to no class, so a region that goes by several names is segmented once."""
        if not self.mask_on:
            return list(found)
        regions = [torch.unique(d.boxes_xyxy, dim=0, return_inverse=True) for d in found]
        masks = self.roi_heads.masks(pyramid, [boxes for boxes, _ in regions])
        segmented = [replace(d, mask_logits=m[index]) for d, m, (_, index) in zip(found, masks, regions, strict=True)]
        if not self.mask_confidence:
            return segmented
        sure = [mask_confidence(m.sigmoid())[index] for m, (_, index) in zip(masks, regions, strict=True)]
        return [weighted(d, s, score_threshold) for d, s in zip(segmented, sure, strict=True)]
