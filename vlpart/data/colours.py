"""Colours, blur and erasing for training. All randomness comes from the generator that is passed in.

A change of colours says for every colour what it becomes, whatever the image. So for all but the smallest images it is
computed once for the colours of a coarse grid, and Pillow interpolates between these for the pixels.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter, ImageStat

_LEVELS = 18  # of each channel in the grid: 0, 15, ..., 255
_SMALL = 4 * _LEVELS**3  # images of fewer pixels are changed pixel by pixel
_LOOK = 16_000  # pixels of an image that its mean brightness is computed from, at least

_BRIGHTNESS, _CONTRAST, _SATURATION, _HUE = range(4)

Step = tuple[int, float]


def jitter_colors(
    image: Image.Image, strength: float, rng: np.random.Generator, hue: float | None = None
) -> Image.Image:
    """Brightness, contrast and saturation factors in 1 +- strength, hue shift in +- hue (strength / 4), any order.

    Images of over 23,000 pixels get colours that differ from those of the single steps by less than two grey levels on
    average.

    Args:
        image: RGB.
        strength: 0..1.
        rng: draws the factors and the order.
        hue: of the colour circle, 0..0.5.
    """
    hue = strength / 4 if hue is None else hue
    amounts = rng.uniform(1 - strength, 1 + strength, size=3).tolist()
    amounts.append(float(rng.uniform(-hue, hue)))
    steps = [(kind, amounts[kind]) for kind in rng.permutation(4).tolist()]
    if image.width * image.height < _SMALL:
        for step in steps:
            image = change(image, step, mean_brightness(image))
        return image
    every = max(1, int((image.width * image.height / _LOOK) ** 0.5))
    sample = Image.fromarray(np.ascontiguousarray(np.asarray(image)[::every, ::every]))
    grid = _grid()
    for step in steps:
        mean = mean_brightness(sample)
        sample, grid = change(sample, step, mean), change(grid, step, mean)
    table = np.asarray(grid, dtype=np.float32).reshape(-1) / np.float32(255)
    return image.filter(ImageFilter.Color3DLUT(_LEVELS, table))


def change(image: Image.Image, step: Step, mean: int) -> Image.Image:
    """One step of the jitter, as Pillow's ImageEnhance does it.

    Args:
        image: RGB.
        step: what, and how much.
        mean: brightness, 0..255, that contrast keeps.
    """
    kind, amount = step
    if kind == _HUE:
        return shift_hue(image, amount)
    if kind == _SATURATION:
        return Image.blend(image.convert("L").convert("RGB"), image, amount)
    level = mean if kind == _CONTRAST else 0
    return Image.blend(Image.new("RGB", image.size, (level, level, level)), image, amount)


def mean_brightness(image: Image.Image) -> int:
    """0..255, rounded."""
    return int(ImageStat.Stat(image.convert("L")).mean[0] + 0.5)


@lru_cache(maxsize=1)
def _grid() -> Image.Image:
    """A pixel for every colour of the grid, in the order of Pillow's tables: red first."""
    levels = np.linspace(0, 255, _LEVELS).astype(np.uint8)
    blue, green, red = np.meshgrid(levels, levels, levels, indexing="ij")
    return Image.fromarray(np.stack([red, green, blue], axis=-1).reshape(_LEVELS**2, _LEVELS, 3))


def shift_hue(image: Image.Image, shift: float) -> Image.Image:
    """Turn the colour circle by `shift` (1 = all the way round)."""
    steps = int(shift * 255)
    hue, saturation, value = image.convert("HSV").split()
    hue = hue.point([(level + steps) % 256 for level in range(256)])
    return Image.merge("HSV", (hue, saturation, value)).convert("RGB")


def strong_colours(image: Image.Image, rng: np.random.Generator, zoom: float = 1.0) -> Image.Image:
    """Colour jitter (p 0.8), grey (p 0.2), blur (p 0.5).

    Source: docs/method.md, 'Augmentation'.

    Args:
        image: RGB.
        rng: decides everything random.
        zoom: how many times as large the image will be when the network sees it, which the blur is meant for.
    """
    if rng.random() < 0.8:
        image = jitter_colors(image, 0.4, rng, hue=0.1)
    if rng.random() < 0.2:
        image = image.convert("L").convert("RGB")
    if rng.random() < 0.5:
        image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.1, 2.0)) / zoom))
    return image


def erase_some(pixels: NDArray[np.uint8], rng: np.random.Generator) -> None:
    """Three random erasings (p 0.7, 0.5, 0.3) of (3, H, W) pixels, in place.

    Source: docs/method.md, 'Augmentation'. Areas and side ratios are not part of the specification; they are those of
    common practice.
    """
    for probability, (smallest, largest), (flattest, tallest) in (
        (0.7, (0.05, 0.2), (0.3, 3.3)),
        (0.5, (0.02, 0.2), (0.1, 6.0)),
        (0.3, (0.02, 0.2), (0.05, 8.0)),
    ):
        if rng.random() < probability:
            ratio = float(np.exp(rng.uniform(np.log(flattest), np.log(tallest))))
            erase(pixels, float(rng.uniform(smallest, largest)), ratio, rng)


def erase(pixels: NDArray[np.uint8], area: float, ratio: float, rng: np.random.Generator) -> None:
    """Fill a random rectangle of (3, H, W) pixels with noise, in place.

    Args:
        pixels: RGB.
        area: fraction of the image.
        ratio: height / width; what is larger than the image is cut to it.
        rng: decides where, and the noise.
    """
    height, width = pixels.shape[1:]
    tall = min(height, max(1, round(float(np.sqrt(area * height * width * ratio)))))
    wide = min(width, max(1, round(float(np.sqrt(area * height * width / ratio)))))
    top, left = int(rng.integers(height - tall + 1)), int(rng.integers(width - wide + 1))
    noise = rng.integers(0, 256, size=(tall, wide, 3), dtype=np.uint8)
    pixels[:, top : top + tall, left : left + wide] = noise.transpose(2, 0, 1)
