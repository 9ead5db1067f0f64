"""LVIS JSON (LVIS itself and PACO): COCO with verified classes per picture; file names come from `coco_url`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vlpart.data.readers.base import AnnotationFile
from vlpart.data.readers.coco import load_json, read_content
from vlpart.errors import DataError


def read_lvis(path: Path) -> AnnotationFile:
    """Read an LVIS-style JSON file; like `read_coco`, but with the file names of LVIS.

    Args:
        path: LVIS v1 (`lvis_v1_train.json`, minival) or PACO (`paco_lvis_v1_train.json`).

    Returns:
        As `read_coco`. A file name is the last two parts of `coco_url` ("train2017/000000000009.jpg"), or `file_name`
        where there is no `coco_url`.

    Raises:
        DataError: as `read_coco`, or pictures without `neg_category_ids`: then it is no LVIS file.
    """
    content = load_json(path)
    images = content.get("images")
    if isinstance(images, list):
        plain = sum(isinstance(image, dict) and "neg_category_ids" not in image for image in images)
        if plain:
            raise DataError(
                f"{path}: {plain} images have no neg_category_ids, so this is no LVIS file; use reader='coco'"
            )
        content["images"] = [_renamed(image) for image in images]
    return read_content(content, path)


def picture_name(image: Mapping[str, Any]) -> str | None:
    """File name of an LVIS image relative to the COCO folder, or None if the entry has neither address nor name."""
    address, name = image.get("coco_url"), image.get("file_name")
    if isinstance(address, str) and "/" in address:
        return "/".join(address.split("/")[-2:])
    return name if isinstance(name, str) and name else None


def _renamed(image: Any) -> Any:
    if not isinstance(image, dict):
        return image
    name = picture_name(image)
    return image if name is None else {**image, "file_name": name}
