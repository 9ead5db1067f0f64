"""Colour augmentation of PIL images, with randomness from our generator.

What torchvision's colour transforms do to PIL images, through the same Pillow calls: on one CPU core three times as
fast as its tensor code, and workers need not import torchvision (seconds, and hundreds of MB with the compilers it
brings along).
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter


def jitter_colors(
    image: Image.Image, strength: float, rng: np.random.Generator, hue: float | None = None
) -> Image.Image:
    """Brightness, contrast and saturation factors in 1 +- strength, hue shift in +- hue (strength / 4), any order."""
    hue = strength / 4 if hue is None else hue
    brightness, contrast, saturation = rng.uniform(1 - strength, 1 + strength, size=3).tolist()
    shift = float(rng.uniform(-hue, hue))
    for step in rng.permutation(4).tolist():
        if step == 0:
            image = ImageEnhance.Brightness(image).enhance(brightness)
        elif step == 1:
            image = ImageEnhance.Contrast(image).enhance(contrast)
        elif step == 2:
            image = ImageEnhance.Color(image).enhance(saturation)
        else:
            image = shift_hue(image, shift)
    return image


def shift_hue(image: Image.Image, shift: float) -> Image.Image:
    """Turn the colour circle by `shift` (1 = all the way round)."""
    steps = int(shift * 255)
    hue, saturation, value = image.convert("HSV").split()
    hue = hue.point([(level + steps) % 256 for level in range(256)])
    return Image.merge("HSV", (hue, saturation, value)).convert("RGB")


def strong_augmentation(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Colour jitter (p 0.8), grey (p 0.2), blur (p 0.5), three random erasings (p 0.7, 0.5, 0.3): SPEC.md section 2.

    Areas and side ratios of the erasings are not part of the specification; they are those of common practice.
    """
    if rng.random() < 0.8:
        image = jitter_colors(image, 0.4, rng, hue=0.1)
    if rng.random() < 0.2:
        image = image.convert("L").convert("RGB")
    if rng.random() < 0.5:
        image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.1, 2.0))))
    for probability, (smallest, largest), (flattest, tallest) in (
        (0.7, (0.05, 0.2), (0.3, 3.3)),
        (0.5, (0.02, 0.2), (0.1, 6.0)),
        (0.3, (0.02, 0.2), (0.05, 8.0)),
    ):
        if rng.random() < probability:
            ratio = float(np.exp(rng.uniform(np.log(flattest), np.log(tallest))))
            image = erase(image, float(rng.uniform(smallest, largest)), ratio, rng)
    return image


def erase(image: Image.Image, area: float, ratio: float, rng: np.random.Generator) -> Image.Image:
    """Fill a random rectangle with noise: that fraction of the area, that height / width ratio, cut to the picture."""
    width, height = image.size
    tall = min(height, max(1, round(float(np.sqrt(area * height * width * ratio)))))
    wide = min(width, max(1, round(float(np.sqrt(area * height * width / ratio)))))
    top, left = int(rng.integers(height - tall + 1)), int(rng.integers(width - wide + 1))
    erased = image.copy()
    erased.paste(Image.fromarray(rng.integers(0, 256, size=(tall, wide, 3), dtype=np.uint8)), (left, top))
    return erased
