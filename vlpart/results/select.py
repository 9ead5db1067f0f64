"""What a phrase means in an image: a `Term` (`vlpart.results.phrases`) into indices of detections.

Left and right are those of the image. Near to the viewer is what stands lower in the image. Of an object, the front is
what is nearer to the viewer; of a part, the end of its object where its head, hood or headlight is, or away from its
tail. A corner ("bottom right") is the sum of both ways, each as a share of how far the candidates are spread.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from vlpart.errors import SelectionError
from vlpart.results.phrases import Term, name_words, parse
from vlpart.types import NamedDetections

__all__ = ["Term", "parse", "resolve"]

_FRONT_PARTS = frozenset(
    [
        "head",
        "headlight",
        "hood",
        "bonnet",
        "muzzle",
        "nose",
        "beak",
        "face",
        "horn",
        "handlebar",
        "windshield",
        "windscreen",
        "grille",
        "bow",
        "front",
    ]
)
_REAR_PARTS = frozenset(["tail", "taillight", "trunk", "tailgate", "boot", "stern", "rear"])
_MINIMUM_LEAN = 0.1  # of its diagonal: how far apart the ends of an object must be seen to say which way it faces
_HALF_SLACK = 0.1  # a single candidate may be this far on the other side of the middle of its frame
_IN_IMAGE = {"left": (0, 1), "right": (0, -1), "top": (1, 1), "bottom": (1, -1)}
"""Of a place, the coordinate, and the sign with which it grows away from there."""


def resolve(term: Term, result: NamedDetections) -> list[int]:
    """Indices of the detections that a term means, at least one, ascending.

    Raises:
        SelectionError: there is no such thing; the message says what there is.
    """
    resolver = _Resolver(result)
    chosen: set[int] = set()
    errors: list[SelectionError] = []
    for each in (term, *term.also):
        try:
            chosen.update(resolver.resolve(each))
        except SelectionError as error:
            if term.every:
                raise
            errors.append(error)
    if not chosen:
        raise errors[0]
    return sorted(chosen)


def _are(count: int) -> str:
    return f"is only {count}" if count == 1 else f"are {count}"


class _Resolver:
    def __init__(self, result: NamedDetections) -> None:
        self.result = result
        self.centres = (result.boxes_xyxy[:, :2] + result.boxes_xyxy[:, 2:]).astype(np.float64) / 2
        sides = (result.boxes_xyxy[:, 2:] - result.boxes_xyxy[:, :2]).astype(np.float64)
        self.areas = sides.prod(axis=1) if result.masks is None else result.masks.areas().astype(np.float64)

    def resolve(self, term: Term) -> list[int]:
        """Indices of what a term means; `SelectionError` where that is nothing."""
        found = [i for i, c in enumerate(self.result.class_ids.tolist()) if c in term.class_ids]
        if not found:
            raise self._none(term, "nothing of that name was found")
        if term.other is None:
            return self._choose(term, found, None)
        others = self.resolve(term.other)
        if term.link != "of":
            return self._beside(term, [i for i in found if i not in others], others)
        chosen, errors = [], []
        for owner in others:
            parts = [i for i in found if self.result.owners[i] == owner]
            try:
                if not parts:
                    raise self._none(term, f"none belongs to '{term.other.phrase}'")
                chosen += self._choose(term, parts, owner)
            except SelectionError as error:
                errors.append(error)
        if not chosen:
            raise errors[0]
        return chosen

    def _none(self, term: Term, why: str) -> SelectionError:
        counts = Counter(self.result.names)
        there = ", ".join(f"{count} {name}" for name, count in counts.items())
        where = f"; the image has {there}" if there else "; nothing was found in the image"
        return SelectionError(f"no such thing as '{term.phrase}': {why}{where}", found=dict(counts))

    def _beside(self, term: Term, found: list[int], others: list[int]) -> list[int]:
        """What lies on one side of any of the others, or nearest to one."""
        boxes = self.result.boxes_xyxy
        if term.link == "nearest":
            gaps = {i: min(_gap(boxes[i], boxes[k]) for k in others) for i in found}
            near = sorted(self._choose(term, found, None) if term.axes or term.rank else found, key=gaps.__getitem__)
            if near:
                return near[: term.count or 1]
        else:
            if term.link in ("near", "far"):
                sign = 1 if term.link == "near" else -1
                on_it = [i for i in found if any(sign * (boxes[i, 3] - boxes[k, 3]) > 0 for k in others)]
            else:
                axis, sign = _IN_IMAGE[str(term.link)]
                edge = axis if sign > 0 else axis + 2
                on_it = [i for i in found if any(sign * (boxes[k, edge] - self.centres[i, axis]) > 0 for k in others)]
            if on_it:
                return self._choose(term, on_it, None)
        raise self._none(term, "nothing of that name is there")

    def _choose(self, term: Term, found: list[int], owner: int | None) -> list[int]:
        """What the words before the name leave of the candidates; "both" and comparatives need two."""
        if term.two == "there" and len(found) != 2:
            raise self._none(term, f"there {_are(len(found))}, not two to compare")
        chosen = self._chosen(term, found, owner)
        if term.two == "chosen" and len(chosen) != 2:
            raise self._none(term, f"there {_are(len(chosen))}, not two")
        return chosen

    def _chosen(self, term: Term, found: list[int], owner: int | None) -> list[int]:
        first, inner = term.axes[:1], term.axes[1:]
        one = term.rank is None and term.count is None and not term.plural
        if one and len(found) > 1 and inner and all(axis in _IN_IMAGE for axis in term.axes):
            return [self._in_corner(found, term.axes)]
        for axis in reversed(inner):
            found = self._half(term, found, axis, owner)
        if term.rank is not None or term.count is not None:
            order = sorted(found, key=self._along(term, first[0] if first else "left", owner))
            wanted = max(abs(term.rank or 1), term.count or 1)
            if len(order) < wanted:
                raise self._none(term, f"there {_are(len(order))}")
            if term.count is not None:
                return order[-term.count :] if (term.rank or 1) < 0 else order[: term.count]
            assert term.rank is not None
            return [order[term.rank if term.rank < 0 else term.rank - 1]]
        if not first:
            return found
        if term.plural or len(found) == 1:
            return self._half(term, found, first[0], owner)
        return [min(found, key=self._along(term, first[0], owner))]

    def _in_corner(self, found: list[int], axes: tuple[str, ...]) -> int:
        """The candidate that is furthest in a corner ("bottom right")."""
        away = np.zeros(len(found))
        for axis in axes:
            column, sign = _IN_IMAGE[axis]
            values = sign * self.centres[found, column]
            away += (values - values.min()) / max(float(np.ptp(values)), 1e-9)
        return found[int(away.argmin())]

    def _half(self, term: Term, found: list[int], axis: str, owner: int | None) -> list[int]:
        """The candidates nearer to one end; a single one must not lie in the other half of its object or image."""
        place = self._along(term, axis, owner)
        values = np.array([place(i) for i in found])
        if len(found) > 1:
            return [i for i, value in zip(found, values, strict=True) if value <= (values.min() + values.max()) / 2]
        if axis in ("left", "right", "top", "bottom") or (axis in ("front", "rear") and self.result.is_part(found[0])):
            corners = self._frame(found[0], owner).reshape(2, 2)
            middle = self._along(term, axis, owner, corners.mean(axis=0))(found[0])
            width, height = corners[1] - corners[0]
            size = {"left": width, "right": width, "top": height, "bottom": height}.get(axis, np.hypot(width, height))
            if values[0] > middle + _HALF_SLACK * size:
                raise self._none(term, f"the only one is not at the {axis}")
        return found

    def _frame(self, i: int, owner: int | None) -> NDArray[np.float64]:
        """(4,) box of the object of a part, of the image for an object."""
        owner = int(self.result.owners[i]) if owner is None else owner
        height, width = self.result.image_size
        return np.array([0, 0, width, height]) if owner < 0 else self.result.boxes_xyxy[owner].astype(np.float64)

    def _along(
        self, term: Term, axis: str, owner: int | None, point: NDArray[np.float64] | None = None
    ) -> Callable[[int], float]:
        """How far a detection (or a point) is from the end that a word names."""

        def at(i: int) -> NDArray[np.float64]:
            return self.centres[i] if point is None else point

        if axis in ("largest", "smallest"):
            sign = -1 if axis == "largest" else 1
            return lambda i: sign * float(self.areas[i])
        if axis in ("near", "far"):
            sign = -1 if axis == "near" else 1
            return lambda i: sign * float(self.result.boxes_xyxy[i, 3])
        if axis in ("front", "rear"):
            sign = -1 if axis == "front" else 1
            return lambda i: sign * self._towards_front(term, i, owner, at(i))
        if axis == "middle":
            return lambda i: float(np.linalg.norm(at(i) - self._frame(i, owner).reshape(2, 2).mean(axis=0)))
        if axis in ("tallest", "shortest", "widest", "narrowest"):
            side = 1 if axis in ("tallest", "shortest") else 0
            sign = -1 if axis in ("tallest", "widest") else 1
            return lambda i: sign * float(self.result.boxes_xyxy[i, side + 2] - self.result.boxes_xyxy[i, side])
        column, sign = _IN_IMAGE[axis]
        return lambda i: sign * float(at(i)[column])

    def _towards_front(self, term: Term, i: int, owner: int | None, point: NDArray[np.float64]) -> float:
        if not self.result.is_part(i):
            return float(self.result.boxes_xyxy[i, 3])
        whole = int(self.result.owners[i]) if owner is None else owner
        facing = self._facing(whole) if whole >= 0 else None
        if facing is None:
            raise self._none(
                term,
                "nothing says which end of its object is the front (no head, hood, headlight, tail or the like is "
                "among its parts); say left or right, or look for such a part too",
            )
        return float(point @ facing)

    def _facing(self, owner: int) -> NDArray[np.float64] | None:
        """Unit vector from the rear of an object to its front, by its parts; None if they do not say."""
        ends: dict[str, list[NDArray[np.float64]]] = {"front": [], "rear": []}
        for i, name in enumerate(self.result.names):
            if self.result.owners[i] != owner:
                continue
            words = set(name_words(name.rpartition(":")[2]))
            if words & _FRONT_PARTS:
                ends["front"].append(self.centres[i])
            elif words & _REAR_PARTS:
                ends["rear"].append(self.centres[i])
        if not (ends["front"] or ends["rear"]):
            return None
        middle = [self.centres[owner]]
        lean = np.mean(ends["front"] or middle, axis=0) - np.mean(ends["rear"] or middle, axis=0)
        box = self.result.boxes_xyxy[owner].astype(np.float64)
        length = float(np.linalg.norm(lean))
        return lean / length if length >= _MINIMUM_LEAN * np.linalg.norm(box[2:] - box[:2]) else None


def _gap(a: NDArray[np.float32], b: NDArray[np.float32]) -> tuple[float, float]:
    """Distance of two boxes, then of their centres."""
    apart = np.maximum(0, np.maximum(a[:2] - b[2:], b[:2] - a[2:]))
    return float(np.linalg.norm(apart)), float(np.linalg.norm(a[:2] + a[2:] - b[:2] - b[2:]))
