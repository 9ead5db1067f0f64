"""Where labels go: near what they name, over as little as possible, never over each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vlpart.masks.crop import MaskCrop
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
_TOUCH = 2.0  # pixels between a label and a point of its mask, from which on a leader is needed


@dataclass(frozen=True)
class Wish:
    """A label that wants a place.

    Attributes:
        size: (width, height) of the label in pixels.
        outline: of the mask.
        on_top: at home on the top edge of the mask (objects), else inside it (parts).
        on_rim: of an outlined mask: at home on its contour, and its leader ends there; what is inside has other labels.
    """

    size: tuple[float, float]
    outline: Outline
    on_top: bool
    on_rim: bool = False

    @property
    def targets(self) -> Floats:
        """(M, 2) points that a leader may end at."""
        return self.outline.rim if self.on_rim else self.outline.interior[:1]


@dataclass(frozen=True)
class Place:
    """Top left corner of a label; `leader` = from its border to a point of the mask, None = it touches the mask."""

    x: float
    y: float
    leader: tuple[tuple[float, float], tuple[float, float]] | None


class Ink:
    """How much a rectangle would cover: a mask weighs the same in all, however large; so small parts stay in view.

    Args:
        size: (width, height) of the layer that the masks are on.
        cell: how finely to count, in pixels of the layer.
        scale: pixels of the canvas, which rectangles are given in, to a pixel of the layer.
    """

    def __init__(self, size: tuple[int, int], cell: float, scale: float = 1.0) -> None:
        self.cell, self.scale = cell, scale
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
        x0, y0, x1, y1 = (rectangles / (self.cell * self.scale)).T
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
    choices = [_candidates(wish, size, gap) for wish in wishes]
    covered = ink.under(np.concatenate([np.zeros((0, 4)), *(rectangles for rectangles, _ in choices)]))
    stops = np.cumsum([0, *(len(rectangles) for rectangles, _ in choices)])
    for i, (wish, (rectangles, at_home)) in enumerate(zip(wishes, choices, strict=True)):
        ends, targets = _nearest(rectangles, wish.targets)
        distance = np.hypot(*(ends - targets).T) / wish.size[1]
        needs_leader = ~_touching(rectangles, wish.outline, on_rim=wish.on_rim)
        cost = np.where(at_home, 0.2 * _LENGTH, _LENGTH) * distance + _LEADER * needs_leader
        cost += covered[stops[i] : stops[i + 1]]
        best, lowest = -1, _COLLISION
        order = np.argsort(cost, kind="stable")
        for start in range(0, len(order), _CHUNK):  # conflicts only add: stop where the rest cannot be better
            chunk = order[start : start + _CHUNK]
            if cost[chunk[0]] >= lowest:
                break
            leaders = np.hstack([targets[chunk], ends[chunk]])
            total = cost[chunk] + _conflicts(rectangles[chunk], leaders, needs_leader[chunk], i, taken, gap)
            winner = int(np.argmin(total))
            if total[winner] < lowest:
                best, lowest = int(chunk[winner]), float(total[winner])
        if best < 0:
            places.append(None)
            continue
        leader = np.hstack([targets[best], ends[best]]) if needs_leader[best] else None
        taken.add(rectangles[best], leader)
        line = None
        if leader is not None:
            line = ((float(leader[2]), float(leader[3])), (float(leader[0]), float(leader[1])))
        places.append(Place(float(rectangles[best, 0]), float(rectangles[best, 1]), line))
    return places


def _nearest(rectangles: Floats, points: Floats) -> tuple[Floats, Floats]:
    """(K, 2) where on each rectangle a leader starts, and (K, 2) the nearest of the points, where it ends."""
    starts = np.clip(points[None], rectangles[:, None, :2], rectangles[:, None, 2:])
    nearest = ((starts - points[None]) ** 2).sum(axis=2).argmin(axis=1)
    return starts[np.arange(len(rectangles)), nearest], points[nearest]


def _touching(rectangles: Floats, outline: Outline, *, on_rim: bool) -> NDArray[np.bool_]:
    """(K,): whether a label lies on what it names: on the contour of what is outlined, anywhere on what is filled."""
    points = outline.rim if on_rim else np.vstack([outline.interior, outline.rim, outline.top])
    near = rectangles + np.array([-_TOUCH, -_TOUCH, _TOUCH, _TOUCH])
    return np.asarray(_inside(points, near).any(axis=1), dtype=np.bool_)


def _candidates(wish: Wish, size: tuple[int, int], gap: float) -> tuple[Floats, NDArray[np.bool_]]:
    """(K, 4) rectangles to choose from, all inside the image, and which of them are at home where they are wanted."""
    (w, h), (x0, y0, x1, y1) = wish.size, wish.outline.bounds
    cx, cy = (x0 + x1) / 2, (y0 + y1) / 2
    if wish.on_top:
        top = wish.outline.top
        home = np.concatenate([top - [w / 2, h], top - [w / 2, 0], top - [0, h], top - [w, h]])
        if wish.on_rim:
            home = np.concatenate([home, wish.outline.rim - [w / 2, h / 2]])
    elif wish.on_rim:
        home = wish.outline.rim - [w / 2, h / 2]
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
    rectangles: Floats, leaders: Floats, needs_leader: NDArray[np.bool_], i: int, taken: _Taken, gap: float
) -> Floats:
    """(K,) what each rectangle and its leader (K, 4: from the mask to the label) would cost by what is there."""
    over_anchors = _inside(taken.anchors, rectangles)
    over_anchors[:, i] = False
    cost = _OVER_ANCHOR * over_anchors.sum(axis=1)
    origins, ends = leaders[:, :2], leaders[:, 2:]
    if len(taken.rectangles):
        x0, y0, x1, y1 = (rectangles[:, k : k + 1] for k in range(4))
        u0, v0, u1, v1 = taken.rectangles.T
        meets = (x0 < u1 + gap) & (x1 > u0 - gap) & (y0 < v1 + gap) & (y1 > v0 - gap)
        cost += _COLLISION * meets.any(axis=1)
        if needs_leader.any():
            points = (origins + _SHARES[:, None, None] * (ends - origins)).reshape(-1, 2)
            under = _inside(points, taken.rectangles).any(axis=0).reshape(len(_SHARES), -1)
            cost += _OVER_LABEL * under.mean(axis=0) * needs_leader
    if len(taken.leaders):
        starts, stops = taken.leaders[:, :2], taken.leaders[:, 2:]
        points = (starts + _SHARES[:, None, None] * (stops - starts)).reshape(-1, 2)
        cost += _OVER_LABEL * _inside(points, rectangles).mean(axis=1) * len(starts)
        if needs_leader.any():
            cost += _CROSSING * (_crossings(origins, ends, starts, stops).sum(axis=1) * needs_leader)
    return cost


def _inside(points: Floats, rectangles: Floats) -> NDArray[np.bool_]:
    """(K, P): which rectangles hold which points."""
    x, y = points.T
    x0, y0, x1, y1 = (rectangles[:, k : k + 1] for k in range(4))
    inside: NDArray[np.bool_] = (x >= x0) & (x <= x1) & (y >= y0) & (y <= y1)
    return inside


def _crossings(origins: Floats, ends: Floats, starts: Floats, stops: Floats) -> NDArray[np.bool_]:
    """(K, L): whether the segments origin-end and start-stop cross."""

    def side(origin: Floats, towards: Floats, point: Floats) -> Floats:
        """Positive where a point is on one side of the line from `origin` to `towards`, negative on the other."""
        a, b = towards - origin, point - origin
        return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]

    o, e = origins[:, None], ends[:, None]
    over = side(o, e, starts) * side(o, e, stops) < 0
    under = side(starts, stops, o) * side(starts, stops, e) < 0
    return over & under
