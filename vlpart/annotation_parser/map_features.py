"""Features from the maps of any convolutional network or transformer: the embedded detector's, or a timm model's.

These networks have no class token that attends to the object, so two simple rules stand in for it: a patch is salient
where it differs from the border of the picture, and the class token is the salient mean of the deepest map.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from vlpart.annotation_parser.features import (
    EMBEDDED,
    TIMM,
    ImageFeatures,
    autocast,
    batches_of_one_size,
    fingerprint,
)
from vlpart.errors import DownloadError, ModelNotFoundError

if TYPE_CHECKING:
    from torch import device as Device

GRID_STRIDE = 8
"""Pixels between the patches that are described."""


class MapFeatures:
    """Descriptors are a network's maps, each resized to one grid, normalised per patch, joined, and centred.

    Without centring, what all patches of a picture have in common drowns what tells them apart.

    Args:
        name: see `FeatureExtractor`.
        model: the network.
        maps: from (B, 3, H, W) pixels to maps (B, C, h, w) that span them, the deepest one last.
        step: what both sides of the pixels must be multiples of; pictures are stretched to the nearest.
        short_side, max_side: see `FeatureExtractor`.
    """

    foreground = 0.5

    def __init__(
        self,
        name: str,
        model: nn.Module,
        maps: Callable[[Tensor], Sequence[Tensor]],
        *,
        step: int,
        short_side: int,
        max_side: int,
        device: str | Device = "cpu",
        precision: str = "float32",
    ) -> None:
        self.name = name
        self.model = model.to(device).eval()
        self.short_side, self.max_side = short_side, max_side
        self.device = torch.device(device)
        self.precision = precision
        self._maps = maps
        self._step = step

    @property
    def fingerprint(self) -> str:
        """Of the weights."""
        return fingerprint(self.model)

    @torch.inference_mode()
    def describe(self, images: Sequence[NDArray[np.uint8]]) -> list[ImageFeatures]:
        """See `FeatureExtractor.describe`."""
        found: list[ImageFeatures | None] = [None] * len(images)
        for indices, pixels in batches_of_one_size(images, self.device):
            sides = [max(1, round(side / self._step)) * self._step for side in pixels.shape[2:]]
            with autocast(self.device, self.precision):
                maps = [m.float() for m in self._maps(_resize(pixels, (sides[0], sides[1])))]
            grid = (-(-sides[0] // GRID_STRIDE), -(-sides[1] // GRID_STRIDE))
            on_grid = [_resize(m, grid) for m in maps]
            for row, index in enumerate(indices):
                found[index] = _describe([m[row] for m in on_grid], grid)
        return [features for features in found if features is not None]


def _resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return maps if maps.shape[2:] == size else F.interpolate(maps, size=size, mode="bilinear", align_corners=False)


def _describe(maps: Sequence[Tensor], grid: tuple[int, int]) -> ImageFeatures:
    """Features of one picture from (C, rows, columns) maps, the deepest one last."""
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
        device, precision: where to run; "float32" or "bf16".
        weights: a detector of the same architecture that was trained otherwise; None = the embedded model.

    Raises:
        WeightsError: the file is missing or damaged, or holds another architecture.
    """
    from vlpart.models.build import get_architecture
    from vlpart.models.load import load_detector
    from vlpart.zoo.download import download_model

    path = download_model("tiny") if weights is None else Path(weights)
    detector = load_detector(path, "tiny").detector
    sizes = get_architecture("tiny")

    def maps(pixels: Tensor) -> list[Tensor]:
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


def load_timm(name: str, device: str | Device = "cpu", precision: str = "float32") -> MapFeatures:
    """The last three maps of a timm model with its published weights.

    Args:
        name: "timm:" and a model of `timm.list_models()`.

    Raises:
        ModelNotFoundError: timm has no such model, or it gives no maps.
        DownloadError: the weights cannot be fetched.
    """
    import timm

    short = name.removeprefix(TIMM)
    if not timm.is_model(short):
        near = timm.list_models(f"*{short.split('.')[0]}*")[:5]
        raise ModelNotFoundError(
            f"timm has no model {short!r}" + (f": did you mean {', '.join(near)}?" if near else "")
        )
    try:
        model = timm_maps(short, pretrained=True)
    except (OSError, ValueError) as error:  # what the hub's client raises without a network is an OSError
        reason = str(error).splitlines()[0].rstrip(".")
        raise DownloadError(
            f"The weights of timm's {short} cannot be had ({reason}). Run it once where there is a network, or use "
            f"--features {EMBEDDED}, which needs none."
        ) from error
    return timm_features(name, model, device, precision)


def timm_features(name: str, model: nn.Module, device: str | Device = "cpu", precision: str = "float32") -> MapFeatures:
    """Wrap a timm model that gives feature maps."""
    info: Any = model.feature_info

    def maps(pixels: Tensor) -> list[Tensor]:
        found = zip(model(pixels), info.channels(), strict=True)
        return [
            m if m.shape[1] == channels else m.permute(0, 3, 1, 2) for m, channels in found
        ]  # some put channels last

    step = max(info.reduction())
    return MapFeatures(name, model, maps, step=step, short_side=448, max_side=896, device=device, precision=precision)


def timm_maps(name: str, *, pretrained: bool) -> nn.Module:
    """The model without its head, as a function from pixels to its last three maps.

    Raises:
        ModelNotFoundError: the model gives no maps.
    """
    import timm

    options = {"pretrained": pretrained, "features_only": True, "out_indices": (-3, -2, -1)}
    try:
        return timm.create_model(name, **options, dynamic_img_size=True)  # transformers with a position table
    except TypeError:
        pass  # models of any other kind do not know the option
    try:
        return timm.create_model(name, **options)
    except (AttributeError, RuntimeError, TypeError) as error:
        raise ModelNotFoundError(f"timm's {name} gives no feature maps: choose another model") from error
