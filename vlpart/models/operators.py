"""torchvision's compiled operators without its Python package, whose import takes longer than torch's own."""

from __future__ import annotations

from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path

import torch
from torch import Tensor

#: Up to so many boxes on a CPU, one call over all groups that are moved apart is faster than one call per group.
ONE_CALL = 2000


@cache
def load_operators() -> None:
    """Make `torch.ops.torchvision.nms` available: from the library file of the installed torchvision, and where no such
    file is found or it cannot be loaded by itself, by importing the package.

    Raises:
        ImportError: torchvision is not installed.
        RuntimeError: it does not fit the installed torch.
    """
    if hasattr(torch.ops.torchvision, "nms"):
        return
    for library in _libraries():
        try:
            torch.ops.load_library(str(library))
        except OSError:
            continue
        if hasattr(torch.ops.torchvision, "nms"):
            return
    import torchvision  # noqa: F401

    if not hasattr(torch.ops.torchvision, "nms"):
        raise RuntimeError("the installed torchvision does not fit torch: reinstall both together")


def _libraries() -> list[Path]:
    """The files that may hold the operators; the package is not run to find them."""
    spec = PathFinder.find_spec("torchvision")
    folders = [] if spec is None else spec.submodule_search_locations or []
    return sorted(
        path
        for folder in folders
        for path in Path(folder).glob("_C*")
        if path.suffix in (".so", ".pyd", ".dylib") or ".so" in path.suffixes
    )


def batched_nms(boxes_xyxy: Tensor, scores: Tensor, groups: Tensor, iou_threshold: float) -> Tensor:
    """Greedy non-maximum suppression within each group.

    Args:
        boxes_xyxy: (N, 4) float.
        scores: (N,) float.
        groups: (N,) int64; boxes of different groups do not suppress each other.
        iou_threshold: a box goes if a better one of its group overlaps it by more than this IoU.

    Returns:
        (K,) int64 indices of the boxes that stay, best score first.
    """
    load_operators()
    if len(boxes_xyxy) == 0:
        return groups.new_zeros(0)
    if boxes_xyxy.is_cuda or (boxes_xyxy.device.type == "cpu" and len(boxes_xyxy) <= ONE_CALL):
        # In float64: float32 has too few digits for coordinates far from the origin.
        span = (boxes_xyxy.max() - boxes_xyxy.min()).double() + 1
        apart = boxes_xyxy.double() + (groups.double() * span)[:, None]
        kept: Tensor = torch.ops.torchvision.nms(apart, scores.double(), iou_threshold)
        return kept
    stays = torch.zeros_like(groups, dtype=torch.bool)
    order = groups.argsort(stable=True)
    _, counts = groups[order].unique_consecutive(return_counts=True)
    for members in order.split(counts.tolist()):
        stays[members[torch.ops.torchvision.nms(boxes_xyxy[members], scores[members], iou_threshold)]] = True
    found = stays.nonzero().squeeze(1)
    return found[scores[found].sort(descending=True, stable=True).indices]
