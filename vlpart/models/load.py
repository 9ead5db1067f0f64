"""Weights into a detector: published files and our own, with errors that say what does not fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch.overrides import TorchFunctionMode

from vlpart.errors import WeightsError
from vlpart.models.build import build_detector
from vlpart.zoo.published_names import convert, is_published
from vlpart.zoo.resolve import architecture_of
from vlpart.zoo.weights import as_float32

if TYPE_CHECKING:
    from torch import Tensor

    from vlpart.models.detector import Detector

_RANDOM = frozenset({"normal_", "uniform_", "kaiming_normal_", "kaiming_uniform_", "trunc_normal_", "xavier_uniform_"})
_MASK_HEAD = "roi_heads.mask_head."


@dataclass(frozen=True, kw_only=True)
class LoadedDetector:
    """A detector ready for inference.

    Attributes:
        detector: in evaluation mode, float32.
        architecture: its name.
        text_embeddings: (C, D) float32 embeddings that the file brings for its own vocabulary, or None.
    """

    detector: Detector
    architecture: str
    text_embeddings: Tensor | None


def detector_of(
    state: Mapping[str, Tensor], path: Path, architecture: str | None = None, *, mask_on: bool = False
) -> LoadedDetector:
    """Build the architecture that weights are of, and fill it.

    A file without any tensor of a mask head gives a detector without one, as the published VOC checkpoints are.

    Args:
        state: tensors by name, as published or in our own names, in any float precision.
        path: where they are from, for messages.
        architecture: refuse weights of another one; None takes what they are of.
        mask_on: refuse weights without a mask head.

    Raises:
        WeightsError: they are of no architecture of ours, of another one than `architecture`, damaged, or lack a mask
            head.
    """
    embeddings = None
    if is_published(state):
        converted = convert(state)
        state, embeddings = converted.state, converted.text_embeddings
        if embeddings is not None:
            embeddings = as_float32({"text embeddings": embeddings}, path)["text embeddings"]
    found = architecture_of(state, path)
    if architecture is not None and found != architecture:
        raise WeightsError(
            f"{path} holds {found} weights, the model asked for is {architecture}: choose a model of that kind"
        )
    with_masks = any(name.startswith(_MASK_HEAD) for name in state)
    if mask_on and not with_masks:
        raise WeightsError(f"{path} has no mask head, which the model asked for has: it is damaged or of another model")
    with _NoInitialisation():
        detector = build_detector(found, mask_on=with_masks)
    _fill(detector, state, path)
    return LoadedDetector(detector=detector.eval(), architecture=found, text_embeddings=embeddings)


class _NoInitialisation(TorchFunctionMode):
    """Leaves out random numbers for weights, which are all overwritten."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in _RANDOM:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


def _fill(detector: Detector, state: Mapping[str, Tensor], path: Path) -> None:
    """Copy every tensor; all must be there and fit."""
    wanted = detector.state_dict()
    missing = [name for name in wanted if name not in state]
    unknown = [name for name in state if name not in wanted]
    wrong = [name for name in wanted if name in state and wanted[name].shape != state[name].shape]
    for problem, names in (("lacks", missing), ("has the unknown tensor", unknown), ("has another shape of", wrong)):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise WeightsError(f"{path} {problem} {names[0]!r}{more}: it is damaged or of another model")
    detector.load_state_dict(as_float32(state, path))
