"""The pixels of a map of probabilities that is stretched over a box: where its value is at least the threshold.

Bilinear, as `grid_sample` samples with align_corners False: values lie at the middle of the cells, and fade to zero
within a cell beyond the outermost ones. Source: docs/method.md, 'Mask head'.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlpart.masks.rle import Runs, joined_runs

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]

_COLUMNS = 4096  # of pixels that are looked at together: what is computed for them stays in the cache


def runs_of_maps(maps: FloatArray, boxes: FloatArray, image_size: tuple[int, int], threshold: np.float32) -> list[Runs]:
    """(R, 2) foreground runs (see `vlpart.masks.rle`) of every mask, without a look at every pixel.

    Between two rows of cells a column of a mask changes once at most: whether its first and last pixel there are
    inside says if, a straight line where. So the cost follows columns times cells, and the length of the outlines.

    Args:
        maps: (N, S, S).
        boxes: (N, 4) x0, y0, x1, y1 in pixels.
        image_size: (height, width).
        threshold: pixels of this value or a higher one are inside.
    """
    bounds = pixel_bounds(maps, boxes, image_size, threshold)
    widths = bounds[:, 2] - bounds[:, 0]
    groups = np.cumsum(widths) // _COLUMNS
    runs: list[Runs] = []
    for group in np.unique(groups):
        chosen = groups == group
        runs += _runs(maps[chosen], boxes[chosen], bounds[chosen], image_size[0], threshold)
    return runs


def pixel_bounds(maps: FloatArray, boxes: FloatArray, image_size: tuple[int, int], threshold: np.float32) -> IntArray:
    """(N, 4) the pixels x0, y0, x1, y1 (ends exclusive) that can be inside: less than a cell from a cell that is.

    Args: see `runs_of_maps`.
    """
    over = maps >= threshold
    cells = maps.shape[-1]
    bounds = np.zeros((len(maps), 4), dtype=np.int64)
    low, high = boxes[:, :2].astype(np.float64), boxes[:, 2:].astype(np.float64)
    cell = (high - low) / cells
    for axis in (0, 1):
        filled: BoolArray = np.any(over, axis=1 + axis)  # columns, then rows
        first, last = filled.argmax(axis=1), cells - 1 - filled[:, ::-1].argmax(axis=1)
        limit, origin = image_size[1 - axis], low[:, axis]
        bounds[:, axis] = np.floor(np.clip(origin + (first - 0.5) * cell[:, axis] - 0.5, 0, limit))
        bounds[:, 2 + axis] = np.ceil(np.clip(origin + (last + 1.5) * cell[:, axis] + 0.5, 0, limit))
    bounds[~(over.any(axis=(1, 2)) & (high > low).all(axis=1))] = 0
    bounds[(bounds[:, 2:] <= bounds[:, :2]).any(axis=1)] = 0
    return bounds


def neighbours(pixels: IntArray, low: FloatArray, high: FloatArray, cells: int) -> tuple[IntArray, FloatArray]:
    """The cell before each pixel, in a map with a margin of one cell, and the pixel's share of the way to the next.

    Args:
        pixels: columns or rows.
        low, high: where the map begins and ends in that direction, in pixels.
        cells: of the map in that direction, without the margin.
    """
    # The steps of grid_sample, in float32.
    unit = (pixels.astype(np.float32) + np.float32(0.5) - low) / (high - low) * np.float32(2) - np.float32(1)
    places = ((unit + np.float32(1)) * np.float32(cells) - np.float32(1)) / np.float32(2)
    places = np.clip(places + 1, 0, cells + 1)
    before = np.minimum(places.astype(np.int64), cells)
    return before, places - before.astype(np.float32)


def _runs(maps: FloatArray, boxes: FloatArray, bounds: IntArray, height: int, threshold: np.float32) -> list[Runs]:
    """See `runs_of_maps`; all at once."""
    cells = maps.shape[-1]
    owner, xs = _ranges(bounds[:, 0], bounds[:, 2])
    left, across = neighbours(xs, boxes[owner, 0], boxes[owner, 2], cells)
    padded = np.pad(maps, ((0, 0), (1, 1), (1, 1))).transpose(0, 2, 1).reshape(-1, cells + 2)
    before = owner * (cells + 2) + left
    values = padded[before] * (1 - across)[:, None]
    values += padded[before + 1] * across[:, None]
    over = values >= threshold
    columns, span = np.nonzero(over[:, 1:] != over[:, :-1])
    spans = _Spans.of(boxes, bounds, cells)
    rows = spans.turns(owner[columns], span, values[columns, span], values[columns, span + 1], threshold)
    edges = (xs[columns] * height + rows).reshape(-1, 2)
    holders = owner[columns[::2]]
    full = edges[:, 0] < edges[:, 1]  # not so where there is no row of pixels between two rows of cells
    edges, holders = edges[full], holders[full]
    stops = np.searchsorted(holders, np.arange(1, len(maps)))
    return [joined_runs(piece) for piece in np.split(edges, stops)]


def _ranges(starts: IntArray, stops: IntArray) -> tuple[IntArray, IntArray]:
    """All whole numbers from each start to its stop, and to which of the ranges each belongs."""
    lengths = stops - starts
    owner = np.repeat(np.arange(len(starts)), lengths)
    return owner, np.arange(len(owner)) + np.repeat(starts - np.cumsum(lengths) + lengths, lengths)


@dataclass(frozen=True)
class _Spans:
    """The rows of pixels of N masks, cut where they pass a row of cells: C + 1 spans each, of which some are empty.

    Attributes:
        down: (R + 1,) how far each row of all masks, one after the other, is on the way from one row of cells to the
            next, 0..1; and one more value.
        first: (N, C + 2) which of the R a span begins with, and where the last one ends.
        pitch: (N,) rows of pixels to a row of cells.
        shift: (N,) what to add to one of the R for the row in the image.
    """

    down: FloatArray
    first: IntArray
    pitch: FloatArray
    shift: IntArray

    @classmethod
    def of(cls, boxes: FloatArray, bounds: IntArray, cells: int) -> _Spans:
        owner, rows = _ranges(bounds[:, 1], bounds[:, 3])
        cell, down = neighbours(rows, boxes[owner, 1], boxes[owner, 3], cells)
        counts = np.bincount(owner * (cells + 1) + cell, minlength=len(boxes) * (cells + 1))
        ends = np.cumsum(counts).reshape(len(boxes), -1)
        first = np.concatenate([ends[:, :1] - counts[:: cells + 1, None], ends], axis=1)
        pitch = (boxes[:, 3] - boxes[:, 1]) / np.float32(cells)
        return cls(np.append(down, np.float32(0)), first, pitch, bounds[:, 1] - first[:, 0])

    def turns(
        self, owner: IntArray, span: IntArray, above: FloatArray, below: FloatArray, threshold: np.float32
    ) -> IntArray:
        """(K,) the row from which on a column is on the other side, in a span between values on both sides."""
        flat = owner * self.first.shape[1] + span
        first, stop = self.first.take(flat), self.first.take(flat + 1)
        after = below >= threshold

        def changed(places: IntArray, which: Any = slice(None)) -> BoolArray:
            share = self.down[places]
            return (above[which] * (1 - share) + below[which] * share >= threshold) == after[which]

        way = (threshold - above) / (below - above) - self.down.take(first)
        place = np.clip(first + np.ceil(way * self.pitch[owner]).astype(np.int64), first, stop)
        # A line says where, up to rounding; few are a row away.
        moving = np.flatnonzero((place < stop) & ~changed(place))
        while len(moving):
            place[moving] += 1
            moving = moving[place[moving] < stop[moving]]
            moving = moving[~changed(place[moving], moving)]
        moving = np.flatnonzero((place > first) & changed(place - 1))
        while len(moving):
            place[moving] -= 1
            moving = moving[place[moving] > first[moving]]
            moving = moving[changed(place[moving] - 1, moving)]
        return place + self.shift[owner]
