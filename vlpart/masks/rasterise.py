"""Segmentations as annotated: checked once when a source is loaded, packed to bytes, rasterised after the geometry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from vlpart.errors import DataError
from vlpart.masks.rle import bitmap_of_runs, decode_runs, encode_runs, runs_box

Polygons = list[NDArray[Any]]
"""One instance: polygons as (P, 2) float x, y in pixels; float64 as annotated, float32 in the record store."""
Segmentation = Polygons | bytes
"""Polygons, or the `counts` of a compressed COCO RLE at the size of its image."""


FAR = 1e30
"""Coordinates beyond this are as good as infinite."""
FAR_OUT = 10
"""Times the longer side of its image that a polygon may reach out of it."""
LENGTH = 200
"""Times width + height that the outlines of one annotation may be long (but any may have `LEAST_LENGTH` pixels).

Filling them takes time and memory that grow with their length, whatever the size of the image.
"""
LEAST_LENGTH = 200_000

_MARGIN = 3  # pixels around polygons


class MaskError(DataError):
    """A segmentation that cannot be used. `kind`: "malformed-mask", "mask-size" or "not-finite"."""

    def __init__(self, text: str, kind: str = "malformed-mask") -> None:
        super().__init__(text)
        self.kind = kind


def parse_segmentation(raw: Any, height: int, width: int) -> Segmentation | None:
    """Check a COCO segmentation and bring it to one of two forms.

    Args:
        raw: a list of polygons [x, y, ...], or `{"size": [h, w], "counts": str | bytes | list of runs}`.
        height, width: size of the image.

    Returns:
        Polygons with three points or more, or RLE counts; None where nothing is left (an empty mask: no pixel, or
        wholly outside of the image).

    Raises:
        MaskError: values that are no numbers or not finite, polygons far out of the image or too long to be filled, an
            RLE of another size or with runs that do not fill the image.
    """
    if raw is None:
        return None
    if isinstance(raw, Mapping):
        return _parse_rle(raw, height, width)
    if not isinstance(raw, list):
        raise MaskError(f"a segmentation is a list of polygons or an RLE, got a {type(raw).__name__}")
    polygons = [points for flat in raw if len(points := _points(flat)) >= 3]
    if not polygons:
        return None
    corners = np.concatenate(polygons)
    if np.abs(corners).max() > FAR_OUT * max(height, width):
        raise MaskError(f"a polygon reaches far out of its image of {height}x{width} pixels")
    lengths = (np.abs(points - np.roll(points, 1, axis=0)).max(axis=1).sum() for points in polygons)
    if (length := float(sum(lengths))) > max(LENGTH * (height + width), LEAST_LENGTH):
        raise MaskError(f"the polygons of one mask are {length:.3g} pixels long in an image of {height}x{width} pixels")
    (x0, y0), (x1, y1) = corners.min(axis=0), corners.max(axis=0)
    return None if x1 <= 0 or y1 <= 0 or x0 >= width or y0 >= height else polygons


def _points(flat: Any) -> NDArray[np.float64]:
    """(P, 2) corners of one polygon, unless they are no finite numbers."""
    if not isinstance(flat, list | tuple | np.ndarray) or any(isinstance(value, str | bool) for value in flat):
        raise MaskError("a polygon holds something that is not a number")
    try:
        points = np.asarray(flat, dtype=np.float64)
    except OverflowError:
        raise MaskError("a polygon is not finite", "not-finite") from None
    except (TypeError, ValueError):
        raise MaskError("a polygon holds something that is not a number") from None
    if points.ndim != 1 or points.size % 2:
        raise MaskError(
            f"a polygon is a flat list of finite x, y pairs, got {points.size} values of shape {points.shape}"
        )
    if not np.isfinite(points).all() or (points.size and np.abs(points).max() > FAR):
        missing = any(value is None for value in flat)  # numpy takes null for NaN
        raise MaskError("a polygon is not finite", "malformed-mask" if missing else "not-finite")
    return points.reshape(-1, 2)


def _parse_rle(raw: Mapping[str, Any], height: int, width: int) -> bytes | None:
    try:
        size, runs = decode_runs(raw)
    except ValueError as error:
        raise MaskError(str(error)) from None
    if size != (height, width):
        raise MaskError(f"RLE of size {list(size)} (height, width) for an image of {[height, width]}", "mask-size")
    if not len(runs):
        return None
    counts = raw["counts"]
    if not isinstance(counts, str | bytes):
        counts = encode_runs(runs, (height, width))["counts"]
    return counts.encode("ascii") if isinstance(counts, str) else bytes(counts)


def pack_segmentation(segmentation: Segmentation) -> bytes:
    """Bytes for the record store: a zero and the RLE counts, or a one, the polygon sizes and float32 coordinates."""
    if isinstance(segmentation, bytes):
        return b"\0" + segmentation
    sizes = np.array([len(segmentation), *(len(polygon) for polygon in segmentation)], dtype=np.int32)
    return b"\1" + sizes.tobytes() + np.concatenate(segmentation).astype(np.float32).tobytes()


def unpack_segmentation(packed: bytes) -> Segmentation:
    """The inverse of `pack_segmentation`."""
    if packed[0] == 0:
        return packed[1:]
    count = int(np.frombuffer(packed, dtype=np.int32, count=1, offset=1)[0])
    sizes = np.frombuffer(packed, dtype=np.int32, count=count, offset=5)
    points = np.frombuffer(packed, dtype=np.float32, offset=5 + 4 * count).reshape(-1, 2)
    return np.split(points, np.cumsum(sizes)[:-1])


def segmentation_box(segmentation: Segmentation, height: int, width: int) -> tuple[float, float, float, float]:
    """Extents in pixels, xyxy with exclusive ends: of the polygon points, or of the pixels of an RLE."""
    if isinstance(segmentation, bytes):
        _, runs = decode_runs({"size": [height, width], "counts": segmentation})
        return runs_box(runs, height)
    points = np.concatenate(segmentation)
    (x0, y0), (x1, y1) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    return x0, y0, x1, y1


def decode_rle(counts: bytes | str, height: int, width: int) -> tuple[int, int, NDArray[np.bool_]]:
    """`(x0, y0, bitmap)`: a window of the image that holds the mask, and its place; of size 0 if it is empty."""
    _, runs = decode_runs({"size": [height, width], "counts": counts})
    return bitmap_of_runs(runs, height)


def rasterise_polygons(polygons: Polygons, height: int, width: int) -> tuple[int, int, NDArray[np.bool_]]:
    """Fill polygons given in pixels of a (height, width) canvas, as the COCO tools do; returns as `decode_rle`.

    The window may be a few pixels larger than the mask.
    """
    corners = np.concatenate(polygons)
    # Only where the polygons are; outlines are moved by whole pixels, and not at all where they leave the canvas.
    x0, y0 = (max(0, int(low) - _MARGIN) for low in corners.min(axis=0))
    x1, y1 = (min(side, int(high) + _MARGIN) for side, high in zip((width, height), corners.max(axis=0), strict=True))
    if x1 <= x0 or y1 <= y0:
        return 0, 0, np.zeros((0, 0), dtype=bool)
    flat = [(polygon.astype(np.float64) - (x0, y0)).ravel().tolist() for polygon in polygons]
    code = coco_mask.merge(coco_mask.frPyObjects(flat, y1 - y0, x1 - x0))
    return x0, y0, coco_mask.decode(code).view(bool)


def mask_area(segmentation: Segmentation, height: int, width: int) -> int:
    """Pixels of a mask: the filled polygons, or the RLE."""
    if not isinstance(segmentation, bytes):
        return int(np.count_nonzero(rasterise_polygons(segmentation, height, width)[2]))
    _, runs = decode_runs({"size": [height, width], "counts": segmentation})
    return int((runs[:, 1] - runs[:, 0]).sum())


def tight_box(x0: int, y0: int, bitmap: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """Extents of the True pixels, xyxy with exclusive ends, for a bitmap (not empty) whose corner is at (x0, y0)."""
    rows, columns = np.flatnonzero(bitmap.any(axis=1)), np.flatnonzero(bitmap.any(axis=0))
    return x0 + int(columns[0]), y0 + int(rows[0]), x0 + int(columns[-1]) + 1, y0 + int(rows[-1]) + 1
