"""Colours: eight object colours that stay apart for colour-blind eyes, and hues for the parts of an object.

The base colours were searched for so that any two stay apart in normal, protan, deutan and tritan vision, the first few
more so than all eight (the test simulates it after Machado et al. 2009, doi 10.1109/TVCG.2009.113). Hues of parts
are turned in OKLCH (bottosson.github.io/posts/oklab), where equal steps look equal.
"""

from __future__ import annotations

import math
from functools import lru_cache

RGB = tuple[int, int, int]

OBJECT_COLOURS: tuple[RGB, ...] = (
    (12, 190, 188),  # teal
    (255, 126, 22),  # orange
    (45, 84, 196),  # blue
    (163, 38, 78),  # crimson
    (235, 224, 30),  # yellow
    (159, 120, 228),  # lavender
    (132, 237, 255),  # sky
    (167, 101, 29),  # brown
)

WHITE: RGB = (255, 255, 255)
INK: RGB = (22, 24, 29)
_LIGHTNESS = (0.7, 0.8)  # of parts in turn: very dark or light fills would hide the image


def part_colours(base: RGB, count: int, arc: float | None = None) -> list[RGB]:
    """`count` colours for the kinds of parts of an object, in an order in which neighbours differ much.

    Their hues are spread evenly, and every other one is lighter.

    Args:
        base: the object's colour.
        count: how many.
        arc: degrees of the colour circle around the hue of the object, so that the parts of several objects are told
            apart; None = free hues, as far from each other and from the object's as the circle allows.
    """
    hue = to_oklch(base)[2]
    if arc is None:
        hue, arc = hue + math.pi, 360.0 * (count - 1) / (count + 1)
    return [
        from_oklch(_LIGHTNESS[i % 2], 0.17, hue + math.radians(arc / 2) * position)
        for i, position in enumerate(_woven(count))
    ]


def class_colour(index: int) -> RGB:
    """The colour of a class by its place in the vocabulary, the same in every image: turns by the golden angle."""
    if index < len(OBJECT_COLOURS):
        return OBJECT_COLOURS[index]
    return from_oklch(_LIGHTNESS[index % 2], 0.17, math.radians(137.508) * index)


@lru_cache(maxsize=256)
def lighter(base: RGB, step: float = 0.14) -> RGB:
    """The same hue, `step` lighter in OKLCH."""
    lightness, chroma, hue = to_oklch(base)
    return from_oklch(min(0.97, lightness + step), chroma * 0.85, hue)


@lru_cache(maxsize=256)
def pale(base: RGB, lightness: float = 0.95, chroma: float = 0.035) -> RGB:
    """A background of the hue of `base` for dark text."""
    return from_oklch(lightness, chroma, to_oklch(base)[2])


@lru_cache(maxsize=256)
def deep(base: RGB, lightness: float = 0.34) -> RGB:
    """A text colour of the hue of `base` for a pale background."""
    _, chroma, hue = to_oklch(base)
    return from_oklch(lightness, min(chroma, 0.09), hue)


@lru_cache(maxsize=256)
def readable_on(background: RGB) -> RGB:
    """White or near-black, whichever has the higher contrast on `background`."""
    return WHITE if contrast(WHITE, background) >= contrast(INK, background) else INK


def contrast(first: RGB, second: RGB) -> float:
    """WCAG contrast ratio of two colours, 1..21."""
    light, dark = sorted((_luminance(first), _luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _woven(count: int) -> list[float]:
    """`count` positions in -1..1, in an order in which neighbours differ much: lower and upper half take turns."""
    if count == 1:
        return [0.0]
    steps = [-1 + 2 * i / (count - 1) for i in range(count)]
    half = (count + 1) // 2
    woven = [0.0] * count
    woven[0::2], woven[1::2] = steps[:half], steps[half:]
    return woven


def to_oklch(colour: RGB) -> tuple[float, float, float]:
    """(lightness 0..1, chroma, hue in radians) of an sRGB colour."""
    r, g, b = (_linear(channel / 255) for channel in colour)
    long = math.cbrt(0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b)
    medium = math.cbrt(0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b)
    short = math.cbrt(0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b)
    lightness = 0.2104542553 * long + 0.7936177850 * medium - 0.0040720468 * short
    a = 1.9779984951 * long - 2.4285922050 * medium + 0.4505937099 * short
    b = 0.0259040371 * long + 0.7827717662 * medium - 0.8086757660 * short
    return lightness, math.hypot(a, b), math.atan2(b, a)


def from_oklch(lightness: float, chroma: float, hue: float) -> RGB:
    """The sRGB colour; chroma is reduced until the colour exists."""
    for _ in range(24):
        channels = _oklch_to_linear(lightness, chroma, hue)
        if all(-1e-4 <= channel <= 1.0001 for channel in channels):
            break
        chroma *= 0.9
    r, g, b = (round(255 * _gamma(min(max(channel, 0.0), 1.0))) for channel in channels)
    return r, g, b


def _oklch_to_linear(lightness: float, chroma: float, hue: float) -> tuple[float, float, float]:
    a, b = chroma * math.cos(hue), chroma * math.sin(hue)
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    return (
        4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
    )


def _linear(channel: float) -> float:
    return channel / 12.92 if channel <= 0.04045 else ((channel + 0.055) / 1.055) ** 2.4


def _gamma(channel: float) -> float:
    return 12.92 * channel if channel <= 0.0031308 else 1.055 * channel ** (1 / 2.4) - 0.055


def _luminance(colour: RGB) -> float:
    r, g, b = (_linear(channel / 255) for channel in colour)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b
