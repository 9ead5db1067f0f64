"""Pascal VOC XML: one file per image, boxes with whole-number corners counted from 1 (docs/method.md, 'Data
preparation').
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from vlpart.data.readers.base import AnnotationEntry, AnnotationFile, CategoryEntry, ImageEntry, Problem, refuse
from vlpart.data.readers.values import MAX_PIXELS, MAX_SIDE
from vlpart.errors import DataError
from vlpart.files import is_folder, read_regular, read_text, why

MAX_BYTES = 10_000_000
"""A VOC file has about a kilobyte; anything much larger is something else."""
MAX_DEPTH = 100


@dataclass(frozen=True, slots=True)
class VocObject:
    """One annotated object: class name as in the file, box in pixels with exclusive ends, its flags and its parts."""

    name: str
    box_xyxy: tuple[float, float, float, float]
    difficult: bool = False
    truncated: bool = False
    parts: tuple[VocObject, ...] = ()


@dataclass(frozen=True, slots=True)
class VocImage:
    """One XML file. `file_name` is the stem of the XML with the suffix that the file gives its image."""

    file_name: str
    width: int
    height: int
    objects: tuple[VocObject, ...]


def read_voc(path: Path, problem: Problem | None = None, *, masks: bool = True) -> AnnotationFile:
    """Read a split of a VOC data set, or all XML files of a folder.

    Args:
        path: a list of names, `VOC2007/ImageSets/Main/train.txt` (the XML files are then in `VOC2007/Annotations`), or
            a folder of XML files.
        problem: what to do about boxes whose corners are swapped; default: raise. Broken files are always refused.
        masks: VOC has none.

    Returns:
        Images in the order of the list (of their names, for a folder). A box (xmin, ymin, xmax, ymax) becomes
        (xmin - 1, ymin - 1, xmax, ymax). Where all names are VOC's 20, the categories are the list `voc` with its ids;
        else the names found, sorted, with ids from 1. Objects marked difficult are there like all others.

    Raises:
        DataError: missing or broken files.
    """
    del masks
    stems, folder = list_voc(path)
    images = [parse_voc(folder / f"{stem}.xml") for stem in stems]
    ids = image_ids(stems)
    report = problem or refuse(path)
    for image in images:
        for item in image.objects:
            if swapped := swapped_corners(item):
                report("malformed-box", f"{image.file_name}: {swapped}")
    images = [replace(image, objects=tuple(o for o in image.objects if not swapped_corners(o))) for image in images]
    known = voc_category_ids()
    names = sorted({item.name for image in images for item in image.objects})
    if all(plain_name(name) in known for name in names):
        from vlpart.text.vocabulary import Vocabulary

        category_of = {name: known[plain_name(name)] for name in names}
        categories = [CategoryEntry(id=entry.id, name=entry.name) for entry in Vocabulary.load("voc").entries]
    else:
        category_of = {name: i for i, name in enumerate(names, start=1)}
        categories = [CategoryEntry(id=i, name=name) for name, i in category_of.items()]
    return AnnotationFile(categories=categories, images=_entries(images, ids, category_of), has_masks=False)


def _entries(images: Sequence[VocImage], ids: Sequence[int], category_of: dict[str, int]) -> Iterator[ImageEntry]:
    number = 0
    for image, image_id in zip(images, ids, strict=True):
        annotations = []
        for item in image.objects:
            number += 1
            annotations.append(
                AnnotationEntry(
                    id=number,
                    category_id=category_of[item.name],
                    box_xyxy=item.box_xyxy,
                    difficult=item.difficult,
                )
            )
        yield ImageEntry(
            id=image_id,
            file_name=image.file_name,
            width=image.width,
            height=image.height,
            annotations=annotations,
        )


def swapped_corners(item: VocObject) -> str | None:
    """What is wrong with a box whose second corner lies before its first."""
    x0, y0, x1, y1 = item.box_xyxy
    if x1 > x0 and y1 > y0:
        return None
    corners = f"({x0 + 1:g}, {y0 + 1:g}) and ({x1:g}, {y1:g})"
    return (
        f"object {item.name!r} has the corners {corners}: xmin and ymin are not below xmax and ymax; are they swapped?"
    )


def list_voc(path: Path) -> tuple[list[str], Path]:
    """`(stems, folder of the XML files)` of a split list or a folder; see `read_voc`.

    Raises:
        DataError: it cannot be read, names nothing, or names an image twice.
    """
    try:
        if is_folder(path):
            stems = sorted(entry.stem for entry in path.iterdir() if entry.suffix.lower() == ".xml")
            folder = path
        else:
            lines = read_text(path, errors="strict").splitlines()
            stems = [line.split()[0] for line in lines if line.strip()]
            folder = path.resolve().parents[2] / "Annotations"
    except (OSError, UnicodeDecodeError, IndexError) as error:
        raise DataError(f"cannot read the VOC list {path}: {why(error)}") from None
    if not stems:
        raise DataError(f"{path} names no image; give a list from ImageSets/Main or a folder of XML files")
    unsafe = next((stem for stem in stems if stem != Path(stem).name), None)
    if unsafe is not None:
        raise DataError(f"{path} names {unsafe!r}, expected names without folders as in ImageSets/Main")
    if len(set(stems)) != len(stems):
        raise DataError(f"{path} names an image twice; take the second one out")
    return stems, folder


def image_ids(stems: Sequence[str]) -> list[int]:
    """`2008_000652` -> 2008000652, `000005` -> 5; running numbers from 1 if a name is no number or two would clash."""
    joined = [stem.replace("_", "") for stem in stems]
    if all(text.isascii() and text.isdigit() and len(text) <= 18 for text in joined):
        ids = [int(text) for text in joined]
        if len(set(ids)) == len(ids):
            return ids
    return list(range(1, len(stems) + 1))


def plain_name(name: str) -> str:
    """A VOC class name without case, spaces and underscores: "dining table" and "diningtable" are one."""
    return name.casefold().replace(" ", "").replace("_", "")


def voc_category_ids() -> dict[str, int]:
    """`plain_name` of the 20 VOC classes to their ids in the list `voc`."""
    from vlpart.text.vocabulary import Vocabulary

    return {plain_name(entry.name): entry.id for entry in Vocabulary.load("voc").entries}


def parse_voc(path: Path) -> VocImage:
    """Read one VOC XML file.

    Raises:
        DataError: missing, not XML, with a document type or entities (refused unread), or without a size, a name or a
            box where one belongs.
    """
    root = parse_xml(path)
    if root.tag != "annotation":
        raise DataError(f"{path} is no VOC file: its outermost element is <{root.tag}>, expected <annotation>")
    size = root.find("size")
    width, height = (_number(size, side, path) for side in ("width", "height"))
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE and width * height <= MAX_PIXELS):
        raise DataError(f"{path} gives the image size {width:g}x{height:g}")
    objects = tuple(_object(element, path) for element in root.findall("object"))
    suffix = Path((root.findtext("filename") or "").strip()).suffix or ".jpg"
    return VocImage(path.stem + suffix, int(width), int(height), objects)


def _object(element: Element, path: Path) -> VocObject:
    name = (element.findtext("name") or "").strip()
    if not name:
        raise DataError(f"{path}: an <object> has no <name>")
    box = element.find("bndbox")
    x0, y0, x1, y1 = (_number(box, corner, path, name) for corner in ("xmin", "ymin", "xmax", "ymax"))
    difficult, truncated = ((element.findtext(flag) or "0").strip() == "1" for flag in ("difficult", "truncated"))
    parts = tuple(_object(part, path) for part in element.findall("part"))  # in files with layout annotations
    return VocObject(name, (x0 - 1, y0 - 1, x1, y1), difficult, truncated, parts)


def _number(parent: Element | None, tag: str, path: Path, name: str = "") -> float:
    text = parent.findtext(tag) if parent is not None else None
    where = f"object {name!r}" if name else "the image"
    try:
        value = float(text) if text is not None else math.nan
    except ValueError:
        raise DataError(f"{path}: <{tag}> of {where} is {text!r}, expected a number") from None
    if not math.isfinite(value):
        raise DataError(f"{path}: {where} has no usable <{tag}>")
    return value


def parse_xml(path: Path, max_bytes: int = MAX_BYTES) -> Element:
    """The outermost element. Document types are refused: they can define entities that expand to gigabytes.

    Raises:
        DataError: missing, too large, not XML, nested too deep, or with a document type.
    """
    try:
        data = read_regular(path, max_bytes)
    except OSError as error:
        raise DataError(f"cannot read {path}: {why(error)}") from None
    try:
        root = fromstring(data, forbid_dtd=True)
    except DefusedXmlException:
        raise DataError(
            f"{path} declares a document type, which VOC files do not have; it was not read further"
        ) from None
    except (ParseError, ValueError) as error:
        raise DataError(f"{path} is not valid XML ({error}); is the file complete?") from None
    elements, depth = [root], 0
    while elements:
        depth += 1
        elements = [child for element in elements for child in element]
        if depth > MAX_DEPTH:
            raise DataError(f"{path} nests elements over {MAX_DEPTH} deep, which no annotation does")
    return root
