"""A detector as one graph: pixels in, detections out, the same numbers as `vlpart.models.detector.Detector`.

The detector itself has as many proposals as an image gives; a graph for other engines has fixed numbers of them, those
that are missing with a score of zero. Its input is one image, resized, normalised and padded as
`vlpart.data.preprocess` does it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import roi_align

from vlpart.export import operators
from vlpart.models import boxes
from vlpart.models.detector import Detector
from vlpart.models.evidence import (
    APART,
    CELLS,
    MAX_SEEN,
    NMS_IOU,
    PROPOSED,
    SEEN,
    STRIDES,
    TOGETHER,
    ClassEvidence,
)
from vlpart.models.postprocess import mask_confidence
from vlpart.models.roi_align import STRIDES as LEVEL_STRIDES
from vlpart.models.roi_align import level_of
from vlpart.models.roi_heads import BOX_SIZE, MASK_SIZE, BoxStage
from vlpart.models.rpn import DELTA_WEIGHTS

_DETECTIONS_IOU = 0.5
_NEVER = -1e4  # a logit whose probability is zero


class DetectorGraph(nn.Module):
    """See the module.

    Args:
        detector: in evaluation mode, float32, on the CPU.
        max_detections: M at most.
        text: (C, D) embeddings that are part of the graph; None makes them an input.
        traced: for TorchScript: the operators are written out, instead of single nodes.
    """

    text: Tensor | None

    def __init__(self, detector: Detector, max_detections: int, text: Tensor | None = None, *, traced: bool = False):
        super().__init__()
        self.detector = detector
        self.max_detections = max_detections
        self.register_buffer("text", text)
        self._unsuppressed = operators.unsuppressed if traced else operators.unsuppressed_operator
        self._chosen = operators.chosen if traced else operators.chosen_operator

    def forward(
        self, pixels: Tensor, size_hw: Tensor, threshold: Tensor, text: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Detections, best first.

        Args:
            pixels: (1, 3, H, W) float32, normalised and padded; H and W are multiples of 32.
            size_hw: (2,) float32, height and width without the padding.
            threshold: () float32: scores above it are kept.
            text: (C, D) float32 embeddings of the vocabulary, where they are no part of the graph.

        Returns:
            (M, 4) float32 boxes in pixels of the input, (M,) float32 scores, (M,) int64 classes, and with a mask head
            (M, 28, 28) float32 probabilities over the boxes.
        """
        names = self.text if text is None else text
        assert names is not None
        maps = self.detector.backbone(pixels)
        pyramid = self.detector.fpn(maps)
        evidence = self.detector.roi_heads.evidence
        seen = None if evidence is None else self._look(evidence, maps)
        regions, objectness = self._proposals(pyramid, size_hw)
        if seen is not None:
            regions, objectness = self._with_seen(regions, objectness, seen, size_hw)
        scores, regions = self._judged(pyramid, regions, objectness, seen, size_hw, names)
        row, label = self._chosen(scores, regions, threshold, _DETECTIONS_IOU, self.max_detections)
        found, best = regions[row], scores[row, label]
        if self.detector.roi_heads.mask_head is None:
            return found, best, label
        masks = self.detector.roi_heads.mask_head(pooled(pyramid, found, MASK_SIZE)).sigmoid()
        if not self.detector.mask_confidence:
            return found, best, label, masks
        best = best * mask_confidence(masks)
        order = operators.best_first(best, threshold)
        return found[order], best[order], label[order], masks[order]

    def _proposals(self, pyramid: Sequence[Tensor], size_hw: Tensor) -> tuple[Tensor, Tensor]:
        """(P, 4) boxes and (P,) objectness; see `vlpart.models.rpn.select_proposals`."""
        options = self.detector.proposal_options
        output = self.detector.rpn(pyramid)
        found, logits, levels = [], [], []
        for level, (every, deltas, anchors) in enumerate(
            zip(output.logits, output.deltas, output.anchors_xyxy, strict=True)
        ):
            # Filled up, so that there are `pre_nms` of them on the smallest map, too.
            best, index = F.pad(every[0], (0, options.pre_nms), value=_NEVER).topk(options.pre_nms)
            best_deltas = F.pad(deltas[0], (0, 0, 0, options.pre_nms))[index]
            best_anchors = F.pad(anchors, (0, 0, 0, options.pre_nms))[index]
            found.append(clip(boxes.decode(best_deltas, best_anchors, DELTA_WEIGHTS), size_hw))
            logits.append(torch.where(boxes.nonempty(found[-1]), best, _NEVER))
            levels.append(torch.full_like(best, level))
        places, objectness = torch.cat(found), torch.cat(logits)
        stay = self._unsuppressed(places, objectness, torch.cat(levels), options.nms_iou)
        best, index = torch.where(stay, objectness, _NEVER).topk(options.post_nms)
        return places[index], best

    def _look(self, evidence: ClassEvidence, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """(S, 4) boxes and (S, K) probabilities of what a trunk has seen; see `ClassEvidence.look`."""
        count = len(evidence.names)
        hidden, probabilities, centres, strides, levels = [], [], [], [], []
        for number, (level, stride) in enumerate(zip(maps[1:], STRIDES, strict=True)):
            trunk = level[0, -evidence.features - count :].flatten(1).transpose(0, 1)
            hidden.append(trunk[:, : evidence.features])
            probabilities.append(trunk[:, evidence.features :])
            height, width = level.shape[-2:]
            y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
            centres.append((torch.stack((x, y), dim=-1).reshape(-1, 2) + 0.5) * stride)
            strides.append(torch.full_like(trunk[:, 0], stride))
            levels.append(torch.full_like(trunk[:, 0], number))
        every = torch.cat(probabilities)
        top, cell = F.pad(every.amax(dim=1), (0, CELLS), value=-1.0).topk(CELLS)
        valid = top >= SEEN
        cell = torch.where(valid, cell, 0)
        probability = every[cell] * valid[:, None]
        distances = evidence._distances(torch.cat(hidden)[cell], torch.cat(levels)[cell].long())
        distances = distances * torch.cat(strides)[cell][:, None]
        places = torch.cat(centres)[cell]
        corners = torch.cat((places - distances[:, :2], places + distances[:, 2:]), dim=1)
        stay = self._unsuppressed(corners, top, probability.argmax(dim=1).float(), NMS_IOU)
        best, index = torch.where(stay & valid, top, -1.0).topk(MAX_SEEN)
        return corners[index], probability[index] * (best > 0)[:, None]

    def _with_seen(
        self, regions: Tensor, objectness: Tensor, seen: tuple[Tensor, Tensor], size_hw: Tensor
    ) -> tuple[Tensor, Tensor]:
        """See `vlpart.models.evidence.propose_seen`."""
        score = seen[1].amax(dim=1)
        places = clip(seen[0], size_hw)
        logits = score.clamp(max=1 - 1e-4, min=1e-6).sqrt().logit()
        kept = (score >= PROPOSED) & boxes.nonempty(places)
        return torch.cat((regions, places)), torch.cat((objectness, torch.where(kept, logits, _NEVER)))

    def _judged(
        self,
        pyramid: Sequence[Tensor],
        regions: Tensor,
        objectness: Tensor,
        seen: tuple[Tensor, Tensor] | None,
        size_hw: Tensor,
        text: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """(P, C) scores and (P, 4) boxes; see `vlpart.models.roi_heads.RoiHeads.classify_and_refine`."""
        heads = self.detector.roi_heads
        evidence = heads.evidence
        probabilities: Tensor | None = None
        for module in heads.stages:
            stage = cast(BoxStage, module)
            logits, deltas, correction = stage.judge(pooled(pyramid, regions, BOX_SIZE), text)
            if evidence is not None and seen is not None:
                share = ((boxes.iou(seen[0], regions) - APART) / (TOGETHER - APART)).clamp(0, 1)
                logits = evidence(logits, (share.T[:, :, None] * seen[1]).amax(dim=1), text)
            own = logits.sigmoid() / len(heads.stages)
            probabilities = own if probabilities is None else probabilities + own
            if correction is not None:
                objectness = objectness + correction
            regions = clip(stage.refine(regions, deltas), size_hw)
        assert probabilities is not None
        return (probabilities * objectness.sigmoid()[:, None]).sqrt(), regions


def clip(boxes_xyxy: Tensor, size_hw: Tensor) -> Tensor:
    """(N, 4) boxes cut to an image of (2,) height and width."""
    limits = torch.stack((size_hw[1], size_hw[0], size_hw[1], size_hw[0]))
    return torch.minimum(boxes_xyxy.clamp(min=0), limits)


def pooled(pyramid: Sequence[Tensor], regions: Tensor, size: int) -> Tensor:
    """(N, C, size, size) features of all regions; see `vlpart.models.roi_align.pool_regions`.

    Every level pools all regions, one cell in the place of those of other levels, which costs next to nothing: so no
    shape depends on the values.
    """
    levels = torch.where(boxes.nonempty(regions), level_of(regions), -1)[:, None]  # some engines give NaN for no area
    total: Tensor | None = None
    for level, stride in enumerate(LEVEL_STRIDES):
        own = levels == level
        cell = regions.new_tensor([0.0, 0.0, stride, stride])
        rois = torch.cat((torch.zeros_like(regions[:, :1]), torch.where(own, regions, cell)), dim=1)
        features = roi_align(pyramid[level], rois, size, spatial_scale=1 / stride, sampling_ratio=0, aligned=True)
        features = torch.where(own[:, :, None, None], features, 0.0)
        total = features if total is None else total + features
    assert total is not None
    return total
