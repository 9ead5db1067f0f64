"""Label maps: for every image a PNG of its size whose values are classes, and a text file with their names.

A class is one region of its image: label maps do not tell instances apart.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from PIL import Image

from vlpart.data.image_files import IMAGE_SUFFIXES
from vlpart.data.images import MAX_FILE_BYTES
from vlpart.data.readers.dataset import LabelledSet, picture_of
from vlpart.data.readers.values import MAX_PIXELS
from vlpart.errors import DataError
from vlpart.files import is_file, is_folder, open_regular, read_text, why

IMAGE_FOLDERS = ("images", "JPEGImages", "imgs", "img")
MAP_FOLDERS = ("masks", "SegmentationClass", "label_maps", "labels", "annotations", "mask")
NAME_FILES = ("classes.txt", "labelmap.txt", "labels.txt", "names.txt", "class_names.txt")
_BACKGROUND = re.compile(r"_*(background|ignore|unlabell?ed|void|bg)_*", re.IGNORECASE)


def find_label_maps(source: Path) -> tuple[Path, Path, Path] | None:
    """(images, maps, names) of a folder, or None if it is none of label maps."""
    if not is_folder(source):
        return None
    images = next((source / name for name in IMAGE_FOLDERS if is_folder(source / name)), None)
    maps = [source / name for name in MAP_FOLDERS if is_folder(source / name)]
    chosen = next((folder for folder in maps if next(folder.rglob("*.png"), None) is not None), None)
    names = next((source / name for name in NAME_FILES if is_file(source / name)), None)
    return None if images is None or chosen is None or names is None else (images, chosen, names)


def read_label_maps(source: Path) -> LabelledSet:
    """Read a folder of label maps.

    Args:
        source: holds `images/`, `masks/` with PNGs of the same names, and `classes.txt`: lines "1 car" or "1: car", or
            names only (the first is value 1, or value 0 if it is called background), or "car:255,0,0::" for maps in
            colours.

    Raises:
        DataError: it is none, or a map is broken.
    """
    places = find_label_maps(source)
    if places is None:
        raise DataError(f"{source} holds no label maps: it needs images/, masks/ and classes.txt")
    images, maps, file = places
    values, colours = _read_names(file)
    labelled = LabelledSet(format="label-maps")
    for name in [*values.values(), *colours.values()]:
        labelled.index(name)
    listed = sorted(path for path in images.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
    for image in listed:
        relative = image.relative_to(images)
        picture = picture_of(relative.as_posix(), image, None, image)
        labelled.pictures.append(picture)
        label = (maps / relative).with_suffix(".png")
        if not is_file(label):
            labelled.notes["images without a label map"] += 1
            continue
        for name, bitmap in _regions(label, (picture.height, picture.width), values, colours, labelled):
            labelled.add_region(picture, name, segmentation=bitmap)
    return labelled


def _read_names(path: Path) -> tuple[dict[int, str], dict[int, str]]:
    """Names by value, and by colour (as one number); the background is in neither."""
    values: dict[int, str] = {}
    colours: dict[int, str] = {}
    plain = []
    try:
        lines = read_text(path).splitlines()
    except OSError as error:
        raise DataError(f"cannot read {path}: {why(error)}") from None
    for line in lines:
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        if match := re.fullmatch(r"(.+):(\d+),\s*(\d+),\s*(\d+):[^:]*:[^:]*", text):
            red, green, blue = (int(match[i]) for i in (2, 3, 4))
            colours[red << 16 | green << 8 | blue] = match[1]
        elif match := re.fullmatch(r"(\d+)\s*[:,\s]\s*(.+)", text):
            values[int(match[1])] = match[2]
        else:
            plain.append(text)
    first = 0 if plain and _BACKGROUND.fullmatch(plain[0]) else 1
    values |= dict(enumerate(plain, start=first))
    return tuple({k: v for k, v in names.items() if not _BACKGROUND.fullmatch(v)} for names in (values, colours))  # type: ignore[return-value]


def _regions(
    path: Path, size: tuple[int, int], values: dict[int, str], colours: dict[int, str], labelled: LabelledSet
) -> list[tuple[str, np.ndarray]]:
    try:
        with open_regular(path, MAX_FILE_BYTES) as file, Image.open(file, formats=["PNG"]) as image:
            if (image.height, image.width) != size or image.width * image.height > MAX_PIXELS:
                raise DataError(f"{path} is {image.width}x{image.height}, its image {size[1]}x{size[0]}")
            if colours or image.mode in ("RGB", "RGBA"):
                channels = np.asarray(image.convert("RGB")).astype(np.int64)
                labels = channels[..., 0] << 16 | channels[..., 1] << 8 | channels[..., 2]
                names = colours
            else:  # a palette is for the eye, its indices are the values
                labels, names = np.asarray(image if image.mode != "1" else image.convert("L")).astype(np.int64), values
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"cannot read the label map {path}: {' '.join(str(error).split())}") from None
    present = np.unique(labels).tolist()
    unknown = [value for value in present if value not in names and value != 0]
    if unknown:
        labelled.notes[f"values without a name (255 is often a border), first {unknown[0]}"] += len(unknown)
    return [(names[value], labels == value) for value in present if value in names]
