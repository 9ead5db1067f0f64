"""The letters on labels: Roboto Medium comes with the package; what it lacks is looked for among the system's fonts."""

from __future__ import annotations

from functools import lru_cache
from importlib import resources
from io import BytesIO

from PIL import ImageFont

from vlpart.errors import OutputError

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
