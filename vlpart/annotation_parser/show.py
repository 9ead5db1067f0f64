"""A transfer to look at: which correspondences to draw, and everything side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from vlpart.annotation_parser.correspondence import any_overlap, mutual, nearest, normalised
from vlpart.annotation_parser.features.base import ImageFeatures
from vlpart.annotation_parser.image_parser import Transfer
from vlpart.annotation_parser.object_parser import ObjectParser, ObjectTransfer
from vlpart.annotation_parser.rename import Renamer

if TYPE_CHECKING:
    from vlpart.visualize.correspondences import Line


@dataclass(frozen=True, kw_only=True)
class Correspondences:
    """Some of the correspondences inside transferred parts, spread over each part.

    Attributes:
        reference_xy, target_xy: (K, 2) float64 pixels of the compared images.
        part: (K,) int64, which of the transferred parts each belongs to.
        mutual: (K,) bool, whether they are nearest neighbours both ways.
    """

    reference_xy: NDArray[np.float64]
    target_xy: NDArray[np.float64]
    part: NDArray[np.int64]
    mutual: NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One of two images that are compared.

    Attributes:
        descriptors: (N, D) float32, one for every patch.
        grid: rows and columns of patches.
        size_hw: of the image, in pixels.
    """

    descriptors: Tensor
    grid: tuple[int, int]
    size_hw: tuple[int, ...]


def choose_correspondences(
    target: Compared,
    reference: Compared,
    parts: Sequence[tuple[NDArray[np.bool_], NDArray[np.bool_]]],
    per_part: int = 5,
) -> Correspondences:
    """For every part up to `per_part` target patches far from one another, mutual nearest neighbours first.

    Args:
        target, reference: the two images.
        parts: bitmaps of each transferred part, on the reference (of any size) and on the target (of the size of the
            image).
        per_part: at most so many.
    """
    ours, theirs = normalised(target.descriptors), normalised(reference.descriptors)
    nearest_patch = nearest(ours, theirs).indices[:, 0].cpu()
    both_ways = mutual(nearest_patch, nearest(theirs, ours).indices[:, 0].cpu()).numpy()
    target_xy = patch_centres(target.grid, target.size_hw)
    reference_xy = patch_centres(reference.grid, reference.size_hw)
    columns, rows = (np.minimum(target_xy.astype(np.int64), np.array(target.size_hw[1::-1]) - 1)).T
    patches: list[int] = []
    owners: list[int] = []
    for number, (source, mask) in enumerate(parts):
        on_reference = any_overlap(source, reference.grid).flatten()[nearest_patch].numpy()
        inside = np.flatnonzero(mask[rows, columns] & on_reference)
        preferred = inside[both_ways[inside]]
        picked = _spread(target_xy, preferred if len(preferred) >= 2 else inside, per_part)
        patches += picked
        owners += [number] * len(picked)
    chosen = np.array(patches, dtype=np.int64)
    return Correspondences(
        reference_xy=reference_xy[nearest_patch.numpy()[chosen]],
        target_xy=target_xy[chosen],
        part=np.array(owners, dtype=np.int64),
        mutual=both_ways[chosen],
    )


def patch_centres(grid: tuple[int, int], size_hw: tuple[int, ...]) -> NDArray[np.float64]:
    """(N, 2) x, y pixels of the middle of every patch of a grid that spans an image, row by row."""
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


def correspondences_of(transfer: Transfer, per_part: int = 5) -> Correspondences:
    """`choose_correspondences` of the transferred parts of an image."""
    bitmaps = transfer.reference.part_bitmaps()
    return choose_correspondences(
        _compared(transfer.target_features, transfer.target_image),
        _compared(transfer.reference_features, transfer.reference_image),
        [(bitmaps[i], mask) for i, mask in zip(transfer.parts.sources.tolist(), transfer.parts.masks, strict=True)],
        per_part,
    )


def draw_transfer(transfer: Transfer, label: str, renamer: Renamer, *, height: int = 420) -> Image.Image:
    """Reference, target, correspondences, transferred parts and final boxes side by side.

    Args:
        transfer: from `ImageParser.transfer`.
        label: of the target.
        renamer: gives the final names; parts without one are drawn as dropped.
        height: of every panel in pixels.
    """
    from vlpart.visualize.correspondences import Panels, draw_panels

    parts, sources = transfer.reference.parts, transfer.parts.sources.tolist()
    finals = []
    for row, index in enumerate(transfer.chosen.tolist()):
        name = renamer(label, parts[sources[index]].part)
        if name is not None:
            finals.append((sources[index], name, _box(transfer.final_xyxy[row]), float(transfer.overlaps[row])))
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
            lines=_lines(correspondences_of(transfer), sources),
        ),
        height=height,
    )


def draw_object_transfer(
    transfer: ObjectTransfer, label: str, parser: ObjectParser, *, height: int = 420
) -> Image.Image:
    """The same for an annotated object: the most similar reference, and the parts that all references voted for.

    Args:
        transfer: from `ObjectParser.transfer`.
        label: of the target.
        parser: gives the final names; parts below its least confidence are drawn as dropped.
        height: of every panel in pixels.
    """
    from vlpart.visualize.correspondences import Panels, draw_panels

    x0, y0, x1, y1 = transfer.target.window
    a0, b0, a1, b1 = transfer.source.window
    names: list[str] = []
    on_reference: list[NDArray[np.bool_]] = []
    for part, bitmap in zip(transfer.reference.parts, transfer.reference.part_bitmaps(), strict=True):
        names.append(parser.renamer(label, part.part) or part.part)
        on_reference.append(bitmap[b0:b1, a0:a1])
    for found in transfer.parts:
        if found.name not in names:  # other references have it
            names.append(found.name)
            on_reference.append(np.zeros((b1 - b0, a1 - a0), dtype=bool))
    sources = [names.index(found.name) for found in transfer.parts]
    masks = [found.mask[y0:y1, x0:x1] for found in transfer.parts if found.mask is not None]
    boxes = [_moved(found.box_xyxy, -x0, -y0) for found in transfer.parts]
    drawn = [np.any([on_reference[i] for i, n in enumerate(names) if n == names[s]], axis=0) for s in sources]
    shown = choose_correspondences(
        Compared(descriptors=transfer.target.descriptors, grid=transfer.target.grid, size_hw=(y1 - y0, x1 - x0)),
        Compared(descriptors=transfer.source.descriptors, grid=transfer.source.grid, size_hw=(b1 - b0, a1 - a0)),
        list(zip(drawn, masks, strict=True)),
    )
    kept = {found.name for found in parser.sure_of(transfer.parts)}
    return draw_panels(
        Panels(
            reference=transfer.reference_image,
            target=transfer.target_image,
            reference_title=f"most similar: {transfer.reference.object} {transfer.similarity:.2f}",
            target_title=f"target: {label}",
            part_names=names,
            reference_parts=on_reference,
            transferred=list(zip(sources, masks, boxes, strict=True)),
            final_boxes=[
                (source, found.name, box, found.score)
                for source, found, box in zip(sources, transfer.parts, boxes, strict=True)
                if found.name in kept
            ],
            lines=_lines(shown, sources),
        ),
        height=height,
    )


def _compared(features: ImageFeatures, image: NDArray[np.uint8]) -> Compared:
    return Compared(descriptors=features.descriptors, grid=features.grid, size_hw=image.shape[:2])


def _lines(correspondences: Correspondences, sources: Sequence[int]) -> list[Line]:
    """As they are drawn, by the part of the reference."""
    from vlpart.visualize.correspondences import Line

    return [
        Line(part=sources[int(p)], reference_xy=(a[0], a[1]), target_xy=(b[0], b[1]), sure=bool(sure))
        for p, a, b, sure in zip(
            correspondences.part,
            correspondences.reference_xy,
            correspondences.target_xy,
            correspondences.mutual,
            strict=True,
        )
    ]


def _moved(box: tuple[float, float, float, float], across: float, down: float) -> tuple[float, float, float, float]:
    return box[0] + across, box[1] + down, box[2] + across, box[3] + down


def _box(values: Tensor | NDArray[np.float32]) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = values.tolist()
    return x0, y0, x1, y1


def _shrunk(bitmap: NDArray[np.bool_], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """A bitmap at the size of a smaller image."""
    image = Image.fromarray(bitmap.astype(np.uint8) * 255)
    return np.asarray(image.resize((shape[1], shape[0]), Image.Resampling.BOX)) >= 128
