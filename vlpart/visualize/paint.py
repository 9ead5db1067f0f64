"""Masks and boxes on an image: a translucent fill and a smooth contour in one go; where a mask can carry a label.

What is painted is mixed on a layer of its own, which is smaller than a large image, and laid over the image at the end:
so the cost of drawing follows the number of detections and their outlines, not the pixels of a large image.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from vlpart.masks.stack import MaskCrop
from vlpart.visualize.palette import RGB

_WHOLE_PIXELS = 2_200_000  # up to the size of a screen, the layer has all pixels of the image
_LAYER_PIXELS = 800_000  # of a larger image it has so many at most: contours are still over two of its pixels wide
_TILE = 48  # layer pixels


class Brush:
    """A mask on a canvas, ready to be filled and outlined with smooth edges.

    The mask is blurred once so that its edge becomes a ramp; tables then turn the ramp into opacity: for a fill
    everything over the middle of the ramp, for a contour a band of `line` pixels along the edge.

    Args:
        crop: the mask.
        size: (width, height) of the canvas.
        line: width of the widest contour in pixels, at least about 1.
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
        """Blend `colour` in, in place: opacity `fill` inside and `edge` on the contour inside the edge, both 0..1."""
        if self.ramp is not None:
            table = np.rint(_opacity(fill, edge, self.line, self.line, False) * 255).astype(int).tolist()
            canvas.paste(colour, self.corner, self.ramp.point(table))


@dataclass(frozen=True)
class Stroke:
    """One of the things that a brush does in one go.

    Attributes:
        colour: what to paint with.
        fill: opacity inside, 0..1.
        edge: opacity of the contour, 0..1.
        line: its width in pixels, at most that of the brush.
        outside: the contour lies around the edge, not along its inside.
    """

    colour: RGB
    fill: float
    edge: float
    line: float
    outside: bool = False


def _opacity(fill: float, edge: float, blur: float, line: float, outside: bool) -> NDArray[np.float64]:
    """(256,) opacity 0..1 for a mask value 0..255 that was blurred over `blur` pixels."""
    step = 1 / (2 * blur + 1)  # one pixel across a straight edge
    low, high = (0.5 - line * step, 0.5) if outside else (0.5, 0.5 + line * step)
    knots = [max(low - step / 2, 1e-3), low + step / 2, high - step / 2, high + step / 2]
    return np.interp(np.linspace(0, 1, 256), knots, [0.0, edge, edge, fill])


@lru_cache(maxsize=256)
def _paint_table(strokes: tuple[Stroke, ...], blur: float) -> NDArray[np.uint8]:
    """(256, 4): premultiplied colour and opacity of the strokes, one over the other, for a blurred mask value."""
    mixed = np.zeros((256, 4))
    for stroke in strokes:
        opacity = _opacity(stroke.fill, stroke.edge, blur, stroke.line, stroke.outside)[:, None]
        mixed = mixed * (1 - opacity) + np.array([*stroke.colour, 255]) * opacity
    return np.rint(mixed).astype(np.uint8)


class Layer:
    """Paint over an image.

    Args:
        size: (width, height) of the image. The layer has the same or, of a large image, a whole fraction of it.

    Attributes:
        scale: pixels of the image to a pixel of the layer, in each direction.
        size: (width, height) of the layer.
        paint: (height, width, 4) uint8, RGB multiplied by the opacity, and the opacity.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        pixels = size[0] * size[1]
        self.scale = 1 if pixels <= _WHOLE_PIXELS else int(np.ceil(np.sqrt(pixels / _LAYER_PIXELS)))
        self.size = (-(-size[0] // self.scale), -(-size[1] // self.scale))
        self.paint = np.zeros((self.size[1], self.size[0], 4), dtype=np.uint8)

    def add(self, brush: Brush, *strokes: Stroke) -> None:
        """Paint with a brush, the first stroke undermost. Pixels that stay clear are not touched."""
        if brush.ramp is None:
            return
        table = _paint_table(strokes, brush.line)
        values = np.asarray(brush.ramp)
        (x, y), (height, width) = brush.corner, values.shape
        window = self.paint[y : y + height, x : x + width]
        reached = np.flatnonzero((table[:, 3] > 0)[values])
        if 3 * len(reached) > values.size:
            window[:] = _over(window, table[values])
        else:  # a contour: a thin band
            rows, columns = np.divmod(reached, width)
            window[rows, columns] = _over(window[rows, columns], table[values.reshape(-1)[reached]])

    def fill(self, box: tuple[int, int, int, int], colour: RGB) -> None:
        """Cover a rectangle x0, y0, x1, y1 of the layer."""
        x0, y0, x1, y1 = box
        self.paint[y0:y1, x0:x1] = (*colour, 255)

    def over(self, image: NDArray[np.uint8]) -> Image.Image:
        """The (H, W, 3) uint8 image under this layer, tile by tile: what is not painted on is only copied."""
        painted = image.copy()
        width, height = self.size
        bands = Image.frombytes("CMYK", self.size, self.paint.tobytes())  # four bands that no one multiplies again
        for top in range(0, height, _TILE):
            for left in range(0, width, _TILE):
                tile = (left, top, min(left + _TILE, width), min(top + _TILE, height))
                # One pixel more on each side: enlarging reaches over to the neighbours.
                near = self.paint[max(top - 1, 0) : tile[3] + 1, max(left - 1, 0) : tile[2] + 1]
                if near[:, :, 3].any():
                    self._blend(painted, tile, near, bands)
        return Image.fromarray(painted)

    def _blend(
        self,
        painted: NDArray[np.uint8],
        tile: tuple[int, int, int, int],
        near: NDArray[np.uint8],
        bands: Image.Image,
    ) -> None:
        """One tile, in place; `tile` is left, top, right, bottom in pixels of the layer."""
        scale = self.scale
        x0, y0 = tile[0] * scale, tile[1] * scale
        x1, y1 = min(tile[2] * scale, painted.shape[1]), min(tile[3] * scale, painted.shape[0])
        if (near == near[:1, :1]).all():  # inside a fill: nothing to enlarge
            paint = near[:1, :1]
        elif scale == 1:
            paint = self.paint[y0:y1, x0:x1]
        else:
            box = (x0 / scale, y0 / scale, x1 / scale, y1 / scale)
            paint = np.asarray(bands.resize((x1 - x0, y1 - y0), Image.Resampling.BILINEAR, box=box))
        part = painted[y0:y1, x0:x1]
        mixed = part * (255 - paint[:, :, 3:]).astype(np.uint16)
        mixed += 255
        mixed >>= 8
        mixed += paint[:, :, :3]
        np.minimum(mixed, 255, out=part, casting="unsafe")


def _over(below: NDArray[np.uint8], above: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """Premultiplied (..., 4) paint over other paint.

    Divided by 256 where 255 is meant: the 255 that is added makes up for it, and what is clear stays exactly as it is.
    """
    mixed = below * (255 - above[..., 3:]).astype(np.uint16)
    mixed += 255
    mixed >>= 8
    mixed += above
    return np.minimum(mixed, 255, out=mixed)


_GRID = 32  # masks are thinned to about this many cells a side first
_INTERIOR = 10
_TOP = 7
_RIM = 24


@dataclass(frozen=True)
class Outline:
    """Points of a mask in canvas pixels.

    Attributes:
        bounds: x0, y0, x1, y1.
        anchor: the point deepest inside, nearest to the middle.
        interior: (M, 2) points at least half as deep, M <= 10, the anchor first.
        top: (T, 2) points along the upper edge from left to right, T <= 7.
        rim: (R, 2) points all around the edge, R <= 24.
    """

    bounds: tuple[float, float, float, float]
    anchor: tuple[float, float]
    interior: NDArray[np.float64]
    top: NDArray[np.float64]
    rim: NDArray[np.float64]

    def scaled(self, factor: float) -> Outline:
        """The same points on a canvas that is so many times as large."""
        x0, y0, x1, y1 = (side * factor for side in self.bounds)
        anchor = (self.anchor[0] * factor, self.anchor[1] * factor)
        return Outline((x0, y0, x1, y1), anchor, self.interior * factor, self.top * factor, self.rim * factor)


def outline_of(crop: MaskCrop, own: NDArray[np.bool_] | None = None) -> Outline:
    """The outline of a mask without empty margins that has at least one pixel.

    Args:
        crop: the mask.
        own: the pixels of its bitmap that no mask inside it has; the points of the rim are taken from these where
            they lie at the edge.
    """
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
    free = grid if own is None or step == 1 else own[step // 2 :: step, step // 2 :: step]
    rim = _around(np.argwhere((depth == 1) & free)) if ((depth == 1) & free).any() else _around(np.argwhere(depth == 1))
    rim = rim[:, ::-1] * step + offset
    return Outline(bounds, (float(anchor[0]), float(anchor[1])), np.vstack([anchor, interior]), top, rim)


def _around(cells: NDArray[np.int64]) -> NDArray[np.int64]:
    """At most `_RIM` of the (K, 2) cells, in the order in which they lie around their middle."""
    y, x = (cells - cells.mean(axis=0)).T
    order = np.argsort(np.arctan2(y, x), kind="stable")
    return cells[order[np.linspace(0, len(order) - 1, min(_RIM, len(order))).astype(int)]]


def outline_of_box(bounds: tuple[float, float, float, float]) -> Outline:
    """A stand-in where there is no pixel: the middle of the box."""
    x0, y0, x1, y1 = bounds
    middle = ((x0 + x1) / 2, (y0 + y1) / 2)
    return Outline(bounds, middle, np.array([middle]), np.array([[middle[0], y0]]), np.array([middle]))


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
