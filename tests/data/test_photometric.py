"""Colour augmentation keeps size and mode, and does what its parameters say."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter

from vlpart.data import colours
from vlpart.data.colours import erase, erase_some, jitter_colors, shift_hue, strong_colours


def noise(height: int, width: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def photo(height: int, width: int) -> Image.Image:
    """Smooth colours with detail, dark and light."""
    small = np.random.default_rng(1).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)).astype(float)
    detail = np.random.default_rng(2).normal(0, 12, (height, width, 1))
    return Image.fromarray(np.clip(smooth + detail, 0, 255).astype(np.uint8))


def strong_augmentation(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    pixels = np.array(strong_colours(image, rng)).transpose(2, 0, 1)
    erase_some(pixels, rng)
    return Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))


def test_no_strength_changes_next_to_nothing() -> None:
    image = noise(40, 50)
    jittered = jitter_colors(image, 0.0, np.random.default_rng(0))
    difference = np.abs(np.asarray(jittered).astype(int) - np.asarray(image))
    assert difference.max() <= 8  # Pillow's eight bits of hue, there and back
    assert difference.mean() < 2


def test_jitter_changes_colours_by_the_seed() -> None:
    image = noise(40, 50)
    runs = [np.asarray(jitter_colors(image, 0.4, np.random.default_rng(seed))) for seed in (1, 1, 2)]
    assert runs[0].shape == (40, 50, 3)
    assert np.array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])
    assert np.abs(runs[0].astype(int) - np.asarray(image)).mean() > 5


@pytest.mark.parametrize("seed", range(8))
def test_large_images_get_the_colours_of_the_single_steps(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    image = photo(160, 240)
    fast = np.asarray(jitter_colors(image, 0.4, np.random.default_rng(seed), hue=0.1)).astype(int)
    monkeypatch.setattr(colours, "_SMALL", 10**9)
    exact = np.asarray(jitter_colors(image, 0.4, np.random.default_rng(seed), hue=0.1)).astype(int)
    difference = np.abs(fast - exact)
    assert difference.mean() < 2
    assert np.quantile(difference, 0.99) <= 9
    assert np.abs(fast.mean(axis=(0, 1)) - exact.mean(axis=(0, 1))).max() < 2


@pytest.mark.parametrize("amount", [0.6, 1.0, 1.37])
def test_steps_are_those_of_pillow(amount: float) -> None:
    image = photo(40, 60)
    mean = colours.mean_brightness(image)
    for kind, enhance in enumerate((ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)):
        found = np.asarray(colours.change(image, (kind, amount), mean)).astype(int)
        assert np.abs(found - np.asarray(enhance(image).enhance(amount))).max() <= 1


def test_blur_is_meant_for_the_size_that_the_network_sees() -> None:
    """An image that is enlarged twice afterwards is blurred half as far; the same draws otherwise."""
    image = photo(60, 80)
    for seed in range(200):
        rng = np.random.default_rng(seed)
        jittered, grey, blurred = rng.random() < 0.8, False, False
        if not jittered:
            grey, blurred = rng.random() < 0.2, rng.random() < 0.5
        if not jittered and not grey and blurred:
            half = ImageFilter.GaussianBlur(float(rng.uniform(0.1, 2.0)) / 2)
            expected = np.asarray(image.filter(half))
            assert np.array_equal(np.asarray(strong_colours(image, np.random.default_rng(seed), zoom=2)), expected)
            return
    raise AssertionError("no such seed")


@pytest.mark.parametrize("shift", [-0.1, -0.03, 0.0, 0.07, 0.5])
def test_hue_is_shifted_as_torchvision_does(shift: float) -> None:
    from torchvision.transforms.v2 import functional

    image = noise(40, 50)
    assert np.array_equal(np.asarray(shift_hue(image, shift)), np.asarray(functional.adjust_hue(image, shift)))


def test_erase_fills_the_rectangle_it_says() -> None:
    pixels = np.zeros((3, 100, 100), dtype=np.uint8)
    erase(pixels, area=0.06, ratio=1.5, rng=np.random.default_rng(0))
    filled = pixels.any(axis=0)
    assert np.count_nonzero(filled.any(axis=1)) == 30
    assert np.count_nonzero(filled.any(axis=0)) == 20
    assert 100 < pixels[:, filled].mean() < 155


def test_erase_is_cut_to_the_image() -> None:
    pixels = np.zeros((3, 10, 100), dtype=np.uint8)
    erase(pixels, area=0.2, ratio=8.0, rng=np.random.default_rng(0))
    assert np.count_nonzero(pixels.any(axis=(0, 2))) == 10


@pytest.mark.parametrize("size", [(40, 50), (1, 1), (2, 300)])
def test_strong_augmentation_takes_any_size(size: tuple[int, int]) -> None:
    for seed in range(12):
        strong = strong_augmentation(noise(*size), np.random.default_rng(seed))
        assert (strong.height, strong.width, strong.mode) == (*size, "RGB")


def test_grey_in_a_fifth_of_the_runs() -> None:
    """Judged at a corner, where little is erased (the noise is coloured)."""
    image = noise(40, 50)
    corner = [strong_augmentation(image, np.random.default_rng(seed)).getpixel((0, 0)) for seed in range(200)]
    grey = sum(len(set(pixel)) == 1 for pixel in corner if isinstance(pixel, tuple))
    assert 18 <= grey <= 60
