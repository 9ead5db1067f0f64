"""Checks of the images on disk: there, readable, of the size the annotations say."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path, PurePath

from vlpart.data.check.findings import Findings
from vlpart.data.check.split import Split, split_name
from vlpart.data.image_files import ImageFinder
from vlpart.data.upright import EXIF_ORIENTATION, is_unclear
from vlpart.files import is_file, is_folder
from vlpart.jobs import Progress, run_over

FOLDERS = (
    *("images", "JPEGImages", "images/{stem}", "images/{kind}", "{stem}", "{kind}", "{kind}2017", "."),
    *("train", "coco", "../coco", "VOCdevkit/VOC2010/JPEGImages"),
)
"""Where images usually are, tried in this order below the folder that was given and beside the annotation file."""
_TRIED = 200


def find_images(split: Split, root: Path, images: Path | None) -> None:
    """Fill in the folder of the images of a split, and where in it they are.

    The folder is the one given, or the one of the usual places below `root` that holds most of the first images. It
    stays None where none of them holds any.
    """
    if images is None:
        names = [image.file_name for image in list(split.images.values())[:_TRIED]]
        folders = [folder.format(kind=split.kind or "train", stem=split.path.stem) for folder in FOLDERS]
        beside = split.path.parent
        places = dict.fromkeys(parent / folder for parent in (root, beside, beside.parent) for folder in folders)
        if (
            beside != root and split_name(split.path) != split.path.name
        ):  # the folder of a split: its images are its own
            places = {beside: None, **places}
        images = _fullest(places, names)
    split.image_root = images
    if images is not None:
        split.found = ImageFinder(images).find_all(image.file_name for image in split.images.values())


def _fullest(places: Iterable[Path], names: Sequence[str]) -> Path | None:
    """The folder that holds most images by their names, or (where none does) by their names without folders."""
    finders = {place: ImageFinder(place) for place in places if is_folder(place)}
    for count in (
        lambda finder: sum(finder.has(name) for name in names),
        lambda finder: sum(finder.find(name) is not None for name in names),
    ):
        counts = {place: count(finder) for place, finder in finders.items()}
        best = max(counts, key=lambda place: counts[place], default=None)
        if best is not None and counts[best]:
            return best
    return None


def check_images(
    split: Split, findings: Findings, *, decode: bool, processes: int, progress: Progress | None
) -> dict[int, Path]:
    """Report missing and unreadable images and those of another size; gives image id -> file for those there."""
    if split.image_root is None:
        first = next(iter(split.images.values()), None)
        if first is not None and first.file_name != (PurePath(first.file_name).name):
            findings.add("missing-image", split.name, f"{first.file_name}: no folder beside {split.path} holds it")
        findings.add("images-not-found", split.name, f"looked beside {split.path}")
        return {}
    there: dict[int, Path] = {}
    listed: dict[Path, set[str]] = {}
    for image_id, image in split.images.items():
        found = split.image_path(image)
        if found is not None:
            there[image_id] = found
            continue
        path = split.image_root / image.file_name
        if path.parent not in listed:
            listed[path.parent] = _names(path.parent)
        findings.add("missing-image", split.name, f"{path}{_near(path.name, listed[path.parent])}")
    tasks = [(path, split.images[i].width, split.images[i].height) for i, path in there.items()]
    inspect = partial(inspect_image, decode=decode)
    label = f"images of {split.name}"
    answers = run_over(inspect, tasks, processes=processes, label=label, progress=progress, chunk=32)
    for (path, _, _), (kind, text) in zip(tasks, answers, strict=True):
        if kind is not None:
            findings.add(kind, split.name, f"{path}: {text}")
    return there


def _names(folder: Path) -> set[str]:
    try:
        return set(os.listdir(folder))  # noqa: PTH208 - names only, a million at once
    except (OSError, ValueError):
        return set()


def _near(name: str, present: set[str]) -> str:
    """A hint: the same name in other case or with another ending."""
    stem = PurePath(name).stem
    swapped = [stem + ending for ending in (".jpg", ".JPG", ".jpeg", ".JPEG", ".png", ".PNG")]
    near = next((other for other in swapped if other in present), None)
    return f" (there is {near})" if near else ""


def inspect_image(task: tuple[Path, int, int], *, decode: bool) -> tuple[str | None, str]:
    """`(None, "")` for a good image, else a kind of finding and a text (in a worker process)."""
    from vlpart.data.images import image_header, read_image
    from vlpart.errors import ImageError

    path, width, height = task
    if not is_file(path):
        return "unreadable-image", "is no file"
    try:
        with image_header(path, max_pixels=None) as image:
            stored = image.size
            orientation = image.getexif().get(EXIF_ORIENTATION, 1)
    except ImageError as error:
        return "unreadable-image", str(error)
    except Exception as error:  # noqa: BLE001 - decoders raise anything on damaged EXIF data
        return "unreadable-image", " ".join(str(error).split()) or type(error).__name__
    if decode:
        try:
            read_image(path)
        except ImageError as error:
            return "unreadable-image", str(error)
    turned = orientation in (5, 6, 7, 8)
    upright = stored[::-1] if turned else stored
    if (width, height) not in (stored, upright):
        return "image-size", f"is {stored[0]}x{stored[1]}, the file says {width}x{height}"
    if is_unclear(orientation, stored):
        return "orientation-unclear", f"EXIF orientation {orientation}"
    return None, ""


def sizes_on_disk(paths: Sequence[Path]) -> list[int]:
    """Bytes of every file; -1 where it cannot be told."""
    sizes = []
    for path in paths:
        try:
            sizes.append(path.stat().st_size)
        except OSError:
            sizes.append(-1)
    return sizes
