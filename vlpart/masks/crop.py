"""A mask without its empty surroundings, and what is done with a few of them in one image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vlpart.masks.rle import encode_runs, runs_of_bitmap


class MaskCrop(NamedTuple):
    """A mask without its empty surroundings: `bitmap` (h, w) bool has its top left pixel at image (x0, y0)."""

    x0: int
    y0: int
    bitmap: NDArray[np.bool_]

    @property
    def x1(self) -> int:
        """First column right of the bitmap."""
        return self.x0 + self.bitmap.shape[1]

    @property
    def y1(self) -> int:
        """First row below the bitmap."""
        return self.y0 + self.bitmap.shape[0]

    @classmethod
    def of_box(cls, box_xyxy: Sequence[float] | NDArray[np.float32]) -> MaskCrop:
        """All pixels of a box whose sides are rounded, one at least."""
        x0, y0, x1, y1 = (round(float(side)) for side in box_xyxy)
        return cls(x0, y0, np.ones((max(1, y1 - y0), max(1, x1 - x0)), dtype=bool))

    def moved(self, x: int, y: int) -> MaskCrop:
        """The same mask elsewhere: from the pixels of a piece at (x, y) of an image to those of the image."""
        return MaskCrop(self.x0 + x, self.y0 + y, self.bitmap)

    def within(self, x0: int, y0: int, x1: int, y1: int) -> MaskCrop:
        """What of it lies in a window (ends exclusive), a view; empty where they do not meet."""
        left, top = max(self.x0, x0), max(self.y0, y0)
        right, bottom = max(left, min(self.x1, x1)), max(top, min(self.y1, y1))
        bitmap = self.bitmap[top - self.y0 : bottom - self.y0, left - self.x0 : right - self.x0]
        return MaskCrop(left, top, bitmap)

    def area(self) -> int:
        """Pixels of the mask."""
        return int(np.count_nonzero(self.bitmap))

    def shared(self, other: MaskCrop) -> int:
        """Pixels that are in both."""
        a = self.within(other.x0, other.y0, other.x1, other.y1).bitmap
        b = other.within(self.x0, self.y0, self.x1, self.y1).bitmap
        return int(np.count_nonzero(a & b)) if a.size else 0

    def rle(self, image_size: tuple[int, int]) -> dict[str, Any]:
        """Compressed COCO RLE in an image of (height, width)."""
        return encode_runs(runs_of_bitmap(self.bitmap, self.x0, self.y0, image_size[0]), image_size)
