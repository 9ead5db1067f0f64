"""From proposals to classified, refined boxes and masks: one stage (Mask R-CNN) or three (Cascade Mask R-CNN)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vlpart.models import boxes
from vlpart.models.evidence import ClassEvidence, Levels
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
        quality: whether there is one more output, the correction of the proposal's objectness: does the region, now
            that its features are seen, fit anything at all, and how well. It takes part in the score, not in training
            the proposals.
    """

    def __init__(
        self,
        channels: int,
        width: int,
        classifier: TextClassifier,
        delta_weights: tuple[float, ...],
        *,
        quality: bool = False,
    ) -> None:
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
        self.quality = nn.Linear(width, 1) if quality else None
        if self.quality is not None:
            nn.init.zeros_(self.quality.weight)
            nn.init.zeros_(self.quality.bias)

    def forward(self, pooled: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """Region features (N, C, 7, 7) and text (C, D) -> class logits (N, C) and deltas (N, 4), both float32."""
        logits, deltas, _ = self.judge(pooled, text)
        return logits, deltas

    def judge(self, pooled: Tensor, text: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """`forward`, and the (N,) float32 correction of the objectness logits (None without that output)."""
        x = self.features(pooled)
        correction = None if self.quality is None else self.quality(x).float().squeeze(1)
        return self.classifier(x, text), self.deltas(F.relu(self.delta_hidden(x))).float(), correction

    def features(self, pooled: Tensor) -> Tensor:
        """Region features (N, C, 7, 7) -> (N, width), what the classifier looks at."""
        return F.relu(self.fc2(F.relu(self.fc1(pooled.flatten(1)))))

    def refine(self, boxes_xyxy: Tensor, deltas: Tensor) -> Tensor:
        """(N, 4) boxes moved by their deltas."""
        return boxes.decode(deltas, boxes_xyxy, self.delta_weights)


class RoiHeads(nn.Module):
    """The stages in a row and one mask head, or None. With one stage this is Mask R-CNN: the formulas are the same."""

    def __init__(
        self, stages: Sequence[BoxStage], mask_head: MaskHead | None, evidence: ClassEvidence | None = None
    ) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.mask_head = mask_head
        self.evidence = evidence

    def with_evidence(
        self, logits: Tensor, pyramid: Sequence[Tensor], regions_xyxy: Sequence[Tensor], text: Tensor
    ) -> Tensor:
        """(N, C) class logits of a stage, with what a trunk says of the regions where the pyramid has it."""
        if self.evidence is None or not isinstance(pyramid, Levels) or pyramid.seen is None:
            return logits
        return cast(Tensor, self.evidence(logits, self.evidence.pool(pyramid.seen, regions_xyxy), text))

    @torch.no_grad()
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
        Stages with a quality output correct the objectness first, and evidence of a trunk is added to the logits.

        Returns:
            For every image (N, C) float32 scores in 0..1 and (N, 4) boxes.
        """
        regions = [p.boxes_xyxy for p in proposals]
        counts = [len(r) for r in regions]
        probabilities: Tensor | None = None  # with many names the largest tensors here, so they are changed in place
        objectness = torch.cat([p.logits for p in proposals])
        for module in self.stages:
            stage = cast(BoxStage, module)
            logits, deltas, correction = stage.judge(pool_regions(pyramid, regions, BOX_SIZE), text)
            logits = self.with_evidence(logits, pyramid, regions, text)
            shares = logits.sigmoid_().float()
            if len(self.stages) > 1:
                shares.div_(len(self.stages))
            probabilities = shares if probabilities is None else probabilities.add_(shares)
            if correction is not None:
                objectness = objectness + correction
            refined = stage.refine(torch.cat(regions), deltas).split(counts)
            regions = [boxes.clip(r, size) for r, size in zip(refined, sizes_hw, strict=True)]
        assert probabilities is not None
        scores = probabilities.mul_(objectness.sigmoid()[:, None]).sqrt_()
        return list(scores.split(counts)), regions

    def embed(self, pyramid: Sequence[Tensor], regions_xyxy: Sequence[Tensor]) -> Tensor:
        """(N, D) float32 features of regions of all images in the space of the text, rows of length 1.

        The mean over the stages, each looking at the region as it is.
        """
        pooled = pool_regions(pyramid, regions_xyxy, BOX_SIZE)
        stages = [cast(BoxStage, stage) for stage in self.stages]
        return F.normalize(sum(s.classifier.embed(s.features(pooled)) for s in stages), dim=1)  # type: ignore[arg-type]

    def masks(self, pyramid: Sequence[Tensor], regions_xyxy: Sequence[Tensor]) -> list[Tensor]:
        """For every image (N, 28, 28) float32 mask logits of its regions. Only for a detector with a mask head."""
        assert self.mask_head is not None
        logits = self.mask_head(pool_regions(pyramid, regions_xyxy, MASK_SIZE))
        return list(logits.split([len(r) for r in regions_xyxy]))
