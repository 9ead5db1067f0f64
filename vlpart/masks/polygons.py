"""Outlines of masks as polygons, for labelling tools and file formats that know nothing else.

Coordinates are those of boxes: x, y in pixels of the image, where the first pixel covers 0..1.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: (K, 2) float64 x, y: the corners of a polygon in order, K >= 3; the last one is joined to the first.
Polygon = NDArray[np.float64]


def outlines(values: ArrayLike, xs: ArrayLike, ys: ArrayLike, level: float) -> list[Polygon]:
    """Where a map of values reaches `level`: one polygon for each connected piece, its holes filled.

    Args:
        values: (h, w) float, at least 2 x 2, below `level` all around the edge.
        xs: (w,) where the columns are.
        ys: (h,) where the rows are.
        level: between two neighbours the outline runs where the line from one value to the other crosses this.
    """
    import contourpy

    maker = contourpy.contour_generator(
        x=xs, y=ys, z=values, name="serial", fill_type=contourpy.FillType.OuterOffset, corner_mask=False
    )
    points, offsets = cast("tuple[list[Polygon], list[NDArray[np.uint32]]]", maker.filled(level, np.inf))
    return [ring[: starts[1] - 1] for ring, starts in zip(points, offsets, strict=True)]  # without the repeated corner


def simplified(polygon: Polygon, tolerance: float) -> Polygon:
    """The polygon with fewer corners; no corner that goes is further from the new outline than `tolerance` pixels.

    Source: Douglas and Peucker, 1973; the two ends of a ring are its first corner and the one furthest from that.
    """
    furthest = int(np.argmax(((polygon - polygon[0]) ** 2).sum(axis=1)))
    ring = np.concatenate([polygon, polygon[:1]])
    keep = np.zeros(len(ring), dtype=bool)
    keep[[0, furthest]] = True
    todo = [(0, furthest), (furthest, len(ring) - 1)]
    while todo:
        first, last = todo.pop()
        if last - first < 2:
            continue
        away = _distances(ring[first + 1 : last], ring[first], ring[last])
        worst = first + 1 + int(np.argmax(away))
        if away[worst - first - 1] > tolerance:
            keep[worst] = True
            todo += [(first, worst), (worst, last)]
    return polygon[keep[:-1]]


def _distances(points: Polygon, start: Polygon, end: Polygon) -> NDArray[np.float64]:
    """(P,) distances of points from the line between `start` and `end`."""
    along = end - start
    squared = float(along @ along)
    away = points - start
    nearest = np.zeros(len(points))
    if squared > 0:  # in two terms, since BLAS has threads for long outlines
        nearest = np.clip((away[:, 0] * along[0] + away[:, 1] * along[1]) / squared, 0, 1)
    distances: NDArray[np.float64] = np.linalg.norm(away - nearest[:, None] * along, axis=1)
    return distances


def area(polygon: Polygon) -> float:
    """Pixels inside."""
    x, y = polygon.T
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2


def rectangle(box_xyxy: ArrayLike) -> Polygon:
    """The corners of a box, from the upper left one on clockwise."""
    x0, y0, x1, y1 = np.asarray(box_xyxy, dtype=np.float64)
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])


def joined(polygons: Sequence[Polygon]) -> Polygon:
    """Several rings as one polygon, for formats that have one per instance.

    From ring to ring goes a bridge of no width, there and back, between the two corners that are nearest to each other.
    A ring inside another one is a hole wherever polygons are filled by the even-odd rule. Of very many rings each is
    tied to the one before it, which takes less time and longer bridges.
    """
    if len(polygons) > MANY_RINGS:
        return _chained(polygons)
    whole = polygons[0]
    for piece in polygons[1:]:
        i, j = _nearest(whole, piece)
        there_and_back = np.concatenate([np.roll(piece, -j, axis=0), piece[j : j + 1], whole[i : i + 1]])
        whole = np.concatenate([whole[: i + 1], there_and_back, whole[i + 1 :]])
    return whole


MANY_RINGS = 64


def _nearest(one: Polygon, other: Polygon) -> tuple[int, int]:
    """The corners of two rings that are nearest to each other."""
    best, found = np.inf, (0, 0)
    for start in range(0, len(one), 1024):  # a block at a time: long rings have millions of pairs
        apart = ((one[start : start + 1024, None] - other[None]) ** 2).sum(axis=2)
        i, j = np.unravel_index(int(np.argmin(apart)), apart.shape)
        if apart[i, j] < best:
            best, found = float(apart[i, j]), (start + int(i), int(j))
    return found


def _chained(polygons: Sequence[Polygon]) -> Polygon:
    ties = [_nearest(one, other) for one, other in pairwise(polygons)]
    parts: list[Polygon] = []
    back: list[Polygon] = []
    start = 0
    for ring, (here, there) in zip(polygons, [*ties, (0, 0)], strict=True):
        turned = np.roll(ring, -start, axis=0)
        stop = (here - start) % len(ring)
        parts.append(turned[: stop + 1])
        back.append(np.concatenate([turned[stop:], turned[:1]]))
        start = there
    return np.concatenate([*parts, *reversed(back)])


def exact_rings(bitmap: NDArray[np.bool_], x0: int, y0: int) -> list[Polygon]:
    """The edges of the pixels of a mask: outlines and holes, which filled by the even-odd rule give exactly the mask.

    Args:
        bitmap: (h, w) bool.
        x0, y0: where its first pixel is in the image.

    Every corner of such a ring lies where a horizontal and a vertical edge meet. Along a row of corners the first and
    second are joined by an edge, the third and fourth, and so on; the same holds for columns. Where two pixels touch at
    a corner only, that corner is there twice, and the two pixels are one piece.
    """
    padded = np.pad(bitmap, 1)
    up_left, up_right = padded[:-1, :-1], padded[:-1, 1:]
    low_left, low_right = padded[1:, :-1], padded[1:, 1:]
    count = up_left.astype(np.int8) + up_right + low_left + low_right
    saddle = (count == 2) & (up_left == low_right) & (up_left != up_right)
    rows, columns = np.nonzero((count == 1) | (count == 3) | saddle)
    twice = saddle[rows, columns]
    falling = up_left[rows, columns][twice]  # the two pixels are upper left and lower right
    y, x = np.concatenate([rows, rows[twice]]), np.concatenate([columns, columns[twice]])
    copy = np.concatenate([np.zeros(len(rows), dtype=np.int8), np.ones(int(twice.sum()), dtype=np.int8)])
    other = copy.copy()
    other[: len(rows)][twice], other[len(rows) :] = falling, ~falling
    across, down = np.lexsort((copy, x, y)), np.lexsort((other, y, x))
    partner = np.empty((2, len(x)), dtype=np.int64)
    for which, order in enumerate((across, down)):
        partner[which, order[0::2]], partner[which, order[1::2]] = order[1::2], order[0::2]
    return [np.stack([x[ring] + x0, y[ring] + y0], axis=1).astype(np.float64) for ring in _cycles(partner, across)]


def _cycles(partner: NDArray[np.int64], starts: NDArray[np.int64]) -> list[list[int]]:
    """Walks along horizontal and vertical edges in turn, until every corner was passed."""
    horizontal, vertical = partner.tolist()
    left = np.ones(len(starts), dtype=bool)
    rings = []
    for start in starts.tolist():
        if not left[start]:
            continue
        ring, at = [], start
        while left[at]:
            ring += [at, horizontal[at]]
            left[at] = left[horizontal[at]] = False
            at = vertical[horizontal[at]]
        rings.append(ring)
    return rings


def faithful(bitmap: NDArray[np.bool_], x0: int, y0: int, smooth: Sequence[Polygon]) -> list[Polygon]:
    """Rings that, filled by the even-odd rule, differ from a mask in `FAITHFUL` of its pixels at most.

    Args:
        bitmap: (h, w) bool, at least one True.
        x0, y0: where its first pixel is in the image.
        smooth: a simple outline to be taken if it is good enough (holes filled, small pieces gone).
    """
    if smooth and deviation(bitmap, x0, y0, smooth) <= FAITHFUL:
        return list(smooth)
    rings = sorted(exact_rings(bitmap, x0, y0), key=area, reverse=True)
    if sum(map(len, rings)) > MANY_CORNERS:
        return rings
    fewer = [ring for ring in (simplified(each, 0.5) for each in rings) if len(ring) >= 3]
    return fewer if fewer and deviation(bitmap, x0, y0, fewer) <= FAITHFUL else rings


MANY_CORNERS = 50_000
"""Of rings that are not made simpler: that would take minutes."""
FAITHFUL = 0.02
"""Share of the pixels of a mask that its outline may add or leave out."""


def deviation(bitmap: NDArray[np.bool_], x0: int, y0: int, rings: Sequence[Polygon], *, apart: bool = False) -> float:
    """Pixels in which a mask and rings differ, as a share of the mask's.

    Args:
        bitmap: (h, w) bool, at least one True.
        x0, y0: where its first pixel is in the image.
        rings: joined and filled by the even-odd rule, or
        apart: each filled for itself.
    """
    from pycocotools import mask as coco_mask

    height, width = bitmap.shape
    canvas = (height + 2, width + 2)  # what reaches out by a pixel counts
    outlines = [(ring - (x0 - 1, y0 - 1)).ravel().tolist() for ring in (rings if apart else [joined(rings)])]
    filled = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(outlines, *canvas))) > 0
    return int(np.count_nonzero(filled != np.pad(bitmap, 1))) / max(1, int(np.count_nonzero(bitmap)))
