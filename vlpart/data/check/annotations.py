"""Checks of single annotations: boxes, masks, and how they fit each other and their image."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from vlpart.data.check.findings import Findings
from vlpart.data.check.split import Entry, Split, file_name
from vlpart.errors import DataError
from vlpart.jobs import Progress
from vlpart.masks.rasterise import parse_segmentation, rasterise_polygons
from vlpart.masks.rle import Runs, decode_runs

DEGENERATE = 4
"""Masks with fewer pixels are reported."""
SLACK = 1.0
"""Pixels a box may reach out of its image: rounding of annotation tools."""
MISFIT = 2.0
"""Pixels a side of a box may be off its mask, plus 2 % of the box (some sets count the last pixel, some do not)."""

FAR = 1e30
"""Coordinates beyond this are as good as infinite."""

Box = tuple[float, float, float, float]


def check_annotations(split: Split, findings: Findings, progress: Progress | None = None) -> None:
    """Check every annotation of a split, and what its entries say about each other."""
    _check_names(split, findings)
    total = len(split.images)
    for done, (image_id, image) in enumerate(split.images.items(), start=1):
        entries = split.annotations.get(image_id, [])
        labels = image.get("pos_category_ids") or []
        if not entries and not labels:
            findings.add("image-without-annotations", split.name, f"image {image_id} ({file_name(image)})")
        if not isinstance(labels, list):
            findings.add("broken-entry", split.name, f"image {image_id}: pos_category_ids {str(labels)[:60]}")
            labels = []
        for label in labels:
            if type(label) is not int or label not in split.categories:
                findings.add("unknown-category", split.name, f"image {image_id}: image label {label!r}")
        seen: set[tuple[object, ...]] = set()
        for entry in entries:
            box = check_annotation(entry, image, split.name, findings)
            key = (entry["category_id"], box)
            if box is not None and key in seen:
                findings.add("duplicate-annotation", split.name, f"annotation {entry.get('id')} of image {image_id}")
            seen.add(key)
        if progress is not None and (done % 500 == 0 or done == total):
            progress(f"annotations of {split.name}", done, total)


def _check_names(split: Split, findings: Findings) -> None:
    names: dict[str, int] = {}
    for category_id, category in split.categories.items():
        name = str(category.get("name") or "").strip().casefold()
        if name and name in names:
            findings.add("duplicate-category-name", split.name, f"{names[name]} and {category_id}: {category['name']}")
        names.setdefault(name, category_id)
    files: set[str] = set()
    listed_by_label = any(image.get("pos_category_ids") for image in split.images.values())
    for image_id, image in split.images.items():
        name = str(file_name(image))
        if name in files and not listed_by_label:  # image-label files list an image once per label
            findings.add("duplicate-file-name", split.name, f"image {image_id}: {name}")
        files.add(name)


def check_annotation(entry: Entry, image: Entry, file: str, findings: Findings) -> Box | None:
    """Check one annotation of an image; gives its box (x, y, w, h) if that is four finite numbers."""
    where = f"annotation {entry.get('id')} of {file_name(image)}"
    box = _box(entry.get("bbox"), where, file, findings)
    raw = entry.get("segmentation")
    if not raw and entry.get("bbox") is None:
        findings.add("no-box-no-mask", file, where)
    area = entry.get("area")
    if isinstance(area, float) and not math.isfinite(area):
        findings.add("not-finite", file, f"{where}: area {area}")
    width, height = image["width"], image["height"]
    if box is not None:
        _check_box(box, width, height, where, file, findings)
    if raw and not entry.get("iscrowd"):
        extents = _check_mask(raw, width, height, where, file, findings)
        if box is not None and extents is not None and _misfit(box, extents):
            shown = ", ".join(f"{value:g}" for value in extents)
            findings.add("box-mask-differ", file, f"{where}: box {list(box)}, mask spans x0 y0 x1 y1 {shown}")
    return box


def _box(raw: Any, where: str, file: str, findings: Findings) -> Box | None:
    if raw is None:
        return None
    if not isinstance(raw, list) or len(raw) != 4 or not all(type(value) in (int, float) for value in raw):
        findings.add("malformed-box", file, f"{where}: {str(raw)[:80]}")
        return None
    try:
        x, y, w, h = (float(value) for value in raw)
    except OverflowError:  # a whole number beyond any float
        x = y = w = h = math.inf
    if not all(map(math.isfinite, (x, y, w, h))):
        findings.add("not-finite", file, f"{where}: box {str(raw)[:80]}")
        return None
    return x, y, w, h


def _check_box(box: Box, width: int, height: int, where: str, file: str, findings: Findings) -> None:
    x, y, w, h = box
    if w <= 0 or h <= 0:
        findings.add("empty-box", file, f"{where}: {list(box)}")
    if x < -SLACK or y < -SLACK or x + w > width + SLACK or y + h > height + SLACK:
        findings.add("box-outside", file, f"{where}: {list(box)} in {width}x{height}")


def _check_mask(raw: Any, width: int, height: int, where: str, file: str, findings: Findings) -> Box | None:
    """Report what is wrong with a segmentation; gives its extents x0, y0, x1, y1 (ends exclusive) if it has any."""
    if not all_finite(raw):
        findings.add("not-finite", file, f"{where}: segmentation")
        return None
    try:
        area, extents = _mask_of_rle(raw, width, height) if isinstance(raw, Mapping) else _mask(raw, width, height)
    except _SizeError as error:
        findings.add("mask-size", file, f"{where}: {error}")
        return None
    except (DataError, ValueError, OverflowError) as error:
        findings.add("malformed-mask", file, f"{where}: {error}")
        return None
    if area <= 0:
        findings.add("empty-mask", file, where)
        return None
    if area < DEGENERATE:
        findings.add("degenerate-mask", file, f"{where}: {area:g} pixels")
    return extents


class _SizeError(Exception):
    """An RLE of another size than its image."""


def all_finite(segmentation: Any) -> bool:
    """Whether no coordinate of polygons is NaN, infinite or as good as that; an RLE has no coordinates."""
    if not isinstance(segmentation, list):
        return True
    polygons = (polygon if isinstance(polygon, list) else [polygon] for polygon in segmentation)
    return all(abs(value) < FAR for polygon in polygons for value in polygon if type(value) in (int, float))


def _mask_of_rle(raw: Mapping[str, Any], width: int, height: int) -> tuple[float, Box | None]:
    size, runs = decode_runs(raw)
    if size != (height, width):
        raise _SizeError(f"mask {size[1]}x{size[0]}, image {width}x{height}")
    return (float((runs[:, 1] - runs[:, 0]).sum()), runs_box(runs, height)) if len(runs) else (0.0, None)


def runs_box(runs: Runs, height: int) -> Box:
    """Extents x0, y0, x1, y1 (ends exclusive) of foreground runs in column-major order; at least one run."""
    starts, last = runs[:, 0], runs[:, 1] - 1
    x0, x1 = int(starts[0] // height), int(last[-1] // height) + 1
    if np.any(starts // height != last // height):
        return float(x0), 0.0, float(x1), float(height)
    return float(x0), float((starts % height).min()), float(x1), float((last % height).max() + 1)


def _mask(raw: Any, width: int, height: int) -> tuple[float, Box | None]:
    """Area and extents of polygons; those with hardly any area are filled in to count their pixels."""
    polygons = parse_segmentation(raw, height, width)
    if not polygons or isinstance(polygons, bytes):
        return 0.0, None
    points = np.concatenate(polygons).astype(np.float64)
    (x0, y0), (x1, y1) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    if x1 <= 0 or y1 <= 0 or x0 >= width or y0 >= height:
        return 0.0, None
    area = 0.0
    for polygon in polygons:
        x, y = polygon[:, 0].astype(np.float64), polygon[:, 1].astype(np.float64)
        area += abs(float(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))) / 2
    if area < 2 * DEGENERATE:
        area = float(np.count_nonzero(rasterise_polygons(polygons, height, width)[2]))
    return area, (x0, y0, x1, y1)


def _misfit(box: Box, extents: Box) -> bool:
    x, y, w, h = box
    room_x, room_y = MISFIT + 0.02 * w, MISFIT + 0.02 * h
    off_x = max(abs(x - extents[0]), abs(x + w - extents[2]))
    off_y = max(abs(y - extents[1]), abs(y + h - extents[3]))
    return off_x > room_x or off_y > room_y
