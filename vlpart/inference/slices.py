"""Large images in overlapping tiles: what the whole is too coarse for is seen in its piece, and what a border cuts is
put together again.

Each tile is looked at like an image, and the whole image too, for what is larger than a tile. Two detections of one
name are one thing if they look alike where both tiles see (IoU of the masks inside the overlap), or if one is cut by a
border and lies inside the other. A thing that some tile sees whole is taken from there; of one that every tile cuts,
the pieces are joined. Parts are merged like objects, so they find their object in the merged result as in any other.
Memory: the image, a few tiles, and compact results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vlpart.data.images import ReadImage
from vlpart.data.resize import resize_shorter_side
from vlpart.masks.crop import MaskCrop
from vlpart.masks.stack import MaskStack
from vlpart.results.result import Result

MIN_SIDE = 64
OVERLAP = 0.25  # of the side, at least
ALIKE = 0.5  # IoU inside the overlap of two tiles from which on two detections are one thing
PIECE = 0.8  # share of a cut detection inside one that is seen whole, from which on it is a piece of it
_EDGE = 0.02  # of the side of a tile: a box that ends so near to it is cut by it
_TILES_AT_ONCE = 4

Box = tuple[int, int, int, int]
Boxes = NDArray[np.float32]


def tiles_of(size_hw: tuple[int, int], side: int) -> list[Box]:
    """(x0, y0, x1, y1) of tiles of `side` pixels that cover an image, evenly spread, overlapping by a quarter at least.

    Examples:
        >>> tiles_of((100, 160), 100)
        [(0, 0, 100, 100), (60, 0, 160, 100)]
    """
    height, width = size_hw
    return [
        (x, y, min(x + side, width), min(y + side, height)) for y in _starts(height, side) for x in _starts(width, side)
    ]


def _starts(length: int, side: int) -> list[int]:
    if length <= side:
        return [0]
    count = 1 + int(np.ceil((length - side) / (side * (1 - OVERLAP))))
    return [round(i * (length - side) / (count - 1)) for i in range(count)]


def detect_in_tiles(image: ReadImage, look: Callable[[list[ReadImage]], list[Result]]) -> Result:
    """The detections of an image with a `tiling`, in its own pixels.

    Args:
        image: it is large.
        look: finds what is in images.
    """
    assert image.tiling is not None
    height, width = image.pixels.shape[:2]
    boxes = tiles_of((height, width), image.tiling.side)
    results = [((0, 0, width, height), look([image])[0])]
    for start in range(0, len(boxes), _TILES_AT_ONCE):
        some = boxes[start : start + _TILES_AT_ONCE]
        results += zip(some, look([_piece(image, box) for box in some]), strict=True)
    return merge(results, image)


def _piece(image: ReadImage, box: Box) -> ReadImage:
    assert image.tiling is not None
    x0, y0, x1, y1 = box
    pixels = image.pixels[y0:y1, x0:x1]
    resized = resize_shorter_side(np.ascontiguousarray(pixels), image.tiling.short_side, image.tiling.max_side)
    return ReadImage(pixels=pixels, resized=resized)


@dataclass(frozen=True)
class _Sighting:
    """Number `index` of the detections of a tile, its box in the pixels of the image, and whether a border cuts it."""

    tile: Box
    result: Result
    index: int
    box: Boxes
    cut: bool

    def mask(self) -> MaskCrop:
        """In the pixels of the image; without masks, the box."""
        if self.result.masks is None:
            return MaskCrop.of_box(self.box)
        return self.result.masks.crop(self.index).moved(*self.tile[:2])

    @property
    def score(self) -> float:
        return float(self.result.scores[self.index])


def merge(results: Sequence[tuple[Box, Result]], image: ReadImage) -> Result:
    """One result of the results of tiles.

    Args:
        results: a tile's place in the image, and what was detected in it, in its own pixels.
        image: the whole.
    """
    height, width = image.pixels.shape[:2]
    groups: dict[int, list[_Sighting]] = {}
    for tile, result in results:
        for class_id, sighting in _sightings(tile, result, (height, width)):
            groups.setdefault(class_id, []).append(sighting)
    boxes, scores, class_ids, rles = [], [], [], []
    for class_id, sightings in groups.items():
        for group in _things(sightings):
            box, score, mask = _joined(group)
            boxes.append(box)
            scores.append(score)
            class_ids.append(class_id)
            rles.append(mask.rle((height, width)))
    first = results[0][1]
    return Result(
        image_size=(height, width),
        boxes_xyxy=np.array(boxes, dtype=np.float32).reshape(-1, 4),
        scores=scores,
        class_ids=np.array(class_ids, dtype=np.int64),
        masks=None if first.masks is None else MaskStack.from_rles(rles, (height, width)),
        vocabulary=first.vocabulary,
        image=image.pixels,
        path=image.path,
    )


def _sightings(tile: Box, result: Result, size_hw: tuple[int, int]) -> Iterator[tuple[int, _Sighting]]:
    height, width = size_hw
    x0, y0, x1, y1 = tile
    edge = _EDGE * max(x1 - x0, y1 - y0)
    inner = np.array([x0 > 0, y0 > 0, x1 < width, y1 < height])
    boxes = result.boxes_xyxy + np.array([x0, y0, x0, y0], dtype=np.float32)
    near = np.abs(boxes - np.array(tile, dtype=np.float32)) <= edge
    for i, (box, cut) in enumerate(zip(boxes, (near & inner).any(axis=1), strict=True)):
        yield int(result.class_ids[i]), _Sighting(tile, result, i, box, bool(cut))


def _things(sightings: list[_Sighting]) -> list[list[_Sighting]]:
    """Sightings of one name, those of one thing together: the best first, each with all that look like any of it."""
    boxes = np.array([sighting.box for sighting in sightings])
    masks: dict[int, MaskCrop] = {}

    def mask(i: int) -> MaskCrop:
        """The mask of a sighting, computed once."""
        if i not in masks:
            masks[i] = sightings[i].mask()
        return masks[i]

    left = sorted(range(len(sightings)), key=lambda i: -sightings[i].score)
    groups = []
    while left:
        group, open_ones = [], [left.pop(0)]
        while open_ones:
            one = open_ones.pop()
            group.append(one)
            touching = (np.minimum(boxes[one, 2:], boxes[:, 2:]) > np.maximum(boxes[one, :2], boxes[:, :2])).all(axis=1)
            alike = [
                i
                for i in left
                if touching[i] and sightings[i].tile != sightings[one].tile and _alike(sightings, one, i, mask)
            ]
            left = [i for i in left if i not in alike]
            open_ones += alike
        groups.append([sightings[i] for i in group])
    return groups


def _alike(sightings: list[_Sighting], one: int, other: int, mask: Callable[[int], MaskCrop]) -> bool:
    """Whether two tiles see the same where both see."""
    here, there = sightings[one].tile, sightings[other].tile
    window = (max(here[0], there[0]), max(here[1], there[1]), min(here[2], there[2]), min(here[3], there[3]))
    if window[0] >= window[2] or window[1] >= window[3]:
        return False
    first, second = mask(one).within(*window), mask(other).within(*window)
    shared, areas = first.shared(second), (first.area(), second.area())
    if shared >= ALIKE * max(sum(areas) - shared, 1):
        return True
    pieces = [area for area, i in zip(areas, (one, other), strict=True) if sightings[i].cut]
    return len(pieces) == 1 and shared >= PIECE * max(pieces[0], 1)


def _joined(group: list[_Sighting]) -> tuple[Boxes, float, MaskCrop]:
    """Box, score and mask of one thing: of the best that sees it whole, else of all its pieces together."""
    whole = [sighting for sighting in group if not sighting.cut]
    if whole:
        best = max(whole, key=lambda sighting: sighting.score)
        return best.box, best.score, best.mask()
    boxes = np.array([sighting.box for sighting in group])
    box = np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)])
    return box, max(sighting.score for sighting in group), _union([sighting.mask() for sighting in group])


def _union(masks: Sequence[MaskCrop]) -> MaskCrop:
    masks = [mask for mask in masks if mask.bitmap.size] or list(masks[:1])
    x0, y0 = min(mask.x0 for mask in masks), min(mask.y0 for mask in masks)
    bitmap = np.zeros((max(m.y1 for m in masks) - y0, max(m.x1 for m in masks) - x0), dtype=bool)
    for mask in masks:
        bitmap[mask.y0 - y0 : mask.y1 - y0, mask.x0 - x0 : mask.x1 - x0] |= mask.bitmap
    return MaskCrop(x0, y0, bitmap)
