"""What there is to draw: one item per detection with its colour, its words, its place, and what lies inside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from vlpart.masks.crop import MaskCrop
from vlpart.visualize.paint import Outline, box_crop, outline_of, outline_of_box
from vlpart.visualize.palette import OBJECT_COLOURS, RGB, class_colour, part_colours

if TYPE_CHECKING:
    from vlpart.types import NamedDetections

Colours = Literal["object", "instance", "class", "part"]

_INSIDE = 0.75  # share of a mask that is inside another, from which on that one is outlined
_SURELY_INSIDE = 0.9  # from which on it is named after that one
_DOMINANT = 0.6  # share of all parts that one object has, from which on their hues are free


@dataclass(frozen=True, kw_only=True)
class Item:
    """One detection on the layer.

    Attributes:
        index: which detection of the result.
        family: which family of colours: an object and its parts share one.
        is_part: whether it is a part.
        colour: see `build_scene`.
        name: words of the label; the short part name where the object is drawn too, "› eye" for a part that lies inside
            another part of its object.
        score: 0..1.
        crop: the mask (or box) in pixels of the layer, without margins; may be empty.
        own: its pixels that are not inside a smaller nested one, of the shape of the crop's bitmap.
        holds: whether others are nested in it: it is outlined then, not filled.
        depth: in how many others it is nested.
        area: pixels of the mask.
        outline: where it can carry a label, in pixels of the canvas.
    """

    index: int
    family: int
    is_part: bool
    colour: RGB
    name: str
    score: float
    crop: MaskCrop
    own: NDArray[np.bool_]
    holds: bool
    depth: int
    area: int
    outline: Outline


def build_scene(
    result: NamedDetections,
    size: tuple[int, int],
    *,
    colours: Colours = "object",
    masks: bool = True,
    scale: float = 1.0,
    tracks: Sequence[int] | None = None,
) -> list[Item]:
    """Items of a result on a layer of (width, height), by family, objects before their parts.

    A family is an object with its parts, or all loose parts of one object name. Families that lie near each other get
    different colours.

    Args:
        result: what to draw.
        size: of the layer.
        colours: "object" = every object has a colour of its own, and its parts have hues around it, clearly apart, or
            of the whole circle where one object has most of the parts; "instance" = every detection has another colour;
            "class" = a colour for every name, the same in all images of one vocabulary; "part" = parts of one name
            share a colour, whatever they belong to, and all objects of one name another.
        masks: draw masks; else boxes stand for them.
        scale: pixels of the canvas to a pixel of the layer.
        tracks: for every detection the number of its object through a video, from 1, or 0: with the scheme "object" it
            chooses the colour, and it stands behind the names of objects.
    """
    width, height = size
    boxes = result.boxes_xyxy * np.array(
        [width / result.image_size[1], height / result.image_size[0]] * 2, dtype=np.float32
    )
    crops = _crops(result, boxes, size, masks)
    areas = [int(np.count_nonzero(crop.bitmap)) for crop in crops]
    holders = _holders(crops, areas)
    own = _own_pixels(crops, holders)
    families = _families(result)
    centres = np.stack([(boxes[:, 0] + boxes[:, 2]) / 2, (boxes[:, 1] + boxes[:, 3]) / 2], axis=1)
    colour_of = _colours(result, families, centres, colours, float(np.hypot(width, height)), tracks)
    held = {j for outer in holders for j in outer}
    items: list[Item] = []
    for family, members in enumerate(families):
        for i in sorted(members, key=lambda i: (result.is_part(i), i)):
            if crops[i].bitmap.size:
                outline = outline_of(crops[i], own[i] if i in held else None)
            else:
                x0, y0, x1, y1 = np.clip(boxes[i], 0, [width, height, width, height]).tolist()
                outline = outline_of_box((x0, y0, x1, y1))
            items.append(
                Item(
                    index=i,
                    family=family,
                    is_part=result.is_part(i),
                    colour=colour_of[i],
                    name=_words(
                        result, i, [j for j in holders[i] if _share(crops[i], crops[j], areas[i]) > _SURELY_INSIDE]
                    )
                    + (f" #{tracks[i]}" if tracks is not None and tracks[i] and not result.is_part(i) else ""),
                    score=float(result.scores[i]),
                    crop=crops[i],
                    own=own[i],
                    holds=i in held,
                    depth=len(holders[i]),
                    area=areas[i],
                    outline=outline.scaled(scale),
                )
            )
    return items


def _crops(result: NamedDetections, boxes: NDArray[np.float32], size: tuple[int, int], masks: bool) -> list[MaskCrop]:
    if not masks or result.masks is None:
        return [box_crop(box, size) for box in boxes]
    stack = result.masks.extended().resized((size[1], size[0]))
    return stack.crops()


def _holders(crops: Sequence[MaskCrop], areas: Sequence[int]) -> list[list[int]]:
    """For every mask the larger ones that hold most of it, the smallest first."""
    frames = np.array([(c.x0, c.y0, c.x1, c.y1) for c in crops], dtype=np.int64).reshape(-1, 4)
    size = np.array(areas, dtype=np.int64)
    holders: list[list[int]] = []
    for i, crop in enumerate(crops):
        low, high = np.maximum(frames[i, :2], frames[:, :2]), np.minimum(frames[i, 2:], frames[:, 2:])
        shared = np.prod(np.clip(high - low, 0, None), axis=1)
        larger = (size > size[i]) | ((size == size[i]) & (np.arange(len(crops)) < i))
        near = np.flatnonzero(larger & (shared >= _INSIDE * size[i])).tolist() if size[i] else []
        inside = [j for j in near if _overlap(crop, crops[j]) >= _INSIDE * size[i]]
        holders.append(sorted(inside, key=lambda j: areas[j]))
    return holders


def _share(inner: MaskCrop, outer: MaskCrop, area: int) -> float:
    return _overlap(inner, outer) / area


def _overlap(first: MaskCrop, second: MaskCrop) -> int:
    """How many pixels two masks share."""
    x0, y0 = max(first.x0, second.x0), max(first.y0, second.y0)
    x1, y1 = min(first.x1, second.x1), min(first.y1, second.y1)
    if x1 <= x0 or y1 <= y0:
        return 0
    one = first.bitmap[y0 - first.y0 : y1 - first.y0, x0 - first.x0 : x1 - first.x0]
    other = second.bitmap[y0 - second.y0 : y1 - second.y0, x0 - second.x0 : x1 - second.x0]
    return int(np.count_nonzero(one & other))


def _own_pixels(crops: Sequence[MaskCrop], holders: Sequence[Sequence[int]]) -> list[NDArray[np.bool_]]:
    """For every mask its pixels without those of the masks that are nested in it."""
    own = [crop.bitmap for crop in crops]
    copied: set[int] = set()
    for i, outer in enumerate(holders):
        for j in outer:
            if j not in copied:
                own[j] = own[j].copy()
                copied.add(j)
            inner, crop = crops[i], crops[j]
            x0, y0 = max(inner.x0, crop.x0), max(inner.y0, crop.y0)
            x1, y1 = min(inner.x1, crop.x1), min(inner.y1, crop.y1)
            window = own[j][y0 - crop.y0 : y1 - crop.y0, x0 - crop.x0 : x1 - crop.x0]
            window &= ~inner.bitmap[y0 - inner.y0 : y1 - inner.y0, x0 - inner.x0 : x1 - inner.x0]
    return own


def _families(result: NamedDetections) -> list[list[int]]:
    grouped: dict[object, list[int]] = {}
    for i, owner in enumerate(result.owners.tolist()):
        name = result.vocabulary.object_name(int(result.class_ids[i])).casefold()
        key: object = owner if owner >= 0 else i
        if owner < 0 and result.is_part(i):
            key = ("loose", name)
        grouped.setdefault(key, []).append(i)
    return sorted(grouped.values(), key=min)


def _colours(
    result: NamedDetections,
    families: list[list[int]],
    centres: NDArray[np.floating],
    scheme: Colours,
    diagonal: float,
    tracks: Sequence[int] | None,
) -> dict[int, RGB]:
    """The colour of every detection."""
    indices = range(len(result))
    if scheme == "class":
        return {i: class_colour(int(result.class_ids[i])) for i in indices}
    if scheme == "instance":
        ordered = _apart([centres[i] for i in indices], diagonal)
        return dict(zip(indices, ordered, strict=True))
    if scheme == "part":
        names = {}
        for i in indices:
            key = _kind(result, i) if result.is_part(i) else "whole " + result.names[i].casefold()
            names[i] = key
        order = {key: class_colour(k) for k, key in enumerate(dict.fromkeys(names.values()))}
        return {i: order[names[i]] for i in indices}
    if tracks is not None:  # the same from frame to frame
        numbers = [max(tracks[i] for i in members) for members in families]
        bases = [OBJECT_COLOURS[number % len(OBJECT_COLOURS)] for number in numbers]
    else:
        bases = _apart([centres[members].mean(axis=0) for members in families], diagonal)
    parts = [sum(result.is_part(i) for i in members) for members in families]
    with_parts = sum(count > 0 for count in parts)
    found: dict[int, RGB] = {}
    for members, base, count in zip(families, bases, parts, strict=True):
        free = tracks is None and count >= _DOMINANT * sum(parts)
        found |= _member_colours(result, members, base, centres, None if free else max(120.0, 270 / max(with_parts, 1)))
    return found


def _apart(centres: Sequence[NDArray[np.floating]], diagonal: float) -> list[RGB]:
    """A colour for each of some places: the first unused one, then the one whose users are farthest away."""
    chosen: list[int] = []
    for centre in centres:
        crowding = np.zeros(len(OBJECT_COLOURS))
        for other, colour in zip(centres, chosen, strict=False):
            crowding[colour] += 0.2 + 1 / (0.05 + float(np.hypot(*(centre - other))) / diagonal)
        chosen.append(int(np.argmin(crowding)))
    return [OBJECT_COLOURS[i] for i in chosen]


def _member_colours(
    result: NamedDetections, members: list[int], base: RGB, centres: NDArray[np.floating], arc: float | None
) -> dict[int, RGB]:
    """The base colour for objects, a hue per kind of part; kinds that lie next to each other get unlike hues."""
    heights: dict[str, list[float]] = {}
    for i in members:
        if result.is_part(i):
            heights.setdefault(_kind(result, i), []).append(float(centres[i, 1]))
    kinds = sorted(heights, key=lambda kind: (float(np.mean(heights[kind])), kind))
    hues = dict(zip(kinds, part_colours(base, len(kinds), arc), strict=True))
    return {i: hues[_kind(result, i)] if result.is_part(i) else base for i in members}


def _kind(result: NamedDetections, i: int) -> str:
    return (result.vocabulary.part_name(int(result.class_ids[i])) or "").casefold()


def _words(result: NamedDetections, i: int, holders: Sequence[int]) -> str:
    """The short part name where its object is drawn too, with a mark where it lies inside another part of it."""
    class_id = int(result.class_ids[i])
    part = result.vocabulary.part_name(class_id)
    if part is None or result.owners[i] < 0:
        return result.vocabulary.names[class_id]
    for j in holders:
        around = result.vocabulary.part_name(int(result.class_ids[j]))
        if around is not None and around != part and result.owners[j] == result.owners[i]:
            return f"› {part}"
    return part
