"""Colour augmentation keeps size and mode, and does what its parameters say."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from vlpart.data.transforms import erase, jitter_colors, shift_hue, strong_augmentation


def noise(height: int, width: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


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


@pytest.mark.parametrize("shift", [-0.1, -0.03, 0.0, 0.07, 0.5])
def test_hue_is_shifted_as_torchvision_does(shift: float) -> None:
    from torchvision.transforms.v2 import functional

    image = noise(40, 50)
    assert np.array_equal(np.asarray(shift_hue(image, shift)), np.asarray(functional.adjust_hue(image, shift)))


def test_erase_fills_the_rectangle_it_says() -> None:
    black = Image.new("RGB", (100, 100))
    erased = np.asarray(erase(black, area=0.06, ratio=1.5, rng=np.random.default_rng(0)))
    assert not np.asarray(black).any(), "the input stays as it was"
    filled = erased.any(axis=2)
    assert np.count_nonzero(filled.any(axis=1)) == 30
    assert np.count_nonzero(filled.any(axis=0)) == 20
    assert 100 < erased[filled].mean() < 155


def test_erase_is_cut_to_the_image() -> None:
    erased = np.asarray(erase(Image.new("RGB", (100, 10)), area=0.2, ratio=8.0, rng=np.random.default_rng(0)))
    assert np.count_nonzero(erased.any(axis=(1, 2))) == 10


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
