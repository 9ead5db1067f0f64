"""One annotation file in memory, with what is broken beyond use already taken out and reported."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vlpart.data.check.findings import Findings

Entry = dict[str, Any]

MAX_SIDE = 1_000_000
"""Pixels; what claims to be larger is no image."""

_KIND = re.compile(r"(?<![a-z])(trainval|train|minival|validation|valid|val|dev|test)(?![a-z])")
_SAME_KIND = {"minival": "val", "validation": "val", "valid": "val", "dev": "val"}


@dataclass(kw_only=True)
class Split:
    """One annotation file.

    Attributes:
        path: the file; `name`: its name for messages.
        root: the folder that it was found in; None if the user named this very file.
        images: id -> entry with a file name and a size; the first one of an id that occurs twice.
        annotations: image id -> entries of listed images with a known category.
        categories: id -> entry.
        total_annotations: of the file, usable or not.
        image_root: folder that the file names are relative to, once it is known.
    """

    path: Path
    images: dict[int, Entry]
    annotations: dict[int, list[Entry]]
    categories: dict[int, Entry]
    total_annotations: int
    image_root: Path | None = None
    root: Path | None = None
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

    def category_name(self, category_id: int) -> str:
        """Name for messages."""
        return str(self.categories[category_id].get("name") or f"category {category_id}")

    def known_labels(self, image: Entry) -> list[int]:
        """Image labels (`pos_category_ids`) that are categories of the file."""
        labels = image.get("pos_category_ids")
        listed = labels if isinstance(labels, list) else ()
        return [label for label in listed if type(label) is int and label in self.categories]


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


def file_name(image: Entry) -> str | None:
    """As the readers take it: `file_name`, or the last two parts of `coco_url`."""
    name, address = image.get("file_name"), image.get("coco_url")
    if isinstance(name, str) and name:
        return name
    return "/".join(address.split("/")[-2:]) if isinstance(address, str) and address else None


def build_split(path: Path, content: dict[str, Any], findings: Findings, root: Path | None = None) -> Split:
    """Index a parsed file; entries that cannot be used are reported and left out."""
    name = split_name(path)
    categories = _by_id(content.get("categories"), "category", name, findings)
    for category_id, category in categories.items():
        if not isinstance(category.get("name"), str) or not category["name"].strip():
            findings.add("broken-entry", name, f"category {category_id} has no name")
    images = _by_id(content.get("images"), "image", name, findings)
    for image_id, image in list(images.items()):
        if file_name(image) is None:
            findings.add("broken-entry", name, f"image {image_id} has no file_name")
        elif not all(type(image.get(side)) is int and 0 < image[side] <= MAX_SIDE for side in ("height", "width")):
            size = f"{image.get('width')!r}x{image.get('height')!r}"
            findings.add("broken-entry", name, f"image {image_id} has the size {size}")
        else:
            continue
        del images[image_id]
    raw = content.get("annotations") or []
    if not isinstance(raw, list):
        findings.add("broken-entry", name, f"annotations are a {type(raw).__name__}, expected a list")
        raw = []
    annotations = _annotations(raw, images, categories, name, findings)
    split = Split(
        path=path,
        root=root,
        images=images,
        annotations=annotations,
        categories=categories,
        total_annotations=len(raw),
    )
    for image_id, entries in annotations.items():
        split.histogram.update(entry["category_id"] for entry in entries)
        labels = split.known_labels(images[image_id])
        split.images_with.update({entry["category_id"] for entry in entries}.union(labels))
    for image_id, image in images.items():
        if image_id not in annotations:
            split.images_with.update(split.known_labels(image))
    return split


def _by_id(entries: Any, what: str, file: str, findings: Findings) -> dict[int, Entry]:
    found: dict[int, Entry] = {}
    for entry in entries if isinstance(entries, list) else ():
        if not isinstance(entry, dict) or type(entry.get("id")) is not int:
            findings.add("broken-entry", file, f"{what} without a whole number as id: {str(entry)[:60]}")
        elif entry["id"] in found:
            findings.add(f"duplicate-{what}-id", file, entry["id"])
        else:
            found[entry["id"]] = entry
    return found


def _annotations(
    raw: list[Any], images: dict[int, Entry], categories: dict[int, Entry], file: str, findings: Findings
) -> dict[int, list[Entry]]:
    listed = set(images)
    seen: set[int] = set()
    found: dict[int, list[Entry]] = {}
    for entry in raw:
        if not isinstance(entry, dict):
            findings.add("broken-entry", file, f"annotation that is no object: {str(entry)[:60]}")
            continue
        number = entry.get("id")
        if type(number) is not int:
            findings.add("broken-entry", file, f"annotation without a whole number as id: {str(entry)[:60]}")
        elif number in seen:
            findings.add("duplicate-annotation-id", file, number)
        else:
            seen.add(number)
        if number == 0:
            findings.add("annotation-id-zero", file, 0)
        image_id, category_id = entry.get("image_id"), entry.get("category_id")
        usable = True
        if type(image_id) is not int or image_id not in listed:
            findings.add("annotation-without-image", file, f"annotation {number}: image {image_id!r}")
            usable = False
        if type(category_id) is not int or category_id not in categories:
            findings.add("unknown-category", file, f"annotation {number}: category {category_id!r}")
            usable = False
        if usable:
            found.setdefault(int(str(image_id)), []).append(entry)
    return found
