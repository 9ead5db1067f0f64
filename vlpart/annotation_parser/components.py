"""Connected regions of a bitmap, in numpy.

Works on the runs of the rows, not on pixels: a run is joined with the runs of the row above that touch it, also at a
corner, and labels spread along the joints by pointer jumping (a logarithmic number of passes).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


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
