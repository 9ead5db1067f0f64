"""Detections by a phrase, "left rear wheel of the second car": words into a `Term`, a term into indices.

A phrase is a name of the vocabulary with words before it: where (left, right, top, bottom, middle, front, rear), how
large (largest, smallest), how near to the viewer (nearest, farthest: what is near stands lower in an image), which in a
row (second, last, "third from the right"), how many (two). It may be followed by "of" and the object of a part, or by
"left of", "above", "nearest to" and another phrase. Left and right are those of the image. Of an object, the
front is what is nearer to the viewer; of a part, the end of its object where its head, hood or headlight is, or away
from its tail.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vlpart.errors import SelectionError
from vlpart.names import did_you_mean
from vlpart.text.vocabulary import Vocabulary
from vlpart.types import NamedDetections

_IGNORED = frozenset(
    [
        "the",
        "a",
        "an",
        "all",
        "every",
        "each",
        "both",
        "any",
        "this",
        "that",
        "these",
        "those",
        "one",
        "ones",
        "most",
        "side",
    ]
)
_AXES = {
    "left": "left",
    "leftmost": "left",
    "right": "right",
    "rightmost": "right",
    "top": "top",
    "topmost": "top",
    "upper": "top",
    "uppermost": "top",
    "highest": "top",
    "bottom": "bottom",
    "lower": "bottom",
    "lowest": "bottom",
    "middle": "middle",
    "centre": "middle",
    "center": "middle",
    "central": "middle",
    "front": "front",
    "nearest": "near",
    "closest": "near",
    "rear": "rear",
    "back": "rear",
    "hind": "rear",
    "farthest": "far",
    "furthest": "far",
    "largest": "largest",
    "biggest": "largest",
    "large": "largest",
    "big": "largest",
    "smallest": "smallest",
    "small": "smallest",
}
_NUMBERS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
_ORDINALS = ["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"]
_NEAREST = ("nearest to", "closest to", "next to", "nearest the", "closest the", "nearest a", "closest a")
_BESIDE = {
    "to the left of": "left",
    "left of": "left",
    "to the right of": "right",
    "right of": "right",
    "above": "top",
    "over": "top",
    "below": "bottom",
    "under": "bottom",
}
_LINKS = [*((text.split(), "nearest") for text in _NEAREST), *((text.split(), side) for text, side in _BESIDE.items())]
_IRREGULAR = {
    "people": "person",
    "men": "man",
    "women": "woman",
    "children": "child",
    "feet": "foot",
    "teeth": "tooth",
    "geese": "goose",
    "mice": "mouse",
    "knives": "knife",
    "leaves": "leaf",
    "shelves": "shelf",
    "wolves": "wolf",
}
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


@dataclass(frozen=True, kw_only=True)
class Term:
    """A phrase that was understood.

    Attributes:
        phrase: as it was typed.
        class_ids: the classes that it may mean.
        plural: whether it asks for several.
        axes: where and how large, the word before the others first: "left", "rear", "largest", ...
        rank: which in a row along the first axis, from 1; -1 for the last; None without.
        count: how many along the first axis, or None.
        link: "of", "nearest", "left", "right", "top" or "bottom", or None: how it is tied to `other`.
        other: what it is tied to.
    """

    phrase: str
    class_ids: frozenset[int]
    plural: bool
    axes: tuple[str, ...] = ()
    rank: int | None = None
    count: int | None = None
    link: str | None = None
    other: Term | None = None


# ---- understanding the words


def parse(phrase: str, vocabulary: Vocabulary) -> Term:
    """Understand a phrase.

    Examples:
        >>> term = parse("left rear wheel of the second car", Vocabulary.parse("car: wheel, door"))
        >>> term.axes, term.link, term.other.rank
        (('left', 'rear'), 'of', 2)

    Raises:
        SelectionError: a word that is neither a name of the vocabulary nor one of those above, or a part of an object
            that has no such part.
    """
    text = " ".join(str(phrase).casefold().replace("’", "'").split())
    while owned := re.match(r"(.+?)'s? (.+)", text):
        text = f"{owned[2]} of {owned[1]}"
    words = re.findall(r"[^\W_]+(?:-[^\W_]+)*", text)
    if not words:
        raise SelectionError("an empty phrase selects nothing: say what, as in 'left wheel of the second car'")
    return _term(words, vocabulary)


def _term(words: list[str], vocabulary: Vocabulary) -> Term:
    at, length, link = _first_link(words)
    own = _simple(words[:at], vocabulary, " ".join(words))
    if link is None:
        return own
    if at + length >= len(words):
        raise SelectionError(f"'{' '.join(words)}' ends too early: say what it is {words[at]} of")
    other = _term(words[at + length :], vocabulary)
    if link == "of":
        kept = frozenset(c for c in own.class_ids if _belongs(c, other.class_ids, vocabulary))
        if not kept:
            owners = ", ".join(sorted({vocabulary.names[c] for c in other.class_ids}))
            raise SelectionError(
                f"'{own.phrase}' is no part of '{other.phrase}'; {_parts_of(other, vocabulary, owners)}"
            )
        own = replace(own, class_ids=kept)
    return replace(own, phrase=" ".join(words), link=link, other=other)


def _first_link(words: list[str]) -> tuple[int, int, str | None]:
    """(place, number of words, kind) of the first link, else (len(words), 0, None)."""
    for at, word in enumerate(words):
        if at and word == "of":
            return at, 1, "of"
        if at and words[at - 1] in ("from", "the") and word in _AXES and "from" in words[max(0, at - 2) : at]:
            continue  # "third from the left of ..."
        for text, kind in _LINKS:
            if at and words[at : at + len(text)] == text:
                return at, len(text), kind
    return len(words), 0, None


def _belongs(part: int, owners: frozenset[int], vocabulary: Vocabulary) -> bool:
    names = {vocabulary.names[c].casefold() for c in owners}
    return vocabulary.is_part(part) and vocabulary.object_name(part).casefold() in names


def _parts_of(term: Term, vocabulary: Vocabulary, owners: str) -> str:
    names = {
        n for c in range(len(vocabulary)) if _belongs(c, term.class_ids, vocabulary) and (n := _last(vocabulary, c))
    }
    return f"the parts of {owners} are {', '.join(sorted(names))}" if names else f"{owners} has no parts"


def _last(vocabulary: Vocabulary, c: int) -> str:
    return vocabulary.part_name(c) or vocabulary.names[c]


def _singular(word: str) -> str:
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if re.search(r"(ss|sh|ch|x|z)es$", word):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith(("ss", "us", "is")) and len(word) > 3 else word


def _name_words(name: str) -> list[str]:
    """Words of a name for comparison; what is in brackets ("crane_(machine)") only tells two names apart."""
    bare = re.sub(r"\([^)]*\)", " ", name.casefold()).strip(" _") or name.casefold()
    return [_AXES.get(word, _singular(word)) for word in re.findall(r"[^\W_]+(?:-[^\W_]+)*", bare)]


def _simple(words: list[str], vocabulary: Vocabulary, whole: str) -> Term:
    """A name and the words before it."""
    tail: list[str] = []  # "from the right": the same as the word before the name
    if "from" in words:
        at = words.index("from")
        words, tail = words[:at], [word for word in words[at + 1 :] if word not in _IGNORED]
        if len(tail) != 1 or tail[0] not in _AXES:
            raise SelectionError(f"'{whole}': 'from' is followed by left, right, top, bottom, front or rear")
    counted = [word for i, word in enumerate(words) if word not in _IGNORED or (word == "one" and i == len(words) - 1)]
    number = f"{counted.pop()}th" if len(counted) > 1 and counted[-1].isdecimal() else None  # "car 2": the second
    known = [_AXES.get(word, _singular(word)) for word in counted]
    class_ids, used = _named(known, vocabulary)
    if not class_ids:
        raise SelectionError(_unknown(counted or words, vocabulary, whole))
    rest = [*known, *([number] if number else [])]
    for word in used:
        rest.remove(word)
    head = next(i for i in reversed(range(len(known))) if known[i] in used)
    plural = (
        counted[head] not in {w for c in class_ids for w in _as_typed(vocabulary, c)} and counted[head] != known[head]
    )
    axes, rank, count = _qualifiers(rest, [_AXES[word] for word in tail], vocabulary, whole)
    return Term(phrase=" ".join(words), class_ids=class_ids, plural=plural, axes=axes, rank=rank, count=count)


def _as_typed(vocabulary: Vocabulary, c: int) -> list[str]:
    return re.findall(r"[^\W_]+", vocabulary.names[c].casefold())


def _named(words: list[str], vocabulary: Vocabulary) -> tuple[frozenset[int], list[str]]:
    """The classes whose whole name is in the words, as much of it as possible; else those whose last word is the last
    of the words. With the words that were used for it."""
    best, found, used = (False, 0), set[int](), list[str]()
    for c in range(len(vocabulary)):
        for name in filter(None, (vocabulary.names[c], vocabulary.part_name(c))):
            parts = list(dict.fromkeys(_name_words(name)))
            shared = [word for word in parts if word in words]
            whole = len(shared) == len(parts)
            if not shared or not (whole or parts[-1] == words[-1]) or (whole, len(shared)) < best:
                continue
            if (whole, len(shared)) > best:
                best, found, used = (whole, len(shared)), set(), shared
            found.add(c)
    return frozenset(found), used


def _qualifiers(
    words: list[str], tail: list[str], vocabulary: Vocabulary, whole: str
) -> tuple[tuple[str, ...], int | None, int | None]:
    axes, rank, count = list(tail), None, None
    for word in words:
        digits = re.fullmatch(r"(\d+)(st|nd|rd|th)?", word)
        if word in _ORDINALS or word == "last":
            rank = -1 if word == "last" else _ORDINALS.index(word) + 1
        elif digits and digits[2]:
            rank = int(digits[1])
        elif digits or word in _NUMBERS:
            count = int(digits[1]) if digits else _NUMBERS.index(word) + 1
        elif word in _AXES.values():
            axes.append(word)
        else:
            raise SelectionError(_unknown([word], vocabulary, whole))
    if rank == 0 or count == 0:
        raise SelectionError(f"'{whole}': what is counted begins with 1")
    return tuple(axes), rank, count


def _unknown(words: Sequence[str], vocabulary: Vocabulary, whole: str) -> str:
    names = sorted({_last(vocabulary, c) for c in range(len(vocabulary))} | set(vocabulary.names))
    word = words[-1] if words else whole
    hint = did_you_mean(word, names, cutoff=0.6)
    listed = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    return f"'{whole}': '{word}' is no name of the vocabulary and no word of place, size or order; " + (
        hint or f"names are {listed}"
    )


# ---- finding what they mean


def resolve(term: Term, result: NamedDetections) -> list[int]:
    """Indices of the detections that a term means, at least one, ascending.

    Raises:
        SelectionError: there is no such thing; the message says what there is.
    """
    return sorted(_Resolver(result).resolve(term))


class _Resolver:
    def __init__(self, result: NamedDetections) -> None:
        self.result = result
        self.centres = (result.boxes_xyxy[:, :2] + result.boxes_xyxy[:, 2:]).astype(np.float64) / 2
        sides = (result.boxes_xyxy[:, 2:] - result.boxes_xyxy[:, :2]).astype(np.float64)
        self.areas = sides.prod(axis=1) if result.masks is None else result.masks.areas().astype(np.float64)

    def resolve(self, term: Term) -> list[int]:
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
            axis, edge, sign = {"left": (0, 0, 1), "right": (0, 2, -1), "top": (1, 1, 1), "bottom": (1, 3, -1)}[
                str(term.link)
            ]
            on_it = [i for i in found if any(sign * (boxes[k, edge] - self.centres[i, axis]) > 0 for k in others)]
            if on_it:
                return self._choose(term, on_it, None)
        raise self._none(term, "nothing of that name is there")

    def _choose(self, term: Term, found: list[int], owner: int | None) -> list[int]:
        """What the words before the name leave of the candidates."""
        first, inner = term.axes[:1], term.axes[1:]
        for axis in reversed(inner):
            found = self._half(term, found, axis, owner)
        if term.rank is not None or term.count is not None:
            order = sorted(found, key=self._along(term, first[0] if first else "left", owner))
            wanted = term.rank if term.rank is not None else term.count
            assert wanted is not None
            if len(order) < wanted:
                raise self._none(term, f"there is only {len(order)}" if len(order) == 1 else f"there are {len(order)}")
            if term.rank is None:
                return order[:wanted]
            return [order[-1 if term.rank < 0 else term.rank - 1]]
        if not first:
            return found
        if term.plural or len(found) == 1:
            return self._half(term, found, first[0], owner)
        return [min(found, key=self._along(term, first[0], owner))]

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
        column, sign = {"left": (0, 1), "right": (0, -1), "top": (1, 1), "bottom": (1, -1)}[axis]
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
            words = set(_name_words(name.rpartition(":")[2]))
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
