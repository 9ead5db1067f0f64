"""What every reader returns: categories, and images with their annotations, in the file's own category ids; and what it
does with an entry that it cannot use: raise at once, or hand it to somebody who counts.

The kinds of problems are keys of `vlpart.data.check.findings.KINDS`. What is reported here is refused by everything
that reads the file: training and evaluation raise, and the check lists it as an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from vlpart.data.readers.values import Id
from vlpart.errors import DataError
from vlpart.masks.rasterise import Segmentation


@dataclass(kw_only=True, slots=True)
class CategoryEntry:
    """One category of a file. `object`, `part`: from the file, or from a name `object:part`; the rest is LVIS's.

    `id` is a number from 0 on: the id of the file where all of its category ids are such numbers, else the category's
    place. `file_id` is always the id of the file, see `vlpart.data.readers.values.identifier`; None = the same.
    `name` has single spaces; `written` is the name of the file where that has other white space.
    """

    id: int
    name: str | None
    object: str | None = None
    part: str | None = None
    image_count: int | None = None
    frequency: str | None = None
    file_id: Id | None = None
    written: str | None = None

    @property
    def object_name(self) -> str:
        """Name of the object this category is, or is a part of."""
        return self.object or (self.name or "").split(":", 1)[0]


@dataclass(kw_only=True, slots=True)
class AnnotationEntry:
    """One annotated region.

    Attributes:
        id: of the file (0 where it has none).
        category_id: `CategoryEntry.id`.
        box_xyxy: pixels, x1 and y1 exclusive; the box of the mask where the file gives none (null, [], [0, 0, 0, 0]).
            None where there is neither.
        segmentation: polygons (lists of x, y, ...; points and lines that enclose nothing are left out), RLE
            (`{"size": [h, w], "counts": str | bytes | list}`) or None.
        mask: the same, checked and parsed; None where there is none, where it is empty, or masks were not asked for.
        crowd: a region of many instances, left out of training.
        scored: it has a score: a program found it, nobody drew it.
        difficult: VOC's flag.
        owner_id: of a part, the annotation of the object that it belongs to, where the file says so.
        area: pixels, where the file says so.
        mask_pixels: pixels of the mask, where reading it told them.
        unusable: why training and evaluation leave it out ("empty mask", "empty box", "no box"), or None.
    """

    id: Id
    category_id: int
    box_xyxy: tuple[float, float, float, float] | None
    segmentation: Any = None
    mask: Segmentation | None = None
    crowd: bool = False
    scored: bool = False
    difficult: bool = False
    owner_id: Id | None = None
    area: float | None = None
    mask_pixels: int | None = None
    unusable: str | None = None


@dataclass(kw_only=True, slots=True)
class ImageEntry:
    """One image. The three id lists follow LVIS; `source_image` names the image that this one was cropped from.

    `id` and `file_id`: as those of `CategoryEntry`. `file_name`: a path with "/", see `vlpart.data.readers.values`.
    """

    id: int
    file_name: str
    width: int
    height: int
    annotations: Sequence[AnnotationEntry] = ()
    positive_ids: Sequence[int] = ()
    negative_ids: Sequence[int] = ()
    not_exhaustive_ids: Sequence[int] = ()
    source_image: str | None = None
    file_id: Id | None = None

    @property
    def known_as(self) -> Id:
        """The id in the file."""
        return self.id if self.file_id is None else self.file_id


@dataclass(kw_only=True)
class AnnotationFile:
    """A read file. `images` can be iterated once; `has_masks` = any annotation that is no crowd has a segmentation."""

    categories: Sequence[CategoryEntry]
    images: Iterator[ImageEntry]
    has_masks: bool


#: Called with the kind of a problem and one line that says where it is and what is wrong. If it returns, the entry is
#: left out.
Problem = Callable[[str, str], object]


def refuse(path: Path | str) -> Problem:
    """Raises a `DataError` for the first problem; it names the file."""

    def problem(kind: str, text: str) -> NoReturn:
        raise DataError(f"{path}: {' '.join(text.split())}")

    return problem


class Collected:
    """Counts problems, for one error at the end of a file that says how many there are."""

    #: Problems of masks are told under one name: they have one remedy.
    MASKS = ("malformed-mask", "mask-size")

    def __init__(self) -> None:
        self.masks: list[str] = []
        self.others: list[str] = []

    def __call__(self, kind: str, text: str) -> None:
        """Count one."""
        (self.masks if kind in self.MASKS else self.others).append(" ".join(text.split()))

    def refuse(self, path: Path | str) -> None:
        """Raise a `DataError` with the first of them, if there are any."""
        if self.others:
            more = f" (and {len(self.others) - 1} more problems)" if len(self.others) > 1 else ""
            raise DataError(f"{path}: {self.others[0]}{more}; `vlpart data check` lists them all")
        if self.masks:
            first = "; ".join(self.masks[:3])
            raise DataError(
                f"{path}: {len(self.masks)} malformed segmentations, first: {first}; "
                "fix them, or train on boxes with Source(masks=False)"
            )
