"""Augmentation: one geometry for image, boxes and masks; colours. All randomness comes from the generator that is
passed in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from vlpart.data.colours import erase_some, jitter_colors, strong_colours
from vlpart.data.records import Record
from vlpart.data.resize import resized_size
from vlpart.data.source import LoadedSource, Source
from vlpart.masks.rasterise import Polygons, Segmentation, decode_rle, rasterise_polygons, tight_box
from vlpart.types import Sample, Targets

EMPTY_BOX = 1e-5


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """Stored image -> network input.

    Attributes:
        window: x0, y0, x1, y1, whole pixels of the stored image.
        size: height and width that the window is resized to.
        mirrored: flipped left to right after that.
    """

    window: tuple[int, int, int, int]
    size: tuple[int, int]
    mirrored: bool

    @property
    def scale(self) -> tuple[float, float]:
        """Output pixels per stored pixel, x and y."""
        x0, y0, x1, y1 = self.window
        return self.size[1] / (x1 - x0), self.size[0] / (y1 - y0)

    def points(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """(P, 2) x, y of the stored image -> of the output, not clipped."""
        moved = (points - np.array(self.window[:2], dtype=np.float32)) * np.array(self.scale, dtype=np.float32)
        if self.mirrored:
            moved[:, 0] = self.size[1] - moved[:, 0]
        return moved.astype(np.float32)

    def boxes(self, boxes_xyxy: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, 4) boxes of the stored image -> of the output, not clipped."""
        corners = self.points(boxes_xyxy.reshape(-1, 2)).reshape(-1, 4)
        return corners[:, [2, 1, 0, 3]] if self.mirrored else corners


def sample_geometry(source: Source, height: int, width: int, rng: np.random.Generator) -> Geometry:
    """Draw size, crop and flip for an image of that size."""
    short_side = sample_short_side(source, rng)
    new_height, new_width = resized_size(height, width, short_side, source.max_side)
    mirrored = bool(rng.random() < source.flip)
    window = (0, 0, width, height)
    if source.scale_jitter is not None:
        factor = math.exp(rng.uniform(math.log(source.scale_jitter[0]), math.log(source.scale_jitter[1])))
        if factor < 1:
            new_height, new_width = max(1, int(new_height * factor + 0.5)), max(1, int(new_width * factor + 0.5))
        else:
            crop_height, crop_width = max(1, int(height / factor + 0.5)), max(1, int(width / factor + 0.5))
            x0 = int(rng.integers(width - crop_width + 1))
            y0 = int(rng.integers(height - crop_height + 1))
            window = (x0, y0, x0 + crop_width, y0 + crop_height)
    return Geometry(window=window, size=(new_height, new_width), mirrored=mirrored)


def sample_short_side(source: Source, rng: np.random.Generator) -> int:
    """Draw the shorter side of the network input, pixels."""
    if source.short_side_sampling == "choice":
        return int(source.short_sides[int(rng.integers(len(source.short_sides)))])
    return int(rng.integers(source.short_sides[0], source.short_sides[1] + 1))


def augment(loaded: LoadedSource, record: Record, image: NDArray[np.uint8], rng: np.random.Generator) -> Sample:
    """One augmented sample.

    Args:
        loaded: the source of the record.
        record: ground truth.
        image: (height, width, 3) uint8 RGB, the stored image or the same at a lower resolution (a JPEG draft).
        rng: decides everything random.

    Returns:
        `Sample`; annotations that end up empty, or mostly outside the crop, are gone.
    """
    geometry = sample_geometry(loaded.source, record.height, record.width, rng)
    return apply_geometry(loaded, record, image, geometry, rng)


def apply_geometry(
    loaded: LoadedSource, record: Record, image: NDArray[np.uint8], geometry: Geometry, rng: np.random.Generator
) -> Sample:
    """The sample of `augment` for a size, crop and flip that are given; `rng` decides the colours."""
    source = loaded.source
    pixels = cut_window(image, geometry, (record.height, record.width))
    recoloured = source.color_jitter > 0 or source.strong_augmentation
    enlarged = geometry.size[0] * geometry.size[1] > pixels.shape[1] * pixels.shape[2]
    if recoloured and enlarged:  # colours where there are fewer pixels: that changes next to nothing but the cost
        pixels = _recoloured(pixels, geometry, source, rng)
    pixels = resized(pixels, geometry)
    if recoloured and not enlarged:
        pixels = _recoloured(pixels, geometry, source, rng)
    if source.strong_augmentation:
        erase_some(pixels.numpy(), rng)
    return Sample(
        image=pixels,
        targets=transform_targets(loaded, record, geometry),
        source=source.name,
        image_id=record.image_id,
        path=str(record.path),
    )


def cut_window(image: NDArray[np.uint8], geometry: Geometry, stored_size: tuple[int, int]) -> Tensor:
    """The window of an (H, W, 3) image, (3, H', W') uint8, a view."""
    x0, y0, x1, y1 = geometry.window
    if image.shape[:2] != stored_size:  # a draft: the same image with fewer pixels
        fx, fy = image.shape[1] / stored_size[1], image.shape[0] / stored_size[0]
        x0, x1 = int(x0 * fx), max(int(x0 * fx) + 1, int(x1 * fx + 0.5))
        y0, y1 = int(y0 * fy), max(int(y0 * fy) + 1, int(y1 * fy + 0.5))
    return torch.from_numpy(image[y0:y1, x0:x1]).permute(2, 0, 1)


def resized(pixels: Tensor, geometry: Geometry) -> Tensor:
    """Resize a window (bilinear with antialiasing, within 1 grey level of Pillow) and mirror it: (3, H, W) uint8."""
    if tuple(pixels.shape[1:]) != geometry.size:
        pixels = torch.nn.functional.interpolate(
            pixels[None], size=geometry.size, mode="bilinear", antialias=True, align_corners=False
        )[0]
    return pixels.flip(2) if geometry.mirrored else pixels


def _recoloured(pixels: Tensor, geometry: Geometry, source: Source, rng: np.random.Generator) -> Tensor:
    """(3, H, W) pixels of the window, resized or not yet, in other colours; a copy."""
    zoom = math.sqrt(geometry.size[0] * geometry.size[1] / (pixels.shape[1] * pixels.shape[2]))
    drawn = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
    if source.color_jitter > 0:
        drawn = jitter_colors(drawn, source.color_jitter, rng)
    if source.strong_augmentation:
        drawn = strong_colours(drawn, rng, zoom)
    return torch.from_numpy(np.array(drawn)).permute(2, 0, 1)


def transform_targets(loaded: LoadedSource, record: Record, geometry: Geometry) -> Targets:
    """Boxes, masks and labels in the frame of the network input."""
    source = loaded.source
    height, width = geometry.size
    boxes = geometry.boxes(record.boxes_xyxy)
    limit = np.array([width, height, width, height], dtype=np.float32)
    clipped = np.clip(boxes, 0, limit)
    visible = _areas(clipped) >= source.min_visible * _areas(boxes)
    masks: NDArray[np.bool_] | None = None
    if record.segmentations is None:
        present = np.ones(len(boxes), dtype=bool)
    else:
        masks = np.zeros((len(boxes), height, width), dtype=bool)
        present = np.zeros(len(boxes), dtype=bool)
        for i, segmentation in enumerate(record.segmentations):
            x0, y0, bitmap = rasterise(segmentation, geometry, (record.height, record.width))
            if not bitmap.any():
                continue
            masks[i, y0 : y0 + bitmap.shape[0], x0 : x0 + bitmap.shape[1]] = bitmap
            present[i] = True
            if source.boxes_from_masks:
                clipped[i] = tight_box(x0, y0, bitmap)
    keep = present & visible & (clipped[:, 2:] - clipped[:, :2] > EMPTY_BOX).all(axis=1)
    labels, image_labels = record.labels, record.image_labels
    unknown = np.zeros(len(loaded.vocabulary), dtype=bool)
    unknown[record.unknown_labels] = True
    if geometry.mirrored:
        labels, image_labels = loaded.flip_labels[labels], loaded.flip_labels[image_labels]
        unknown = unknown[loaded.flip_labels]
    labels = labels[keep]
    return Targets(
        boxes_xyxy=torch.from_numpy(clipped[keep]),
        labels=torch.from_numpy(labels),
        masks=None if masks is None else torch.from_numpy(masks if keep.all() else masks[keep]),
        image_labels=torch.from_numpy(image_labels),
        unknown_labels=torch.from_numpy(unknown) if source.unlabelled == "unknown" else None,
        ignore_inside=_whole_objects(loaded, labels) if source.inside_objects == "unknown" else None,
        pseudo_labels=torch.from_numpy(record.scored[keep]) if source.scored_annotations == "pseudo" else None,
    )


def _whole_objects(loaded: LoadedSource, labels: NDArray[np.int64]) -> Tensor:
    """(N,) bool: which labels name objects, not parts."""
    return torch.tensor([not loaded.vocabulary.is_part(int(label)) for label in labels], dtype=torch.bool)


def rasterise(
    segmentation: Segmentation, geometry: Geometry, stored_size: tuple[int, int]
) -> tuple[int, int, NDArray[np.bool_]]:
    """Bitmap of one instance in the network input: `(x0, y0, bitmap)`, a window of the input; possibly of size 0."""
    height, width = geometry.size
    if not isinstance(segmentation, bytes):
        moved: Polygons = [geometry.points(polygon) for polygon in segmentation]
        return rasterise_polygons(moved, height, width)
    x0, y0, bitmap = _resize_rle(segmentation, geometry, stored_size)
    if geometry.mirrored:
        x0, bitmap = width - x0 - bitmap.shape[1], bitmap[:, ::-1]
    return x0, y0, bitmap


def _resize_rle(counts: bytes, geometry: Geometry, stored_size: tuple[int, int]) -> tuple[int, int, NDArray[np.bool_]]:
    """Decode, resize only what the mask covers, cut at one half: a pixel is on where most of its area is."""
    (height, width), (sx, sy) = geometry.size, geometry.scale
    wx, wy = geometry.window[:2]
    x0, y0, bitmap = decode_rle(counts, *stored_size)
    left, top = max(0, math.floor((x0 - wx) * sx)), max(0, math.floor((y0 - wy) * sy))
    right = min(width, math.ceil((x0 + bitmap.shape[1] - wx) * sx))
    bottom = min(height, math.ceil((y0 + bitmap.shape[0] - wy) * sy))
    if right <= left or bottom <= top:
        return 0, 0, np.zeros((0, 0), dtype=bool)
    area = (left / sx + wx, top / sy + wy, right / sx + wx, bottom / sy + wy)
    margin_x, margin_y = math.ceil(max(1.0, 1 / sx)) + 1, math.ceil(max(1.0, 1 / sy)) + 1  # what the filter reaches
    cut_x, cut_y = max(0, math.floor(area[0]) - margin_x), max(0, math.floor(area[1]) - margin_y)
    cut_right = min(stored_size[1], math.ceil(area[2]) + margin_x)
    cut_bottom = min(stored_size[0], math.ceil(area[3]) + margin_y)
    cut = np.zeros((cut_bottom - cut_y, cut_right - cut_x), dtype=np.uint8)
    paste(cut, x0 - cut_x, y0 - cut_y, bitmap, 255)
    box = (
        area[0] - cut_x,
        area[1] - cut_y,
        min(area[2] - cut_x, float(cut.shape[1])),
        min(area[3] - cut_y, float(cut.shape[0])),
    )
    resized = Image.fromarray(cut).resize((right - left, bottom - top), Image.Resampling.BILINEAR, box=box)
    return left, top, np.asarray(resized) >= 128


def paste(canvas: NDArray[Any], x: int, y: int, bitmap: NDArray[np.bool_], value: int) -> None:
    """Set `canvas` (H, W) to `value` under a bitmap whose corner is at (x, y); what lies outside is left out."""
    height, width = canvas.shape
    x0, y0, x1, y1 = max(0, x), max(0, y), min(width, x + bitmap.shape[1]), min(height, y + bitmap.shape[0])
    if x0 < x1 and y0 < y1:
        canvas[y0:y1, x0:x1][bitmap[y0 - y : y1 - y, x0 - x : x1 - x]] = value


def _areas(boxes_xyxy: NDArray[np.float32]) -> NDArray[np.float32]:
    return (boxes_xyxy[:, 2] - boxes_xyxy[:, 0]) * (boxes_xyxy[:, 3] - boxes_xyxy[:, 1])
