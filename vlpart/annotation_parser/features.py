"""What a picture looks like to a network: a class token, and a descriptor and a saliency for every patch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vlpart.errors import DownloadError, ImageError, ModelNotFoundError
from vlpart.models.devices import autocast, choose_device, choose_precision

if TYPE_CHECKING:
    from torch import device as Device

DINO = "dino_vits8"
EMBEDDED = "embedded"
TIMM = "timm:"

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_HUB_REPOSITORY, _HUB_FILE = "timm/vit_small_patch8_224.dino", "model.safetensors"
_HUB_URL = f"https://huggingface.co/{_HUB_REPOSITORY}/resolve/main/{_HUB_FILE}"
_DINO_FILE = "dino_deitsmall8_pretrain.pth"
_DINO_URL = f"https://dl.fbaipublicfiles.com/dino/dino_deitsmall8_pretrain/{_DINO_FILE}"


@dataclass(frozen=True, kw_only=True)
class ImageFeatures:
    """One picture.

    Attributes:
        class_token: (T,) float32, for finding similar pictures.
        descriptors: (N, D) float32, patches in row-major order, for finding similar patches.
        saliency: (N,) float32 in 0..1.
        grid: rows and columns of patches, N = rows * columns; the grid spans the picture.
    """

    class_token: Tensor
    descriptors: Tensor
    saliency: Tensor
    grid: tuple[int, int]


class FeatureExtractor(Protocol):
    """A network that describes pictures.

    Attributes:
        name: what `load_features` makes it from.
        fingerprint: of the weights; a reference bank is good for these only.
        foreground: patches with a saliency above it belong to the object.
        smallest_side: both sides of a picture need so many pixels, see `check_describable`.
        short_side, max_side: the size of picture it is good at, in pixels.
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
        """Features of (H, W, 3) uint8 RGB pictures, in order; those of one size run as one batch.

        Raises:
            ImageError: one of them is too small, and none is described: `check_describable` tells before.
        """
        ...


def check_describable(image: NDArray[np.uint8], features: FeatureExtractor) -> None:
    """Refuse a (H, W, 3) picture, in the size in which it would be described, that is too small for an extractor.

    Raises:
        ImageError: a side has less than `smallest_side` pixels.
    """
    height, width = image.shape[:2]
    if min(height, width) < features.smallest_side:
        raise ImageError(
            f"a picture of {width}x{height} pixels is too small for {features.name} features, which take "
            f"{features.smallest_side} at least on each side"
        )


class DinoFeatures:
    """DINO ViT-S/8 with patch stride 4, as published (SPEC.md section 3).

    Args:
        model: the transformer, with weights.
        device, precision: where to run; see `choose_precision`.

    Raises:
        VlpartError: the device is not here, or there is no such precision.
    """

    name = DINO
    foreground = 0.05
    smallest_side = 8  # a patch
    short_side = 224
    max_side = 672

    def __init__(self, model: nn.Module, device: str | Device = "cpu", precision: str = "float32") -> None:
        self.device = choose_device(device)
        self.precision = choose_precision(precision, self.device)
        self.model = model.to(self.device).eval()

    @property
    def fingerprint(self) -> str:
        """Of the weights."""
        return fingerprint(self.model)

    @torch.inference_mode()
    def describe(self, images: Sequence[NDArray[np.uint8]]) -> list[ImageFeatures]:
        """See `FeatureExtractor.describe`."""
        for image in images:
            check_describable(image, self)
        found: list[ImageFeatures | None] = [None] * len(images)
        for indices, pixels in batches_of_one_size(images, self.device):
            with autocast(self.device, self.precision):
                output = self.model(pixels)
            saliency = output.saliency()
            for row, index in enumerate(indices):
                found[index] = ImageFeatures(
                    class_token=output.class_tokens[row].float(),
                    descriptors=output.keys[row].float(),
                    saliency=saliency[row].float(),
                    grid=output.grid,
                )
        return [features for features in found if features is not None]


def load_features(
    name: str = DINO,
    *,
    weights: str | Path | None = None,
    device: str | Device | None = "cpu",
    precision: str = "float32",
    on_fallback: Callable[[str], None] | None = None,
) -> FeatureExtractor:
    """A feature extractor by name.

    Args:
        name: "dino_vits8"; "embedded" (backbone and pyramid of the embedded detector); "timm:NAME" for any timm model,
            for example "timm:vit_base_patch14_dinov2" or "timm:resnet50".
        weights: a local file instead of the download, for "embedded" instead of the embedded weights.
        device, precision: where to run; see `choose_device` and `choose_precision`.
        on_fallback: if given and the weights cannot be had, it is told why, and the embedded extractor is returned.

    Raises:
        ModelNotFoundError: no such extractor.
        DownloadError: the weights are not here and cannot be fetched; the message says what to do.
        WeightsError: the weight file is missing, damaged, or of another model.
        VlpartError: the device is not here, or there is no such precision.
    """
    from vlpart.annotation_parser.map_features import load_embedded
    from vlpart.annotation_parser.timm_features import load_timm

    device = choose_device(device)  # before anything is downloaded
    precision = choose_precision(precision, device)
    if name == EMBEDDED:
        return load_embedded(device, precision, weights)
    if name.startswith(TIMM):
        load: Callable[[], FeatureExtractor] = lambda: load_timm(name, device, precision, weights)  # noqa: E731
    elif name == DINO:
        load = lambda: _load_dino(weights, device, precision)  # noqa: E731
    else:
        raise ModelNotFoundError(f"no feature extractor {name!r}: use {DINO}, {EMBEDDED} or {TIMM}NAME")
    try:
        return load()
    except DownloadError as error:
        if on_fallback is None:
            raise
        on_fallback(f"{error} Going on with the features of the embedded model, which are weaker.")
        return load_embedded(device, precision)


def _load_dino(weights: str | Path | None, device: str | Device, precision: str) -> DinoFeatures:
    from vlpart.annotation_parser.dino import VisionTransformer, load_weights
    from vlpart.zoo.weights import load_state_dict

    path = Path(weights) if weights is not None else _find_dino()
    model = VisionTransformer()
    load_weights(model, load_state_dict(path), str(path))
    return DinoFeatures(model, device, precision)


def _find_dino() -> Path:
    """The weight file: in our cache, in timm's, or downloaded from where timm has it, else from DINO's own address."""
    from huggingface_hub import try_to_load_from_cache

    from vlpart.zoo.download import cache_folder, download_file

    folder = cache_folder() / "features"
    ours = folder / "vit_small_patch8_224.dino.safetensors"
    for path in (ours, folder / _DINO_FILE):
        if path.is_file():
            return path
    cached = try_to_load_from_cache(_HUB_REPOSITORY, _HUB_FILE)
    if isinstance(cached, str):
        return Path(cached)
    try:
        return download_file(_HUB_URL, ours)
    except DownloadError:
        try:
            return download_file(_DINO_URL, folder / _DINO_FILE)
        except DownloadError as error:
            raise DownloadError(
                f"The weights of DINO ViT-S/8 are not here ({str(error).rstrip('.')}). Fetch {_DINO_URL} where there "
                f"is a network and put it into {folder}, or pass it with --feature-weights; --features {EMBEDDED} "
                "needs none."
            ) from error


def batches_of_one_size(
    images: Sequence[NDArray[np.uint8]],
    device: torch.device,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
) -> Iterator[tuple[list[int], Tensor]]:
    """Indices and normalised pixels (B, 3, H, W) float32 of all pictures of the same size.

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
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
