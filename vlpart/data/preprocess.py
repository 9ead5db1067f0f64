"""Resized RGB uint8 images -> network input: normalise, pad (docs/method.md, 'Input')."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from vlpart.checks import typed, whole
from vlpart.data.resize import PIXEL_MEAN, PIXEL_STD, check_image
from vlpart.errors import ImageError
from vlpart.types import ImageBatch

_STRIP = 32  # rows that are normalised at a time: they stay in the cache


@typed("divisor")
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
    divisor = whole("divisor", divisor, 1, 4096)
    if not len(images):
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
    pixels = torch.empty((len(images), 3, height, width), dtype=torch.float32)
    for place, image, (h, w) in zip(pixels, images, sizes, strict=True):
        place[:, h:], place[:, :h, w:] = 0, 0
        for top in range(0, h, _STRIP):
            place[:, top : min(top + _STRIP, h), :w].copy_(image[:, top : top + _STRIP]).sub_(mean).div_(std)
    return ImageBatch(pixels=pixels, sizes_hw=sizes)


def _writable(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """torch warns about read-only memory (Pillow gives such arrays) and refuses negative strides: copy those only."""
    return image if image.flags.writeable and min(image.strides) >= 0 else image.copy()
