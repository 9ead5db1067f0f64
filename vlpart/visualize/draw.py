"""Draw a result on its image: what contains others outlined, what is innermost filled, and labels that belong.

Or a piece of the image: what is around a detection, and the detection alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from vlpart.checks import in_range
from vlpart.visualize import labels as typeface
from vlpart.visualize.labels import Font, Row, draw_label, draw_leader, label_size, shortened, with_legend
from vlpart.visualize.paint import Brush, Layer, Stroke, box_crop
from vlpart.visualize.palette import INK, lighter
from vlpart.visualize.placement import Ink, Place, Wish, place_labels
from vlpart.visualize.scene import Colours, Item, build_scene

if TYPE_CHECKING:
    from vlpart.types import NamedDetections


_LEGEND_SIDE = 400  # an image left smaller than this gets no legend unless asked for: labels without room are left out
_CROWDED = 0.2  # share of the image under labels from which on names go to a legend


@dataclass(frozen=True)
class _Measures:
    """Sizes in pixels of the canvas: as asked for, else from its size and the number of labels."""

    line: float
    object_text: int
    part_text: int
    gap: float

    @classmethod
    def of(
        cls, size: tuple[int, int], labels: int, line_width: float | None, font_size: float | None, text_scale: float
    ) -> _Measures:
        unit = math.sqrt(size[0] * size[1])
        crowd = min(1.0, max(0.72, (16 / max(labels, 1)) ** 0.25))
        text = (max(13.0, unit * 0.0195) * crowd if font_size is None else font_size) * text_scale
        line = max(1.5, unit * 0.0028) if line_width is None else line_width
        smallest = 10 if font_size is None else 1
        return cls(line, max(smallest, round(text)), max(smallest, round(text * 0.88)), max(1.0, text * 0.12))


def draw_result(
    image: NDArray[np.uint8],
    result: NamedDetections,
    *,
    labels: bool = True,
    scores: bool = True,
    masks: bool = True,
    boxes: bool | None = None,
    legend: bool | Literal["auto"] = "auto",
    colours: Colours = "object",
    line_width: float | None = None,
    font_size: float | None = None,
    text_scale: float = 1.0,
    minimum_side: int = 640,
    font: str | None = None,
    tracks: Sequence[int] | None = None,
) -> Image.Image:
    """The image with every detection drawn on it, in RGB; `image` is not changed.

    What contains other detections is outlined, what is innermost is filled. An object has a colour of its own, each
    kind of its parts another hue. A label looks like what it names, filled or outlined, and touches it or points to it
    with a leader; labels never cover each other and cover small parts last. A part inside another part is marked
    ("› eye" in a face). Lines and letters grow with the image. Masks that their boxes cut off straight run out in a
    curve (`MaskStack.extended`): the masks of the result stay as they are.

    Args:
        image: (H, W, 3) uint8 RGB, of the size of the result.
        result: what to draw.
        labels: write names.
        scores: write scores behind the names.
        masks: draw masks.
        boxes: draw boxes; None = where no masks are drawn.
        legend: True = numbers on the image and the names in a panel beside it (the image returned is larger then);
            "auto" = only where the names do not fit on the image; False = names that do not fit are left out.
        colours: "object" = parts in hues of their own around their object's colour; "instance" = another colour for
            every detection; "class" = one for every name, the same in all images; "part" = one for every kind of part.
        line_width: of contours and boxes in pixels; None = by the size of the image.
        font_size: of the names of objects in pixels, parts a little smaller; None = by the size of the image.
        text_scale: larger or smaller letters.
        minimum_side: an image whose longer side is shorter than this is scaled up to it, so that labels stay legible;
            0 = never.
        font: a font file or the name of a system font; default: the one of the package (Latin, Greek, Cyrillic) and
            for other scripts whatever the system has.
        tracks: for every detection the number of its object through a video, see `vlpart.visualize.scene.build_scene`.

    Raises:
        ValueError: `image` is not of the size of the result; sizes that are not above 0; other colours.
        OutputError: the font cannot be loaded.
    """
    if image.shape != (*result.image_size, 3):
        raise ValueError(f"image has the shape {image.shape}, expected {(*result.image_size, 3)}")
    _check(colours, line_width=line_width, font_size=font_size, text_scale=text_scale)
    pixels = _enlarged(image, minimum_side)
    layer = Layer((pixels.shape[1], pixels.shape[0]))
    masks = masks and result.masks is not None
    items = build_scene(result, layer.size, colours=colours, masks=masks, scale=layer.scale, tracks=tracks)
    measures = _Measures.of(
        (pixels.shape[1], pixels.shape[0]), len(items) if labels else 0, line_width, font_size, text_scale
    )
    line = max(1.0, measures.line / layer.scale)
    if masks:
        _paint_masks(layer, items, line)
    if boxes or (boxes is None and not masks):
        _paint_boxes(layer, items, result, line)
    canvas = layer.over(pixels)
    return _labelled(canvas, items, layer, measures, scores, legend, font) if labels and items else canvas


def _check(colours: str, **sizes: float | None) -> None:
    schemes = ("object", "instance", "class", "part")
    if colours not in schemes:
        raise ValueError(f"colours must be one of {', '.join(schemes)}, got {colours!r}")
    for name, value in sizes.items():
        if value is not None and not value > 0:
            raise ValueError(f"{name} must be above 0, got {value!r}")


def _enlarged(image: NDArray[np.uint8], minimum_side: int) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    scale = minimum_side / max(height, width)
    if scale <= 1:
        return image
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


def _paint_masks(layer: Layer, items: list[Item], line: float) -> None:
    """Large masks first. Fills along with a light contour; then around each mask that holds others its contour."""
    by_area = sorted(items, key=lambda item: -item.area)
    for item in by_area:
        if not item.holds:
            fill, width = _opacity(item, layer), line * (0.75 if item.is_part else 1.0)
            contour = Stroke(lighter(item.colour), 0.0, 0.95, width)
            layer.add(Brush(item.crop, layer.size, width), Stroke(item.colour, fill, fill, width), contour)
        elif not item.is_part and item.own.any():  # what no part covers shows whose it is
            own = item.crop._replace(bitmap=item.own)
            layer.add(Brush(own, layer.size, 1.0), Stroke(item.colour, 0.14, 0.14, 1.0))
    for item in by_area:
        if item.holds:
            width = line * (0.75 if item.is_part else 1.0)
            casing = Stroke(INK, 0.0, 0.35, width * 1.5, outside=True)  # for light and for busy images
            contour = Stroke(item.colour, 0.0, 1.0, width, outside=True)
            layer.add(Brush(item.crop, layer.size, width * 1.5), casing, contour)


def _opacity(item: Item, layer: Layer) -> float:
    """0.5 for fills under a fiftieth of the image, down to 0.25 for those that fill it, in steps: tables are cached."""
    share = max(item.area / (layer.size[0] * layer.size[1]), 1e-9)
    return 0.5 * round(min(1.0, max(0.5, 0.5 - 0.125 * math.log(share))), 1)


def _paint_boxes(layer: Layer, items: list[Item], result: NamedDetections, line: float) -> None:
    """Frames along the inside of the boxes, the largest first."""
    width, height = layer.size
    scale = np.array([width / result.image_size[1], height / result.image_size[0]] * 2)
    half = max(1, round(line))
    for item in sorted(items, key=lambda item: -item.area):
        x0, y0, x1, y1 = np.rint(result.boxes_xyxy[item.index] * scale).astype(int).tolist()
        x0, y0 = min(max(x0, 0), width - 1), min(max(y0, 0), height - 1)
        x1, y1 = min(max(x1, x0 + 1), width), min(max(y1, y0 + 1), height)
        sides = ((x0, y0, x1, y0 + half), (x0, y1 - half, x1, y1), (x0, y0, x0 + half, y1), (x1 - half, y0, x1, y1))
        for u0, v0, u1, v1 in sides:
            layer.fill((max(u0, x0), max(v0, y0), min(u1, x1), min(v1, y1)), item.colour)


def _labelled(
    canvas: Image.Image,
    items: list[Item],
    layer: Layer,
    measures: _Measures,
    scores: bool,
    legend: bool | Literal["auto"],
    font: str | None,
) -> Image.Image:
    """The canvas with names, or with numbers and a legend."""
    words = [item.name for item in items]
    scored = [f" {item.score:.2f}" if scores else "" for item in items]
    letters = [typeface.load_for(words, size, font) for size in (measures.object_text, measures.part_text)]
    names = [shortened(item.name, letters[0], canvas.width * 0.5) + s for item, s in zip(items, scored, strict=True)]
    ink = _ink(layer, items, measures)
    if legend == "auto" and max(canvas.size) < _LEGEND_SIDE:
        legend = False
    if legend is False or (legend == "auto" and _covered(canvas, items, names, letters) < _CROWDED):
        places = _places(canvas, items, names, letters, measures, ink)
        if legend is False or all(place is not None for place in places):
            _write(canvas, items, names, places, letters, measures)
            return canvas
    numbers = [str(i + 1) for i in range(len(items))]
    letters = [letters[1], letters[1]]
    _write(canvas, items, numbers, _places(canvas, items, numbers, letters, measures, ink), letters, measures)
    rows = [Row(numbers[k], names[k], item.colour, item.is_part, item.holds) for k, item in enumerate(items)]
    return with_legend(canvas, rows, letters[1])


def _covered(canvas: Image.Image, items: list[Item], texts: list[str], letters: list[Font]) -> float:
    """The share of the image that the labels would cover."""
    sizes = (label_size(text, letters[item.is_part]) for item, text in zip(items, texts, strict=True))
    return sum(width * height for width, height in sizes) / (canvas.width * canvas.height)


def _ink(layer: Layer, items: list[Item], measures: _Measures) -> Ink:
    """What labels should not cover: fills above all; of what is outlined there is little to hide."""
    ink = Ink(layer.size, max(4.0, measures.part_text / 2 / layer.scale), layer.scale)
    for item in items:
        if item.crop.bitmap.size:
            ink.add(item.crop, 0.15 if item.holds else 1.0 if item.is_part else 0.5)
    return ink


def _places(
    canvas: Image.Image, items: list[Item], texts: list[str], letters: list[Font], measures: _Measures, ink: Ink
) -> list[Place | None]:
    """Objects choose first, then parts, the smallest before the others: they have the least choice."""
    order = sorted(range(len(items)), key=lambda k: (items[k].is_part, items[k].area if items[k].is_part else k))
    sizes = [label_size(texts[k], letters[items[k].is_part]) for k in order]
    wishes = [
        Wish(size, items[k].outline, not items[k].is_part, items[k].holds) for k, size in zip(order, sizes, strict=True)
    ]
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
            draw_leader(canvas, *place.leader, item.colour, max(1.0, measures.line * 0.6))
    for item, text, place in zip(items, texts, places, strict=True):
        if place is not None:
            draw_label(canvas, (place.x, place.y), text, letters[item.is_part], item.colour, item.holds)


# ---- pieces of the image


def crop_of(image: NDArray[np.uint8], result: NamedDetections, i: int, margin: float = 0.1) -> Image.Image:
    """The image around detection `i`, in RGB.

    Args:
        image: (H, W, 3) uint8 RGB, of the size of the result.
        result: the detections.
        i: which of them.
        margin: how much more on each side, as a share of the longer side of the box; clipped at the edges of the image.
    """
    in_range("margin", margin, 0, 100)
    x0, y0, x1, y1 = (float(side) for side in result.boxes_xyxy[i])
    more = margin * max(x1 - x0, y1 - y0)
    frame = box_crop(np.array([x0 - more, y0 - more, x1 + more, y1 + more], dtype=np.float32), image.shape[1::-1])
    return Image.fromarray(np.ascontiguousarray(image[frame.y0 : frame.y1, frame.x0 : frame.x1]))


def cutout_of(image: NDArray[np.uint8], result: NamedDetections, i: int) -> Image.Image:
    """Detection `i` alone, in RGBA: transparent outside its mask, with a smooth edge; without masks its box.

    As in the picture, a mask that its box cuts off straight runs out in a curve (`MaskStack.extended`).
    """
    crop = box_crop(result.boxes_xyxy[i], image.shape[1::-1])
    if result.masks is not None:
        mask = result.masks[[i]].extended().crop(0)
        crop = mask if mask.bitmap.size else crop._replace(bitmap=np.zeros_like(crop.bitmap))
    alpha = np.pad(crop.bitmap.astype(np.uint8) * 255, 1, mode="edge")  # the image's own edge is no edge of the mask
    inside = np.asarray(Image.fromarray(alpha).filter(ImageFilter.BoxBlur(1)))[1:-1, 1:-1]
    pixels = image[crop.y0 : crop.y1, crop.x0 : crop.x1]
    return Image.fromarray(np.dstack([pixels, np.minimum(inside, crop.bitmap * np.uint8(255))]))
