"""What every reader returns: categories, and images with their annotations, in the file's own category ids."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(kw_only=True, slots=True)
class CategoryEntry:
    """One category of a file. `object`, `part`: from the file, or from a name `object:part`; the rest is LVIS's."""

    id: int
    name: str | None
    object: str | None = None
    part: str | None = None
    image_count: int | None = None
    frequency: str | None = None

    @property
    def object_name(self) -> str:
        """Name of the object this category is, or is a part of."""
        return self.object or (self.name or "").split(":", 1)[0]


@dataclass(kw_only=True, slots=True)
class AnnotationEntry:
    """One annotated region.

    Attributes:
        box_xyxy: pixels, x1 and y1 exclusive, or None where the file has no box.
        segmentation: polygons (lists of x, y, ...), RLE (`{"size": [h, w], "counts": str | bytes | list}`) or None.
        crowd: a region of many instances, left out of training.
        scored: it has a score: a program found it, nobody drew it.
        owner_id: of a part, the annotation of the object that it belongs to, where the file says so.
    """

    id: int
    category_id: int
    box_xyxy: tuple[float, float, float, float] | None
    segmentation: Any = None
    crowd: bool = False
    scored: bool = False
    owner_id: int | None = None


@dataclass(kw_only=True, slots=True)
class ImageEntry:
    """One image. The three id lists follow LVIS; `source_image` names the image that this one was cropped from."""

    id: int
    file_name: str
    width: int
    height: int
    annotations: Sequence[AnnotationEntry] = ()
    positive_ids: Sequence[int] = ()
    negative_ids: Sequence[int] = ()
    not_exhaustive_ids: Sequence[int] = ()
    source_image: str | None = None


@dataclass(kw_only=True)
class AnnotationFile:
    """A read file. `images` can be iterated once; `has_masks` = any annotation that is no crowd has a segmentation."""

    categories: Sequence[CategoryEntry]
    images: Iterator[ImageEntry]
    has_masks: bool
