"""Training images: sizes are checked against the annotations, rotated and odd files are read, broken ones named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vlpart.data.loader import decode_image
from vlpart.errors import DataError

from .conftest import gradient


@pytest.fixture
def image() -> np.ndarray:
    return gradient(64, 96)


def test_jpeg(tmp_path: Path, image: np.ndarray) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(image).save(path, quality=95)
    decoded = decode_image(path, (64, 96))
    assert np.array_equal(decoded, np.asarray(Image.open(path)))
    assert decoded.flags.writeable


@pytest.mark.parametrize(("needed", "size"), [(64, (64, 96)), (33, (64, 96)), (32, (32, 48)), (5, (8, 12))])
def test_large_jpegs_are_decoded_small(tmp_path: Path, image: np.ndarray, needed: int, size: tuple[int, int]) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(image).save(path, quality=95)
    decoded = decode_image(path, (64, 96), shortest_needed=needed)
    assert decoded.shape == (*size, 3)
    expected = np.asarray(Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BOX))
    assert np.abs(decoded.astype(int) - expected).mean() < 3


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1"])
def test_other_modes(tmp_path: Path, image: np.ndarray, mode: str) -> None:
    path = tmp_path / ("a.jpg" if mode in ("L", "CMYK") else "a.png")
    Image.fromarray(image).convert(mode).save(path)
    assert decode_image(path, (64, 96), shortest_needed=8).shape[2] == 3


def test_orientation_follows_the_annotations(tmp_path: Path, image: np.ndarray) -> None:
    path = tmp_path / "a.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    Image.fromarray(image).save(path, exif=exif, quality=95)
    upright = decode_image(path, (96, 64))
    as_stored = decode_image(path, (64, 96))
    assert np.array_equal(upright, np.rot90(as_stored, -1))


def test_broken_files_are_named(tmp_path: Path, image: np.ndarray) -> None:
    path = tmp_path / "a.jpg"
    with pytest.raises(DataError, match=r"a\.jpg is missing"):
        decode_image(path, (64, 96))
    Image.fromarray(image).save(path)
    with pytest.raises(DataError, match=r"a\.jpg is 96x64 pixels, its annotations say 64x64"):
        decode_image(path, (64, 64))
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(DataError, match=r"cannot decode .*a\.jpg"):
        decode_image(path, (64, 96))
    path.write_text("no image")
    with pytest.raises(DataError, match=r"cannot decode .*a\.jpg"):
        decode_image(path, (64, 96))
    png = tmp_path / "a.png"
    Image.fromarray(image).save(png)
    png.write_bytes(png.read_bytes()[:-30])
    with pytest.raises(DataError, match=r"cannot decode .*a\.png"):
        decode_image(png, (64, 96))
