"""Where labels go: near what they name, over as little as possible, never over each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vlpart.masks.stack import MaskCrop
from vlpart.visualize.paint import Outline

Floats = NDArray[np.float64]

_ANGLES = np.arange(24) * (2 * np.pi / 24)
_RINGS = (0.3, 1.2, 2.4, 4.0, 6.5, 10.0)  # distances from the mask's box, in label heights
# Costs, in units of one part covered whole:
_LEADER = 0.15  # to have a leader at all
_LENGTH = 0.05  # per label height of its length
_CROSSING = 0.5  # of another leader
_OVER_LABEL = 1.5  # a leader that runs under a label
_OVER_ANCHOR = 0.35  # a label on another's anchor
_COLLISION = 100.0  # labels on each other: never

_SHARES = np.array([0.15, 0.4, 0.65, 0.9])  # points along a leader that are looked at
_CHUNK = 24


@dataclass(frozen=True)
class Wish:
    """A label that wants a place.

    Attributes:
        size: (width, height) of the label in pixels.
        outline: of the mask.
        on_top: at home on the top edge of the mask (objects), else inside it (parts).
    """

    size: tuple[float, float]
    outline: Outline
    on_top: bool


@dataclass(frozen=True)
class Place:
    """Top left corner of a label; `leader` = where on the label's border its leader starts, None = no leader."""

    x: float
    y: float
    leader: tuple[float, float] | None


class Ink:
    """How much a rectangle would cover: a mask weighs the same in all, however large; so small parts stay in view."""

    def __init__(self, size: tuple[int, int], cell: float) -> None:
        self.cell = cell
        self.weights = np.zeros((int(np.ceil(size[1] / cell)) + 1, int(np.ceil(size[0] / cell)) + 1))
        self._sums: Floats | None = None

    def add(self, crop: MaskCrop, weight: float) -> None:
        """Count a mask (tight crop)."""
        step = max(1, int(self.cell / 2))
        rows, columns = np.nonzero(crop.bitmap[step // 2 :: step, step // 2 :: step])
        if not len(rows):
            rows, columns = (
                np.array([crop.bitmap.shape[0] // (2 * step)]),
                np.array([crop.bitmap.shape[1] // (2 * step)]),
            )
        y = ((crop.y0 + rows * step + step // 2) / self.cell).astype(int)
        x = ((crop.x0 + columns * step + step // 2) / self.cell).astype(int)
        counts = np.bincount(y * self.weights.shape[1] + x, minlength=self.weights.size)
        self.weights += counts.reshape(self.weights.shape) * (weight / len(rows))
        self._sums = None

    def under(self, rectangles: Floats) -> Floats:
        """(K,) weight under each of (K, 4) rectangles x0, y0, x1, y1."""
        if self._sums is None:
            self._sums = np.zeros((self.weights.shape[0] + 1, self.weights.shape[1] + 1))
            self._sums[1:, 1:] = self.weights.cumsum(axis=0).cumsum(axis=1)
        x0, y0, x1, y1 = (rectangles / self.cell).T
        x0, x1 = (np.clip(x, 0, self.weights.shape[1]) for x in (x0, x1))
        y0, y1 = (np.clip(y, 0, self.weights.shape[0]) for y in (y0, y1))
        return self._at(x1, y1) - self._at(x0, y1) - self._at(x1, y0) + self._at(x0, y0)

    def _at(self, x: Floats, y: Floats) -> Floats:
        assert self._sums is not None
        left, top = (
            np.minimum(x.astype(int), self.weights.shape[1] - 1),
            np.minimum(y.astype(int), self.weights.shape[0] - 1),
        )
        u, v = x - left, y - top
        upper = self._sums[top, left] * (1 - u) + self._sums[top, left + 1] * u
        lower = self._sums[top + 1, left] * (1 - u) + self._sums[top + 1, left + 1] * u
        result: Floats = upper * (1 - v) + lower * v
        return result


class _Taken:
    """What is on the image already."""

    def __init__(self, anchors: Floats) -> None:
        self.anchors = anchors
        self.rectangles = np.zeros((0, 4))
        self.leaders = np.zeros((0, 4))

    def add(self, rectangle: Floats, leader: Floats | None) -> None:
        self.rectangles = np.vstack([self.rectangles, rectangle])
        if leader is not None:
            self.leaders = np.vstack([self.leaders, leader])


def place_labels(wishes: Sequence[Wish], size: tuple[int, int], ink: Ink, gap: float) -> list[Place | None]:
    """A place for every wish in turn, or None where nothing is free; the labels keep `gap` pixels between them."""
    taken = _Taken(np.array([wish.outline.anchor for wish in wishes]).reshape(-1, 2))
    places: list[Place | None] = []
    for i, wish in enumerate(wishes):
        rectangles, at_home = _candidates(wish, size, gap)
        anchor = np.array(wish.outline.anchor)
        ends = np.clip(anchor, rectangles[:, :2], rectangles[:, 2:])
        distance = np.hypot(*(ends - anchor).T) / wish.size[1]
        needs_leader = ~at_home & (distance > 0.3)
        cost = ink.under(rectangles) + np.where(at_home, 0.2 * _LENGTH, _LENGTH) * distance + _LEADER * needs_leader
        best, lowest = -1, _COLLISION
        order = np.argsort(cost, kind="stable")
        for start in range(0, len(order), _CHUNK):  # conflicts only add: stop where the rest cannot be better
            chunk = order[start : start + _CHUNK]
            if cost[chunk[0]] >= lowest:
                break
            total = cost[chunk] + _conflicts(rectangles[chunk], ends[chunk], needs_leader[chunk], i, taken, gap)
            winner = int(np.argmin(total))
            if total[winner] < lowest:
                best, lowest = int(chunk[winner]), float(total[winner])
        if best < 0:
            places.append(None)
            continue
        leader = np.array([*anchor, *ends[best]]) if needs_leader[best] else None
        taken.add(rectangles[best], leader)
        end = (float(ends[best, 0]), float(ends[best, 1])) if needs_leader[best] else None
        places.append(Place(float(rectangles[best, 0]), float(rectangles[best, 1]), end))
    return places


def _candidates(wish: Wish, size: tuple[int, int], gap: float) -> tuple[Floats, NDArray[np.bool_]]:
    """(K, 4) rectangles to choose from, all inside the image, and which of them need no leader to be understood."""
    (w, h), (x0, y0, x1, y1) = wish.size, wish.outline.bounds
    cx, cy = (x0 + x1) / 2, (y0 + y1) / 2
    if wish.on_top:
        top = wish.outline.top
        home = np.concatenate(
            [top - [w / 2, h], top - [w / 2, 0], [(x0, y0 - h), (x0, y0)], top - [0, h], top - [w, h]]
        )
    else:
        home = wish.outline.interior - [w / 2, h / 2]
    near = np.array(
        [(cx - w / 2, y0 - h - gap), (cx - w / 2, y1 + gap), (x1 + gap, cy - h / 2), (x0 - w - gap, cy - h / 2)]
    )
    rings = []
    for distance in _RINGS:
        reach_x, reach_y = (x1 - x0) / 2 + w / 2 + distance * h, (y1 - y0) / 2 + h / 2 + distance * h
        rings.append(np.stack([cx + reach_x * np.cos(_ANGLES) - w / 2, cy + reach_y * np.sin(_ANGLES) - h / 2], axis=1))
    wanted = np.concatenate([home, near, *rings])
    corners = np.clip(wanted, 0, np.maximum([size[0] - w, size[1] - h], 0))
    at_home = np.arange(len(corners)) < len(home)
    if not wish.on_top:  # pushed back into the image it may have left its mask
        at_home &= (np.abs(corners - wanted) <= [w / 2, h / 2]).all(axis=1)
    return np.hstack([corners, corners + np.array([w, h])]), at_home


def _conflicts(
    rectangles: Floats, ends: Floats, needs_leader: NDArray[np.bool_], i: int, taken: _Taken, gap: float
) -> Floats:
    """(K,) what each rectangle and its leader would cost by what is there already."""
    anchor = taken.anchors[i]
    over_anchors = _inside(taken.anchors, rectangles)
    over_anchors[:, i] = False
    cost = _OVER_ANCHOR * over_anchors.sum(axis=1)
    if len(taken.rectangles):
        x0, y0, x1, y1 = (rectangles[:, k : k + 1] for k in range(4))
        u0, v0, u1, v1 = taken.rectangles.T
        meets = (x0 < u1 + gap) & (x1 > u0 - gap) & (y0 < v1 + gap) & (y1 > v0 - gap)
        cost += _COLLISION * meets.any(axis=1)
        if needs_leader.any():
            points = (anchor + _SHARES[:, None, None] * (ends - anchor)).reshape(-1, 2)
            under = _inside(points, taken.rectangles).any(axis=0).reshape(len(_SHARES), -1)
            cost += _OVER_LABEL * under.mean(axis=0) * needs_leader
    if len(taken.leaders):
        starts, stops = taken.leaders[:, :2], taken.leaders[:, 2:]
        points = (starts + _SHARES[:, None, None] * (stops - starts)).reshape(-1, 2)
        cost += _OVER_LABEL * _inside(points, rectangles).mean(axis=1) * len(starts)
        if needs_leader.any():
            cost += _CROSSING * (_crossings(anchor, ends, starts, stops).sum(axis=1) * needs_leader)
    return cost


def _inside(points: Floats, rectangles: Floats) -> NDArray[np.bool_]:
    """(K, P): which rectangles hold which points."""
    x, y = points.T
    x0, y0, x1, y1 = (rectangles[:, k : k + 1] for k in range(4))
    inside: NDArray[np.bool_] = (x >= x0) & (x <= x1) & (y >= y0) & (y <= y1)
    return inside


def _crossings(anchor: Floats, ends: Floats, starts: Floats, stops: Floats) -> NDArray[np.bool_]:
    """(K, L): whether the segments anchor-end and start-stop cross."""

    def side(origin: Floats, towards: Floats, point: Floats) -> Floats:
        a, b = towards - origin, point - origin
        return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]

    e = ends[:, None]
    over = side(anchor, e, starts) * side(anchor, e, stops) < 0
    under = side(starts, stops, anchor) * side(starts, stops, e) < 0
    return over & under
