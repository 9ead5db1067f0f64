"""Sizes of pictures from their headers, without decoding."""

from __future__ import annotations

from pathlib import Path

from vlpart.errors import DataError


def picture_size(path: Path) -> tuple[int, int]:
    """(width, height) as stored: EXIF orientation is not applied.

    Raises:
        DataError: missing, empty, or no picture.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            width, height = image.size
    except FileNotFoundError:
        raise DataError("the picture is missing") from None
    except Exception as error:  # noqa: BLE001 - decoders raise anything on a damaged header
        raise DataError(f"the picture cannot be read ({type(error).__name__}); download it again") from None
    if width < 1 or height < 1:
        raise DataError(f"the picture has the size {width}x{height}")
    return width, height
