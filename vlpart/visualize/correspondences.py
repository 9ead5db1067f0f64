"""Parts carried from one image to another, side by side: reference, target with lines, transferred parts, boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from vlpart.masks.crop import MaskCrop
from vlpart.visualize import labels as typeface
from vlpart.visualize.labels import Font, draw_label, draw_leader, label_size, shortened
from vlpart.visualize.paint import Brush, Layer, Stroke, outline_of, tight
from vlpart.visualize.palette import INK, OBJECT_COLOURS, RGB, WHITE

Box = tuple[float, float, float, float]
Point = tuple[float, float]

_GAP = 12
_WIDEST = 6.0  # a row of images this many times wider than high is broken in two
_GREY: RGB = (150, 153, 160)


@dataclass(frozen=True, kw_only=True)
class Line:
    """One correspondence, in pixels of the two images; a `sure` one is drawn thicker."""

    part: int
    reference_xy: Point
    target_xy: Point
    sure: bool


@dataclass(frozen=True, kw_only=True)
class Panels:
    """What is drawn. Parts are numbers into `part_names`; equal names have equal colours.

    Attributes:
        reference, target: (H, W, 3) uint8 RGB.
        reference_title, target_title: written above them.
        part_names: of the parts of the reference.
        reference_parts: for every part a bitmap of the size of the reference.
        transferred: part, bitmap of the size of the target, and its tight box, for every part that was found.
        final_boxes: part, name, box in pixels of the target, and score.
        lines: correspondences.
    """

    reference: NDArray[np.uint8]
    target: NDArray[np.uint8]
    reference_title: str
    target_title: str
    part_names: Sequence[str]
    reference_parts: Sequence[NDArray[np.bool_]]
    transferred: Sequence[tuple[int, NDArray[np.bool_], Box]]
    final_boxes: Sequence[tuple[int, str, Box, float]]
    lines: Sequence[Line]


def draw_panels(panels: Panels, *, height: int = 420) -> Image.Image:
    """Four images side by side, each `height` pixels high, below a line of titles; wide ones in two rows of two.

    1 the reference with its annotated parts, 2 the target with lines from the reference (thick: nearest neighbours both
    ways), 3 the target with the transferred parts and the boxes around them (grey: dropped), 4 the final boxes.
    """
    colours = _colours(panels.part_names)
    font = typeface.load(max(12, round(height * 0.04)))
    line = max(1.5, height * 0.004)
    kept = {part for part, *_ in panels.final_boxes}
    masks = [(part, bitmap) for part, bitmap, _ in panels.transferred]
    reference = _with_masks(panels.reference, list(enumerate(panels.reference_parts)), colours, height)
    target = _scaled(panels.target, height)
    third = _with_masks(panels.target, masks, colours, height)
    factor = height / panels.target.shape[0]
    for part, _, box in panels.transferred:
        _rectangle(third, box, factor, colours[part] if part in kept else _GREY, line)
    fourth = _with_boxes(target.copy(), panels, colours, font, line)
    titles = (
        panels.reference_title,
        panels.target_title,
        f"transferred parts: {len(panels.transferred)}",
        f"final boxes: {len(panels.final_boxes)}",
    )
    sheet, corners = _sheet([reference, target, third, fourth], titles, font)
    _draw_lines(sheet, panels, colours, corners, height, line)
    x, y = corners[0]
    first = sheet.crop((x, y, x + reference.width, y + height))
    _name_masks(first, panels.reference_parts, panels.part_names, colours, font)
    sheet.paste(first, (x, y))
    return sheet


def _colours(names: Sequence[str]) -> list[RGB]:
    order = {name: i for i, name in enumerate(dict.fromkeys(names))}
    return [OBJECT_COLOURS[order[name] % len(OBJECT_COLOURS)] for name in names]


def _scaled(image: NDArray[np.uint8], height: int) -> Image.Image:
    width = max(1, round(image.shape[1] * height / image.shape[0]))
    return Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC)


def _crop(bitmap: NDArray[np.bool_], size: tuple[int, int]) -> MaskCrop:
    """A bitmap scaled to a canvas of (width, height)."""
    large = Image.fromarray(bitmap.astype(np.uint8) * 255).resize(size, Image.Resampling.BILINEAR)
    return tight(MaskCrop(0, 0, np.asarray(large) >= 128))


def _with_masks(
    image: NDArray[np.uint8], masks: Sequence[tuple[int, NDArray[np.bool_]]], colours: Sequence[RGB], height: int
) -> Image.Image:
    """The image with filled and outlined masks, large ones first."""
    pixels = np.asarray(_scaled(image, height))
    layer = Layer((pixels.shape[1], pixels.shape[0]))
    line = max(1.5, height * 0.004)
    for part, bitmap in sorted(masks, key=lambda mask: -int(mask[1].sum())):
        brush = Brush(_crop(bitmap, layer.size), layer.size, line / layer.scale)
        layer.add(brush, Stroke(colours[part], 0.45, 0.95, line / layer.scale))
    return layer.over(pixels)


def _name_masks(
    canvas: Image.Image,
    bitmaps: Sequence[NDArray[np.bool_]],
    names: Sequence[str],
    colours: Sequence[RGB],
    font: Font,
) -> None:
    """Each name once, on the largest mask of that name."""
    for name in dict.fromkeys(names):
        part = max((i for i, other in enumerate(names) if other == name), key=lambda i: int(bitmaps[i].sum()))
        crop = _crop(bitmaps[part], canvas.size)
        if crop.bitmap.size:
            x, y = outline_of(crop).anchor
            width, height = label_size(name, font)
            _label(canvas, (x - width / 2, y - height / 2), name, font, colours[part])


def _label(canvas: Image.Image, corner: Point, text: str, font: Font, colour: RGB) -> None:
    """A label, moved into the canvas."""
    width, height = label_size(text, font)
    x = min(max(corner[0], 0), max(canvas.width - width, 0))
    y = min(max(corner[1], 0), max(canvas.height - height, 0))
    draw_label(canvas, (x, y), text, font, colour)


def _rectangle(canvas: Image.Image, box: Box, factor: float, colour: RGB, line: float) -> None:
    x0, y0, x1, y1 = (value * factor for value in box)
    edges = (min(x0, x1), min(y0, y1), max(x1 - 1, x0), max(y1 - 1, y0))
    draw = ImageDraw.Draw(canvas)
    draw.rectangle(edges, outline=WHITE, width=max(2, round(line * 2)))
    draw.rectangle(edges, outline=colour, width=max(1, round(line)))


def _with_boxes(canvas: Image.Image, panels: Panels, colours: Sequence[RGB], font: Font, line: float) -> Image.Image:
    """Boxes, and labels above them, below one another where they would overlap."""
    factor = canvas.height / panels.target.shape[0]
    for part, _, box, _ in panels.final_boxes:
        _rectangle(canvas, box, factor, colours[part], line * 1.5)
    taken: list[Box] = []
    for part, name, box, score in sorted(panels.final_boxes, key=lambda item: item[2][1]):
        text = f"{name} {score:.2f}"
        width, height = label_size(text, font)
        x = min(max(box[0] * factor, 0), max(canvas.width - width, 0))
        y = max(box[1] * factor - height, 0)
        while any(x < u1 and u0 < x + width and y < v1 and v0 < y + height for u0, v0, u1, v1 in taken):
            y += 1
        taken.append((x, y, x + width, y + height))
        _label(canvas, (x, y), text, font, colours[part])
    return canvas


def _sheet(
    images: Sequence[Image.Image], titles: Sequence[str], font: Font
) -> tuple[Image.Image, list[tuple[int, int]]]:
    """All images on white with their titles above, and the corner of each."""
    top, height = round(font.size * 1.9), images[0].height
    widths = [max(image.width, round(font.size * 12)) for image in images]
    rows = [range(4)] if sum(widths) <= _WIDEST * height else [range(2), range(2, 4)]
    width = max(sum(widths[i] + _GAP for i in row) for row in rows) + _GAP
    sheet = Image.new("RGB", (width, (height + top) * len(rows) + _GAP), WHITE)
    draw = ImageDraw.Draw(sheet)
    corners = []
    for number, row in enumerate(rows):
        x, y = _GAP, number * (height + top)
        for i in row:
            draw.text((x, y + top / 2), shortened(titles[i], font, widths[i]), font=font, fill=INK, anchor="lm")
            sheet.paste(images[i], (x, y + top))
            corners.append((x, y + top))
            x += widths[i] + _GAP
    return sheet, corners


def _draw_lines(
    sheet: Image.Image,
    panels: Panels,
    colours: Sequence[RGB],
    corners: Sequence[tuple[int, int]],
    height: int,
    line: float,
) -> None:
    """From the first image to the second, with a dot at both ends."""
    (ax, ay), (bx, by) = corners[:2]
    a_factor, b_factor = height / panels.reference.shape[0], height / panels.target.shape[0]
    for match in sorted(panels.lines, key=lambda item: item.sure):
        start = (ax + match.reference_xy[0] * a_factor, ay + match.reference_xy[1] * a_factor)
        end = (bx + match.target_xy[0] * b_factor, by + match.target_xy[1] * b_factor)
        width = line if match.sure else line * 0.5
        draw_leader(sheet, start, end, colours[match.part], width)
        draw_leader(sheet, start, start, colours[match.part], width)
