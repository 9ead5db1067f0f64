"""YOLO data sets: `data.yaml` with the names, `images/` and `labels/` beside each other, one text file per image.

A line is "class x y x y ..." (polygon) or "class x y width height" (box), all coordinates as shares of the image.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from vlpart.data.image_files import IMAGE_SUFFIXES
from vlpart.data.readers.dataset import LabelledSet, picture_of
from vlpart.errors import DataError
from vlpart.files import is_file, is_folder, read_text, why

MAX_BYTES = 50_000_000
_SPLITS = {"train": "train", "val": "val", "valid": "val", "test": "test"}


def find_yolo(source: Path) -> Path | None:
    """The file with the names of a YOLO data set: `source` itself, or in it; None if it is none."""
    if is_file(source):
        return source if source.suffix.lower() in (".yaml", ".yml") else None
    for file in sorted([*source.glob("*.yaml"), *source.glob("*.yml")]):
        if "names" in read_yaml(file):
            return file
    classes = source / "classes.txt"
    return classes if is_file(classes) and is_folder(source / "labels") else None


def read_yolo(source: Path) -> LabelledSet:
    """Read a YOLO data set (detection or segmentation).

    Args:
        source: its `data.yaml`, or the folder that holds it (or `classes.txt`, `images/` and `labels/`).

    Raises:
        DataError: no names, or no images.
    """
    file = find_yolo(source)
    if file is None:
        raise DataError(f"{source} is no YOLO data set: it has no data.yaml with names")
    labelled = LabelledSet(format="yolo")
    settings: dict[str, Any] = {}
    if file.suffix == ".txt":
        names = [line.strip() for line in _text(file).splitlines() if line.strip()]
    else:
        settings = read_yaml(file)
        names = _names(settings.get("names"), file)
    if not names:
        raise DataError(f"{file} names no class")
    for name in names:
        labelled.index(name)
    root = file.parent
    if isinstance(path := settings.get("path"), str) and is_folder(root / path):
        root = root / path
    images: dict[Path, str | None] = {}
    for key, split in _SPLITS.items():
        for place in _listed(settings.get(key)):
            for image in _images(root, place):
                images.setdefault(image, split)
    for image in _images(root, "images") if not images else ():
        images[image] = None
    if not images:
        raise DataError(f"{file}: its images are not in {root}")
    whole = len(set(images.values())) == 1  # train and val are one folder: no split at all
    for image, kind in images.items():
        _add(labelled, image, root, None if whole else kind, names)
    return labelled


def _names(listed: Any, file: Path) -> list[str]:
    if isinstance(listed, dict):
        try:
            return [str(listed[key]) for key in sorted(listed, key=int)]
        except ValueError:
            raise DataError(f"{file}: the names are not numbered") from None
    return [str(name) for name in listed] if isinstance(listed, list) else []


def _listed(value: Any) -> list[str]:
    if isinstance(value, list):
        return [place for place in value if isinstance(place, str)]
    return [value] if isinstance(value, str) else []


def _images(root: Path, place: str) -> list[Path]:
    """Images of a folder, or of a text file that lists them; where it is above the root ("../train"), also below it."""
    options = [root / place, root / place.replace("../", ""), root / Path(place).name]
    path = next((option for option in options if option.exists()), None)
    if path is None:
        return []
    if path.suffix == ".txt":
        listed = (root / line.strip() for line in _text(path).splitlines() if line.strip())
        return [image for image in listed if is_file(image)]
    return sorted(image for image in path.rglob("*") if image.suffix.lower() in IMAGE_SUFFIXES and image.is_file())


def _add(labelled: LabelledSet, image: Path, root: Path, split: str | None, names: list[str]) -> None:
    name = image.relative_to(root).as_posix() if image.is_relative_to(root) else image.name
    name = re.sub(r"(^|/)images/", r"\1", name, count=1)
    picture = picture_of(name, image, None, image)
    picture.split = split
    labelled.pictures.append(picture)
    label = _label_of(image)
    if label is None:
        return
    for line in _text(label).splitlines():
        values = line.split()
        if not values:
            continue
        try:
            number, coordinates = int(float(values[0])), np.array(values[1:], dtype=np.float64)
        except (ValueError, OverflowError):
            number, coordinates = -1, np.zeros(0)
        if not 0 <= number < len(names) or len(coordinates) < 4 or not np.isfinite(coordinates).all():
            labelled.notes["broken lines of label files"] += 1
        elif len(coordinates) <= 5:  # a box, maybe with a score
            centre, size, scale = coordinates[:2], coordinates[2:4], np.array([picture.width, picture.height])
            low, high = (centre - size / 2) * scale, (centre + size / 2) * scale
            labelled.add_region(picture, names[number], box=[*low.tolist(), *high.tolist()])
        else:
            points = coordinates[: len(coordinates) // 2 * 2].reshape(-1, 2) * (picture.width, picture.height)
            labelled.add_region(picture, names[number], segmentation=[points.ravel().tolist()])


def _label_of(image: Path) -> Path | None:
    """The label file: the last folder `images` of its path is `labels` there; else beside the image."""
    parts = list(image.parts)
    places = [image.with_suffix(".txt")]
    if "images" in parts[:-1]:
        last = len(parts) - 2 - parts[:-1][::-1].index("images")
        places.insert(0, Path(*parts[:last], "labels", *parts[last + 1 :]).with_suffix(".txt"))
    return next((place for place in places if is_file(place)), None)


def _text(path: Path) -> str:
    try:
        return read_text(path, MAX_BYTES)
    except OSError as error:
        raise DataError(f"cannot read {path}: {why(error)}") from None


def read_yaml(path: Path) -> dict[str, Any]:
    """The part of YAML that files of YOLO data sets are written in: keys with a text, a list or numbered names.

    Lists and mappings may be in one line ("[a, b]", "{0: a}") or below their key, indented or with "- ".
    """
    found: dict[str, Any] = {}
    key = None
    for raw in _text(path).splitlines():
        line = _without_comment(raw)
        if not line.strip():
            continue
        if not raw[0].isspace() and not line.lstrip().startswith("- "):
            key, _, rest = line.partition(":")
            key = str(_scalar(key))
            found[key] = _value(rest.strip()) if rest.strip() else None
        elif key is not None and line.lstrip().startswith("- "):
            if not isinstance(found[key], list):
                found[key] = []
            found[key].append(_scalar(line.lstrip()[2:]))
        elif key is not None and (match := re.match(r"""\s+("[^"]*"|'[^']*'|[^:]+):\s*(.*)""", line)):
            if not isinstance(found[key], dict):
                found[key] = {}
            found[key][str(_scalar(match[1]))] = _scalar(match[2])
        elif key is not None and isinstance(found[key], str):  # a list over several lines
            found[key] = _value(found[key] + " " + line.strip())
    return found


def _without_comment(line: str) -> str:
    quote = ""
    for place, character in enumerate(line):
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'" and (place == 0 or line[place - 1] in " [{,:"):
            quote = character
        elif character == "#" and (place == 0 or line[place - 1].isspace()):
            return line[:place]
    return line


def _value(text: str) -> Any:
    if text.startswith("[") and text.endswith("]"):
        return [_scalar(item) for item in _items(text[1:-1])]
    if text.startswith("{") and text.endswith("}"):
        pairs = (item.partition(":") for item in _items(text[1:-1]))
        return {str(_scalar(name)): _scalar(value) for name, _, value in pairs}
    return text if text[:1] in ("[", "{") else _scalar(text)


def _items(text: str) -> list[str]:
    return [item for item in re.findall(r"""(?:"(?:\\.|[^"])*"|'[^']*'|[^,])+""", text) if item.strip()]


def _scalar(text: str) -> str:
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] == '"':
        return text[1:-1].replace('\\"', '"').replace("\\\\", "\\")
    if len(text) > 1 and text[0] == text[-1] == "'":
        return text[1:-1].replace("''", "'")
    return text
