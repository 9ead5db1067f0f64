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

from vlpart.masks.crop import MaskCrop
from vlpart.visualize.palette import RGB

_WHOLE_PIXELS = 2_200_000  # up to the size of a screen, the layer has all pixels of the image
_LAYER_PIXELS = 800_000  # of a larger image it has so many at most: contours are still over two of its pixels wide
_TILE = 64  # layer pixels
_STRIP = 12_000  # pixels that are computed at once: in the cache, and in memory that is not given back each time


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
        inside = coverage[top : top + crop.bitmap.shape[0], left : left + crop.bitmap.shape[1]]
        np.multiply(crop.bitmap, np.uint8(255), out=inside)
        blurred = Image.fromarray(coverage).filter(ImageFilter.BoxBlur(line)) if crop.bitmap.any() else None
        self.ramp = None if blurred is None else np.asarray(blurred)


def _opacity(stroke: Stroke, blur: float) -> NDArray[np.float64]:
    """(256,) opacity 0..1 for a mask value 0..255 that was blurred over `blur` pixels."""
    step = 1 / (2 * blur + 1)  # one pixel across a straight edge
    low, high = (0.5 - stroke.line * step, 0.5) if stroke.outside else (0.5, 0.5 + stroke.line * step)
    knots = [max(low - step / 2, 1e-3), low + step / 2, high - step / 2, high + step / 2]
    return np.interp(np.linspace(0, 1, 256), knots, [0.0, stroke.edge, stroke.edge, stroke.fill])


@lru_cache(maxsize=256)
def _paint_tables(strokes: tuple[Stroke, ...], blur: float) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """For a blurred mask value (256,) paint, strokes over each other, and (256,) what it lets through.

    Every entry is four uint16 of 0..255 side by side: red, green, blue (times opacity) and opacity; or the share that
    shows through, four times. So that a pixel is one number to look up, and four to compute with.
    """
    paint = np.zeros((256, 4))
    for stroke in strokes:
        opacity = _opacity(stroke, blur)[:, None]
        paint = paint * (1 - opacity) + np.array([*stroke.colour, 255]) * opacity
    levels = np.rint(paint).astype(np.uint16)
    through = np.repeat(255 - levels[:, 3:], 4, axis=1)
    return levels.view(np.uint64)[:, 0], through.view(np.uint64)[:, 0]


class Layer:
    """Paint over an image.

    Args:
        size: (width, height) of the image. The layer has the same or, of a large image, a whole fraction of it.

    Attributes:
        scale: pixels of the image to a pixel of the layer, in each direction.
        size: (width, height) of the layer.
        paint: (height, width * 4) uint16: of every pixel red, green and blue, multiplied by the opacity, and the
            opacity, all 0..255.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        pixels = size[0] * size[1]
        self.scale = 1 if pixels <= _WHOLE_PIXELS else int(np.ceil(np.sqrt(pixels / _LAYER_PIXELS)))
        self.size = (-(-size[0] // self.scale), -(-size[1] // self.scale))
        self.paint = np.zeros((self.size[1], self.size[0] * 4), dtype=np.uint16)

    def add(self, brush: Brush, *strokes: Stroke) -> None:
        """Paint with a brush, the first stroke undermost."""
        if brush.ramp is None:
            return
        levels, shares = _paint_tables(strokes, brush.line)
        (x, y), (height, width) = brush.corner, brush.ramp.shape
        step = max(1, _STRIP // width)
        for top in range(0, height, step):
            ramp = brush.ramp[top : top + step].astype(np.intp)
            paint, through = levels[ramp].view(np.uint16), shares[ramp].view(np.uint16)
            region = self.paint[y + top : y + top + len(ramp), x * 4 : (x + width) * 4]
            through *= region
            through += 128
            through += through >> 8
            through >>= 8  # these three lines divide by 255, rounded
            np.add(paint, through, out=region)

    def fill(self, box: tuple[int, int, int, int], colour: RGB) -> None:
        """Cover a rectangle x0, y0, x1, y1 of the layer."""
        x0, y0, x1, y1 = box
        self.paint[y0:y1, x0 * 4 : x1 * 4] = [*colour, 255] * (x1 - x0)

    def over(self, image: NDArray[np.uint8]) -> Image.Image:
        """The (H, W, 3) uint8 image under this layer, tile by tile: what is not painted on is only copied."""
        canvas = Image.fromarray(image)
        # One pixel more on each side: enlarging reaches over to the neighbours.
        paint = np.pad(self.paint.reshape(self.size[1], self.size[0], 4), ((1, 1), (1, 1), (0, 0)), mode="edge")
        for top in range(0, self.size[1], _TILE):
            for left in range(0, self.size[0], _TILE):
                tile = paint[top : top + _TILE + 2, left : left + _TILE + 2]
                if tile[:, :, 3].any():
                    large = enlarged(tile, self.scale)
                    piece = Image.frombuffer("RGBa", large.shape[1::-1], large, "raw", "RGBa", 0, 1)
                    canvas.paste(piece, (left * self.scale, top * self.scale), piece)
        return canvas


def enlarged(tile: NDArray[np.uint16], scale: int) -> NDArray[np.uint8]:
    """(h + 2, w + 2, 4) pixels, the outermost ones only for interpolation, made (h * scale, w * scale, 4), bilinear.

    What Pillow's resize gives, up to rounding, but for a whole factor in a tenth of its time.
    """
    if scale == 1:
        return tile[1:-1, 1:-1].astype(np.uint8)
    height, width = tile.shape[0] - 2, tile.shape[1] - 2
    columns = np.empty((height + 2, width, scale, 4), dtype=np.uint16)
    rows = np.empty((height, scale, width * scale * 4), dtype=np.uint8)
    for phase in range(scale):
        columns[:, :, phase] = _between(tile[:, :-2], tile[:, 1:-1], tile[:, 2:], (phase + 0.5) / scale)
    wide = columns.reshape(height + 2, -1)
    for phase in range(scale):
        rows[:, phase] = _between(wide[:-2], wide[1:-1], wide[2:], (phase + 0.5) / scale)
    return rows.reshape(height * scale, width * scale, 4)


def _between(
    before: NDArray[np.uint16], middle: NDArray[np.uint16], after: NDArray[np.uint16], place: float
) -> NDArray[np.uint16]:
    """Linear interpolation at a place of the middle pixels, 0 = at their edge before, 1 = at their edge after."""
    share = np.uint16(round(256 * abs(place - 0.5)))
    mixed = middle * (np.uint16(256) - share)
    mixed += (after if place > 0.5 else before) * share
    mixed += np.uint16(128)
    mixed >>= np.uint16(8)
    return mixed


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
