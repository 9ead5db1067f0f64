"""Label tiles, leaders, letters and legend: rounded corners and lines with smooth edges, drawn large and scaled down;
Roboto Medium comes with the package, what it lacks is looked for among the fonts of the system.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from io import BytesIO

from PIL import Image, ImageDraw, ImageFont

from vlpart.errors import OutputError
from vlpart.visualize.palette import INK, RGB, WHITE, deep, pale, readable_on

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
    canvas: Image.Image, corner: tuple[float, float], text: str, font: Font, colour: RGB, outlined: bool = False
) -> None:
    """A label that looks like what it names, in place: a filled tile, or a pale one with a border if `outlined`."""
    width, height = label_size(text, font)
    x, y = round(corner[0]), round(corner[1])
    pad_x, pad_y = _padding(font)
    radius = max(2, round(height * 0.22))
    canvas.paste(colour, (x, y), _rounded(width, height, radius))
    ink = readable_on(colour)
    if outlined:
        border = max(2, round(height * 0.1))
        inner = (width - 2 * border, height - 2 * border)
        canvas.paste(pale(colour), (x + border, y + border), _rounded(*inner, max(1, radius - border)))
        ink = deep(colour)
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


Font = ImageFont.FreeTypeFont

_SYSTEM_FONTS = (  # with many scripts, by the file names of Linux, macOS and Windows
    *("NotoSansCJK-Medium.ttc", "NotoSansCJK-Regular.ttc", "NotoSansCJKsc-Regular.otf", "wqy-microhei.ttc"),
    *("DroidSansFallbackFull.ttf", "Arial Unicode.ttf", "PingFang.ttc", "msyh.ttc", "malgun.ttf", "YuGothM.ttc"),
    *("Nirmala.ttf", "NotoSans-Regular.ttf", "DejaVuSans.ttf", "segoeui.ttf"),
)


@lru_cache(maxsize=64)
def load(size: int, path: str | None = None) -> Font:
    """The font at `size` pixels per em: the one of the package, or the font file (or system font name) `path`.

    Raises:
        OutputError: `path` is no font that FreeType reads.
    """
    if path is None:
        # Simple layout is all that Latin, Greek and Cyrillic need, and it spaces small letters more evenly.
        return ImageFont.truetype(BytesIO(_bundled()), size, layout_engine=ImageFont.Layout.BASIC)
    try:
        return ImageFont.truetype(path, size)
    except OSError as error:
        raise OutputError(f"cannot load the font {path}: {error}; name a .ttf, .otf or .ttc file") from error


def load_for(texts: list[str], size: int, path: str | None = None) -> Font:
    """The font that has the most of the characters in `texts`: the package's own (or `path`) unless it lacks some."""
    own = load(size, path)
    characters = "".join(sorted({c for text in texts for c in text if ord(c) > 126}))
    if not characters or path is not None or _missing(own, characters) == 0:
        return own
    name = _best_system_font(characters)
    return own if name is None else load(size, name)


@lru_cache(maxsize=1)
def _bundled() -> bytes:
    return resources.files("vlpart.visualize").joinpath("fonts", "Roboto-Medium.ttf").read_bytes()


@lru_cache(maxsize=64)
def _best_system_font(characters: str) -> str | None:
    """The first system font with all characters, else the one that lacks fewest; None if the own font is no worse."""
    best, fewest = None, _missing(load(24), characters)
    for name in _SYSTEM_FONTS:
        try:
            missing = _missing(ImageFont.truetype(name, 24), characters)
        except OSError:
            continue
        if missing < fewest:
            best, fewest = name, missing
        if fewest == 0:
            break
    return best


def _missing(font: Font, characters: str) -> int:
    """How many of `characters` come out as the font's box for unknown characters."""
    unknown = bytes(font.getmask("\U0010fffe"))
    return sum(bytes(font.getmask(character)) == unknown for character in characters if not character.isspace())


_BACKGROUND: RGB = (250, 250, 248)


@dataclass(frozen=True)
class Row:
    """One line of the legend: the number tile as on the image, then the words, parts indented below their object."""

    number: str
    text: str
    colour: RGB
    indented: bool
    outlined: bool


def with_legend(image: Image.Image, rows: Sequence[Row], font: Font) -> Image.Image:
    """A new image with the legend to the right, or below where the image is much wider than high."""
    tile_width = max(label_size(row.number, font)[0] for row in rows)
    line = round(label_size("0", font)[1] * 1.25)
    pad, indent = line // 2, line // 2
    column = tile_width + indent + pad + round(max(font.getlength(row.text) for row in rows)) + pad
    below = image.width > 1.7 * image.height
    if below:
        columns = max(1, (image.width - pad) // column)
        per_column = -(-len(rows) // columns)
        size, origin = (image.width, image.height + per_column * line + 2 * pad), (pad, image.height + pad)
    else:
        per_column = max(1, (image.height - 2 * pad) // line)
        columns = -(-len(rows) // per_column)
        size, origin = (image.width + columns * column + pad, image.height), (image.width + pad, pad)
    sheet = Image.new("RGB", size, _BACKGROUND)
    sheet.paste(image, (0, 0))
    draw = ImageDraw.Draw(sheet)
    ascent, _ = font.getmetrics()
    for i, row in enumerate(rows):
        x = origin[0] + i // per_column * column + (indent if row.indented else 0)
        y = origin[1] + i % per_column * line
        draw_label(sheet, (x, y), row.number, font, row.colour, row.outlined)
        draw.text(
            (x + tile_width + pad, y + round(font.size * 0.1) + ascent), row.text, font=font, fill=INK, anchor="ls"
        )
    return sheet
