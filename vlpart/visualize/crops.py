"""Pieces of an image: what is around a detection, and the detection alone on a transparent ground."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from vlpart.checks import in_range
from vlpart.visualize.paint import box_crop

if TYPE_CHECKING:
    from vlpart.types import NamedDetections


def crop_of(image: NDArray[np.uint8], result: NamedDetections, i: int, margin: float = 0.1) -> Image.Image:
    """The image around detection `i`, in RGB.

    Args:
        image: (H, W, 3) uint8 RGB, of the size of the result.
        result: the detections.
        i: which of them.
        margin: how much more on each side, as a share of the longer side of the box; clipped at the edges of the image.
    """
    in_range("margin", margin, 0, 100)
    x0, y0, x1, y1 = (float(side) for side in result.boxes_xyxy[i])
    more = margin * max(x1 - x0, y1 - y0)
    frame = box_crop(np.array([x0 - more, y0 - more, x1 + more, y1 + more], dtype=np.float32), image.shape[1::-1])
    return Image.fromarray(np.ascontiguousarray(image[frame.y0 : frame.y1, frame.x0 : frame.x1]))


def cutout_of(image: NDArray[np.uint8], result: NamedDetections, i: int) -> Image.Image:
    """Detection `i` alone, in RGBA: transparent outside its mask, with a smooth edge; without masks its box.

    As in the picture, a mask that its box cuts off straight runs out in a curve (`MaskStack.extended`).
    """
    crop = box_crop(result.boxes_xyxy[i], image.shape[1::-1])
    if result.masks is not None:
        mask = result.masks[[i]].extended().crop(0)
        crop = mask if mask.bitmap.size else crop._replace(bitmap=np.zeros_like(crop.bitmap))
    alpha = np.pad(crop.bitmap.astype(np.uint8) * 255, 1, mode="edge")  # the image's own edge is no edge of the mask
    inside = np.asarray(Image.fromarray(alpha).filter(ImageFilter.BoxBlur(1)))[1:-1, 1:-1]
    pixels = image[crop.y0 : crop.y1, crop.x0 : crop.x1]
    return Image.fromarray(np.dstack([pixels, np.minimum(inside, crop.bitmap * np.uint8(255))]))
