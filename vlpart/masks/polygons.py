"""Outlines of masks as polygons, for labelling tools and file formats that know nothing else.

Coordinates are those of boxes: x, y in pixels of the image, where the first pixel covers 0..1.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    if squared == 0:
        nearest = np.zeros(len(points))
    else:
        nearest = np.clip((points - start) @ along / squared, 0, 1)
    distances: NDArray[np.float64] = np.linalg.norm(points - start - nearest[:, None] * along, axis=1)
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
    """Several pieces as one polygon, for formats that have one per instance.

    From piece to piece goes a bridge of no width, there and back, between the two corners that are nearest to each
    other.
    """
    whole = polygons[0]
    for piece in polygons[1:]:
        apart = ((whole[:, None] - piece[None]) ** 2).sum(axis=2)
        i, j = np.unravel_index(int(np.argmin(apart)), apart.shape)
        there_and_back = np.concatenate([np.roll(piece, -int(j), axis=0), piece[j : j + 1], whole[i : i + 1]])
        whole = np.concatenate([whole[: i + 1], there_and_back, whole[i + 1 :]])
    return whole
