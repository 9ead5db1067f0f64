"""Base objects as references, each by itself, in pictures of any number of them; not in the published parser."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import isfinite
from pathlib import Path

from vlpart.annotation_parser.base_data import BaseData, Reference, ReferencePart
from vlpart.annotation_parser.given_names import check_names
from vlpart.annotation_parser.rename import plain
from vlpart.data.readers import AnnotationEntry, AnnotationFile, CategoryEntry, ImageEntry, get_reader
from vlpart.errors import DataError

INSIDE = 0.8  # of a part's box, where the file does not say which object it belongs to


def read_base_objects(
    path: Path, *, only_objects: Iterable[str] | None = None, exclude_objects: Iterable[str] = ()
) -> BaseData:
    """The annotated objects of a COCO-format file that have at least one annotated part.

    Args:
        path: annotation file with names like "chair" and "chair:leg".
        only_objects, exclude_objects: objects to take / to leave out.

    Raises:
        DataError: a broken file, an object that it does not know, or no object left.
    """
    file = get_reader("coco")(Path(path))
    exclude_objects = list(exclude_objects)
    only_objects = None if only_objects is None else list(only_objects)
    known = (category.object_name for category in file.categories)
    check_names([*(only_objects or ()), *exclude_objects], known, f"{path} has no object")
    only = None if only_objects is None else {plain(name) for name in only_objects}
    excluded = {plain(name) for name in exclude_objects}
    categories = {c.id: c for c in file.categories}
    data = BaseData(references=[])
    for image, objects in annotated_objects(file, path):
        parts = [a for a in image.annotations if categories[a.category_id].part is not None and not a.crowd]
        for entry in objects:
            name = categories[entry.category_id].object_name
            if plain(name) in excluded or (only is not None and plain(name) not in only):
                data.left_out["objects that are not wanted"] += 1
                continue
            own = parts_of(entry, parts, objects, categories)
            if not own:
                data.left_out["objects without parts"] += 1
                continue
            data.references.append(_reference(image, entry, name, own, categories))
    if not data.references:
        why = ", ".join(f"{count} {reason}" for reason, count in data.left_out.items()) or "it lists no objects"
        raise DataError(f"{path} has no object with parts ({why})")
    return data


def annotated_objects(file: AnnotationFile, path: Path) -> Iterable[tuple[ImageEntry, list[AnnotationEntry]]]:
    """Every picture with the annotations of its whole objects that have a finite box; crowd regions are none.

    Raises:
        DataError: an annotation of a category that the file does not list.
    """
    categories = {c.id: c for c in file.categories}
    for image in file.images:
        for annotation in image.annotations:
            if annotation.category_id not in categories:
                raise DataError(f"{path}: annotation {annotation.id} has the unknown category {annotation.category_id}")
        whole = [a for a in image.annotations if categories[a.category_id].part is None]
        yield image, [a for a in whole if not a.crowd and a.box_xyxy is not None and all(map(isfinite, a.box_xyxy))]


def parts_of(
    entry: AnnotationEntry,
    parts: Sequence[AnnotationEntry],
    objects: Sequence[AnnotationEntry],
    categories: dict[int, CategoryEntry],
) -> list[AnnotationEntry]:
    """The parts of an object: those that name it, or (naming none) lie in it and in no other object of its name."""
    name = categories[entry.category_id].object_name
    rivals = [o for o in objects if o is not entry and categories[o.category_id].object_name == name]
    found = []
    for part in parts:
        if categories[part.category_id].object_name != name:
            continue
        alone = _lies_in(part, entry) and not any(_lies_in(part, rival) for rival in rivals)
        if part.owner_id == entry.id or (part.owner_id is None and alone):
            found.append(part)
    return found


def _lies_in(part: AnnotationEntry, entry: AnnotationEntry) -> bool:
    if part.box_xyxy is None or entry.box_xyxy is None:
        return False
    x0, y0, x1, y1 = part.box_xyxy
    a0, b0, a1, b1 = entry.box_xyxy
    width, height = min(x1, a1) - max(x0, a0), min(y1, b1) - max(y0, b0)
    return max(width, 0.0) * max(height, 0.0) >= INSIDE * (x1 - x0) * (y1 - y0)


def _reference(
    image: ImageEntry,
    entry: AnnotationEntry,
    name: str,
    own: Sequence[AnnotationEntry],
    categories: dict[int, CategoryEntry],
) -> Reference:
    return Reference(
        image_id=image.id,
        file_name=image.file_name,
        height=image.height,
        width=image.width,
        object=name,
        parts=tuple(
            ReferencePart(
                object=name,
                part=str(categories[part.category_id].part),
                segmentation=part.segmentation,
                box_xyxy=part.box_xyxy,
            )
            for part in own
        ),
        object_box_xyxy=entry.box_xyxy,
        object_segmentation=entry.segmentation,
    )
