"""Checks of single annotations: boxes, masks, and how they fit each other and their image.

What the reader refuses is reported by the reader itself (`vlpart.data.readers.regions`); here is what it puts up with.
"""

from __future__ import annotations

from vlpart.data.check.findings import Findings
from vlpart.data.check.split import Split
from vlpart.data.readers.base import AnnotationEntry, ImageEntry
from vlpart.data.readers.regions import read_regions
from vlpart.data.readers.values import class_key, has_control
from vlpart.jobs import Progress
from vlpart.masks.rasterise import Polygons, mask_area, segmentation_box
from vlpart.masks.rle import decode_runs
from vlpart.text.prompts import tokens_over

DEGENERATE = 4
"""Masks with fewer pixels are reported."""
SLACK = 1.0
"""Pixels a box may reach out of its image: rounding of annotation tools."""
MISFIT = 2.0
"""Pixels a side of a box may be off its mask, plus 2 % of the box (some sets count the last pixel, some do not)."""

Box = tuple[float, float, float, float]


def check_annotations(split: Split, findings: Findings, progress: Progress | None = None) -> None:
    """Check every annotation of a split, and what its entries say about each other."""
    _check_names(split, findings)
    total = len(split.images)
    tally = _Tally()
    predicted = split.is_predicted
    with_masks = any(entry.get("segmentation") for entries in split.annotations.values() for entry in entries)

    def problem(kind: str, text: str) -> None:
        findings.add(kind, split.name, text)

    images, known = split.images.values(), split.header.categories
    raw_by_id = {image.known_as: split.annotations.get(image.id, []) for image in images}
    for done, (image, entries) in enumerate(read_regions(images, raw_by_id, known, problem), start=1):
        if not raw_by_id[image.known_as] and not image.positive_ids and not predicted:
            findings.add("image-without-annotations", split.name, f"image {image.known_as} ({image.file_name})")
        seen: set[tuple[object, ...]] = set()
        for _, entry in entries:
            tally.add(entry)
            if with_masks and entry.segmentation is None and not entry.crowd and entry.unusable is None:
                findings.add("some-without-mask", split.name, f"annotation {entry.id} of {image.file_name}")
            check_annotation(entry, image, split.name, findings)
            key = (entry.category_id, entry.box_xyxy)
            if entry.box_xyxy is not None and key in seen:
                findings.add("duplicate-annotation", split.name, f"annotation {entry.id} of image {image.known_as}")
            seen.add(key)
        if progress is not None and (done % 500 == 0 or done == total):
            progress(f"annotations of {split.name}", done, total)
    tally.report(split, findings)


class _Tally:
    """What only the annotations of a file together tell."""

    def __init__(self) -> None:
        self.all = self.crowds = self.boxes = self.inside_one = 0

    def add(self, entry: AnnotationEntry) -> None:
        """Count one."""
        self.all += 1
        self.crowds += entry.crowd
        if entry.box_xyxy is not None and entry.unusable is None:
            self.boxes += 1
            self.inside_one += max(entry.box_xyxy) <= 1

    def report(self, split: Split, findings: Findings) -> None:
        """Add what was found."""
        if self.all and self.crowds == self.all:
            findings.add("all-crowd", split.name, f"{self.all} annotations")
        if self.boxes and self.inside_one == self.boxes:
            findings.add("normalised-boxes", split.name, f"{self.boxes} boxes lie within 0..1")


def _check_names(split: Split, findings: Findings) -> None:
    names: dict[str, str] = {}
    for category in split.categories.values():
        name, shown = class_key(category.name or ""), f"{category.file_id}: {category.name!r:.80}"
        if name and name in names:
            findings.add("duplicate-category-name", split.name, f"{names[name]} and {shown}")
        names.setdefault(name, shown)
        if has_control(category.written or ""):
            findings.add("control-character-in-name", split.name, f"{category.file_id}: {category.written!r:.80}")
        if words := tokens_over(category.name or ""):
            findings.add("long-name", split.name, f"{shown} ({words} tokens or more)")
    files: set[str] = set()
    listed_by_label = any(image.positive_ids for image in split.images.values())
    for image in split.images.values():
        if image.file_name in files and not listed_by_label:  # image-label files list an image once per label
            findings.add("duplicate-file-name", split.name, f"image {image.known_as}: {image.file_name}")
        files.add(image.file_name)


def check_annotation(entry: AnnotationEntry, image: ImageEntry, file: str, findings: Findings) -> None:
    """Check one annotation of an image."""
    where = f"annotation {entry.id} of {image.file_name}"
    if entry.crowd:
        return
    if entry.unusable == "no box":
        findings.add("no-box-no-mask", file, where)
    elif entry.unusable == "empty mask":
        findings.add("empty-mask", file, where)
    box = entry.box_xyxy
    if box is not None:
        _check_box(entry, box, image, where, file, findings)
    if entry.mask is None:
        return
    if (area := _area(entry, image)) < DEGENERATE:
        findings.add("degenerate-mask", file, f"{where}: {area} pixels")
    extents = segmentation_box(entry.mask, image.height, image.width)
    if box is not None and not entry.scored and _misfit(box, extents):  # a detector's boxes are not made from its masks
        shown = ", ".join(f"{value:g}" for value in extents)
        findings.add("box-mask-differ", file, f"{where}: box {_shown(box)}, mask spans x0 y0 x1 y1 {shown}")


def _shown(box: Box) -> list[float]:
    """As in the file: x, y, width, height."""
    return [box[0], box[1], box[2] - box[0], box[3] - box[1]]


def _check_box(entry: AnnotationEntry, box: Box, image: ImageEntry, where: str, file: str, findings: Findings) -> None:
    if entry.unusable == "empty box":
        swapped = "; are its corners swapped?" if box[2] < box[0] or box[3] < box[1] else ""
        findings.add("empty-box", file, f"{where}: {_shown(box)}{swapped}")
    low_x, high_x, low_y, high_y = min(box[0], box[2]), max(box[0], box[2]), min(box[1], box[3]), max(box[1], box[3])
    if low_x < -SLACK or low_y < -SLACK or high_x > image.width + SLACK or high_y > image.height + SLACK:
        findings.add("box-outside", file, f"{where}: {_shown(box)} in {image.width}x{image.height}")


def _area(entry: AnnotationEntry, image: ImageEntry) -> int:
    """Pixels of the mask; of polygons that are large enough anyway, what they enclose."""
    if entry.mask_pixels is not None:
        return entry.mask_pixels
    if isinstance(entry.mask, bytes):
        _, runs = decode_runs({"size": [image.height, image.width], "counts": entry.mask})
        return int((runs[:, 1] - runs[:, 0]).sum())
    assert entry.mask is not None
    enclosed = _enclosed(entry.mask)
    return int(enclosed) if enclosed >= 2 * DEGENERATE else mask_area(entry.mask, image.height, image.width)


def _enclosed(polygons: Polygons) -> float:
    area = 0.0
    for polygon in polygons:
        x, y = polygon[:, 0], polygon[:, 1]
        area += abs(float(x[:-1] @ y[1:] - x[1:] @ y[:-1] + x[-1] * y[0] - x[0] * y[-1])) / 2
    return area


def _misfit(box: Box, extents: Box) -> bool:
    room_x, room_y = MISFIT + 0.02 * (box[2] - box[0]), MISFIT + 0.02 * (box[3] - box[1])
    off_x = max(abs(box[0] - extents[0]), abs(box[2] - extents[2]))
    off_y = max(abs(box[1] - extents[1]), abs(box[3] - extents[3]))
    return off_x > room_x or off_y > room_y
