"""Nearest neighbours by cosine, as matrix products over tiles: exact, and memory does not grow with the numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

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
        value, column = similarities.max(dim=1, keepdim=True)
        return value, column
    return similarities.topk(k, dim=1)
