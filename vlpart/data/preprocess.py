"""RGB uint8 image -> network input: resize, normalise, pad (docs/method.md, 'Input')."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from vlpart.errors import ImageError
from vlpart.types import ImageBatch

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


def to_batch(images: Sequence[NDArray[np.uint8]], divisor: int = 32) -> ImageBatch:
    """Normalise, then zero-pad right and bottom to a common multiple of `divisor`.

    Args:
        images: (H, W, 3) uint8 RGB arrays, sizes may differ.
        divisor: both padded sides are multiples of it.

    Returns:
        `ImageBatch` with (B, 3, H', W') float32 pixels and the unpadded sizes.

    Raises:
        ImageError: no images, or one that is not (H, W, 3) uint8.
    """
    if not images:
        raise ImageError("a batch needs at least one image")
    for image in images:
        check_image(image)
    return normalise_and_pad([torch.from_numpy(_writable(image)).permute(2, 0, 1) for image in images], divisor)


def normalise_and_pad(images: Sequence[torch.Tensor], divisor: int = 32) -> ImageBatch:
    """As `to_batch`, for (3, H, W) uint8 tensors in any memory layout."""
    mean = torch.tensor(PIXEL_MEAN).view(3, 1, 1)
    std = torch.tensor(PIXEL_STD).view(3, 1, 1)
    sizes = [(int(image.shape[1]), int(image.shape[2])) for image in images]
    height, width = (-(-max(side) // divisor) * divisor for side in zip(*sizes, strict=True))
    pixels = torch.zeros((len(images), 3, height, width), dtype=torch.float32)
    for place, image, (h, w) in zip(pixels, images, sizes, strict=True):
        place[:, :h, :w].copy_(image).sub_(mean).div_(std)
    return ImageBatch(pixels=pixels, sizes_hw=sizes)


def check_image(image: NDArray[np.uint8]) -> None:
    """Raise `ImageError` unless `image` is a non-empty (H, W, 3) uint8 array."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        found = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise ImageError(
            f"an image here is an (H, W, 3) uint8 RGB array, got {found}; use vlpart.data.images.read_image"
        )
    if image.size == 0:
        raise ImageError(f"the image is empty: shape {image.shape}")


def _writable(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """torch warns about read-only memory (Pillow gives such arrays) and refuses negative strides: copy those only."""
    return image if image.flags.writeable and min(image.strides) >= 0 else image.copy()
