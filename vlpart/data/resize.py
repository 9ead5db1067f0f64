"""The size of the network input, and an image resized to it (docs/method.md, 'Input'). Imports no torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vlpart.errors import ImageError

PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)


def resized_size(height: int, width: int, short_side: int, max_side: int) -> tuple[int, int]:
    """Height and width after resizing the shorter side to `short_side` with the longer side at most `max_side`.

    New sizes are rounded with `int(x + 0.5)` and are at least 1. The two limits are applied one after the other: exact
    halves then round as in the published models (about one image size in ten thousand differs otherwise).
    """
    scale = short_side / min(height, width)
    if height < width:
        new_height, new_width = float(short_side), scale * width
    else:
        new_height, new_width = scale * height, float(short_side)
    longest = max(new_height, new_width)
    if longest > max_side:
        shrink = max_side / longest
        new_height, new_width = new_height * shrink, new_width * shrink
    return max(1, int(new_height + 0.5)), max(1, int(new_width + 0.5))


def resize_shorter_side(image: NDArray[np.uint8], short_side: int, max_side: int) -> NDArray[np.uint8]:
    """Resize (H, W, 3) uint8 RGB with Pillow's bilinear filter, the exact path of the published models.

    Args:
        image: (H, W, 3) uint8.
        short_side: target of the shorter side in pixels.
        max_side: the longer side is at most this.

    Returns:
        (H', W', 3) uint8; the input itself where the size does not change.

    Raises:
        ImageError: another shape or dtype, an empty image, or sides below 1.
    """
    check_image(image)
    if short_side < 1 or max_side < 1:
        raise ImageError(f"sides must be at least 1 pixel, got short_side={short_side}, max_side={max_side}")
    height, width = resized_size(image.shape[0], image.shape[1], short_side, max_side)
    if (height, width) == image.shape[:2]:
        return image
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def check_image(image: NDArray[np.uint8]) -> None:
    """Raise `ImageError` unless `image` is a non-empty (H, W, 3) uint8 array."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        shown = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise ImageError(
            f"an image here is an (H, W, 3) uint8 RGB array, got {shown}; use vlpart.data.images.read_image"
        )
    if image.size == 0:
        raise ImageError(f"the image is empty: shape {image.shape}")
