"""Masks and boxes on an image: a translucent fill and a smooth contour in one go; where a mask can carry a label."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from vlpart.masks.stack import MaskCrop
from vlpart.visualize.palette import RGB


class Brush:
    """A mask on a canvas, ready to be filled and outlined with smooth edges.

    The mask is blurred once so that its edge becomes a ramp; tables then turn the ramp into opacity: for a fill
    everything over the middle of the ramp, for a contour a band of `line` pixels along the inside of the edge.

    Args:
        crop: the mask.
        size: (width, height) of the canvas.
        line: width of the contour in pixels, at least about 1.
    """

    def __init__(self, crop: MaskCrop, size: tuple[int, int], line: float) -> None:
        self.line = line
        margin = int(np.ceil(line)) + 1
        self.corner = max(0, crop.x0 - margin), max(0, crop.y0 - margin)
        x1, y1 = min(size[0], crop.x1 + margin), min(size[1], crop.y1 + margin)
        left, top = crop.x0 - self.corner[0], crop.y0 - self.corner[1]
        coverage = np.zeros((max(y1 - self.corner[1], 0), max(x1 - self.corner[0], 0)), dtype=np.uint8)
        coverage[top : top + crop.bitmap.shape[0], left : left + crop.bitmap.shape[1]] = (
            crop.bitmap.view(np.uint8) * 255
        )
        self.ramp = Image.fromarray(coverage).filter(ImageFilter.BoxBlur(line)) if crop.bitmap.any() else None

    def paint(self, canvas: Image.Image, colour: RGB, *, fill: float, edge: float) -> None:
        """Blend `colour` in, in place: opacity `fill` inside and `edge` on the contour, both 0..1."""
        if self.ramp is not None:
            canvas.paste(colour, self.corner, self.ramp.point(_opacity_table(fill, edge, self.line)))


@lru_cache(maxsize=32)
def _opacity_table(fill: float, edge: float, line: float) -> tuple[int, ...]:
    """Opacity 0..255 for a blurred mask value 0..255."""
    step = 1 / (2 * line + 1)  # one pixel across a straight edge
    inner = 0.5 + line * step
    knots = [0.5 - step / 2, 0.5 + step / 2, inner - step / 2, inner + step / 2]
    opacity = np.interp(np.linspace(0, 1, 256), knots, [0.0, edge, edge, fill])
    return tuple(np.rint(opacity * 255).astype(int).tolist())


_GRID = 32  # masks are thinned to about this many cells a side first
_INTERIOR = 10
_TOP = 7


@dataclass(frozen=True)
class Outline:
    """Points of a mask in canvas pixels.

    Attributes:
        bounds: x0, y0, x1, y1.
        anchor: the point deepest inside, nearest to the middle.
        interior: (M, 2) points at least half as deep, M <= 10, the anchor first.
        top: (T, 2) points along the upper edge from left to right, T <= 7.
    """

    bounds: tuple[float, float, float, float]
    anchor: tuple[float, float]
    interior: NDArray[np.float64]
    top: NDArray[np.float64]


def outline_of(crop: MaskCrop) -> Outline:
    """The outline of a mask without empty margins that has at least one pixel."""
    step = max(1, round(max(crop.bitmap.shape) / _GRID))
    grid = crop.bitmap[step // 2 :: step, step // 2 :: step]
    if not grid.any():
        step, grid = 1, crop.bitmap
    offset = np.array([crop.x0, crop.y0]) + step // 2 + 0.5
    depth = _depths(grid)
    rows, columns = np.nonzero(depth == depth.max())
    middle = int(np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2))
    anchor = np.array([columns[middle], rows[middle]]) * step + offset
    rows, columns = np.nonzero(depth * 2 > depth.max())
    chosen = np.linspace(0, len(rows) - 1, min(_INTERIOR - 1, len(rows))).astype(int)
    interior = np.stack([columns[chosen], rows[chosen]], axis=1) * step + offset
    filled = np.flatnonzero(grid.any(axis=0))
    filled = filled[np.linspace(0, len(filled) - 1, min(_TOP, len(filled))).astype(int)]
    first = grid[:, filled].argmax(axis=0)
    top = np.stack([crop.x0 + (filled + 0.5) * step, crop.y0 + first * step], axis=1)
    bounds = (float(crop.x0), float(crop.y0), float(crop.x1), float(crop.y1))
    return Outline(bounds, (float(anchor[0]), float(anchor[1])), np.vstack([anchor, interior]), top)


def outline_of_box(bounds: tuple[float, float, float, float]) -> Outline:
    """A stand-in where there is no pixel: the middle of the box."""
    x0, y0, x1, y1 = bounds
    middle = ((x0 + x1) / 2, (y0 + y1) / 2)
    return Outline(bounds, middle, np.array([middle]), np.array([[middle[0], y0]]))


def _depths(grid: NDArray[np.bool_]) -> NDArray[np.int64]:
    """City-block distance of each cell to the nearest cell outside the mask (or the grid)."""
    padded = np.zeros((grid.shape[0] + 2, grid.shape[1] + 2), dtype=np.int64)
    padded[1:-1, 1:-1] = np.where(grid, sum(padded.shape), 0)
    for _ in range(2):  # one axis after the other: the distance is separable
        place = np.arange(len(padded))[:, None]
        forth = np.minimum.accumulate(padded - place) + place
        back = np.minimum.accumulate((padded + place)[::-1])[::-1] - place
        padded = np.minimum(forth, back).T
    return padded[1:-1, 1:-1]


def tight(crop: MaskCrop) -> MaskCrop:
    """The same mask without empty margins."""
    rows, columns = np.flatnonzero(crop.bitmap.any(axis=1)), np.flatnonzero(crop.bitmap.any(axis=0))
    if not len(rows):
        return MaskCrop(crop.x0, crop.y0, crop.bitmap[:0, :0])
    part = crop.bitmap[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return MaskCrop(crop.x0 + int(columns[0]), crop.y0 + int(rows[0]), part)


def box_crop(box_xyxy: NDArray[np.float32], size: tuple[int, int]) -> MaskCrop:
    """A box as a mask, for results without masks; at least one pixel, clipped to (width, height)."""
    width, height = size
    x0, y0 = (int(np.clip(np.floor(box_xyxy[i]), 0, side - 1)) for i, side in ((0, width), (1, height)))
    x1, y1 = (int(np.clip(np.ceil(box_xyxy[i]), low + 1, side)) for i, low, side in ((2, x0, width), (3, y0, height)))
    return MaskCrop(x0, y0, np.ones((y1 - y0, x1 - x0), dtype=bool))
