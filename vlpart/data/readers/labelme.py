"""LabelMe: one JSON file per image, with `shapes` (polygons, rectangles, circles, masks) and `imagePath`."""

from __future__ import annotations

import base64
import binascii
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vlpart.data.readers.coco import parse_json
from vlpart.data.readers.dataset import LabelledPicture, LabelledSet, Region, corners, picture_of
from vlpart.data.readers.values import file_path
from vlpart.errors import DataError
from vlpart.files import is_file

CIRCLE_CORNERS = 64


def is_labelme(content: Any) -> bool:
    """Whether parsed JSON is a LabelMe file."""
    return isinstance(content, dict) and isinstance(content.get("shapes"), list) and "imagePath" in content


def read_labelme(source: Path) -> LabelledSet:
    """Read a LabelMe file, or all those of a folder and its folders.

    Shapes of one `group_id` and label are one instance. Points and lines enclose nothing and are left out.

    Raises:
        DataError: none is there, or one is broken.
    """
    files = [source] if is_file(source) else sorted(source.rglob("*.json"))
    labelled = LabelledSet(format="labelme")
    for file in files:
        content = parse_json(file, "")
        if is_labelme(content):
            _add(labelled, file, content, source if source.is_dir() else source.parent)
    if not labelled.pictures:
        raise DataError(f"{source} holds no LabelMe file")
    return labelled


def _add(labelled: LabelledSet, file: Path, content: dict[str, Any], root: Path) -> None:
    file_name = file_path(content["imagePath"]) or file.with_suffix(".jpg").name
    places = (file.parent / file_name, file.parent / Path(file_name).name)
    path = next((place for place in places if is_file(place)), None)
    stated = (content.get("imageHeight"), content.get("imageWidth"))
    relative = file.relative_to(root).with_name(Path(file_name).name).as_posix()
    picture = picture_of(relative, path, None if None in stated else stated, file)
    labelled.pictures.append(picture)
    groups: dict[tuple[Any, str], list[Any]] = {}
    owners: dict[int, str] = {}
    for number, shape in enumerate(content["shapes"]):
        if not isinstance(shape, dict) or not isinstance(shape.get("label"), str):
            labelled.notes["shapes without a label"] += 1
            continue
        group = shape.get("group_id")
        key = ("one", str(number)) if group is None else (str(group), shape["label"])
        groups.setdefault(key, []).append(shape)
    places_of: dict[str, int] = {}
    for (group, _), shapes in groups.items():
        region = _region(labelled, picture, shapes)
        if region is None:
            continue
        place = len(picture.regions) - 1
        places_of[f"{region.name} {group}"] = place
        said = str(shapes[0].get("description") or "")
        if said.startswith("part of "):
            owners[place] = said.removeprefix("part of ")
    for place, owner in owners.items():
        picture.regions[place].owner = places_of.get(owner)


def _region(labelled: LabelledSet, picture: LabelledPicture, shapes: list[dict[str, Any]]) -> Region | None:
    """One instance of one or several shapes."""
    polygons: list[Any] = []
    bitmap = None
    box = None
    for shape in shapes:
        kind, points = shape.get("shape_type") or "polygon", corners(shape.get("points"))
        if kind == "mask":
            bitmap = _or(bitmap, _mask(shape.get("mask"), points, picture))
        elif kind == "rectangle" and len(points) >= 2:
            box = [*points.min(axis=0).tolist(), *points.max(axis=0).tolist()]
        elif kind == "circle" and len(points) == 2:
            angles = np.linspace(0, 2 * np.pi, CIRCLE_CORNERS, endpoint=False)
            radius = float(np.linalg.norm(points[1] - points[0]))
            polygons.append((points[0] + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)).ravel().tolist())
        elif kind == "polygon" and len(points) >= 3:
            polygons.append(points.ravel().tolist())
        else:
            labelled.notes[f"shapes that enclose nothing ({kind})"] += 1
    label = shapes[0]["label"]
    if bitmap is not None:
        return labelled.add_region(picture, label, segmentation=bitmap)
    if polygons:
        return labelled.add_region(picture, label, segmentation=polygons)
    return labelled.add_region(picture, label, box=box) if box is not None else None


def _or(one: Any, other: Any) -> Any:
    return other if one is None else one if other is None else one | other


def _mask(packed: Any, points: Any, picture: LabelledPicture) -> Any:
    """(height, width) bool of a mask shape, or None if it is broken."""
    if not isinstance(packed, str) or not len(points):
        return None
    try:
        with Image.open(BytesIO(base64.b64decode(packed, validate=True)), formats=["PNG"]) as image:
            if image.width > picture.width or image.height > picture.height:
                return None
            crop = np.asarray(image.convert("L")) > 0
    except (binascii.Error, ValueError, OSError, SyntaxError, Image.DecompressionBombError):
        return None
    full = np.zeros((picture.height, picture.width), dtype=bool)
    x, y = (int(value) for value in points.min(axis=0))
    window = full[max(y, 0) : y + crop.shape[0], max(x, 0) : x + crop.shape[1]]
    window |= crop[max(-y, 0) :, max(-x, 0) :][: window.shape[0], : window.shape[1]]
    return full
