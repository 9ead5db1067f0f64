"""A transfer to look at: which correspondences to draw, and everything side by side."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from vlpart.annotation_parser.correspondence import mutual, nearest, normalised
from vlpart.annotation_parser.parser import Transfer
from vlpart.annotation_parser.rename import Renamer
from vlpart.annotation_parser.transfer import any_overlap


@dataclass(frozen=True, kw_only=True)
class Correspondences:
    """Some of the correspondences inside transferred parts, spread over each part.

    Attributes:
        reference_xy, target_xy: (K, 2) float64 pixels of the compared pictures.
        part: (K,) int64, which of the transferred parts each belongs to.
        mutual: (K,) bool, whether they are nearest neighbours both ways.
    """

    reference_xy: NDArray[np.float64]
    target_xy: NDArray[np.float64]
    part: NDArray[np.int64]
    mutual: NDArray[np.bool_]


def choose_correspondences(transfer: Transfer, per_part: int = 5) -> Correspondences:
    """For every transferred part up to `per_part` target patches far from one another, mutual ones first."""
    target, reference = transfer.target_features, transfer.reference_features
    both_ways = mutual(
        transfer.nearest_patch,
        nearest(normalised(reference.descriptors), normalised(target.descriptors)).indices[:, 0].cpu(),
    ).numpy()
    target_xy = patch_centres(target.grid, transfer.target_image.shape[:2])
    reference_xy = patch_centres(reference.grid, transfer.reference_image.shape[:2])
    columns, rows = (np.minimum(target_xy.astype(np.int64), np.array(transfer.target_image.shape[1::-1]) - 1)).T
    bitmaps = transfer.reference.part_bitmaps()
    patches: list[int] = []
    owners: list[int] = []
    for number, (source, mask) in enumerate(zip(transfer.parts.sources, transfer.parts.masks, strict=True)):
        on_reference = any_overlap(bitmaps[source], reference.grid).flatten()[transfer.nearest_patch].numpy()
        inside = np.flatnonzero(mask[rows, columns] & on_reference)
        preferred = inside[both_ways[inside]]
        picked = _spread(target_xy, preferred if len(preferred) >= 2 else inside, per_part)
        patches += picked
        owners += [number] * len(picked)
    chosen = np.array(patches, dtype=np.int64)
    return Correspondences(
        reference_xy=reference_xy[transfer.nearest_patch.numpy()[chosen]],
        target_xy=target_xy[chosen],
        part=np.array(owners, dtype=np.int64),
        mutual=both_ways[chosen],
    )


def patch_centres(grid: tuple[int, int], size_hw: tuple[int, ...]) -> NDArray[np.float64]:
    """(N, 2) x, y pixels of the middle of every patch of a grid that spans a picture, row by row."""
    y = (np.arange(grid[0]) + 0.5) * size_hw[0] / grid[0]
    x = (np.arange(grid[1]) + 0.5) * size_hw[1] / grid[1]
    return np.stack([np.tile(x, grid[0]), np.repeat(y, grid[1])], axis=1)


def _spread(xy: NDArray[np.float64], candidates: NDArray[np.int64], count: int) -> list[int]:
    """Candidates far from one another: first the one nearest to their middle, then always the farthest from all."""
    if not len(candidates):
        return []
    points = xy[candidates]
    picked = [int(np.argmin(((points - points.mean(axis=0)) ** 2).sum(axis=1)))]
    distance = ((points - points[picked[0]]) ** 2).sum(axis=1)
    while len(picked) < min(count, len(candidates)):
        picked.append(int(distance.argmax()))
        distance = np.minimum(distance, ((points - points[picked[-1]]) ** 2).sum(axis=1))
    return [int(candidates[i]) for i in picked]


def draw_transfer(transfer: Transfer, label: str, renamer: Renamer, *, height: int = 420) -> Image.Image:
    """Reference, target, correspondences, transferred parts and final boxes side by side.

    Args:
        transfer: from `Parser.transfer`.
        label: of the target.
        renamer: gives the final names; parts without one are drawn as dropped.
        height: of every panel in pixels.
    """
    from vlpart.visualize.correspondences import Line, Panels, draw_panels

    parts, sources = transfer.reference.parts, transfer.parts.sources.tolist()
    finals = []
    for row, index in enumerate(transfer.chosen.tolist()):
        name = renamer(label, parts[sources[index]].part)
        if name is not None:
            finals.append((sources[index], name, _box(transfer.final_xyxy[row]), float(transfer.overlaps[row])))
    shown = choose_correspondences(transfer)
    return draw_panels(
        Panels(
            reference=transfer.reference_image,
            target=transfer.target_image,
            reference_title=f"reference: {transfer.reference.object} {transfer.similarity:.2f}",
            target_title=f"target: {label}",
            part_names=[part.part for part in parts],
            reference_parts=[_shrunk(b, transfer.reference_image.shape) for b in transfer.reference.part_bitmaps()],
            transferred=[
                (source, mask, _box(box + 0.5))
                for source, mask, box in zip(sources, transfer.parts.masks, transfer.parts.boxes_xyxy, strict=True)
            ],
            final_boxes=finals,
            lines=[
                Line(part=sources[int(p)], reference_xy=(a[0], a[1]), target_xy=(b[0], b[1]), sure=bool(sure))
                for p, a, b, sure in zip(shown.part, shown.reference_xy, shown.target_xy, shown.mutual, strict=True)
            ],
        ),
        height=height,
    )


def _box(values: Tensor | NDArray[np.float32]) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = values.tolist()
    return x0, y0, x1, y1


def _shrunk(bitmap: NDArray[np.bool_], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """A bitmap at the size of a smaller picture."""
    picture = Image.fromarray(bitmap.astype(np.uint8) * 255)
    return np.asarray(picture.resize((shape[1], shape[0]), Image.Resampling.BOX)) >= 128
