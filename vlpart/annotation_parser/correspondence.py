"""From patch to patch, and from a reference image's parts to part masks and boxes of a target (docs/method.md, 'Dense
correspondence').

Nearest neighbours by cosine are matrix products over tiles: exact, and memory does not grow with the numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from vlpart.models import boxes

QUERY_TILE, KEY_TILE = 1024, 8192
"""Rows and columns of one tile of similarities: 32 MB in float32, whatever is compared."""


@dataclass(frozen=True, kw_only=True)
class Matches:
    """For every query its best keys, best first; of equal ones the first.

    Attributes:
        indices: (Q, k) int64.
        similarities: (Q, k) float32 cosines.
    """

    indices: Tensor
    similarities: Tensor


def normalised(vectors: Tensor) -> Tensor:
    """(N, D) float32 rows of length 1; rows of zeros stay."""
    return F.normalize(vectors.float(), dim=1)


def nearest(queries: Tensor, keys: Tensor, k: int = 1) -> Matches:
    """The `k` keys most similar to every query.

    Args:
        queries: (Q, D) rows of length 1, see `normalised`.
        keys: (K, D) rows of length 1, at least `k` of them.
        k: how many.

    Raises:
        ValueError: fewer keys than `k`, or widths that differ.
    """
    if queries.shape[1] != keys.shape[1] or not 1 <= k <= len(keys):
        raise ValueError(f"no {k} neighbours of {tuple(queries.shape)} in {tuple(keys.shape)}")
    indices, similarities = [], []
    for chunk in queries.split(QUERY_TILE):
        best: Tensor | None = None
        where = chunk.new_zeros(0, dtype=torch.int64)
        for start, tile in _tiles(chunk, keys):
            values, columns = _best(tile, min(k, tile.shape[1]))
            if best is None:
                best, where = values, columns + start
            else:
                best, picked = _best(torch.cat((best, values), dim=1), min(k, best.shape[1] + values.shape[1]))
                where = torch.cat((where, columns + start), dim=1).gather(1, picked)
        assert best is not None
        similarities.append(best)
        indices.append(where)
    if not indices:
        return Matches(indices=queries.new_zeros(0, k, dtype=torch.int64), similarities=queries.new_zeros(0, k))
    return Matches(indices=torch.cat(indices), similarities=torch.cat(similarities))


def mutual(forward: Tensor, backward: Tensor) -> Tensor:
    """(Q,) bool: queries that are the nearest neighbour of their nearest neighbour.

    Args:
        forward: (Q,) int64 nearest key of every query.
        backward: (K,) int64 nearest query of every key.
    """
    return backward[forward] == torch.arange(len(forward), device=forward.device)


def _tiles(chunk: Tensor, keys: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Similarities of a chunk of queries with one tile of keys after the other, and where the tile begins."""
    for start in range(0, len(keys), KEY_TILE):
        yield start, chunk @ keys[start : start + KEY_TILE].T


def _best(similarities: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Largest values of every row and their columns, in order; of equal ones the first if k is 1."""
    if k == 1:
        largest, column = similarities.max(dim=1, keepdim=True)
        return largest, column
    return similarities.topk(k, dim=1)


@dataclass(frozen=True, kw_only=True)
class TransferredParts:
    """Parts found on a target, in the order of the reference's annotations; parts that matched nothing are missing.

    Attributes:
        sources: (P,) int64, which annotation of the reference each comes from.
        masks: (P, H, W) bool at the size of the target.
        boxes_xyxy: (P, 4) float32 pixels of the target, tight around the masks: [first - 0.5, last + 0.5].
    """

    sources: NDArray[np.int64]
    masks: NDArray[np.bool_]
    boxes_xyxy: NDArray[np.float32]


def transfer_parts(
    reference_parts: Sequence[NDArray[np.bool_]],
    reference_grid: tuple[int, int],
    nearest_patch: Tensor,
    foreground: Tensor,
    target_grid: tuple[int, int],
    target_size_hw: tuple[int, int],
) -> TransferredParts:
    """Give every target patch the parts of the reference patch it resembles most.

    A part's patches, restricted to the foreground, keep their largest 8-connected component.

    Args:
        reference_parts: a bitmap for every part, at the size of the reference image.
        reference_grid: rows and columns of the reference's patches.
        nearest_patch: (N,) int64 index of the reference patch nearest to every target patch.
        foreground: (N,) bool, the target patches that belong to the object.
        target_grid: rows and columns of the target's patches, N in all.
        target_size_hw: size of the target in pixels.
    """
    sources, masks = [], []
    for index, part in enumerate(reference_parts):
        on_reference = any_overlap(part, reference_grid).flatten().to(nearest_patch.device)
        on_target = (on_reference[nearest_patch] & foreground).view(target_grid).cpu().numpy()
        if not on_target.any():
            continue
        sources.append(index)
        masks.append(any_overlap(largest_component(on_target), target_size_hw).numpy())
    stack = np.array(masks, dtype=bool).reshape(-1, *target_size_hw)
    return TransferredParts(
        sources=np.array(sources, dtype=np.int64),
        masks=stack,
        boxes_xyxy=np.array([tight_box(mask) for mask in stack], dtype=np.float32).reshape(-1, 4),
    )


def any_overlap(bitmap: NDArray[np.bool_], size_hw: tuple[int, int]) -> Tensor:
    """A (h, w) bitmap resized bilinearly to `size_hw`: True wherever the result is not zero. Bool tensor."""
    pixels = torch.from_numpy(np.ascontiguousarray(bitmap, dtype=np.float32))
    return F.interpolate(pixels[None, None], size=size_hw, mode="bilinear", align_corners=False)[0, 0] > 0


def tight_box(mask: NDArray[np.bool_]) -> tuple[float, float, float, float]:
    """xyxy extents of the True pixels of a bitmap that is not empty: from half a pixel before the first to half a
    pixel after the last pixel index (docs/method.md, 'Dense correspondence')."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    return columns[0] - 0.5, rows[0] - 0.5, columns[-1] + 0.5, rows[-1] + 0.5


def best_proposals(part_boxes_xyxy: Tensor, proposals_xyxy: Tensor, min_iou: float) -> tuple[Tensor, Tensor, Tensor]:
    """For every part the proposal that overlaps it most.

    Args:
        part_boxes_xyxy: (P, 4).
        proposals_xyxy: (Q, 4) in the same frame.
        min_iou: parts without a proposal strictly above this overlap are left out.

    Returns:
        Indices of the parts that stay, the proposal of each, and their IoU; each (K,).
    """
    if not len(part_boxes_xyxy) or not len(proposals_xyxy):
        none = torch.zeros(0, dtype=torch.int64)
        return none, none, torch.zeros(0)
    overlap, proposal = boxes.iou(part_boxes_xyxy, proposals_xyxy).max(dim=1)
    kept = (overlap > min_iou).nonzero().squeeze(1)
    return kept, proposal[kept], overlap[kept]


def largest_component(bitmap: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The largest 8-connected region of a (H, W) bitmap; of equally large ones the first in reading order."""
    runs = _runs(bitmap)
    if len(runs.rows) < 2:
        return bitmap.copy()
    return runs.bitmap(runs.labels == int(runs.sizes.argmax()), bitmap.shape)


def sizable_components(bitmap: NDArray[np.bool_], smallest: float) -> NDArray[np.bool_]:
    """The 8-connected regions of a (H, W) bitmap that have at least the fraction `smallest` of the largest one."""
    runs = _runs(bitmap)
    if len(runs.rows) < 2:
        return bitmap.copy()
    return runs.bitmap(runs.sizes[runs.labels] >= smallest * runs.sizes.max(), bitmap.shape)


@dataclass(frozen=True, kw_only=True)
class _Runs:
    """Row, first and last + 1 column of every run; the number of the first run of its region; pixels by that number."""

    rows: NDArray[np.int64]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    labels: NDArray[np.int64]
    sizes: NDArray[Any]

    def bitmap(self, kept: NDArray[np.bool_], size_hw: tuple[int, ...]) -> NDArray[np.bool_]:
        """Some of the runs as a (H, W) bitmap."""
        edges = np.zeros((size_hw[0], size_hw[1] + 1), dtype=np.int8)
        np.add.at(edges, (self.rows[kept], self.starts[kept]), 1)
        np.add.at(edges, (self.rows[kept], self.ends[kept]), -1)
        return np.cumsum(edges[:, :-1], axis=1, dtype=np.int8).astype(bool)


def _runs(bitmap: NDArray[np.bool_]) -> _Runs:
    height, width = bitmap.shape
    padded = np.zeros((height, width + 2), dtype=np.int8)
    padded[:, 1:-1] = bitmap
    steps = np.diff(padded, axis=1)
    rows, starts = np.nonzero(steps == 1)
    ends = np.nonzero(steps == -1)[1]  # exclusive; row by row as many as starts
    labels = _join(*_touching(rows, starts, ends, width), len(rows))
    sizes = np.bincount(labels, weights=ends - starts, minlength=len(rows))
    return _Runs(rows=rows, starts=starts, ends=ends, labels=labels, sizes=sizes)


def _touching(
    rows: NDArray[np.int64], starts: NDArray[np.int64], ends: NDArray[np.int64], width: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All pairs (run, run of the row above that it touches) as two arrays of run numbers."""
    stride = width + 2  # keys of neighbouring rows never mix
    first = np.searchsorted(rows * stride + ends, (rows - 1) * stride + starts, side="left")
    last = np.searchsorted(rows * stride + starts, (rows - 1) * stride + ends, side="right")
    counts = np.maximum(last - first, 0)
    below = np.repeat(np.arange(len(rows)), counts)
    offsets = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return below, np.repeat(first, counts) + offsets


def _join(a: NDArray[np.int64], b: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """(count,) for every node the smallest node of its group, with (a[i], b[i]) joined."""
    parents = np.arange(count)
    while True:
        roots_a, roots_b = parents[a], parents[b]
        if np.array_equal(roots_a, roots_b):
            return parents
        np.minimum.at(parents, np.maximum(roots_a, roots_b), np.minimum(roots_a, roots_b))
        while not np.array_equal(parents, jumped := parents[parents]):
            parents = jumped
