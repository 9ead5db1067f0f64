"""What a frozen detector of objects says of an image, carried over to any name near one of its own.

The trunk (`backbones.csp_trunk`) gives the probability of COCO's objects at every cell, and the box of the object that
the cell belongs to is decoded from its features here. The best cells are what the trunk has seen. They join the
proposals, and they are evidence: a region takes the probabilities of the boxes that it shares its place with, and a
name of the vocabulary takes the evidence of the trunk's names it is near to. So "sofa" profits from "couch", "dog head"
does not from "dog", and a region around a dog's head does not from the dog. Two numbers are learned: what full evidence
adds to a logit, and what is taken off where the trunk knows the name and sees no such thing in that place.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vlpart.models import boxes
from vlpart.models.convolution import predicts_on_cpu
from vlpart.models.operators import batched_nms
from vlpart.models.rpn import Proposals
from vlpart.models.text_classifier import Kept, unit_rows

STRIDES = (8, 16, 32)
#: Distances of a side from the cell, in strides, whose probabilities the box branch gives.
BINS = 11
#: Cells of an image that are looked at, best first, and the probability below which one has seen nothing.
CELLS, SEEN = 400, 0.05
#: Cells around one object say the same: the IoU over which a better one with the same name suppresses another, and how
#: many are left at most.
NMS_IOU, MAX_SEEN = 0.7, 80
#: The probability from which on a seen box joins the proposals.
PROPOSED = 0.1
#: IoU of a region and a seen box from which on it takes evidence, and at which it takes all of it.
APART, TOGETHER = 0.35, 0.75
#: Cosine of two names from which on one takes evidence of the other; at 1 it takes all of it.
NEAR = 0.7
#: Logits that are changed together: few enough to stay in the processor's cache.
BLOCK = 1 << 17
#: What `gain` and `doubt` are kept in: a logit is too small a step for a weight that AdamW moves by the learning rate.
LOGITS = 10.0


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a trunk has seen in one image: (M, 4) `boxes_xyxy` in pixels and (M, K) float32 `probabilities` of its
    names, best first."""

    boxes_xyxy: Tensor
    probabilities: Tensor


class Levels(list[Tensor]):
    """Levels of a pyramid, finest first, and beside them what a trunk has seen in every image, or None."""

    def __init__(self, levels: Iterable[Tensor], seen: Sequence[Seen] | None = None) -> None:
        super().__init__(levels)
        self.seen = seen


def nearest_names(text: Tensor, names: Tensor) -> tuple[Tensor, Tensor]:
    """Of every row of (C, D) embeddings, how near the nearest of (K, D) names is (0..1), and which: (C,) each."""
    cosines = unit_rows(text) @ unit_rows(names).T
    nearness = ((cosines - NEAR) / (1 - NEAR)).clamp(0, 1)
    coverage, nearest = nearness.max(dim=1)
    return coverage, nearest


class ClassEvidence(nn.Module):
    """logits + gain * evidence - doubt * coverage.

    Args:
        names: K of the trunk's names.
        features: channels of the trunk's features, which come before the K probabilities in its maps.
        text_dim: width D of the text embeddings.
    """

    names: Tensor

    def __init__(self, names: int, features: int, text_dim: int) -> None:
        super().__init__()
        self.features = features
        self._nearest = Kept(nearest_names)
        self.register_buffer("names", torch.zeros(names, text_dim))
        self.sides = nn.ModuleList(nn.Conv2d(features, 4 * BINS, 1) for _ in STRIDES).requires_grad_(False)
        self.gain = nn.Parameter(torch.tensor(16.0 / LOGITS))
        self.doubt = nn.Parameter(torch.tensor(3.0 / LOGITS))

    @torch.no_grad()
    def look(self, maps: Sequence[Tensor]) -> list[Seen]:
        """The best cells of every image.

        Args:
            maps: maps of the backbone; from stride 8 on, the trunk's features and probabilities are the last channels.
        """
        count = len(self.names)
        best, hidden, centres, strides, probabilities = [], [], [], [], []
        for level, stride in zip(maps[1:], STRIDES, strict=True):
            trunk = level[:, -self.features - count :].flatten(2).transpose(1, 2)
            hidden.append(trunk[..., : self.features])
            probabilities.append(trunk[..., self.features :].float())
            best.append(probabilities[-1].amax(dim=2))
            height, width = level.shape[-2:]
            y, x = torch.meshgrid(
                torch.arange(height, device=level.device), torch.arange(width, device=level.device), indexing="ij"
            )
            centres.append((torch.stack((x, y), dim=-1).reshape(-1, 2) + 0.5) * stride)
            strides.append(torch.full((height * width,), stride, device=level.device))
        levels = torch.cat([torch.full_like(s, i) for i, s in enumerate(strides)])
        joined, places, scales = torch.cat(best, 1), torch.cat(centres), torch.cat(strides)
        all_hidden, all_probabilities = torch.cat(hidden, 1), torch.cat(probabilities, 1)
        found = []
        for image, score in enumerate(joined):
            top, cell = score.topk(min(CELLS, len(score)))
            cell = cell[top >= SEEN]
            distance = self._distances(all_hidden[image, cell], levels[cell]) * scales[cell, None]
            corners = torch.cat((places[cell] - distance[:, :2], places[cell] + distance[:, 2:]), dim=1)
            apart = batched_nms(corners, score[cell], all_probabilities[image, cell].argmax(dim=1), NMS_IOU)[:MAX_SEEN]
            found.append(Seen(boxes_xyxy=corners[apart], probabilities=all_probabilities[image, cell[apart]]))
        return found

    def _distances(self, hidden: Tensor, levels: Tensor) -> Tensor:
        """(M, 4) distances of the left, upper, right and lower side in strides: means of distributions over bins."""
        weights = torch.stack([s.weight.flatten(1) for s in self.sides])[levels]  # type: ignore[operator]
        bias = torch.stack([s.bias for s in self.sides])[levels]  # type: ignore[misc]
        bins = torch.einsum("mof,mf->mo", weights.float(), hidden.float()) + bias.float()
        steps = torch.arange(BINS, dtype=torch.float32, device=hidden.device)
        return bins.view(-1, 4, BINS).softmax(dim=2) @ steps

    @torch.no_grad()
    def pool(self, seen: Sequence[Seen], regions_xyxy: Sequence[Tensor]) -> Tensor:
        """(N, K) for every region the highest probability of what was seen in its place, less the less they overlap."""
        pooled = []
        for found, regions in zip(seen, regions_xyxy, strict=True):
            if len(found.boxes_xyxy) == 0:
                pooled.append(regions.new_zeros(len(regions), len(self.names)))
                continue
            share = ((boxes.iou(found.boxes_xyxy, regions) - APART) / (TOGETHER - APART)).clamp(0, 1)
            pooled.append((share.T[:, :, None] * found.probabilities).amax(dim=1))
        return torch.cat(pooled)

    def forward(self, logits: Tensor, pooled: Tensor, text: Tensor) -> Tensor:
        """(N, C) float32 logits.

        Args:
            logits: (N, C) of the text classifier; changed in place where the network predicts on a CPU.
            pooled: (N, K) from `pool`.
            text: (C, D) text embeddings.
        """
        coverage, nearest = self._nearest(text, self.names)
        if not predicts_on_cpu(logits):
            return logits + self._change(pooled[:, nearest], coverage)
        near = coverage.nonzero().squeeze(1)
        few = 4 * len(near) < len(coverage)  # of the names: one column after the other is then faster than all
        if few:
            nearest, coverage = nearest[near], coverage[near]
        doubt, rows = self.doubt * coverage, 1 + BLOCK // (1 + len(coverage))
        for some, seen in zip(logits.split(rows), pooled.split(rows), strict=True):
            # As in `_change`, in place.
            change = seen.index_select(1, nearest).mul_(coverage).mul_(self.gain).sub_(doubt).mul_(LOGITS)
            if few:
                some.index_add_(1, near, change)
            else:
                some.add_(change)
        return logits

    def _change(self, probabilities: Tensor, coverage: Tensor) -> Tensor:
        """(N, C): what is added to logits, for (N, C) probabilities of the nearest names."""
        return LOGITS * (self.gain * (probabilities * coverage) - self.doubt * coverage)


@torch.no_grad()
def propose_seen(
    proposals: Sequence[Proposals], pyramid: Sequence[Tensor], sizes_hw: Sequence[tuple[int, int]]
) -> list[Proposals]:
    """The proposals, and behind them what a trunk has seen, where the pyramid has it.

    Its objectness is the square root of the probability: that of one of 80 names, where objectness asks for any thing.
    """
    seen = pyramid.seen if isinstance(pyramid, Levels) else None
    if seen is None:
        return list(proposals)
    joined = []
    for own, found, size in zip(proposals, seen, sizes_hw, strict=True):
        score = found.probabilities.amax(dim=1) if len(found.probabilities) else found.boxes_xyxy.new_zeros(0)
        places = boxes.clip(found.boxes_xyxy, size)
        kept = (score >= PROPOSED) & boxes.nonempty(places)
        joined.append(
            Proposals(
                boxes_xyxy=torch.cat((own.boxes_xyxy, places[kept].to(own.boxes_xyxy.dtype))),
                logits=torch.cat((own.logits, score[kept].clamp(max=1 - 1e-4).sqrt().logit().to(own.logits.dtype))),
            )
        )
    return joined
