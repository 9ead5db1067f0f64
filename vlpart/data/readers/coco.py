"""COCO JSON with the additions of LVIS (`pos_category_ids` and kin, `coco_url`) and of crops (`source_image`); and LVIS
JSON (LVIS itself and PACO), whose file names come from `coco_url`.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vlpart.data.readers.base import AnnotationEntry, AnnotationFile, CategoryEntry, ImageEntry
from vlpart.errors import DataError

#: Fields of a part that name the annotation of its object: our own, and that of PACO.
OWNER_FIELDS = ("object_annotation_id", "obj_ann_id")


def read_coco(path: Path) -> AnnotationFile:
    """Read a COCO-style JSON file.

    Args:
        path: a file with `images` and `categories`, and `annotations` unless the images carry `pos_category_ids` only.

    Returns:
        Categories sorted by id and images in file order. `bbox` [x, y, w, h] becomes (x, y, x + w, y + h).

    Raises:
        DataError: missing file, broken JSON, missing fields, duplicate ids, annotations of images that are not listed.
    """
    return read_content(load_json(path), path)


def read_content(content: dict[str, Any], path: Path) -> AnnotationFile:
    """What `read_coco` does with the parsed content of `path`."""
    images = _list_of(content, "images", path)
    categories = [_category(entry, path) for entry in _list_of(content, "categories", path)]
    categories.sort(key=lambda category: category.id)
    _refuse_duplicates([category.id for category in categories], "category", path)
    _refuse_duplicates([_integer(image, "id", "an image", path) for image in images], "image", path)
    by_image: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for annotation in _list_of(content, "annotations", path, required=False):
        by_image[_integer(annotation, "image_id", "an annotation", path)].append(annotation)
    strays = sorted(set(by_image) - {image["id"] for image in images})
    if strays:
        raise DataError(
            f"{path}: annotations of {len(strays)} images that are not listed, first ids {strays[:3]}; fix the file"
        )
    has_masks = any(a.get("segmentation") and not a.get("iscrowd") for group in by_image.values() for a in group)
    return AnnotationFile(categories=categories, images=_images(images, by_image, path), has_masks=has_masks)


def _images(images: list[Any], by_image: dict[int, list[Mapping[str, Any]]], path: Path) -> Iterator[ImageEntry]:
    for image in images:
        annotations = [_annotation(annotation, path) for annotation in by_image.get(image["id"], ())]
        yield ImageEntry(
            id=image["id"],
            file_name=_file_name(image, path),
            width=_integer(image, "width", f"image {image['id']}", path),
            height=_integer(image, "height", f"image {image['id']}", path),
            annotations=annotations,
            positive_ids=image.get("pos_category_ids") or (),
            negative_ids=image.get("neg_category_ids") or (),
            not_exhaustive_ids=image.get("not_exhaustive_category_ids") or (),
            source_image=None if (source := image.get("source_image")) in (None, "") else str(source),
        )


def _annotation(annotation: Mapping[str, Any], path: Path) -> AnnotationEntry:
    where = f"annotation {annotation.get('id', '(no id)')}"
    box = annotation.get("bbox")
    if box is not None:
        try:
            x, y, w, h = (float(value) for value in box)
        except (TypeError, ValueError):
            raise DataError(f"{path}: {where} has the box {box!r}; expected four numbers [x, y, w, h]") from None
        box = (x, y, x + w, y + h)
    return AnnotationEntry(
        id=_integer(annotation, "id", where, path) if "id" in annotation else 0,
        category_id=_integer(annotation, "category_id", where, path),
        box_xyxy=box,
        segmentation=annotation.get("segmentation") or None,
        crowd=bool(annotation.get("iscrowd", 0)),
        scored=annotation.get("score") is not None,
        owner_id=next((owner for field in OWNER_FIELDS if isinstance(owner := annotation.get(field), int)), None),
    )


def _category(entry: Any, path: Path) -> CategoryEntry:
    identifier = _integer(entry, "id", "a category", path)
    name, object_name, part_name = entry.get("name"), entry.get("object"), entry.get("part")
    if not all(value is None or isinstance(value, str) for value in (name, object_name, part_name)):
        raise DataError(f"{path}: category {identifier} has a name, object or part that is not a string")
    if name and object_name is None and ":" in name:
        object_name, part_name = name.split(":", 1)
    return CategoryEntry(
        id=identifier,
        name=name,
        object=object_name,
        part=part_name,
        image_count=entry.get("image_count"),
        frequency=entry.get("frequency"),
    )


def _file_name(image: Mapping[str, Any], path: Path) -> str:
    """`file_name`, or the last two parts of `coco_url` (LVIS): `train2017/000000000009.jpg`."""
    if image.get("file_name"):
        return str(image["file_name"])
    if image.get("coco_url"):
        return "/".join(str(image["coco_url"]).split("/")[-2:])
    raise DataError(f"{path}: image {image['id']} has neither file_name nor coco_url; add one")


def load_json(path: Path) -> dict[str, Any]:
    """The parsed content of a COCO-style JSON file.

    Raises:
        DataError: missing file, broken JSON, or something else than an object.
    """
    try:
        with path.open("rb") as file:
            content = json.load(file)
    except OSError as error:
        raise DataError(f"cannot read the annotations {path}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not valid JSON ({error}); is the download complete?") from None
    if not isinstance(content, dict):
        raise DataError(
            f"{path} is not a COCO file: the outermost value is a {type(content).__name__}, expected an object"
        )
    return content


def _list_of(content: dict[str, Any], key: str, path: Path, required: bool = True) -> list[Any]:
    value = content.get(key)
    if value is None and not required:
        return []
    if not isinstance(value, list):
        raise DataError(f"{path} is not a COCO file: it has no list {key!r}")
    return value


def _integer(entry: Any, key: str, where: str, path: Path) -> int:
    if not isinstance(entry, dict) or entry.get(key) is None:
        raise DataError(f"{path}: {where} has no {key!r}")
    if not isinstance(entry[key], int) or isinstance(entry[key], bool):
        raise DataError(f"{path}: {where} has the {key} {entry[key]!r}, expected a whole number")
    return entry[key]


def _refuse_duplicates(ids: list[int], what: str, path: Path) -> None:
    if len(set(ids)) == len(ids):
        return
    seen: set[int] = set()
    repeated = [i for i in ids if i in seen or seen.add(i)]  # type: ignore[func-returns-value]
    raise DataError(f"{path}: {len(repeated)} {what} ids occur twice, first {repeated[:3]}; ids must be unique")


def read_lvis(path: Path) -> AnnotationFile:
    """Read an LVIS-style JSON file; like `read_coco`, but with the file names of LVIS.

    Args:
        path: LVIS v1 (`lvis_v1_train.json`, minival) or PACO (`paco_lvis_v1_train.json`).

    Returns:
        As `read_coco`. A file name is the last two parts of `coco_url` ("train2017/000000000009.jpg"), or `file_name`
        where there is no `coco_url`.

    Raises:
        DataError: as `read_coco`, or images without `neg_category_ids`: then it is no LVIS file.
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


def image_name(image: Mapping[str, Any]) -> str | None:
    """File name of an LVIS image relative to the COCO folder, or None if the entry has neither address nor name."""
    address, name = image.get("coco_url"), image.get("file_name")
    if isinstance(address, str) and "/" in address:
        return "/".join(address.split("/")[-2:])
    return name if isinstance(name, str) and name else None


def _renamed(image: Any) -> Any:
    if not isinstance(image, dict):
        return image
    name = image_name(image)
    return image if name is None else {**image, "file_name": name}
