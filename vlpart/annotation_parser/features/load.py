"""Feature extractors by name, and the weights they need: here, in a cache, or downloaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from vlpart.annotation_parser.features.base import DINO, EMBEDDED, TIMM, FeatureExtractor
from vlpart.errors import DownloadError, ModelNotFoundError
from vlpart.runtime import choose_device, choose_precision

if TYPE_CHECKING:
    from torch import device as Device

    from vlpart.annotation_parser.features.vit import DinoFeatures

_HUB_REPOSITORY, _HUB_FILE = "timm/vit_small_patch8_224.dino", "model.safetensors"
_HUB_URL = f"https://huggingface.co/{_HUB_REPOSITORY}/resolve/main/{_HUB_FILE}"
_DINO_FILE = "dino_deitsmall8_pretrain.pth"
_DINO_URL = f"https://dl.fbaipublicfiles.com/dino/dino_deitsmall8_pretrain/{_DINO_FILE}"


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
    from vlpart.annotation_parser.features.maps import load_embedded
    from vlpart.annotation_parser.features.timm import load_timm

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
    from vlpart.annotation_parser.features.vit import DinoFeatures, VisionTransformer, load_weights
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
