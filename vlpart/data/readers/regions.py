"""The annotated regions of COCO-style files: one entry to one `AnnotationEntry`, its box, flags and mask checked.

Masks given as compressed run lengths are verified in blocks of many, see `vlpart.masks.rle.check_rles`; one at a time
it takes twenty times as long. Whatever a block cannot vouch for is looked at alone, so the errors are the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from vlpart.data.readers import values
from vlpart.data.readers.base import AnnotationEntry, CategoryEntry, ImageEntry, Problem
from vlpart.data.readers.values import Id, identifier
from vlpart.masks.rasterise import FAR, MaskError, Segmentation, parse_segmentation, segmentation_box
from vlpart.masks.rle import check_rles

EMPTY_BOX = 1e-5
"""Boxes this thin are empty."""

#: Fields of a part that name the annotation of its object: our own, and that of PACO.
OWNER_FIELDS = ("object_annotation_id", "obj_ann_id")

#: Images whose masks are verified together.
_TOGETHER = 256

Raw = Mapping[str, Any]
Box = tuple[float, float, float, float]

#: (id() of a segmentation, number of its image) -> pixels of the mask, of masks that are known to be well formed.
Verified = Mapping[tuple[int, int], int]


def read_regions(
    images: Iterable[ImageEntry],
    annotations: Mapping[Id, Sequence[Raw]],
    categories: Mapping[Id, CategoryEntry],
    problem: Problem,
    *,
    masks: bool = True,
    number_missing: bool = False,
) -> Iterator[tuple[ImageEntry, list[tuple[Raw, AnnotationEntry]]]]:
    """Every image with those of its annotations that could be read, each beside its raw entry.

    Args:
        images: of a `Header`, in any order.
        annotations: raw entries by the id of the image in the file.
        categories: of the same `Header`.
        problem: what to do about what cannot be used.
        masks: as for `read_annotation`.
        number_missing: annotations without an id get one: their place among those that are read.
    """
    rest, read = iter(images), 0
    while group := list(islice(rest, _TOGETHER)):
        verified = _verify((image, raw) for image in group for raw in annotations.get(image.known_as, ()))
        for image in group:
            entries = []
            for raw in annotations.get(image.known_as, ()):
                numbered = {**raw, "id": read + 1} if number_missing and "id" not in raw else raw
                entry = read_annotation(numbered, image, categories, problem, masks=masks, verified=verified)
                if entry is not None:
                    entries.append((raw, entry))
                    read += 1
            yield image, entries


def _verify(entries: Iterable[tuple[ImageEntry, Raw]]) -> Verified:
    """Decode compressed masks together; those before the first that cannot be decoded are vouched for."""
    keys, counts, sizes = [], [], []
    for image, raw in entries:
        segmentation = raw.get("segmentation")
        if not isinstance(segmentation, Mapping) or segmentation.get("size") != [image.height, image.width]:
            continue
        packed = segmentation.get("counts")
        if isinstance(packed, str) and packed.isascii():
            packed = packed.encode("ascii")
        if isinstance(packed, bytes) and all(type(side) is int for side in segmentation["size"]):
            keys.append((id(segmentation), image.id))
            counts.append(packed)
            sizes.append((image.height, image.width))
    checked = check_rles(counts, sizes)
    return dict(zip(keys[: checked.bad], checked.areas.tolist(), strict=False))


def annotation_ids(
    raw: Raw, categories: Mapping[Id, CategoryEntry], problem: Problem
) -> tuple[Id, CategoryEntry] | None:
    """The id of an annotation and its category, or None where one of them was reported."""
    where = f"annotation {str(raw.get('id', '(no id)'))[:40]}"
    key, category = identifier(raw.get("id")), identifier(raw.get("category_id"))
    if key is None:
        said = "no 'id'" if raw.get("id") is None else "an id that is no whole number or string"
        problem("broken-entry", f"{where} of image {str(raw.get('image_id'))[:40]} has {said}")
        return None
    if category is None or category not in categories:
        category_id, missing = raw.get("category_id"), "has no 'category_id'"
        said = f"has the category id {str(category_id)[:60]}, which is not among the file's categories"
        problem("unknown-category", f"{where} {said if category_id is not None else missing}")
        return None
    return key, categories[category]


def read_annotation(
    raw: Raw,
    image: ImageEntry,
    categories: Mapping[Id, CategoryEntry],
    problem: Problem,
    *,
    masks: bool = True,
    verified: Verified | None = None,
) -> AnnotationEntry | None:
    """One annotation of an image, or None where it was reported.

    Args:
        raw: the entry of the file.
        image: of a `Header`.
        categories: of the same `Header`.
        problem: what to do about what cannot be used.
        masks: parse and check the segmentation; without, only where the box is missing.
        verified: masks that are known to be well formed.
    """
    where = f"annotation {str(raw.get('id', '(no id)'))[:40]}"
    if (ids := annotation_ids(raw, categories, problem)) is None:
        return None
    key, category = ids
    crowd, difficult = (values.flag(raw.get(field)) for field in ("iscrowd", "difficult"))
    if crowd is None or difficult is None:
        field = "iscrowd" if crowd is None else "difficult"
        problem("malformed-flag", f"{where} has the {field} {str(raw[field])[:40]!r}, expected 0 or 1")
        return None
    owner = next((raw[field] for field in OWNER_FIELDS if raw.get(field) is not None), None)
    owner_id = identifier(owner)
    if owner is not None and owner_id is None:
        problem("broken-entry", f"{where} names the object {str(owner)[:40]}, expected one id")
        return None
    box, area, fine = _box(raw.get("bbox"), where, problem), None, True
    if raw.get("area") is not None:
        area = values.number(raw["area"])
        fine = area is not None and area >= 0
        if not fine:
            kind = "not-finite" if area is None and type(raw["area"]) in (int, float) else "broken-entry"
            problem(kind, f"{where}: area {str(raw['area'])[:40]}")
    if box is _BROKEN or not fine:
        return None
    entry = AnnotationEntry(
        id=key,
        category_id=category.id,
        box_xyxy=None,
        crowd=crowd,
        scored=raw.get("score") is not None,
        difficult=difficult,
        owner_id=owner_id,
        area=area,
    )
    if (masks or box is None) and verified is not None:
        entry.mask_pixels = verified.get((id(raw.get("segmentation")), image.id))
    return _with_region(entry, raw, box, image, f"{where} of {image.file_name}", problem, masks=masks)


def _with_region(
    entry: AnnotationEntry, raw: Raw, box: Any, image: ImageEntry, where: str, problem: Problem, *, masks: bool
) -> AnnotationEntry | None:
    """Fill in the box and the mask."""
    segmentation = raw.get("segmentation") or None
    if box == (0, 0, 0, 0) and segmentation is not None:
        box = None  # not filled in
    if segmentation is not None:
        entry.segmentation = _without_strays(segmentation)
        if (masks or box is None) and image.height:
            parsed = _mask(segmentation, entry.mask_pixels, image, where, problem)
            if parsed is _BROKEN:
                return None
            entry.mask = parsed
            if parsed is None:
                entry.unusable = "empty mask"
            elif box is None:
                box = segmentation_box(parsed, image.height, image.width)
    entry.box_xyxy = box
    if entry.unusable is None and box is None:
        entry.unusable = "no box"
    elif entry.unusable is None and not (box[2] - box[0] > EMPTY_BOX and box[3] - box[1] > EMPTY_BOX):
        entry.unusable = "empty box"
    return entry


#: Stands for what was reported and cannot be used.
_BROKEN: Any = object()


def _box(raw: Any, where: str, problem: Problem) -> Any:
    """A `Box`, None where there is none, or `_BROKEN`."""
    if raw is None or raw == []:
        return None
    if not isinstance(raw, list | tuple) or len(raw) != 4 or any(type(value) not in (int, float) for value in raw):
        problem("malformed-box", f"{where} has the box {str(raw)[:80]}; expected four numbers [x, y, w, h]")
        return _BROKEN
    numbers = [values.number(value) for value in raw]
    if any(value is None or abs(value) > FAR for value in numbers):
        problem("not-finite", f"{where} has the box {str(raw)[:80]}, which is not finite")
        return _BROKEN
    x, y, w, h = (value for value in numbers if value is not None)
    return (x, y, x + w, y + h)


def _mask(segmentation: Any, pixels: int | None, image: ImageEntry, where: str, problem: Problem) -> Segmentation | Any:
    """The mask, None where it is empty, or `_BROKEN`; `pixels` are known of what is known to be well formed."""
    if pixels is not None:
        counts = segmentation["counts"]
        return (counts.encode("ascii") if isinstance(counts, str) else counts) if pixels else None
    try:
        return parse_segmentation(segmentation, image.height, image.width)
    except MaskError as error:
        problem(error.kind, f"{where}: {error}")
    except MemoryError:
        problem("malformed-mask", f"{where}: its mask is too large for the memory of this machine")
    return _BROKEN


def _without_strays(segmentation: Any) -> Any:
    """Polygons of three points or more; anything else as it is."""
    if not isinstance(segmentation, list):
        return segmentation
    kept = [polygon for polygon in segmentation if not isinstance(polygon, list) or len(polygon) >= 6]
    return segmentation if len(kept) == len(segmentation) or not kept else kept
