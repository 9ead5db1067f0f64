"""Masks and boxes on a picture: a translucent fill and a smooth contour in one go."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image, ImageFilter

from vlpart.masks import MaskCrop
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
