"""Label tiles and leaders: rounded corners and lines with smooth edges, drawn large and scaled down."""

from __future__ import annotations

from functools import lru_cache

from PIL import Image, ImageDraw

from vlpart.visualize.palette import RGB, WHITE, deep, pale, readable_on
from vlpart.visualize.typeface import Font

_SMOOTH = 4  # drawn this many times larger


def label_size(text: str, font: Font) -> tuple[int, int]:
    """(width, height) of a label in pixels."""
    ascent, descent = font.getmetrics()
    pad_x, pad_y = _padding(font)
    return round(font.getlength(text)) + 2 * pad_x, ascent + descent + 2 * pad_y - descent // 2


def shortened(text: str, font: Font, limit: float) -> str:
    """`text`, cut off with "..." where it would be wider than `limit` pixels."""
    if font.getlength(text) <= limit:
        return text
    kept = len(text)
    while kept > 1 and font.getlength(text[:kept] + "...") > limit:
        kept -= 1
    return text[:kept].rstrip() + "..."


def draw_label(
    canvas: Image.Image, corner: tuple[float, float], text: str, font: Font, colour: RGB, is_part: bool
) -> None:
    """A filled label for an object, a pale one with a band in the part's colour for a part, in place."""
    width, height = label_size(text, font)
    x, y = round(corner[0]), round(corner[1])
    pad_x, pad_y = _padding(font)
    radius = max(2, round(height * 0.22))
    shape = _rounded(width, height, radius)
    if is_part:
        canvas.paste(pale(colour), (x, y), shape.point([v * 236 // 255 for v in range(256)]))
        band = max(2, round(height * 0.16))
        canvas.paste(colour, (x, y), _left_band(width, height, radius, band))
        ink = deep(colour)
    else:
        canvas.paste(colour, (x, y), shape)
        ink = readable_on(colour)
    ascent, _ = font.getmetrics()
    ImageDraw.Draw(canvas).text((x + pad_x, y + pad_y + ascent), text, font=font, fill=ink, anchor="ls")


def draw_leader(
    canvas: Image.Image, start: tuple[float, float], end: tuple[float, float], colour: RGB, width: float
) -> None:
    """A line from a label to a dot in the mask, with a white casing, in place."""
    radius = width * 1.6
    margin = int(radius + width) + 2
    x0, y0 = int(min(start[0], end[0])) - margin, int(min(start[1], end[1])) - margin
    x1, y1 = int(max(start[0], end[0])) + margin, int(max(start[1], end[1])) + margin
    for grow, paint in ((max(1.0, width * 0.5), WHITE), (0.0, colour)):
        tile = Image.new("L", ((x1 - x0) * _SMOOTH, (y1 - y0) * _SMOOTH))
        draw = ImageDraw.Draw(tile)
        ends = [((px - x0) * _SMOOTH, (py - y0) * _SMOOTH) for px, py in (start, end)]
        draw.line(ends, fill=255, width=max(1, round((width + 2 * grow) * _SMOOTH)))
        (cx, cy), reach = ends[1], (radius + grow) * _SMOOTH
        draw.ellipse((cx - reach, cy - reach, cx + reach, cy + reach), fill=255)
        canvas.paste(paint, (x0, y0), tile.reduce(_SMOOTH))


def _padding(font: Font) -> tuple[int, int]:
    return max(3, round(font.size * 0.42)), max(1, round(font.size * 0.1))


@lru_cache(maxsize=256)
def _rounded(width: int, height: int, radius: int) -> Image.Image:
    tile = Image.new("L", (width * _SMOOTH, height * _SMOOTH))
    box = (0, 0, width * _SMOOTH - 1, height * _SMOOTH - 1)
    ImageDraw.Draw(tile).rounded_rectangle(box, radius * _SMOOTH, fill=255)
    return tile.reduce(_SMOOTH)


@lru_cache(maxsize=256)
def _left_band(width: int, height: int, radius: int, band: int) -> Image.Image:
    tile = _rounded(width, height, radius).copy()
    tile.paste(0, (band, 0, width, height))
    return tile
