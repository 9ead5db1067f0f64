"""Several images of a source as one training image: more names and more sizes for the cost of one.

A mosaic shows two or four images side by side, each cut to its tile. What is known about it is what is known about all
of them: a class that is of unknown presence in one of them is so in the whole. Source: Bochkovskiy et al., "YOLOv4:
Optimal Speed and Accuracy of Object Detection", 2020; here the tiles cover the whole image and nothing is left blank.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vlpart.data.records import Record
from vlpart.data.resize import resized_size
from vlpart.data.source import LoadedSource
from vlpart.data.transforms import Geometry, apply_geometry, sample_short_side
from vlpart.types import Sample, Targets

#: The cut between two tiles lies this far from the middle at most, as a fraction of the side.
OFF_CENTRE = 0.1

#: y0, x0, y1, x1 of a tile, pixels of the mosaic.
Tile = tuple[int, int, int, int]


def mosaic(
    loaded: LoadedSource,
    first: int,
    read: Callable[[Record], NDArray[np.uint8]],
    rng: np.random.Generator,
) -> Sample:
    """A mosaic of image `first` and others of the same source, drawn uniformly.

    Args:
        loaded: the source; its short sides decide the size of the mosaic, its jitter of scale is not applied.
        first: index of the image in the first tile, which gives the sample its id, path and orientation.
        read: gives the (H, W, 3) uint8 RGB pixels of a record, the stored image or a JPEG draft of it.
        rng: decides everything random.

    Returns:
        `Sample` with the annotations of all tiles in order; those that are cut off by their tile are gone, see
        `Source.min_visible`.
    """
    record = loaded.store[first]
    source = loaded.source
    size = resized_size(record.height, record.width, sample_short_side(source, rng), source.max_side)
    tiles = sample_tiles(size, rng)
    records = [record] + [loaded.store[int(rng.integers(len(loaded)))] for _ in tiles[1:]]
    samples = [
        apply_geometry(loaded, each, read(each), tile_geometry(source.flip, each, tile, rng), rng)
        for each, tile in zip(records, tiles, strict=True)
    ]
    return Sample(
        image=_joined_pixels([sample.image for sample in samples], tiles, size),
        targets=_joined_targets([sample.targets for sample in samples], tiles, size),
        source=source.name,
        image_id=record.image_id,
        path=str(record.path),
    )


def sample_tiles(size: tuple[int, int], rng: np.random.Generator) -> list[Tile]:
    """Two tiles along the longer side, or four, with equal chances; together they cover `size` (height, width)."""
    height, width = size
    middle_y, middle_x = _cut(height, rng), _cut(width, rng)
    four = bool(rng.random() < 0.5)
    rows = [(0, middle_y), (middle_y, height)] if (four or height > width) and height > 1 else [(0, height)]
    columns = [(0, middle_x), (middle_x, width)] if (four or height <= width) and width > 1 else [(0, width)]
    return [(y0, x0, y1, x1) for y0, y1 in rows for x0, x1 in columns]


def _cut(side: int, rng: np.random.Generator) -> int:
    """A place near the middle, away from both ends where there is room."""
    place = int(side * rng.uniform(0.5 - OFF_CENTRE, 0.5 + OFF_CENTRE) + 0.5)
    return min(max(1, place), max(1, side - 1))


def tile_geometry(flip: float, record: Record, tile: Tile, rng: np.random.Generator) -> Geometry:
    """The largest window of the tile's side ratio, somewhere in the image, for that tile."""
    tall, wide = tile[2] - tile[0], tile[3] - tile[1]
    scale = max(tall / record.height, wide / record.width)
    window_height = min(record.height, max(1, round(tall / scale)))
    window_width = min(record.width, max(1, round(wide / scale)))
    x0 = int(rng.integers(record.width - window_width + 1))
    y0 = int(rng.integers(record.height - window_height + 1))
    window = (x0, y0, x0 + window_width, y0 + window_height)
    return Geometry(window=window, size=(tall, wide), mirrored=bool(rng.random() < flip))


def _joined_pixels(images: Sequence[Tensor], tiles: Sequence[Tile], size: tuple[int, int]) -> Tensor:
    canvas = torch.empty((3, *size), dtype=torch.uint8)
    for image, (y0, x0, y1, x1) in zip(images, tiles, strict=True):
        canvas[:, y0:y1, x0:x1] = image
    return canvas


def _joined_targets(parts: Sequence[Targets], tiles: Sequence[Tile], size: tuple[int, int]) -> Targets:
    boxes, masks = [], []
    for targets, (y0, x0, y1, x1) in zip(parts, tiles, strict=True):
        boxes.append(targets.boxes_xyxy + torch.tensor([x0, y0, x0, y0], dtype=torch.float32))
        if targets.masks is not None:
            placed = torch.zeros((len(targets.masks), *size), dtype=torch.bool)
            placed[:, y0:y1, x0:x1] = targets.masks
            masks.append(placed)
    unknown = [targets.unknown_labels for targets in parts if targets.unknown_labels is not None]
    inside = [targets.ignore_inside for targets in parts if targets.ignore_inside is not None]
    pseudo = [targets.pseudo_labels for targets in parts if targets.pseudo_labels is not None]
    return Targets(
        boxes_xyxy=torch.cat(boxes),
        labels=torch.cat([targets.labels for targets in parts]),
        masks=torch.cat(masks) if masks else None,
        image_labels=torch.cat([targets.image_labels for targets in parts]).unique(),
        unknown_labels=torch.stack(unknown).any(dim=0) if unknown else None,
        ignore_inside=torch.cat(inside) if inside else None,
        pseudo_labels=torch.cat(pseudo) if pseudo else None,
    )
