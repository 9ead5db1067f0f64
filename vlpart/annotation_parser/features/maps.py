"""Features from the maps of any convolutional network or transformer: the embedded detector's, or another's.

These networks have no class token that attends to the object, so two simple rules stand in for it: a patch is salient
where it differs from the border of the image, and the class token is the salient mean of the deepest map.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from vlpart.annotation_parser.features.base import (
    EMBEDDED,
    IMAGENET_MEAN,
    IMAGENET_STD,
    ImageFeatures,
    batches_of_one_size,
    fingerprint,
)
from vlpart.runtime import autocast, choose_device, choose_precision

if TYPE_CHECKING:
    from torch import device as Device

GRID_STRIDE = 8
"""Pixels between the patches that are described."""


class MapFeatures:
    """Descriptors are a network's maps, each resized to one grid, normalised per patch, joined, and centred.

    Without centring, what all patches of an image have in common drowns what tells them apart.

    Args:
        name: see `FeatureExtractor`.
        model: the network.
        maps: from (B, 3, H, W) pixels to maps (B, C, h, w) that span them, the deepest one last.
        step: what both sides of the pixels must be multiples of; images are stretched to the nearest.
        size: height and width to which every image is stretched, for networks that take nothing else.
        mean, std: of the pixels that the network was made for.
        short_side, max_side: see `FeatureExtractor`.
        device, precision: where to run; see `choose_precision`.

    Raises:
        VlpartError: the device is not here, or there is no such precision.
    """

    foreground = 0.5
    smallest_side = 1

    def __init__(
        self,
        name: str,
        model: nn.Module,
        maps: Callable[[Tensor], Sequence[Tensor]],
        *,
        step: int,
        short_side: int,
        max_side: int,
        size: tuple[int, int] | None = None,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        device: str | Device = "cpu",
        precision: str = "float32",
    ) -> None:
        self.name = name
        self.device = choose_device(device)
        self.precision = choose_precision(precision, self.device)
        self.model = model.to(self.device).eval()
        self.short_side, self.max_side = short_side, max_side
        self._maps = maps
        self._step = step
        self._size = size
        self._mean, self._std = tuple(mean), tuple(std)

    @property
    def fingerprint(self) -> str:
        """Of the weights, and of mean and standard deviation where they are not ImageNet's."""
        usual = (self._mean, self._std) == (IMAGENET_MEAN, IMAGENET_STD)
        return fingerprint(self.model, "" if usual else f"{self._mean} {self._std}")

    @torch.inference_mode()
    def describe(self, images: Sequence[NDArray[np.uint8]]) -> list[ImageFeatures]:
        """See `FeatureExtractor.describe`."""
        described: list[ImageFeatures | None] = [None] * len(images)
        for indices, pixels in batches_of_one_size(images, self.device, self._mean, self._std):
            sides = self._size or [max(1, round(side / self._step)) * self._step for side in pixels.shape[2:]]
            with autocast(self.device, self.precision):
                maps = [m.float() for m in self._maps(_resize(pixels, (sides[0], sides[1])))]
            grid = (-(-sides[0] // GRID_STRIDE), -(-sides[1] // GRID_STRIDE))
            on_grid = [_resize(m, grid) for m in maps]
            for row, index in enumerate(indices):
                described[index] = _describe([m[row] for m in on_grid], grid)
        return [features for features in described if features is not None]


def _resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return maps if maps.shape[2:] == size else F.interpolate(maps, size=size, mode="bilinear", align_corners=False)


def _describe(maps: Sequence[Tensor], grid: tuple[int, int]) -> ImageFeatures:
    """Features of one image from (C, rows, columns) maps, the deepest one last."""
    flat = [m.flatten(1).T for m in maps]
    joined = F.normalize(torch.cat([F.normalize(m, dim=1) for m in flat], dim=1), dim=1)
    saliency = unlike_border(joined, grid)
    centred = torch.cat([F.normalize(m - m.mean(dim=0), dim=1) for m in flat], dim=1)
    return ImageFeatures(
        class_token=saliency @ flat[-1] + flat[-1].mean(dim=0),
        descriptors=centred,
        saliency=saliency,
        grid=grid,
    )


def unlike_border(patches: Tensor, grid: tuple[int, int]) -> Tensor:
    """(N,) saliency: cosine distance of (N, D) patches to the mean of the border of the grid, scaled to 0..1."""
    on_grid = patches.view(*grid, -1)
    border = torch.cat((on_grid[0], on_grid[-1], on_grid[:, 0], on_grid[:, -1])).mean(dim=0)
    distance = -(F.normalize(patches, dim=1) @ F.normalize(border, dim=0))
    low, high = distance.min(), distance.max()
    return (distance - low) / (high - low).clamp(min=1e-12)


def load_embedded(
    device: str | Device = "cpu", precision: str = "float32", weights: str | Path | None = None
) -> MapFeatures:
    """The pyramid and the deepest backbone map of the embedded detector: always there, weaker than DINO.

    Args:
        device, precision: where to run; see `choose_precision`.
        weights: a detector of the same architecture that was trained otherwise; None = the embedded model.

    Raises:
        WeightsError: the file is missing or damaged, or holds another architecture.
    """
    from vlpart.models.config import get_architecture
    from vlpart.models.load import detector_of
    from vlpart.zoo.resolve import resolve

    resolved = resolve("tiny", weights)
    loaded = detector_of(state := resolved.read(), resolved.fetch(), resolved.expected(state))
    detector = loaded.detector
    sizes = get_architecture(loaded.architecture)

    def maps(pixels: Tensor) -> list[Tensor]:
        """Three levels of the pyramid and the coarsest map of the backbone."""
        backbone = detector.backbone(pixels)
        return [*detector.fpn(backbone)[1:4], backbone[-1]]

    model = nn.ModuleList([detector.backbone, detector.fpn])
    return MapFeatures(
        EMBEDDED,
        model,
        maps,
        step=32,
        short_side=sizes.short_side,
        max_side=sizes.max_side,
        device=device,
        precision=precision,
    )
