"""Resizing is Pillow's own, normalisation comes before padding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vlpart.data.preprocess import to_batch
from vlpart.data.resize import PIXEL_MEAN, PIXEL_STD, resize_shorter_side, resized_size
from vlpart.errors import ImageError


@pytest.mark.parametrize(
    ("size", "limits", "expected"),
    [
        ((480, 640), (800, 1333), (800, 1067)),
        ((640, 480), (800, 1333), (1067, 800)),
        ((375, 500), (800, 1333), (800, 1067)),
        ((100, 1000), (800, 1333), (133, 1333)),
        ((512, 512), (256, 427), (256, 256)),
        ((300, 451), (256, 427), (256, 385)),
        ((5, 2), (3, 100), (8, 3)),  # 7.5 rounds up
        ((1, 5000), (800, 1333), (1, 1333)),  # never below one pixel
        ((120, 496), (800, 1333), (322, 1333)),  # an exact half that the order of the two limits decides
    ],
)
def test_sizes(size: tuple[int, int], limits: tuple[int, int], expected: tuple[int, int]) -> None:
    assert resized_size(*size, *limits) == expected


def test_resize_is_pillow_bilinear() -> None:
    image = np.random.default_rng(0).integers(0, 256, (37, 53, 3), dtype=np.uint8)
    resized = resize_shorter_side(image, 64, 80)
    expected = np.asarray(Image.fromarray(image).resize((80, 56), Image.Resampling.BILINEAR))
    assert resized.dtype == np.uint8
    assert np.array_equal(resized, expected)


def test_same_size_is_unchanged() -> None:
    image = np.random.default_rng(0).integers(0, 256, (37, 53, 3), dtype=np.uint8)
    assert np.array_equal(resize_shorter_side(image, 37, 53), image)


def test_batch_is_normalised_then_padded() -> None:
    images = [np.full((33, 40, 3), 100, dtype=np.uint8), np.zeros((20, 65, 3), dtype=np.uint8)]
    batch = to_batch(images)
    assert batch.pixels.shape == (2, 3, 64, 96)
    assert batch.pixels.dtype == torch.float32
    assert list(batch.sizes_hw) == [(33, 40), (20, 65)]
    expected = (100 - torch.tensor(PIXEL_MEAN)) / torch.tensor(PIXEL_STD)
    torch.testing.assert_close(batch.pixels[0, :, :33, :40], expected.view(3, 1, 1).expand(3, 33, 40))
    assert not batch.pixels[0, :, 33:].any()
    assert not batch.pixels[0, :, :, 40:].any()
    assert not batch.pixels[1, :, 20:].any()


def test_batch_takes_read_only_and_mirrored_arrays() -> None:
    image = np.random.default_rng(0).integers(0, 256, (8, 9, 3), dtype=np.uint8)
    frozen = image.copy()
    frozen.flags.writeable = False
    both = to_batch([frozen, image[:, ::-1]], divisor=1)
    torch.testing.assert_close(both.pixels[0], both.pixels[1].flip(2))


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8), [[1]]]
)
def test_refuses_what_is_no_rgb_image(image: object) -> None:
    with pytest.raises(ImageError, match=r"RGB|empty"):
        resize_shorter_side(image, 8, 8)  # type: ignore[arg-type]
    with pytest.raises(ImageError, match=r"RGB|empty"):
        to_batch([image])  # type: ignore[list-item]


def test_refuses_an_empty_batch_and_no_size() -> None:
    with pytest.raises(ImageError, match="at least one image"):
        to_batch([])
    with pytest.raises(ImageError, match="at least 1 pixel"):
        resize_shorter_side(np.zeros((4, 4, 3), np.uint8), 0, 8)


def test_equals_the_original_on_the_parity_images(shared: Path) -> None:
    fixtures = sorted((shared / "parity").glob("*__small.npz"))
    if not fixtures:
        pytest.skip("the shared folder has no parity fixtures")
    for path in fixtures:
        with np.load(path) as arrays:
            resized = resize_shorter_side(np.ascontiguousarray(arrays["orig_image"]), 256, 427)
            assert np.array_equal(resized.transpose(2, 0, 1), arrays["image"]), path.name
