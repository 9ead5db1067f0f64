"""Draw a result on its image: objects outlined and lightly filled, parts in tints of their colour, labels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vlpart.visualize import labels as typeface
from vlpart.visualize.labels import Font, Row, draw_label, draw_leader, label_size, shortened, with_legend
from vlpart.visualize.paint import Brush
from vlpart.visualize.palette import lighter
from vlpart.visualize.placement import Ink, Place, Wish, place_labels
from vlpart.visualize.scene import Item, build_scene

if TYPE_CHECKING:
    from vlpart.types import NamedDetections


_LEGEND_SIDE = 400  # an image left smaller than this gets no legend unless asked for: labels without room are left out
_CROWDED = 0.2  # share of the image under labels from which on names go to a legend


@dataclass(frozen=True)
class _Measures:
    """Sizes in pixels that follow from the size of the canvas and the number of labels."""

    line: float
    part_line: float
    object_text: int
    part_text: int
    gap: float

    @classmethod
    def of(cls, size: tuple[int, int], labels: int, text_scale: float) -> _Measures:
        unit = math.sqrt(size[0] * size[1])
        crowd = min(1.0, max(0.72, (16 / max(labels, 1)) ** 0.25))
        text = max(13.0, unit * 0.0195) * crowd * text_scale
        line = max(1.5, unit * 0.0024)
        return cls(line, max(1.0, line * 0.6), max(10, round(text)), max(10, round(text * 0.88)), max(1.0, text * 0.12))


def draw_result(
    image: NDArray[np.uint8],
    result: NamedDetections,
    *,
    labels: bool = True,
    scores: bool = True,
    legend: bool | Literal["auto"] = "auto",
    colours: Literal["instance", "class"] = "instance",
    minimum_side: int = 640,
    text_scale: float = 1.0,
    font: str | None = None,
) -> Image.Image:
    """The image with every detection drawn on it, in RGB; `image` is not changed.

    Objects get a contour and a light fill in a colour of their own, their parts a stronger fill and a light contour in
    tints of that colour (one tint per kind of part). Labels never cover each other and cover small parts last; one that
    had to move away has a leader. Lines and letters grow with the image. Results without masks show boxes.

    Args:
        image: (H, W, 3) uint8 RGB, of the size of the result.
        result: what to draw.
        labels: write names.
        scores: write scores behind the names.
        legend: True = numbers on the image and the names in a panel beside it (the image returned is larger then);
            "auto" = only where the names do not fit on the image; False = names that do not fit are left out.
        colours: "instance" = every object has its own colour; "class" = objects of one name share one.
        minimum_side: an image whose longer side is shorter than this is scaled up to it, so that labels stay legible;
            0 = never.
        text_scale: larger or smaller letters.
        font: a font file or the name of a system font; default: the one of the package (Latin, Greek, Cyrillic) and
            for other scripts whatever the system has.

    Raises:
        ValueError: `image` is not of the size of the result.
        OutputError: the font cannot be loaded.
    """
    if image.shape != (*result.image_size, 3):
        raise ValueError(f"image has the shape {image.shape}, expected {(*result.image_size, 3)}")
    canvas = _canvas(image, minimum_side)
    items = build_scene(result, canvas.size, by_class=colours == "class")
    measures = _Measures.of(canvas.size, len(items) if labels else 0, text_scale)
    _paint(canvas, items, measures)
    if not labels or not items:
        return canvas
    scored = [f" {item.score:.2f}" if scores else "" for item in items]
    words = [item.name for item in items]
    letters = [typeface.load_for(words, size, font) for size in (measures.object_text, measures.part_text)]
    names = [shortened(item.name, letters[0], canvas.width * 0.5) + s for item, s in zip(items, scored, strict=True)]
    if legend == "auto" and max(canvas.size) < _LEGEND_SIDE:
        legend = False
    if legend is False or (legend == "auto" and _covered(canvas, items, names, letters) < _CROWDED):
        places = _places(canvas, items, names, letters, measures)
        if legend is False or all(place is not None for place in places):
            _write(canvas, items, names, places, letters, measures)
            return canvas
    numbers = [str(i + 1) for i in range(len(items))]
    letters = [letters[1], letters[1]]
    _write(canvas, items, numbers, _places(canvas, items, numbers, letters, measures), letters, measures)
    rows = [Row(numbers[k], names[k], item.colour, item.is_part) for k, item in enumerate(items)]
    return with_legend(canvas, rows, letters[1])


def _canvas(image: NDArray[np.uint8], minimum_side: int) -> Image.Image:
    canvas = Image.fromarray(image)
    scale = minimum_side / max(canvas.size)
    if scale > 1:
        width, height = (max(1, round(side * scale)) for side in canvas.size)
        return canvas.resize((width, height), Image.Resampling.BICUBIC)
    return canvas


def _paint(canvas: Image.Image, items: list[Item], measures: _Measures) -> None:
    """Fills of objects, then parts, then contours of objects; large masks first, and fainter, for they hide more."""
    by_area = sorted(items, key=lambda item: -item.area)
    with_parts = {item.family for item in items if item.is_part}
    objects = [(item, Brush(item.crop, canvas.size, measures.line)) for item in by_area if not item.is_part]
    for item, brush in objects:
        fill = (0.16 if item.family in with_parts else 0.38) * _fainter(item, canvas)
        brush.paint(canvas, item.colour, fill=fill, edge=fill)
    for item in by_area:
        if item.is_part:
            fill = 0.5 * _fainter(item, canvas)
            brush = Brush(item.crop, canvas.size, measures.part_line)
            brush.paint(canvas, item.colour, fill=fill, edge=fill)
            brush.paint(canvas, lighter(item.colour), fill=0.0, edge=0.9)
    for item, brush in objects:
        brush.paint(canvas, item.colour, fill=0.0, edge=0.95)


def _fainter(item: Item, canvas: Image.Image) -> float:
    """1 for masks under a fiftieth of the image, down to 0.6 for those that fill it (in steps: tables are cached)."""
    share = max(item.area / (canvas.width * canvas.height), 1e-9)
    return round(min(1.0, max(0.6, 0.6 - 0.1 * math.log(share))), 1)


def _covered(canvas: Image.Image, items: list[Item], texts: list[str], letters: list[Font]) -> float:
    """The share of the image that the labels would cover."""
    sizes = (label_size(text, letters[item.is_part]) for item, text in zip(items, texts, strict=True))
    return sum(width * height for width, height in sizes) / (canvas.width * canvas.height)


def _places(
    canvas: Image.Image, items: list[Item], texts: list[str], letters: list[Font], measures: _Measures
) -> list[Place | None]:
    """Objects choose first, then parts, the smallest before the others: they have the least choice."""
    ink = Ink(canvas.size, max(4.0, measures.part_text / 2))
    for item in items:
        if item.crop.bitmap.size:
            ink.add(item.crop, 1.0 if item.is_part else 0.5)
    order = sorted(range(len(items)), key=lambda k: (items[k].is_part, items[k].area if items[k].is_part else k))
    sizes = [label_size(texts[k], letters[items[k].is_part]) for k in order]
    wishes = [Wish(size, items[k].outline, not items[k].is_part) for k, size in zip(order, sizes, strict=True)]
    places: list[Place | None] = [None] * len(items)
    for k, place in zip(order, place_labels(wishes, canvas.size, ink, measures.gap), strict=True):
        places[k] = place
    return places


def _write(
    canvas: Image.Image,
    items: list[Item],
    texts: list[str],
    places: list[Place | None],
    letters: list[Font],
    measures: _Measures,
) -> None:
    """Leaders first, so that none runs over a label."""
    for item, place in zip(items, places, strict=True):
        if place is not None and place.leader is not None:
            draw_leader(canvas, place.leader, item.outline.anchor, item.colour, measures.part_line)
    for item, text, place in zip(items, texts, places, strict=True):
        if place is not None:
            draw_label(canvas, (place.x, place.y), text, letters[item.is_part], item.colour, item.is_part)
