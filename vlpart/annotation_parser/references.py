"""References of the parser: base images with exactly one annotated object and its parts (docs/method.md, 'Reference
bank'), and, beyond the published parser, base objects each by itself, in images of any number of them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlpart.data.readers import AnnotationEntry, AnnotationFile, CategoryEntry, ImageEntry, get_reader
from vlpart.errors import DataError
from vlpart.masks.rasterise import decode_rle, parse_segmentation, rasterise_polygons
from vlpart.names import check_names, plain
from vlpart.text.vocabulary import Vocabulary

Box = tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class ReferencePart:
    """One annotated part of a reference image.

    Attributes:
        object, part: names.
        segmentation: as in the annotation file, or None.
        box_xyxy: pixels, or None.
    """

    object: str
    part: str
    segmentation: Any
    box_xyxy: tuple[float, float, float, float] | None


@dataclass(frozen=True, kw_only=True)
class Reference:
    """An object with its parts: the only one of its image, or (where it has a box) one of several.

    Attributes:
        image_id, file_name: the image; the name is relative to the folder of the base images.
        height, width: of the image, in pixels.
        object: name.
        parts: of this object.
        object_box_xyxy: pixels; None = the whole image stands for the object.
        object_segmentation: as in the annotation file, or None.
    """

    image_id: int
    file_name: str
    height: int
    width: int
    object: str
    parts: tuple[ReferencePart, ...] = ()
    object_box_xyxy: tuple[float, float, float, float] | None = None
    object_segmentation: Any = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Reference:
        """The inverse of `to_dict`."""
        parts = tuple(
            ReferencePart(**(p | {"box_xyxy": None if p["box_xyxy"] is None else tuple(p["box_xyxy"])}))
            for p in document["parts"]
        )
        box = document.get("object_box_xyxy")
        return cls(**(dict(document) | {"parts": parts, "object_box_xyxy": None if box is None else tuple(box)}))

    @property
    def cut_from(self) -> tuple[int, int] | None:
        """(height, width) that the image must have for the object to be where its box says; None without a box."""
        return None if self.object_box_xyxy is None else (self.height, self.width)

    def part_bitmaps(self) -> list[NDArray[np.bool_]]:
        """A (height, width) bitmap for every part; a part without a segmentation is its box.

        Raises:
            DataError: a malformed segmentation; the image is named.
        """
        return [self._bitmap(part.segmentation, part.box_xyxy) for part in self.parts]

    def object_bitmap(self) -> NDArray[np.bool_]:
        """(height, width): the object; all of the image where nothing is known about its place.

        Raises:
            DataError: a malformed segmentation.
        """
        if self.object_box_xyxy is None and self.object_segmentation is None:
            return np.ones((self.height, self.width), dtype=bool)
        return self._bitmap(self.object_segmentation, self.object_box_xyxy)

    def _bitmap(self, segmentation: Any, box_xyxy: Box | None) -> NDArray[np.bool_]:
        try:
            return region_bitmap(segmentation, box_xyxy, self.height, self.width)
        except DataError as error:
            raise DataError(f"{self.file_name}: {error}") from error


def region_bitmap(segmentation: Any, box_xyxy: Box | None, height: int, width: int) -> NDArray[np.bool_]:
    """A (height, width) bitmap of an annotated region: its segmentation, or its box where it has none.

    Raises:
        DataError: a malformed segmentation, or a box that is not finite.
    """
    full = np.zeros((height, width), dtype=bool)
    parsed = parse_segmentation(segmentation, height, width)
    if parsed is not None:
        if isinstance(parsed, bytes):
            x, y, window = decode_rle(parsed, height, width)
        else:
            x, y, window = rasterise_polygons(parsed, height, width)
        full[y : y + window.shape[0], x : x + window.shape[1]] = window
    elif segmentation is None and box_xyxy is not None:
        if not all(map(math.isfinite, box_xyxy)):
            raise DataError(f"the box {list(box_xyxy)} is not finite")
        x0, y0, x1, y1 = (max(0, round(value)) for value in box_xyxy)
        full[y0:y1, x0:x1] = True
    return full


@dataclass(kw_only=True)
class BaseData:
    """References in the order of the file, and why other images are not among them."""

    references: list[Reference]
    left_out: Counter[str] = field(default_factory=Counter)


def read_base_data(
    path: Path,
    *,
    reader: str = "coco",
    vocabulary: Vocabulary | None = None,
    only_objects: Iterable[str] | None = None,
    exclude_objects: Iterable[str] = (),
) -> BaseData:
    """The images of an annotation file that show exactly one object, with at least one part.

    Where the file annotates whole objects, these are counted; where it annotates parts only, the objects that the parts
    belong to are (files prepared for this hold images of one object only).

    Args:
        path: annotation file.
        reader: its format, see `readers.get_reader`.
        vocabulary: objects and parts by category id; None reads them from the names in the file ("object:part").
        only_objects, exclude_objects: objects that may / must not occur.

    Raises:
        DataError: a broken file, a category that the vocabulary does not have, an object that the file does not
            know, or no image left.
    """
    file = get_reader(reader)(Path(path))
    names = {c.id: _object_and_part(c, vocabulary, path) for c in file.categories}
    has_objects = any(part is None for _, part in names.values())
    exclude_objects = list(exclude_objects)
    only_objects = None if only_objects is None else list(only_objects)
    check_names(
        [*(only_objects or ()), *exclude_objects], (owner for owner, _ in names.values()), f"{path} has no object"
    )
    chooser = _Chooser(
        names,
        has_objects,
        None if only_objects is None else {plain(name) for name in only_objects},
        {plain(name) for name in exclude_objects},
    )
    base = BaseData(references=[])
    for image in file.images:
        chosen = chooser.choose(image, path)
        if isinstance(chosen, str):
            base.left_out[chosen] += 1
        else:
            base.references.append(chosen)
    if not base.references:
        why = ", ".join(f"{count} {reason}" for reason, count in base.left_out.items()) or "it lists no images"
        raise DataError(f"{path} has no image with exactly one object and its parts ({why})")
    return base


def _object_and_part(category: CategoryEntry, vocabulary: Vocabulary | None, path: Path) -> tuple[str, str | None]:
    if vocabulary is None:
        return category.object_name, category.part
    index = vocabulary.index_of_id.get(category.id)
    if index is None:
        raise DataError(f"{path}: the vocabulary {vocabulary.title} has no category {category.id}: choose another one")
    return vocabulary.object_name(index), vocabulary.part_name(index)


class _Chooser:
    """Decides about one image after the other."""

    def __init__(
        self, names: dict[int, tuple[str, str | None]], has_objects: bool, only: set[str] | None, excluded: set[str]
    ) -> None:
        self.names, self.has_objects, self.only, self.excluded = names, has_objects, only, excluded

    def choose(self, image: ImageEntry, path: Path) -> Reference | str:
        """The reference, or why it is none."""
        objects: list[str] = []
        parts: list[ReferencePart] = []
        for annotation in image.annotations:
            if annotation.category_id not in self.names:
                raise DataError(f"{path}: annotation {annotation.id} has the unknown category {annotation.category_id}")
            self._add(annotation, objects, parts)
        if not self.has_objects:
            objects = sorted({part.object for part in parts})
        if len(objects) != 1:
            return "without an object" if not objects else "with more than one object"
        if plain(objects[0]) in self.excluded or (self.only is not None and plain(objects[0]) not in self.only):
            return "of objects that are not wanted"
        own = tuple(part for part in parts if plain(part.object) == plain(objects[0]))
        if not own:
            return "without parts"
        return Reference(
            image_id=image.id,
            file_name=image.file_name,
            height=image.height,
            width=image.width,
            object=objects[0],
            parts=own,
        )

    def _add(self, annotation: AnnotationEntry, objects: list[str], parts: list[ReferencePart]) -> None:
        owner, part = self.names[annotation.category_id]
        if part is None:
            objects.append(owner)
        elif not annotation.crowd:
            parts.append(
                ReferencePart(
                    object=owner, part=part, segmentation=annotation.segmentation, box_xyxy=annotation.box_xyxy
                )
            )


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
    base = BaseData(references=[])
    for image, objects in annotated_objects(file, path):
        parts = [a for a in image.annotations if categories[a.category_id].part is not None and not a.crowd]
        for entry in objects:
            name = categories[entry.category_id].object_name
            if plain(name) in excluded or (only is not None and plain(name) not in only):
                base.left_out["objects that are not wanted"] += 1
                continue
            own = parts_of(entry, parts, objects, categories)
            if not own:
                base.left_out["objects without parts"] += 1
                continue
            base.references.append(_reference(image, entry, name, own, categories))
    if not base.references:
        why = ", ".join(f"{count} {reason}" for reason, count in base.left_out.items()) or "it lists no objects"
        raise DataError(f"{path} has no object with parts ({why})")
    return base


def annotated_objects(file: AnnotationFile, path: Path) -> Iterable[tuple[ImageEntry, list[AnnotationEntry]]]:
    """Every image with the annotations of its whole objects that have a finite box; crowd regions are none.

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
    own = []
    for part in parts:
        if categories[part.category_id].object_name != name:
            continue
        alone = _lies_in(part, entry) and not any(_lies_in(part, rival) for rival in rivals)
        if part.owner_id == entry.id or (part.owner_id is None and alone):
            own.append(part)
    return own


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
