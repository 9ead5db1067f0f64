"""What a frozen detector of objects says of a region, carried over to any name near one of its own.

The trunk (`backbones.csp_trunk`) gives the probability of COCO's objects at every cell. Pooled over a region, that is
evidence for the names that mean one of them: the text vectors of the trunk's names are part of the model, and a name of
the vocabulary takes the evidence of those it is near to. So "sofa" profits from "couch", and "dog head" does not from
"dog". Two numbers are learned: what full evidence adds to a logit, and what is taken off where the trunk knows the name
and is silent.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import roi_align

BINS, MARGIN = 7, 1
STRIDE = 8
#: Cosine of two names from which on one takes evidence of the other; at 1 it takes all of it.
NEAR = 0.7


class Levels(list[Tensor]):
    """Levels of a pyramid, finest first, and beside them (B, K, H / 8, W / 8) probabilities of the trunk's names."""

    def __init__(self, levels: Iterable[Tensor], evidence: Tensor | None = None) -> None:
        super().__init__(levels)
        self.evidence = evidence


class ClassEvidence(nn.Module):
    """logits + gain * evidence - doubt * coverage.

    Args:
        names: K of the trunk's names.
        text_dim: width D of the text embeddings.
    """

    names: Tensor

    def __init__(self, names: int, text_dim: int) -> None:
        super().__init__()
        self.register_buffer("names", torch.zeros(names, text_dim))
        self.gain = nn.Parameter(torch.tensor(16.0))
        self.doubt = nn.Parameter(torch.tensor(3.0))

    def map_of(self, maps: Sequence[Tensor]) -> Tensor:
        """(B, K, H / 8, W / 8): the best probability over the levels, the last K channels of maps from stride 8 on."""
        count = len(self.names)
        finest, *coarser = [m[:, -count:].float() for m in maps[1:]]
        for level in coarser:
            finest = torch.maximum(finest, F.interpolate(level, size=finest.shape[-2:], mode="nearest"))
        return finest.detach()

    @torch.no_grad()
    def pool(self, evidence: Tensor, regions_xyxy: Sequence[Tensor]) -> Tensor:
        """(N, K) highest probability in the inner part of every region; its border belongs to the neighbours, too."""
        rois = [r.to(evidence.dtype) for r in regions_xyxy]
        pooled = roi_align(evidence, rois, BINS, 1 / STRIDE, sampling_ratio=1, aligned=True)
        return pooled[:, :, MARGIN:-MARGIN, MARGIN:-MARGIN].amax(dim=(2, 3))

    def forward(self, logits: Tensor, pooled: Tensor, text: Tensor) -> Tensor:
        """(N, C) float32 logits.

        Args:
            logits: (N, C) of the text classifier.
            pooled: (N, K) from `pool`.
            text: (C, D) text embeddings.
        """
        cosines = F.normalize(text.float(), dim=1) @ F.normalize(self.names.float(), dim=1).T
        nearness = ((cosines - NEAR) / (1 - NEAR)).clamp(0, 1)
        coverage, nearest = nearness.max(dim=1)
        evidence = pooled[:, nearest] * coverage
        return logits + self.gain * evidence - self.doubt * coverage
