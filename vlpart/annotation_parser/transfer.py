"""Parts of a reference picture to part masks and boxes of a target picture (SPEC.md section 3 step 2, and 6.10)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from vlpart.annotation_parser.components import largest_component
from vlpart.models import boxes


@dataclass(frozen=True, kw_only=True)
class TransferredParts:
    """Parts found on a target, in the order of the reference's annotations; parts that matched nothing are missing.

    Attributes:
        sources: (P,) int64, which annotation of the reference each comes from.
        masks: (P, H, W) bool at the size of the target.
        boxes_xyxy: (P, 4) float32 pixels of the target, tight around the masks: [first - 0.5, last + 0.5].
    """

    sources: NDArray[np.int64]
    masks: NDArray[np.bool_]
    boxes_xyxy: NDArray[np.float32]


def transfer_parts(
    reference_parts: Sequence[NDArray[np.bool_]],
    reference_grid: tuple[int, int],
    nearest_patch: Tensor,
    foreground: Tensor,
    target_grid: tuple[int, int],
    target_size_hw: tuple[int, int],
) -> TransferredParts:
    """Give every target patch the parts of the reference patch it resembles most.

    A part's patches, restricted to the foreground, keep their largest 8-connected component.

    Args:
        reference_parts: a bitmap for every part, at the size of the reference picture.
        reference_grid: rows and columns of the reference's patches.
        nearest_patch: (N,) int64 index of the reference patch nearest to every target patch.
        foreground: (N,) bool, the target patches that belong to the object.
        target_grid: rows and columns of the target's patches, N in all.
        target_size_hw: size of the target in pixels.
    """
    sources, masks = [], []
    for index, part in enumerate(reference_parts):
        on_reference = any_overlap(part, reference_grid).flatten().to(nearest_patch.device)
        on_target = (on_reference[nearest_patch] & foreground).view(target_grid).cpu().numpy()
        if not on_target.any():
            continue
        sources.append(index)
        masks.append(any_overlap(largest_component(on_target), target_size_hw).numpy())
    stack = np.array(masks, dtype=bool).reshape(-1, *target_size_hw)
    return TransferredParts(
        sources=np.array(sources, dtype=np.int64),
        masks=stack,
        boxes_xyxy=np.array([tight_box(mask) for mask in stack], dtype=np.float32).reshape(-1, 4),
    )


def any_overlap(bitmap: NDArray[np.bool_], size_hw: tuple[int, int]) -> Tensor:
    """A (h, w) bitmap resized bilinearly to `size_hw`: True wherever the result is not zero. Bool tensor."""
    values = torch.from_numpy(np.ascontiguousarray(bitmap, dtype=np.float32))
    return F.interpolate(values[None, None], size=size_hw, mode="bilinear", align_corners=False)[0, 0] > 0


def tight_box(mask: NDArray[np.bool_]) -> tuple[float, float, float, float]:
    """xyxy extents of the True pixels of a bitmap that is not empty: from half a pixel before the first to half a
    pixel after the last pixel index (SPEC.md 6.10)."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    return columns[0] - 0.5, rows[0] - 0.5, columns[-1] + 0.5, rows[-1] + 0.5


def best_proposals(part_boxes_xyxy: Tensor, proposals_xyxy: Tensor, min_iou: float) -> tuple[Tensor, Tensor, Tensor]:
    """For every part the proposal that overlaps it most.

    Args:
        part_boxes_xyxy: (P, 4).
        proposals_xyxy: (Q, 4) in the same frame.
        min_iou: parts without a proposal strictly above this overlap are left out.

    Returns:
        Indices of the parts that stay, the proposal of each, and their IoU; each (K,).
    """
    if not len(part_boxes_xyxy) or not len(proposals_xyxy):
        none = torch.zeros(0, dtype=torch.int64)
        return none, none, torch.zeros(0)
    overlap, proposal = boxes.iou(part_boxes_xyxy, proposals_xyxy).max(dim=1)
    kept = (overlap > min_iou).nonzero().squeeze(1)
    return kept, proposal[kept], overlap[kept]
