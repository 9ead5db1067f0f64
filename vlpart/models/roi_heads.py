"""From proposals to classified, refined boxes and masks: one stage (Mask R-CNN) or three (Cascade Mask R-CNN)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vlpart.models import boxes
from vlpart.models.mask_head import MaskHead
from vlpart.models.roi_align import pool_regions
from vlpart.models.rpn import Proposals
from vlpart.models.text_classifier import TextClassifier

BOX_SIZE, MASK_SIZE = 7, 14


class BoxStage(nn.Module):
    """Two fully connected layers, a text classifier and class-agnostic box deltas.

    Args:
        channels: channels of the pyramid.
        width: width of the fully connected layers.
        classifier: the text classifier of this stage.
        delta_weights: factors of the box deltas, see `boxes.encode`.
    """

    def __init__(self, channels: int, width: int, classifier: TextClassifier, delta_weights: tuple[float, ...]) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels * BOX_SIZE**2, width)
        self.fc2 = nn.Linear(width, width)
        self.classifier = classifier
        self.delta_hidden = nn.Linear(width, width)
        self.deltas = nn.Linear(width, 4)
        self.delta_weights = delta_weights
        for layer in (self.fc1, self.fc2):
            nn.init.kaiming_uniform_(layer.weight, a=1)
            nn.init.zeros_(layer.bias)
        nn.init.normal_(self.deltas.weight, std=0.001)
        nn.init.zeros_(self.deltas.bias)

    def forward(self, pooled: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """Region features (N, C, 7, 7) and text (C, D) -> class logits (N, C) and deltas (N, 4), both float32."""
        x = F.relu(self.fc2(F.relu(self.fc1(pooled.flatten(1)))))
        return self.classifier(x, text), self.deltas(F.relu(self.delta_hidden(x))).float()

    def refine(self, boxes_xyxy: Tensor, deltas: Tensor) -> Tensor:
        """(N, 4) boxes moved by their deltas."""
        return boxes.decode(deltas, boxes_xyxy, self.delta_weights)


class RoiHeads(nn.Module):
    """The stages in a row and one mask head. With one stage this is Mask R-CNN: the formulas are the same."""

    def __init__(self, stages: Sequence[BoxStage], mask_head: MaskHead) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.mask_head = mask_head

    def classify_and_refine(
        self,
        pyramid: Sequence[Tensor],
        proposals: Sequence[Proposals],
        sizes_hw: Sequence[tuple[int, int]],
        text: Tensor,
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Scores and final boxes of every proposal.

        The boxes of a stage, clipped to the image, are the proposals of the next. The probabilities of the stages are
        averaged, then combined with the objectness of the proposals: sqrt(p * sigmoid(objectness)) (docs/method.md,
        'Scores and detections').

        Returns:
            For every image (N, C) float32 scores in 0..1 and (N, 4) boxes.
        """
        regions = [p.boxes_xyxy for p in proposals]
        counts = [len(r) for r in regions]
        probabilities = text.new_zeros((sum(counts), len(text)), dtype=torch.float32)
        for module in self.stages:
            stage = cast(BoxStage, module)
            logits, deltas = stage(pool_regions(pyramid, regions, BOX_SIZE), text)
            probabilities += logits.sigmoid() / len(self.stages)
            refined = stage.refine(torch.cat(regions), deltas).split(counts)
            regions = [boxes.clip(r, size) for r, size in zip(refined, sizes_hw, strict=True)]
        scores = [
            (p * proposal.logits.sigmoid()[:, None]).sqrt()
            for p, proposal in zip(probabilities.split(counts), proposals, strict=True)
        ]
        return scores, regions

    def masks(self, pyramid: Sequence[Tensor], regions_xyxy: Sequence[Tensor]) -> list[Tensor]:
        """For every image (N, 28, 28) float32 mask logits of its regions."""
        logits = self.mask_head(pool_regions(pyramid, regions_xyxy, MASK_SIZE))
        return list(logits.split([len(r) for r in regions_xyxy]))
