"""Part maps of an object: the votes of many references, and what a detector sees; regions and their confidence.

Beyond the published parser, which copies the parts of one reference: a reference that lacks a part is not asked about
it, what several references agree on outweighs a chance resemblance, and all sizable regions of a part stay, since the
four legs of a chair are one part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from vlpart.annotation_parser.correspondence import nearest, sizable_components

TEMPERATURE = 0.05
"""Of the softmax over the cosines of a patch's neighbours."""


@dataclass(frozen=True, kw_only=True)
class Witness:
    """One reference, as a part map sees it.

    Attributes:
        descriptors: (M, D) float32 rows of length 1.
        cover: (M,) float32, how much of every patch the part covers.
        inside: (M,) bool, patches of the object.
    """

    descriptors: Tensor
    cover: Tensor
    inside: Tensor


def votes(target: Tensor, witnesses: Sequence[Witness], neighbours: int) -> Tensor:
    """(N,) float32 in 0..1: how far the patches of the references most like a target patch belong to a part.

    Args:
        target: (N, D) rows of length 1.
        witnesses: references that have the part annotated; at least one.
        neighbours: reference patches, of all of them together, that vote for a target patch.
    """
    kept = [witness.inside | (witness.cover > 0) for witness in witnesses]
    keys = torch.cat([w.descriptors[k] for w, k in zip(witnesses, kept, strict=True)])
    cover = torch.cat([w.cover[k] for w, k in zip(witnesses, kept, strict=True)])
    matches = nearest(target, keys, min(neighbours, len(keys)))
    weights = torch.softmax(matches.similarities / TEMPERATURE, dim=1)
    return (weights * cover[matches.indices]).sum(dim=1)


def coverage(bitmap: NDArray[np.bool_], grid: tuple[int, int]) -> Tensor:
    """(rows * columns,) float32: how much of every patch of a grid that spans a bitmap is True, smoothed."""
    pixels = torch.from_numpy(np.ascontiguousarray(bitmap, dtype=np.float32))[None, None]
    return F.interpolate(pixels, size=grid, mode="bilinear", antialias=True, align_corners=False).flatten()


def spread(patches: Tensor, grid: tuple[int, int], size_hw: tuple[int, int]) -> NDArray[np.float32]:
    """(H, W) float32 from the (N,) values of a grid's patches, bilinear."""
    coarse = patches.float().cpu().view(1, 1, *grid)
    smooth = F.interpolate(coarse, size=size_hw, mode="bilinear", align_corners=False)[0, 0].numpy()
    return np.asarray(smooth, dtype=np.float32)


def region(
    score_map: NDArray[np.float32], inside: NDArray[np.bool_], *, threshold: float, smallest: float
) -> tuple[NDArray[np.bool_], float] | None:
    """Where a part is, and how sure that is; None where nothing speaks for it.

    Args:
        score_map: (H, W) in 0..1.
        inside: (H, W) bool: the object; the part lies in it.
        threshold: the region is where the score is above this fraction of its maximum.
        smallest: 8-connected pieces below this fraction of the largest one are dropped.

    Returns:
        (H, W) bool, and the mean score in it.
    """
    scores = np.where(inside, score_map, 0)
    if not scores.max(initial=0) > 0:
        return None
    kept = sizable_components(scores > threshold * scores.max(), smallest)
    return kept, float(scores[kept].mean())
