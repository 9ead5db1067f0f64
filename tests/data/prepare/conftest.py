"""Miniature copies of the official downloads, made in a temporary folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Parts = Sequence[tuple[str, np.ndarray]]


def rectangle(height: int, width: int, x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    """(height, width) uint8 mask, ones from (x0, y0) up to but without (x1, y1)."""
    mask = np.zeros((height, width), dtype=np.uint8)
    mask[y0:y1, x0:x1] = 1
    return mask


def write_mat(path: Path, objects: Sequence[tuple[str, Parts]], size: tuple[int, int] = (20, 30)) -> None:
    """A file as in Annotations_Part: `objects` are (class, [(part name, mask)])."""
    from scipy.io import savemat

    part_type = [("part_name", object), ("mask", object)]
    object_type = [("class", object), ("class_ind", object), ("mask", object), ("parts", object)]
    listed = np.zeros((1, len(objects)), dtype=object_type)
    for i, (name, parts) in enumerate(objects):
        cells = np.zeros((1, len(parts)) if parts else (0, 0), dtype=part_type)
        for k, (part_name, mask) in enumerate(parts):
            cells[0, k] = (part_name, mask)
        listed[0, i] = (name, 1, np.ones(size, dtype=np.uint8), cells)
    annotation = np.zeros((1, 1), dtype=[("imname", object), ("objects", object)])
    annotation[0, 0] = (path.stem, listed)
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {"anno": annotation}, do_compression=True)


def write_image(path: Path, height: int = 20, width: int = 30) -> None:
    """A grey JPEG (or PNG) of that size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), (120, 130, 140)).save(path)


def write_list(path: Path, stems: Sequence[str]) -> None:
    """A split list as in ImageSets/Main."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{stem}\n" for stem in stems))


def voc_xml(objects: Sequence[tuple[str, tuple[Any, ...], int]], size: tuple[int, int] = (20, 30)) -> str:
    """VOC XML: `objects` are (name, (xmin, ymin, xmax, ymax), difficult); every object also has a part with a box."""
    items = "".join(
        f"<object><name>{name}</name><truncated>0</truncated><difficult>{difficult}</difficult><bndbox>"
        f"<xmax>{x1}</xmax><xmin>{x0}</xmin><ymax>{y1}</ymax><ymin>{y0}</ymin></bndbox>"
        "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part></object>"
        for name, (x0, y0, x1, y1), difficult in objects
    )
    height, width = size
    return (
        f"<annotation><filename>x.jpg</filename><size><width>{width}</width><height>{height}</height><depth>3</depth>"
        f"</size>{items}</annotation>"
    )


def write_json(path: Path, content: Mapping[str, Any]) -> Path:
    """`content` as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def read_json(path: Path) -> Any:
    """The content of a JSON file that holds nothing but JSON (no NaN)."""

    def refuse(token: str) -> None:
        raise AssertionError(f"{path} holds {token}")

    return json.loads(path.read_text(), parse_constant=refuse)
