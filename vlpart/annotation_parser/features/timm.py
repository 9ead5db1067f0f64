"""Features from the maps of a timm model, by name, with its published weights or those of a file."""

from __future__ import annotations

import logging
import urllib.error
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from vlpart.annotation_parser.features.base import EMBEDDED, TIMM
from vlpart.annotation_parser.features.maps import MapFeatures
from vlpart.errors import DownloadError, ModelNotFoundError, WeightsError
from vlpart.files import is_file

if TYPE_CHECKING:
    from torch import device as Device

SHORT_SIDE, MAX_SIDE = 448, 896
"""Of images, in pixels, for networks that take any size."""
PROBED = 256
"""Pixels of the side at which a network is tried out, unless it takes only its own size."""

_GOOD = f"{TIMM}vit_small_patch14_dinov2 or {TIMM}resnet50"
_LAST_MAPS = (-3, -2, -1)
_UNFIT = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What the models raise at options and images that they do not take: each something else."""
_HUB_FILES = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True, kw_only=True)
class TimmMaps:
    """A timm model without its head, in evaluation mode.

    Attributes:
        name: timm's.
        network: from (B, 3, H, W) pixels to its last three maps, (B, C, h, w) or (B, h, w, C).
        options: of `timm.create_model`, beyond the usual ones.
        step, size: of the images that it takes, see `MapFeatures`.
    """

    name: str
    network: nn.Module
    options: Mapping[str, Any]
    step: int
    size: tuple[int, int] | None


def load_timm(
    name: str, device: str | Device = "cpu", precision: str = "float32", weights: str | Path | None = None
) -> MapFeatures:
    """The last three maps of a timm model.

    Args:
        name: "timm:" and a model of `timm.list_models()`, with or without the tag of its weights.
        device, precision: where to run; see `choose_precision`.
        weights: a local file instead of the published weights, in any format that timm reads.

    Raises:
        ModelNotFoundError: timm has no such model, or it gives no maps.
        DownloadError: the weights cannot be fetched.
        WeightsError: the file is missing, damaged, or of another model.
    """
    short = name.removeprefix(TIMM)
    _check_name(short)
    maps = timm_maps(short)
    path = _find_weights(maps) if weights is None else Path(weights)
    return timm_features(with_weights(maps, path), device, precision)


def timm_features(maps: TimmMaps, device: str | Device = "cpu", precision: str = "float32") -> MapFeatures:
    """The features that the maps of a model make; pixels are normalised as it was trained."""
    channels = _info(maps.network).channels()
    config: Any = maps.network.pretrained_cfg

    def in_rows(pixels: Tensor) -> list[Tensor]:
        """The maps of the network, each (B, C, H, W)."""
        feature_maps = zip(maps.network(pixels), channels, strict=True)
        # Some networks put channels last.
        return [m if m.shape[1] == count else m.permute(0, 3, 1, 2) for m, count in feature_maps]

    return MapFeatures(
        f"{TIMM}{maps.name}",
        maps.network,
        in_rows,
        step=maps.step,
        size=maps.size,
        short_side=min(maps.size) if maps.size else SHORT_SIDE,
        max_side=2 * min(maps.size) if maps.size else MAX_SIDE,
        mean=config["mean"],
        std=config["std"],
        device=device,
        precision=precision,
    )


# ---- what a model takes


def timm_maps(name: str) -> TimmMaps:
    """A model with random weights, always the same ones. It is tried out to see which images it takes.

    Raises:
        ModelNotFoundError: it gives no maps.
    """
    reason = ""
    # The option lets transformers with a position table take any size; most other models do not know it.
    for options in ({"dynamic_img_size": True}, {}):
        try:
            network = _create(name, options)
        except _UNFIT as error:
            reason = _line(error)
            continue
        for step, size, tried in _candidates(network):
            reason = _failure(network, tried)
            if not reason:
                return TimmMaps(name=name, network=network, options=options, step=step, size=size)
        break
    raise ModelNotFoundError(f"timm's {name} gives no maps of an image ({reason}): choose another, as {_GOOD}")


def _create(name: str, options: Mapping[str, Any], *, seed: int = 0, weights: Path | None = None) -> nn.Module:
    """A model without its head. Without weights, those of the same seed are the same."""
    import timm

    pretrained_options: dict[str, Any] = {}
    if weights is not None:
        # Of timm's published weights, some have a format of their own, which no local file is taken to have.
        pretrained_options = {
            "pretrained": True,
            "pretrained_cfg_overlay": {"file": str(weights), "custom_load": False},
        }
    with torch.random.fork_rng(devices=[]), _quiet():
        torch.default_generator.manual_seed(seed)
        model: nn.Module = timm.create_model(
            name, features_only=True, out_indices=_LAST_MAPS, **pretrained_options, **options
        )
    return model.eval()


@contextmanager
def _quiet() -> Iterator[None]:
    """Without timm's warning that lists every weight of a file that it has no use for, as those of another model."""
    logger = logging.getLogger("timm")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _candidates(network: nn.Module) -> Iterator[tuple[int, tuple[int, int] | None, tuple[int, int]]]:
    """Ways to fit images to a model, the best first: `step` and `size` of `MapFeatures`, and a size that tells.

    They are: multiples of its stride; multiples of the size that it was trained for, as windows that must come out
    even need; that size alone.
    """
    config: Any = network.pretrained_cfg
    _, height, width = config["input_size"]
    stride = max(_info(network).reduction())
    near = max(1, round(min(height, width, PROBED) / stride))
    yield stride, None, (near * stride, (near + 1) * stride)
    if height == width:
        yield height, None, (height, 2 * height)
    yield stride, (height, width), (height, width)


@torch.inference_mode()
def _failure(network: nn.Module, size: tuple[int, int]) -> str:
    """Why a model gives no maps of an image of a height and width; empty if it does."""
    try:
        maps = list(zip(_info(network).channels(), network(torch.zeros(1, 3, *size)), strict=True))
    except _UNFIT as error:
        return _line(error)
    shapes = [tuple(m.shape) for channels, m in maps if m.ndim != 4 or channels not in (m.shape[1], m.shape[3])]
    return f"one is of the shape {shapes[0]}" if shapes else ""


def _info(network: nn.Module) -> Any:
    """Strides and channels of the maps."""
    return network.feature_info


def _line(error: BaseException) -> str:
    """What an error says, on one line that is not too long."""
    return " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__


# ---- weights


def with_weights(maps: TimmMaps, path: Path) -> TimmMaps:
    """The same model with the weights of a file.

    Raises:
        WeightsError: the file is missing, damaged, or of another model.
    """
    if not is_file(path):
        raise WeightsError(f"There is no weight file '{path}'; give the path of a .safetensors or .pth file.")
    try:
        network = _create(maps.name, maps.options, weights=path)
    except Exception as error:  # timm's readers let through whatever a damaged file leads to
        raise WeightsError(
            f"'{path}' holds no weights of timm's {maps.name} ({_line(error)}): give a file of that model."
        ) from error
    lacking = _lacking(maps, network)
    if lacking:
        more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
        raise WeightsError(
            f"'{path}' holds no weights of timm's {maps.name} ({lacking[0]}{more} missing): give a file of that model."
        )
    return replace(maps, network=network)


def _lacking(maps: TimmMaps, network: nn.Module) -> list[str]:
    """Names of the weights that a file did not fill, which timm tells nobody.

    They are what the same seed makes them. Those that every seed makes the same may be so in the file, too.
    """
    random = dict(maps.network.named_parameters())
    same = [name for name, value in network.named_parameters() if torch.equal(value, random[name])]
    if not same:
        return []
    others = dict(_create(maps.name, maps.options, seed=1).named_parameters())
    return [name for name in same if not torch.equal(others[name], random[name])]


def _check_name(name: str) -> None:
    """Raises: ModelNotFoundError: timm has no such model, or none with weights of that tag."""
    try:
        import timm
    except ModuleNotFoundError:
        raise ModelNotFoundError("timm is not installed: pip install 'vlpart[parse]'") from None
    model, _, tag = name.partition(".")
    if timm.is_model(model) and (not tag or name in timm.list_pretrained(f"{model}.*")):
        return
    near = timm.list_pretrained(f"{model}.*")[:5] or timm.list_models(f"*{model}*")[:5]
    raise ModelNotFoundError(f"timm has no model {name!r}" + (f": did you mean {', '.join(near)}?" if near else ""))


def _find_weights(maps: TimmMaps) -> Path:
    """The published weights: in our cache, in the hub's, or downloaded.

    Not by timm's own client, which tries for a minute and says so on every try.

    Raises:
        DownloadError: they cannot be fetched, or there are none.
    """
    from huggingface_hub import hf_hub_url, try_to_load_from_cache

    from vlpart.zoo.download import cache_folder, download_file

    known: Any = maps.network.pretrained_cfg
    address = known.get("url")
    folder = cache_folder() / "features"
    repository, _, revision = (known.get("hf_hub_id") or "").partition("@")
    sources: dict[str, Path] = {}
    if repository:
        for file in _HUB_FILES:
            cached = try_to_load_from_cache(repository, file, revision=revision or None)
            if isinstance(cached, str):
                return Path(cached)
            ours = folder / f"{repository.replace('/', '--')}{Path(file).suffix}"
            sources[hf_hub_url(repository, file, revision=revision or None)] = ours
    elif address:
        sources[address] = folder / address.rpartition("/")[2]
    for path in sources.values():
        if path.is_file():
            return path
    reason = "none are published"
    for url, path in sources.items():
        try:
            return download_file(url, path)
        except DownloadError as error:
            reason = str(error).rstrip(".")
            if not isinstance(error.__cause__, urllib.error.HTTPError):
                break  # not even an answer: the other file is not to be had either
    advice = f"Fetch {next(iter(sources))} where there is a network and pass it" if sources else "Pass a file"
    raise DownloadError(
        f"The weights of timm's {maps.name} are not here ({reason}). {advice} with --feature-weights; --features "
        f"{EMBEDDED} needs none."
    )
