"""One module per annotation format. Each turns a file into an `AnnotationFile`; nothing else knows about formats."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from vlpart.data.readers.base import AnnotationEntry, AnnotationFile, CategoryEntry, ImageEntry, Problem
from vlpart.data.readers.coco import read_coco, read_lvis
from vlpart.data.readers.voc import read_voc
from vlpart.errors import DataError

__all__ = [
    "AnnotationEntry",
    "AnnotationFile",
    "CategoryEntry",
    "ImageEntry",
    "get_reader",
    "read_coco",
    "read_lvis",
    "read_voc",
]


class Reader(Protocol):
    """See `read_coco`."""

    def __call__(self, path: Path, problem: Problem | None = None, *, masks: bool = True) -> AnnotationFile:
        """Read a file."""


def get_reader(name: str) -> Reader:
    """The reader of that name.

    Raises:
        DataError: unknown name; the message lists the known ones.
    """
    readers: dict[str, Reader] = {
        "coco": read_coco,
        "lvis": read_lvis,
        "paco": read_lvis,
        "voc": read_voc,
        # what `vlpart data prepare` and the annotation parser write is COCO JSON
        "pascal_part": read_coco,
        "partimagenet": read_coco,
        "image_labels": read_coco,
        "parsed": read_coco,
    }
    if name not in readers:
        raise DataError(f"unknown annotation format {name!r}; known: {', '.join(sorted(readers))}")
    return readers[name]
