"""What an image looks like to a network: a class token, and a descriptor and a saliency for every patch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vlpart.errors import ImageError

DINO = "dino_vits8"
EMBEDDED = "embedded"
TIMM = "timm:"

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class ImageFeatures:
    """One image.

    Attributes:
        class_token: (T,) float32, for finding similar images.
        descriptors: (N, D) float32, patches in row-major order, for finding similar patches.
        saliency: (N,) float32 in 0..1.
        grid: rows and columns of patches, N = rows * columns; the grid spans the image.
    """

    class_token: Tensor
    descriptors: Tensor
    saliency: Tensor
    grid: tuple[int, int]


class FeatureExtractor(Protocol):
    """A network that describes images.

    Attributes:
        name: what `load_features` makes it from.
        fingerprint: of the weights; a reference bank is good for these only.
        foreground: patches with a saliency above it belong to the object.
        smallest_side: both sides of an image need so many pixels, see `check_describable`.
        short_side, max_side: the size of image it is good at, in pixels.
        precision: "float32" or "bf16".
    """

    name: str
    foreground: float
    smallest_side: int
    short_side: int
    max_side: int
    precision: str

    @property
    def fingerprint(self) -> str:
        """Of the weights."""
        ...

    def describe(self, images: Sequence[NDArray[np.uint8]]) -> list[ImageFeatures]:
        """Features of (H, W, 3) uint8 RGB images, in order; those of one size run as one batch.

        Raises:
            ImageError: one of them is too small, and none is described: `check_describable` tells before.
        """
        ...


def check_describable(image: NDArray[np.uint8], features: FeatureExtractor) -> None:
    """Refuse a (H, W, 3) image, in the size in which it would be described, that is too small for an extractor.

    Raises:
        ImageError: a side has less than `smallest_side` pixels.
    """
    height, width = image.shape[:2]
    if min(height, width) < features.smallest_side:
        raise ImageError(
            f"an image of {width}x{height} pixels is too small for {features.name} features, which take "
            f"{features.smallest_side} at least on each side"
        )


def batches_of_one_size(
    images: Sequence[NDArray[np.uint8]],
    device: torch.device,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
) -> Iterator[tuple[list[int], Tensor]]:
    """Indices and normalised pixels (B, 3, H, W) float32 of all images of the same size.

    Args:
        images: (H, W, 3) uint8 RGB.
        device: of the pixels.
        mean, std: of the three channels, of values in 0..1.
    """
    groups: dict[tuple[int, ...], list[int]] = {}
    for index, image in enumerate(images):
        groups.setdefault(image.shape, []).append(index)
    centre = torch.tensor(mean, device=device).view(1, 3, 1, 1)
    scale = torch.tensor(std, device=device).view(1, 3, 1, 1)
    for indices in groups.values():
        stack = torch.from_numpy(np.stack([images[i] for i in indices])).to(device)
        yield indices, (stack.permute(0, 3, 1, 2).float() / 255 - centre) / scale


def fingerprint(model: nn.Module, also: str = "") -> str:
    """SHA-256 over the weights of a network, and over what else its output depends on, shortened."""
    digest = hashlib.sha256(also.encode())
    for name, weight in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(weight.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
