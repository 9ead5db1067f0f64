"""Training pictures from disk: Pillow, JPEGs at reduced resolution where the target is much smaller."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from vlpart.errors import DataError, ImageError

_EXIF_ORIENTATION = 0x0112


def decode_image(path: Path, size: tuple[int, int], shortest_needed: int | None = None) -> NDArray[np.uint8]:
    """Read a training picture as RGB.

    Args:
        path: file.
        size: (height, width) that the annotations say.
        shortest_needed: the shorter side that training needs. A JPEG with at least twice that is decoded at 1/2, 1/4 or
            1/8 of its size, never below what is needed.

    Returns:
        (H, W, 3) uint8: of that size, or smaller by the JPEG's own reduction. EXIF orientation is applied, unless only
        the unrotated picture has the size the annotations say.

    Raises:
        DataError: missing or broken file, or another size than the annotations say.
    """
    try:
        with Image.open(path) as image:
            if image.format == "JPEG" and image.mode in ("RGB", "L") and image.getexif().get(_EXIF_ORIENTATION, 1) == 1:
                _check_size(path, (image.height, image.width), size)
                if shortest_needed is not None:
                    scale = shortest_needed / min(size)
                    image.draft("RGB", (max(1, int(size[1] * scale)), max(1, int(size[0] * scale))))
                return np.array(image.convert("RGB"))
    except FileNotFoundError:
        raise DataError(f"the picture {path} is missing") from None
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"cannot decode {path}: {error}; replace the file or take it out of the annotations") from None
    return _decode_other(path, size)


def _decode_other(path: Path, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Rotated JPEGs, CMYK, PNG and everything else."""
    from vlpart.data.images import read_image

    try:
        array = read_image(path)
        if array.shape[:2] != size:
            with Image.open(path) as image:
                if (image.height, image.width) == size:
                    array = np.array(image.convert("RGB"))
    except (ImageError, OSError) as error:
        raise DataError(f"cannot decode {path}: {error}; replace the file or take it out of the annotations") from None
    _check_size(path, (array.shape[0], array.shape[1]), size)
    return array


def _check_size(path: Path, found: tuple[int, int], stated: tuple[int, int]) -> None:
    if found != stated:
        raise DataError(
            f"{path} is {found[1]}x{found[0]} pixels, its annotations say {stated[1]}x{stated[0]}; "
            "correct width and height in the annotation file"
        )
