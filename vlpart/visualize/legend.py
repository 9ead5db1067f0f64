"""A panel beside (or below) a crowded picture that says what the numbers on it stand for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from vlpart.visualize.labels import draw_label, label_size
from vlpart.visualize.palette import INK, RGB
from vlpart.visualize.typeface import Font

_BACKGROUND: RGB = (250, 250, 248)


@dataclass(frozen=True)
class Row:
    """One line of the legend: the number tile as on the picture, then the words; parts are indented."""

    number: str
    text: str
    colour: RGB
    is_part: bool


def with_legend(picture: Image.Image, rows: Sequence[Row], font: Font) -> Image.Image:
    """A new picture with the legend to the right, or below where the picture is much wider than high."""
    tile_width = max(label_size(row.number, font)[0] for row in rows)
    line = round(label_size("0", font)[1] * 1.25)
    pad, indent = line // 2, line // 2
    column = tile_width + indent + pad + round(max(font.getlength(row.text) for row in rows)) + pad
    below = picture.width > 1.7 * picture.height
    if below:
        columns = max(1, (picture.width - pad) // column)
        per_column = -(-len(rows) // columns)
        size, origin = (picture.width, picture.height + per_column * line + 2 * pad), (pad, picture.height + pad)
    else:
        per_column = max(1, (picture.height - 2 * pad) // line)
        columns = -(-len(rows) // per_column)
        size, origin = (picture.width + columns * column + pad, picture.height), (picture.width + pad, pad)
    sheet = Image.new("RGB", size, _BACKGROUND)
    sheet.paste(picture, (0, 0))
    draw = ImageDraw.Draw(sheet)
    ascent, _ = font.getmetrics()
    for i, row in enumerate(rows):
        x = origin[0] + i // per_column * column + (indent if row.is_part else 0)
        y = origin[1] + i % per_column * line
        draw_label(sheet, (x, y), row.number, font, row.colour, row.is_part)
        draw.text(
            (x + tile_width + pad, y + round(font.size * 0.1) + ascent), row.text, font=font, fill=INK, anchor="ls"
        )
    return sheet
