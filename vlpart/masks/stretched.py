"""The pixels of a map of probabilities that is stretched over a box: where its value is at least the threshold.

Bilinear, as `grid_sample` samples with align_corners False: values lie at the middle of the cells, and fade to zero
within a cell beyond the outermost ones. Source: docs/method.md, 'Mask head'.
"""

from __future__ import annotations

from dataclasses import dataclass

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
    spans = _Spans.of(boxes, bounds, cells)
    # Whether outside, in the first and last pixel of every span, and outside again:
    states = np.zeros((len(xs), 2 * cells + 4), dtype=bool)
    for column, down in ((1, spans.down[spans.first]), (2, spans.down[spans.last])):
        share = down[owner]
        states[:, column:-1:2] = values[:, :-1] * (1 - share) + values[:, 1:] * share >= threshold
    for k in np.flatnonzero(spans.empty.any(axis=0)).tolist():
        nothing = spans.empty[owner, k]
        states[nothing, 2 * k + 1 : 2 * k + 3] = states[nothing, 2 * k, None]
    columns, places = np.nonzero(states[:, 1:] != states[:, :-1])
    span, within = places // 2, places % 2 == 1
    rows = spans.starts[owner[columns], span]
    column, span = columns[within], span[within]
    rows[within] = spans.turns(owner[column], span, values[column, span], values[column, span + 1], threshold)
    edges = (xs[columns] * height + rows).reshape(-1, 2)
    stops = np.searchsorted(owner[columns[::2]], np.arange(1, len(maps)))
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
        rows: (R,) the rows of all masks, one mask after the other.
        down: (R,) how far a row is on the way from one row of cells to the next, 0..1.
        first, last: (N, C + 1) which of the R are the ends of a span.
        starts: (N, C + 2) the rows where spans begin, and where the last one ends.
        empty: (N, C + 1) whether there is no row in a span.
    """

    rows: IntArray
    down: FloatArray
    first: IntArray
    last: IntArray
    starts: IntArray
    empty: BoolArray

    @classmethod
    def of(cls, boxes: FloatArray, bounds: IntArray, cells: int) -> _Spans:
        owner, rows = _ranges(bounds[:, 1], bounds[:, 3])
        cell, down = neighbours(rows, boxes[owner, 1], boxes[owner, 3], cells)
        counts = np.bincount(owner * (cells + 1) + cell, minlength=len(boxes) * (cells + 1)).reshape(-1, cells + 1)
        stops = np.cumsum(counts).reshape(counts.shape)
        starts = bounds[:, 1:2] + np.pad(np.cumsum(counts, axis=1), ((0, 0), (1, 0)))
        top = max(len(rows) - 1, 0)
        down = down if len(down) else np.zeros(1, dtype=np.float32)
        return cls(rows, down, np.minimum(stops - counts, top), np.maximum(stops - 1, 0), starts, counts == 0)

    def turns(
        self, owner: IntArray, span: IntArray, above: FloatArray, below: FloatArray, threshold: np.float32
    ) -> IntArray:
        """(K,) the row at which a column changes in a span between two values, whose first and last pixel differ."""

        def inside(places: IntArray) -> BoolArray:
            share = self.down[places]
            return np.asarray(above * (1 - share) + below * share >= threshold)

        first, last = self.first[owner, span], self.last[owner, span]
        start, way = self.down[first], self.down[last] - self.down[first]
        guess = first + np.ceil(((threshold - above) / (below - above) - start) / way * (last - first)).astype(np.int64)
        place, after = np.clip(guess, first + 1, last), inside(last)
        while True:  # the line says where up to rounding: once is enough nearly always
            early, late = inside(place) != after, inside(place - 1) == after
            if not (early | late).any():
                return self.rows[place]
            place = place + early - (late & ~early)
