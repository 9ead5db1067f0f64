"""One annotation file in memory, with what is broken beyond use already taken out and reported."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vlpart.data.check.findings import Findings
from vlpart.data.readers.base import CategoryEntry, ImageEntry
from vlpart.data.readers.coco import Header, read_header
from vlpart.data.readers.regions import Raw, annotation_ids
from vlpart.data.readers.values import identifier

_KIND = re.compile(r"(?<![a-z])(trainval|train|minival|validation|valid|val|dev|test)(?![a-z])")
_SAME_KIND = {"minival": "val", "validation": "val", "valid": "val", "dev": "val"}


@dataclass(kw_only=True)
class Split:
    """One annotation file.

    Attributes:
        path: the file; `name`: its name for messages.
        root: the folder that it was found in; None if the user named this very file.
        header: what the reader made of it; ids below are those that it numbers by.
        images: id -> entry; the first one of an id that occurs twice.
        annotations: image id -> raw entries of listed images with a known category.
        categories: id -> entry.
        image_root: folder that the file names are relative to, once it is known.
        found: `ImageEntry.file_name` -> name below `image_root` (or absolute), or None if it is not there; once known.
    """

    path: Path
    header: Header
    images: dict[int, ImageEntry]
    annotations: dict[int, list[Raw]]
    categories: dict[int, CategoryEntry]
    image_root: Path | None = None
    root: Path | None = None
    found: dict[str, str | None] = field(default_factory=dict)
    histogram: Counter[int] = field(default_factory=Counter)
    images_with: Counter[int] = field(default_factory=Counter)

    @property
    def name(self) -> str:
        """Name for messages, see `split_name`."""
        return split_name(self.path)

    @property
    def kind(self) -> str | None:
        """See `split_kind`."""
        return split_kind(self.path, self.root)

    @property
    def total_annotations(self) -> int:
        """Of the file, usable or not."""
        return self.header.total_annotations

    @property
    def is_predicted(self) -> bool:
        """Whether a program made all of its annotations: they have scores."""
        entries = [entry for group in self.annotations.values() for entry in group]
        return bool(entries) and all(entry.get("score") is not None for entry in entries)

    def category_name(self, category_id: int) -> str:
        """Name for messages."""
        category = self.categories[category_id]
        return category.name or f"category {category.file_id}"

    def labels(self, image_id: int) -> list[int]:
        """The category of each annotation of an image."""
        keys = (identifier(entry["category_id"]) for entry in self.annotations.get(image_id, ()))
        return [self.header.categories[key].id for key in keys if key is not None]

    def image_path(self, image: ImageEntry) -> Path | None:
        """The file of an image; None where the folder is not known or does not hold it."""
        place = self.found.get(image.file_name)
        return None if self.image_root is None or place is None else self.image_root / place


def split_name(path: Path) -> str:
    """The file name; after that of its folder where only the folder names the split: `train/_annotations.coco.json`."""
    in_name, in_folder = _KIND.search(path.stem.casefold()), _KIND.fullmatch(path.parent.name.casefold())
    return f"{path.parent.name}/{path.name}" if in_folder and not in_name else path.name


def split_kind(path: Path, root: Path | None = None) -> str | None:
    """ "train", "val", "test" by the file name, else by its folder, else the name itself; None for "trainval".

    Args:
        path: the annotation file.
        root: folder of the data set: what it is called ("dev", "test") says nothing about its files.
    """
    found = _KIND.search(path.stem.casefold())
    if found is None and path.parent != root:
        found = _KIND.fullmatch(path.parent.name.casefold())
    if found is None:
        return path.stem
    kind = _SAME_KIND.get(found[1], found[1])
    return None if kind == "trainval" else kind


def build_split(path: Path, content: dict[str, Any], findings: Findings, root: Path | None = None) -> Split:
    """Index a parsed file; entries that cannot be used are reported and left out.

    Raises:
        DataError: it has no lists of images and categories.
    """
    name = split_name(path)

    def problem(kind: str, text: str) -> None:
        findings.add(kind, name, text)

    header = read_header(content, path, problem)
    for category in header.categories.values():
        if not (category.name or "").strip():
            problem("broken-entry", f"category {category.file_id} has no name")
    split = Split(
        path=path,
        root=root,
        header=header,
        images={image.id: image for image in header.images.values()},
        annotations={},
        categories={category.id: category for category in header.categories.values()},
    )
    seen: set[int | str] = set()
    for key, entries in header.annotations.items():
        kept = []
        for entry in entries:
            ids = annotation_ids(entry, header.categories, problem)
            if ids is None:
                continue
            kept.append(entry)
            split.histogram[ids[1].id] += 1
            if ids[0] in seen:
                problem("duplicate-annotation-id", str(ids[0]))
            elif ids[0] == 0:
                problem("annotation-id-zero", "0")
            seen.add(ids[0])
        if kept:
            split.annotations[header.images[key].id] = kept
            image_id = header.images[key].id
            split.images_with.update(set(split.labels(image_id)) | set(header.images[key].positive_ids))
    for image in split.images.values():
        if image.id not in split.annotations:
            split.images_with.update(set(image.positive_ids))
    return split
