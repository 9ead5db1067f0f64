"""A labelled data set in memory, whatever tool it comes from: what every reader of a foreign format gives, and every
writer takes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlpart.data.readers.values import MAX_PIXELS, MAX_SIDE, class_key, file_path
from vlpart.errors import DataError
from vlpart.files import open_regular
from vlpart.masks.rasterise import MaskError, Segmentation, parse_segmentation, segmentation_box
from vlpart.masks.rle import encode_runs, runs_of_bitmap
from vlpart.masks.stack import MaskStack

Box = tuple[float, float, float, float]


@dataclass(kw_only=True, slots=True)
class Region:
    """One labelled region.

    Attributes:
        name: of its class.
        box_xyxy: pixels, ends exclusive.
        mask: polygons (filled each for itself) or RLE counts of the size of the image; None for a box.
        crowd, difficult: flags of COCO and VOC.
        owner: of a part, the place of its object among the regions of the image, if that is known.
        score: of a region that a model found, 0..1; None of one that a person drew.
    """

    name: str
    box_xyxy: Box
    mask: Segmentation | None = None
    crowd: bool = False
    difficult: bool = False
    owner: int | None = None
    score: float | None = None


@dataclass(kw_only=True, slots=True)
class LabelledPicture:
    """One image with its regions.

    Attributes:
        file_name: as the source calls it, with "/".
        path: where it is; None if it was not found.
        width, height: pixels.
        split: "train", "val" or "test", where the source says so.
    """

    file_name: str
    path: Path | None
    width: int
    height: int
    split: str | None = None
    regions: list[Region] = field(default_factory=list)

    def masks(self) -> MaskStack | None:
        """The masks of all regions (the filled box of those without one), or None where none has one."""
        if not any(region.mask is not None for region in self.regions):
            return None
        return MaskStack.from_rles([self.rle(region) for region in self.regions], (self.height, self.width))

    def rle(self, region: Region) -> dict[str, Any]:
        """The mask of a region as COCO RLE; of a box, the filled box."""
        from vlpart.masks.rle import coco_rle

        size = (self.height, self.width)
        if isinstance(region.mask, bytes):
            return {"size": list(size), "counts": region.mask.decode("ascii")}
        if region.mask is not None:
            packed = coco_rle([polygon.ravel().tolist() for polygon in region.mask], size)
            return {"size": list(size), "counts": packed["counts"].decode("ascii")}
        x0, y0, x1, y1 = (round(value) for value in region.box_xyxy)
        x0, y0, x1, y1 = max(x0, 0), max(y0, 0), min(x1, self.width), min(y1, self.height)
        filled = np.ones((max(0, y1 - y0), max(0, x1 - x0)), dtype=bool)
        return encode_runs(runs_of_bitmap(filled, x0, y0, self.height), size)


@dataclass(kw_only=True)
class LabelledSet:
    """A data set.

    Attributes:
        format: what it was read from.
        pictures: in the order of the source.
        names: the classes in the order of the source, also those without a region.
        notes: what was left out, and why, with counts.
    """

    format: str
    pictures: list[LabelledPicture] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)

    def index(self, name: str) -> int:
        """The place of a class; a new name is added."""
        key = class_key(name)
        for place, known in enumerate(self.names):
            if class_key(known) == key:
                return place
        self.names.append(" ".join(name.split()))
        return len(self.names) - 1

    def add_region(
        self, picture: LabelledPicture, name: Any, *, box: Any = None, segmentation: Any = None, **flags: Any
    ) -> Region | None:
        """Add a region, or note why it cannot be used.

        Args:
            picture: its image.
            name: of its class.
            box: x0, y0, x1, y1, or None for that of the mask.
            segmentation: as in COCO, or a (h, w) bool array of the image.
            flags: `crowd`, `difficult`, `owner`.
        """
        if not isinstance(name, str) or not name.strip() or len(name) > 200 or not " ".join(name.split()).isprintable():
            self.notes["regions without a usable class name"] += 1
            return None
        size = (picture.height, picture.width)
        if isinstance(segmentation, np.ndarray):
            segmentation = encode_runs(runs_of_bitmap(segmentation, 0, 0, size[0]), size)
        try:
            mask = parse_segmentation(segmentation, *size) if segmentation is not None else None
        except MaskError as error:
            self.notes[f"regions with a broken mask, first: {picture.file_name}: {error}"] += 1
            return None
        if segmentation is not None and mask is None:
            self.notes["regions with an empty mask"] += 1
            return None
        box_xyxy = _finite_box(box) if box is not None else None
        if box_xyxy is None and mask is not None:
            box_xyxy = segmentation_box(mask, *size)
        if box_xyxy is None or not (box_xyxy[2] > box_xyxy[0] and box_xyxy[3] > box_xyxy[1]):
            self.notes["regions with an empty or broken box"] += 1
            return None
        known = self.names[self.index(name)]
        region = Region(name=known, box_xyxy=box_xyxy, mask=mask, **flags)
        picture.regions.append(region)
        return region

    def regions(self) -> Iterator[Region]:
        """All regions."""
        return (region for picture in self.pictures for region in picture.regions)


def _finite_box(box: Any) -> Box | None:
    try:
        x0, y0, x1, y1 = (float(value) for value in box)
    except (TypeError, ValueError, OverflowError):
        return None
    return (x0, y0, x1, y1) if all(map(np.isfinite, (x0, y0, x1, y1))) else None


def picture_of(file_name: str, path: Path | None, size: tuple[Any, Any] | None, where: Path) -> LabelledPicture:
    """A picture without regions.

    Args:
        file_name: of the source.
        path: where it is, if it is there.
        size: (height, width) that the source says; None reads the image.
        where: the file of the source, for messages.

    Raises:
        DataError: no usable name or size, or the image is needed for its size and cannot be read.
    """
    name = file_path(file_name)
    if name is None:
        raise DataError(f"{where} names the image {file_name!a:.80}, which no file can be called")
    if size is None:
        if path is None:
            raise DataError(f"{where}: its image {name} is missing, and it does not say how large that is")
        size = size_of(path)
    try:
        height, width = (int(side) for side in size)
    except (TypeError, ValueError, OverflowError):
        height = width = 0
    if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE and height * width <= MAX_PIXELS):
        raise DataError(f"{where} gives the size {size[1]!r:.20}x{size[0]!r:.20} for {name}")
    return LabelledPicture(file_name=name.lstrip("/"), path=path, width=width, height=height)


def size_of(path: Path) -> tuple[int, int]:
    """(height, width) of an image, upright.

    Raises:
        DataError: it cannot be read.
    """
    from vlpart.data.image_headers import open_image
    from vlpart.data.upright import EXIF_ORIENTATION

    try:
        with open_regular(path) as file, open_image(file, str(path), MAX_PIXELS) as image:
            turned = image.getexif().get(EXIF_ORIENTATION, 1) in (5, 6, 7, 8)
            return (image.width, image.height) if turned else (image.height, image.width)
    except Exception as error:  # decoders raise anything on a damaged header
        raise DataError(f"cannot read the image {path}: {' '.join(str(error).split())}") from error


def corners(points: Any) -> NDArray[np.float64]:
    """(P, 2) x, y from any nesting of numbers; (0, 2) where they are none."""
    try:
        flat = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    except (TypeError, ValueError, OverflowError):
        return np.zeros((0, 2))
    return flat if np.isfinite(flat).all() else np.zeros((0, 2))
