"""Images with image-level labels: a COCO-format file, or a folder with one folder per label."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlpart.annotation_parser.references import annotated_objects, region_bitmap
from vlpart.data.image_files import list_images
from vlpart.data.readers import get_reader
from vlpart.errors import DataError, ImageError
from vlpart.files import is_folder
from vlpart.masks.rasterise import parse_segmentation
from vlpart.names import check_names, plain
from vlpart.text.vocabulary import Vocabulary


@dataclass(frozen=True, kw_only=True, slots=True)
class AnnotatedObject:
    """A whole object in an image: its label, its box in pixels, and its segmentation as in the file, or None."""

    label: str
    box_xyxy: tuple[float, float, float, float]
    segmentation: Any = None

    def bitmap(self, height: int, width: int) -> NDArray[np.bool_]:
        """(height, width) bool: its segmentation, or its box.

        Raises:
            DataError: a malformed segmentation.
        """
        return region_bitmap(self.segmentation, self.box_xyxy, height, width)


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelledImage:
    """An image to parse; `file_name` is relative to the folder of the images.

    Where its objects are annotated: `objects`, and the (height, width) that they are annotated for.
    """

    image_id: int
    file_name: str
    labels: tuple[str, ...]
    objects: tuple[AnnotatedObject, ...] = ()
    size_hw: tuple[int, int] | None = None


def read_labels(path: Path, *, only: Iterable[str] | None = None) -> list[LabelledImage]:
    """Images and labels of a COCO-format file: `pos_category_ids`, else the annotated objects; parts don't count.

    Args:
        path: the file.
        only: take these labels; images without one of them are left out.

    Raises:
        DataError: a broken file, a category that it does not list, or no label at all.
    """
    file = get_reader("coco")(Path(path))
    names = {c.id: (c.name or c.object_name) for c in file.categories}
    parts = {c.id for c in file.categories if c.part is not None}
    chosen = _wanted(only, (name for identifier, name in names.items() if identifier not in parts), path)
    labelled = []
    for image in file.images:
        ids = dict.fromkeys(image.positive_ids or [a.category_id for a in image.annotations])
        unknown = [i for i in ids if i not in names]
        if unknown:
            raise DataError(f"{path}: image {image.id} has the unknown category {unknown[0]}")
        labels = tuple(names[i] for i in ids if i not in parts and (chosen is None or plain(names[i]) in chosen))
        if labels:
            labelled.append(LabelledImage(image_id=image.id, file_name=image.file_name, labels=labels))
    return _not_empty(labelled, path, only)


def read_objects(path: Path, *, only: Iterable[str] | None = None) -> list[LabelledImage]:
    """Images of a COCO-format file with their annotated whole objects; part annotations are not looked at.

    Args:
        path: the file.
        only: take these labels; images without one of them are left out.

    Raises:
        DataError: a broken file or segmentation, a category that it does not list, or no object at all.
    """
    file = get_reader("coco")(Path(path))
    names = {c.id: c.object_name for c in file.categories}
    chosen = _wanted(only, names.values(), path)
    labelled = []
    for image, entries in annotated_objects(file, path):
        objects = []
        for entry in entries:
            if entry.box_xyxy is None or (chosen is not None and plain(names[entry.category_id]) not in chosen):
                continue
            try:
                parse_segmentation(entry.segmentation, image.height, image.width)
            except DataError as error:
                raise DataError(f"{path}: annotation {entry.id}: {error}") from error
            label = names[entry.category_id]
            objects.append(AnnotatedObject(label=label, box_xyxy=entry.box_xyxy, segmentation=entry.segmentation))
        if objects:
            labelled.append(
                LabelledImage(
                    image_id=image.id,
                    file_name=image.file_name,
                    labels=tuple(dict.fromkeys(each.label for each in objects)),
                    objects=tuple(objects),
                    size_hw=(image.height, image.width),
                )
            )
    return _not_empty(labelled, path, only)


def read_labelled_folders(
    root: Path, *, labels: Vocabulary | None = None, per_folder: int | None = None, only: Iterable[str] | None = None
) -> list[LabelledImage]:
    """Images of a folder that holds one folder per label.

    Args:
        root: the folder; the name of a folder in it is its label, underscores standing for spaces.
        labels: if given, folders are matched with its entries by name, WordNet id, or (folders named by WordNet id)
            range of ImageNet classes; other folders are left out.
        per_folder: at most so many images, in the order of their names.
        only: take these labels.

    Raises:
        DataError: no such folder, or no labelled image in it.
    """
    root = Path(root)
    if not is_folder(root):
        raise DataError(f"there is no folder {root}: name a folder with one folder per label")
    known = None if labels is None else _label_of_folder(labels)
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    named = {
        folder: (folder.name.replace("_", " "),) if known is None else known.get(plain(folder.name), ())
        for folder in folders
    }
    taken = _wanted(only, (label for folder_labels in named.values() for label in folder_labels), root)
    labelled: list[LabelledImage] = []
    for folder, folder_labels in named.items():
        chosen = tuple(label for label in folder_labels if taken is None or plain(label) in taken)
        if not chosen:
            continue
        for path in _images(folder)[:per_folder]:
            file_name = path.relative_to(root).as_posix()
            labelled.append(LabelledImage(image_id=len(labelled) + 1, file_name=file_name, labels=chosen))
    return _not_empty(labelled, root, only)


def digest(images: Sequence[LabelledImage]) -> str:
    """A short hash of which images and labels there are."""
    hashed = hashlib.sha256()
    for image in images:
        hashed.update(repr((image.image_id, image.file_name, image.labels)).encode())
        if image.objects:
            hashed.update(repr(image.objects).encode())
    return hashed.hexdigest()[:16]


def _label_of_folder(labels: Vocabulary) -> dict[str, tuple[str, ...]]:
    """Labels by what a folder may be called, in the form of `plain`."""
    labels_by_folder: dict[str, list[str]] = {}
    wnids: list[str] = []
    if any(entry.imagenet_id for entry in labels.entries):
        wnids = [str(entry.wnid) for entry in Vocabulary.load("imagenet_1k").entries]
    for entry in labels.entries:
        if entry.part is not None:
            continue
        ranges = (wnids[number - 1] for first, last in entry.imagenet_id for number in range(first, last + 1))
        for folder in (entry.name, *((entry.wnid,) if entry.wnid else ()), *ranges):
            labels_by_folder.setdefault(plain(folder), []).append(entry.name)
    return {folder: tuple(dict.fromkeys(names)) for folder, names in labels_by_folder.items()}


def _images(folder: Path) -> list[Path]:
    try:
        return [Path(path) for path in list_images(folder, recursive=True)]
    except ImageError:  # an empty folder
        return []


def _wanted(only: Iterable[str] | None, known: Iterable[str], where: Path) -> set[str] | None:
    """The labels to take, in the form of `plain`; None = all."""
    if only is None:
        return None
    only = list(only)
    check_names(only, known, f"{where} has no label")
    return {plain(name) for name in only}


def _not_empty(labelled: list[LabelledImage], where: Path, only: Iterable[str] | None) -> list[LabelledImage]:
    if not labelled:
        which = f" with the label {' or '.join(only)}" if only is not None else ""
        raise DataError(f"{where} has no labelled image{which}")
    return labelled
