"""CVAT for images 1.1: one XML file with `<image>` elements that hold boxes, polygons and masks."""

from __future__ import annotations

from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from vlpart.data.image_files import ImageFinder
from vlpart.data.readers.dataset import LabelledPicture, LabelledSet, corners, picture_of
from vlpart.data.readers.voc import parse_xml
from vlpart.errors import DataError
from vlpart.files import is_file, open_regular, why

MAX_BYTES = 500_000_000


def find_cvat(source: Path) -> Path | None:
    """The XML file of a CVAT export: `source`, or in it; None if there is none."""
    files = [source] if is_file(source) else [source / "annotations.xml", *sorted(source.glob("*.xml"))[:1]]
    for file in files:
        if is_file(file) and file.suffix.lower() == ".xml":
            try:
                with open_regular(file) as stream:
                    head = stream.read(4096)
            except OSError as error:
                raise DataError(f"cannot read {file}: {why(error)}") from None
            if b"<annotations" in head:
                return file
    return None


def read_cvat(source: Path) -> LabelledSet:
    """Read a CVAT export.

    Regions with one `group_id` (not 0) and label are one instance. Points and lines enclose nothing and are left out.

    Args:
        source: the XML file, or its folder; images are looked for beside it and in `images/`.

    Raises:
        DataError: no such file, or it is broken.
    """
    file = find_cvat(source)
    if file is None:
        raise DataError(f"{source} holds no XML file of CVAT")
    root = parse_xml(file, MAX_BYTES)
    labelled = LabelledSet(format="cvat")
    for label in root.iterfind("./meta//label/name"):
        if (label.text or "").strip():
            labelled.index(str(label.text).strip())
    finders = [ImageFinder(file.parent / "images"), ImageFinder(file.parent)]
    for element in root.iterfind("image"):
        name = element.get("name") or ""
        places = [(finder.root, place) for finder in finders if (place := finder.find(name.replace("\\", "/")))]
        path = places[0][0] / places[0][1] if places else None
        stated = (element.get("height"), element.get("width"))
        picture = picture_of(name, path, None if None in stated else stated, file)
        subset = (element.get("subset") or "").casefold()
        picture.split = {"train": "train", "val": "val", "validation": "val", "test": "test"}.get(subset)
        labelled.pictures.append(picture)
        _add_regions(labelled, picture, element)
    if not labelled.pictures:
        raise DataError(f"{file} lists no image")
    return labelled


def _add_regions(labelled: LabelledSet, picture: LabelledPicture, image: Element) -> None:
    polygons: dict[tuple[str, str], list[list[float]]] = {}
    for number, shape in enumerate(image):
        label = shape.get("label") or ""
        if shape.tag == "box":
            box = [shape.get(key) for key in ("xtl", "ytl", "xbr", "ybr")]
            labelled.add_region(picture, label, box=box)
        elif shape.tag == "polygon":
            points = corners([pair.split(",") for pair in (shape.get("points") or "").split(";") if pair])
            group = shape.get("group_id") or "0"
            key = (group if group != "0" else f"alone {number}", label)
            polygons.setdefault(key, []).append(points.ravel().tolist())
        elif shape.tag == "mask":
            bitmap = _mask(shape, picture)
            if bitmap is None:
                labelled.notes["masks that cannot be read"] += 1
            else:
                labelled.add_region(picture, label, segmentation=bitmap)
        elif shape.tag != "tag":
            labelled.notes[f"shapes that enclose nothing ({shape.tag})"] += 1
    for (_, label), pieces in polygons.items():
        labelled.add_region(picture, label, segmentation=pieces)


def _mask(shape: Element, picture: LabelledPicture) -> np.ndarray | None:
    """(height, width) bool: run lengths row by row of a window, background first."""
    try:
        counts = np.array((shape.get("rle") or "").split(","), dtype=np.int64)
        left, top, width, height = (int(float(shape.get(key) or "x")) for key in ("left", "top", "width", "height"))
    except (ValueError, OverflowError):
        return None
    inside = left >= 0 and top >= 0 and 0 < width <= picture.width - left and 0 < height <= picture.height - top
    if not inside or (counts < 0).any() or counts.max() > width * height or int(counts.sum()) != width * height:
        return None
    values = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    full = np.zeros((picture.height, picture.width), dtype=bool)
    full[top : top + height, left : left + width] = values.reshape(height, width)
    return full
