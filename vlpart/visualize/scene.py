"""What there is to draw: one item per detection with its colour, its words and its place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vlpart.masks.stack import MaskCrop
from vlpart.visualize.paint import Outline, box_crop, outline_of, outline_of_box, tight
from vlpart.visualize.palette import OBJECT_COLOURS, RGB, tint, tint_positions

if TYPE_CHECKING:
    from vlpart.types import NamedDetections


@dataclass(frozen=True)
class Item:
    """One detection on the canvas.

    Attributes:
        index: which detection of the result.
        family: which family of colours: an object and its parts share one.
        is_part: whether it is a part.
        colour: the object's colour, or a tint of it.
        name: words of the label; the short part name where the object is drawn too.
        score: 0..1.
        crop: the mask (or box) in canvas pixels, without margins; may be empty.
        area: pixels of the mask.
        outline: where it can carry a label.
    """

    index: int
    family: int
    is_part: bool
    colour: RGB
    name: str
    score: float
    crop: MaskCrop
    area: int
    outline: Outline


def build_scene(result: NamedDetections, size: tuple[int, int], by_class: bool = False) -> list[Item]:
    """Items of a result on a canvas of (width, height), by family, objects before their parts.

    A family is an object with its parts, or all loose parts of one object name; with `by_class`, everything of one
    object name. Families that lie near each other get different colours.
    """
    width, height = size
    scale_x, scale_y = width / result.image_size[1], height / result.image_size[0]
    masks = result.masks
    if masks is not None and masks.image_size != (height, width):
        masks = masks.resized((height, width))
    boxes = result.boxes_xyxy * np.array([scale_x, scale_y, scale_x, scale_y], dtype=np.float32)
    families = _families(result, by_class)
    centres = np.stack([(boxes[:, 0] + boxes[:, 2]) / 2, (boxes[:, 1] + boxes[:, 3]) / 2], axis=1)
    bases = _family_colours([centres[members].mean(axis=0) for members in families], float(np.hypot(width, height)))
    items: list[Item] = []
    for family, members in enumerate(families):
        colours = _member_colours(result, members, bases[family], centres, len(families))
        for i in sorted(members, key=lambda i: (result.is_part(i), i)):
            crop = tight(masks.crop(i)) if masks is not None else box_crop(boxes[i], size)
            if crop.bitmap.size:
                outline = outline_of(crop)
            else:
                x0, y0, x1, y1 = np.clip(boxes[i], 0, [width, height, width, height]).tolist()
                outline = outline_of_box((x0, y0, x1, y1))
            words, score, area = _words(result, i), float(result.scores[i]), int(np.count_nonzero(crop.bitmap))
            items.append(Item(i, family, result.is_part(i), colours[i], words, score, crop, area, outline))
    return items


def _families(result: NamedDetections, by_class: bool) -> list[list[int]]:
    grouped: dict[object, list[int]] = {}
    for i, owner in enumerate(result.owners.tolist()):
        name = result.vocabulary.object_name(int(result.class_ids[i])).casefold()
        key: object = name if by_class else owner if owner >= 0 else i
        if not by_class and owner < 0 and result.is_part(i):
            key = ("loose", name)
        grouped.setdefault(key, []).append(i)
    return sorted(grouped.values(), key=min)


def _family_colours(centres: list[np.ndarray], diagonal: float) -> list[RGB]:
    """A base colour per family: the first unused one, then the one whose users are farthest away."""
    chosen: list[int] = []
    for centre in centres:
        crowding = np.zeros(len(OBJECT_COLOURS))
        for other, colour in zip(centres, chosen, strict=False):
            crowding[colour] += 0.2 + 1 / (0.05 + float(np.hypot(*(centre - other))) / diagonal)
        chosen.append(int(np.argmin(crowding)))
    return [OBJECT_COLOURS[i] for i in chosen]


def _member_colours(
    result: NamedDetections, members: list[int], base: RGB, centres: np.ndarray, families: int
) -> dict[int, RGB]:
    """The base colour for objects, one tint per kind of part; kinds that lie next to each other get unlike tints."""
    heights: dict[str, list[float]] = {}
    for i in members:
        if result.is_part(i):
            heights.setdefault(_kind(result, i), []).append(float(centres[i, 1]))
    kinds = sorted(heights, key=lambda kind: (float(np.mean(heights[kind])), kind))
    spread = {1: 1.0, 2: 0.6, 3: 0.4, 4: 0.35}.get(families, 0.25)
    tints = {
        kind: tint(base, position, spread) for kind, position in zip(kinds, tint_positions(len(kinds)), strict=True)
    }
    return {i: tints[_kind(result, i)] if result.is_part(i) else base for i in members}


def _kind(result: NamedDetections, i: int) -> str:
    return (result.vocabulary.part_name(int(result.class_ids[i])) or "").casefold()


def _words(result: NamedDetections, i: int) -> str:
    class_id = int(result.class_ids[i])
    part = result.vocabulary.part_name(class_id)
    return part if part is not None and result.owners[i] >= 0 else result.vocabulary.names[class_id]
