"""Augmentation: one geometry for image, boxes and masks; then colour. All randomness comes from the generator that is
passed in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter
from torch import Tensor

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
    pixels = resize_window(image, geometry, (record.height, record.width))
    if source.color_jitter > 0 or source.strong_augmentation:
        drawn = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
        if source.color_jitter > 0:
            drawn = jitter_colors(drawn, source.color_jitter, rng)
        if source.strong_augmentation:
            drawn = strong_augmentation(drawn, rng)
        pixels = torch.from_numpy(np.array(drawn)).permute(2, 0, 1)
    return Sample(
        image=pixels,
        targets=transform_targets(loaded, record, geometry),
        source=source.name,
        image_id=record.image_id,
        path=str(record.path),
    )


def resize_window(image: NDArray[np.uint8], geometry: Geometry, stored_size: tuple[int, int]) -> Tensor:
    """Cut, resize (bilinear with antialiasing, within 1 grey level of Pillow) and mirror: (3, H, W) uint8."""
    x0, y0, x1, y1 = geometry.window
    if image.shape[:2] != stored_size:  # a draft: the same image with fewer pixels
        fx, fy = image.shape[1] / stored_size[1], image.shape[0] / stored_size[0]
        x0, x1 = int(x0 * fx), max(int(x0 * fx) + 1, int(x1 * fx + 0.5))
        y0, y1 = int(y0 * fy), max(int(y0 * fy) + 1, int(y1 * fy + 0.5))
    tensor = torch.from_numpy(image[y0:y1, x0:x1]).permute(2, 0, 1)
    if tuple(tensor.shape[1:]) != geometry.size:
        tensor = torch.nn.functional.interpolate(
            tensor[None], size=geometry.size, mode="bilinear", antialias=True, align_corners=False
        )[0]
    return tensor.flip(2) if geometry.mirrored else tensor


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


def jitter_colors(
    image: Image.Image, strength: float, rng: np.random.Generator, hue: float | None = None
) -> Image.Image:
    """Brightness, contrast and saturation factors in 1 +- strength, hue shift in +- hue (strength / 4), any order."""
    hue = strength / 4 if hue is None else hue
    brightness, contrast, saturation = rng.uniform(1 - strength, 1 + strength, size=3).tolist()
    shift = float(rng.uniform(-hue, hue))
    for step in rng.permutation(4).tolist():
        if step == 0:
            image = ImageEnhance.Brightness(image).enhance(brightness)
        elif step == 1:
            image = ImageEnhance.Contrast(image).enhance(contrast)
        elif step == 2:
            image = ImageEnhance.Color(image).enhance(saturation)
        else:
            image = shift_hue(image, shift)
    return image


def shift_hue(image: Image.Image, shift: float) -> Image.Image:
    """Turn the colour circle by `shift` (1 = all the way round)."""
    steps = int(shift * 255)
    hue, saturation, value = image.convert("HSV").split()
    hue = hue.point([(level + steps) % 256 for level in range(256)])
    return Image.merge("HSV", (hue, saturation, value)).convert("RGB")


def strong_augmentation(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Colour jitter (p 0.8), grey (p 0.2), blur (p 0.5), three random erasings (p 0.7, 0.5, 0.3).

    Source: docs/method.md, 'Augmentation'.

    Areas and side ratios of the erasings are not part of the specification; they are those of common practice.
    """
    if rng.random() < 0.8:
        image = jitter_colors(image, 0.4, rng, hue=0.1)
    if rng.random() < 0.2:
        image = image.convert("L").convert("RGB")
    if rng.random() < 0.5:
        image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.1, 2.0))))
    for probability, (smallest, largest), (flattest, tallest) in (
        (0.7, (0.05, 0.2), (0.3, 3.3)),
        (0.5, (0.02, 0.2), (0.1, 6.0)),
        (0.3, (0.02, 0.2), (0.05, 8.0)),
    ):
        if rng.random() < probability:
            ratio = float(np.exp(rng.uniform(np.log(flattest), np.log(tallest))))
            image = erase(image, float(rng.uniform(smallest, largest)), ratio, rng)
    return image


def erase(image: Image.Image, area: float, ratio: float, rng: np.random.Generator) -> Image.Image:
    """Fill a random rectangle with noise: that fraction of the area, that height / width ratio, cut to the image."""
    width, height = image.size
    tall = min(height, max(1, round(float(np.sqrt(area * height * width * ratio)))))
    wide = min(width, max(1, round(float(np.sqrt(area * height * width / ratio)))))
    top, left = int(rng.integers(height - tall + 1)), int(rng.integers(width - wide + 1))
    erased = image.copy()
    erased.paste(Image.fromarray(rng.integers(0, 256, size=(tall, wide, 3), dtype=np.uint8)), (left, top))
    return erased
