"""Ground truth in COCO form: read it, check it, and say what its categories are."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from vlpart.data.readers.coco import image_name
from vlpart.data.validation_split import held_out, original_image
from vlpart.errors import DataError
from vlpart.masks.rle import check_rles, decode_runs, encode_runs

Truth = dict[str, Any]


def read_ground_truth(path: Path) -> Truth:
    """A COCO-style file with `images`, `annotations` and `categories`.

    Raises:
        DataError: missing, not JSON, or not of that form.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not valid JSON: {error}") from error
    return check_form(content, str(path))


def check_form(content: Any, name: str) -> Truth:
    """The content of a COCO file if it has the three lists, with whole, distinct ids; `name` is for the message.

    Raises:
        DataError: it has not.
    """
    lists = ("images", "annotations", "categories")
    if not isinstance(content, Mapping) or not all(isinstance(content.get(key), list) for key in lists):
        raise DataError(f"{name} is not a COCO file: it needs the lists images, annotations and categories")
    for key in ("images", "categories"):
        if not content[key]:
            raise DataError(f"{name} has no {key}")
        ids = [entry.get("id") if isinstance(entry, Mapping) else None for entry in content[key]]
        if not all(type(each) is int for each in ids) or len(set(ids)) != len(ids):
            raise DataError(f"{name}: {key} need distinct whole numbers as id")
    if not all(isinstance(entry, Mapping) for entry in content["annotations"]):
        raise DataError(f"{name}: some annotations are no JSON objects")
    if not all(isinstance(category.get("name"), str) for category in content["categories"]):
        raise DataError(f"{name}: some categories have no name")
    return dict(content)


def is_part(category: Mapping[str, Any]) -> bool:
    """Whether a category is a part: by its `part` field, or a name `object:part` where there is no such field."""
    return part_name(category) is not None


def part_name(category: Mapping[str, Any]) -> str | None:
    """The part of a category without its object, "wheel" of "car:wheel"; None for a whole object."""
    if "part" in category:
        return category["part"]
    return category["name"].partition(":")[2] if ":" in category["name"] else None


def ordered_categories(truth: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The categories in ascending id: the order of every per-class array here."""
    return sorted(truth["categories"], key=lambda category: category["id"])


def subset(truth: Mapping[str, Any], max_images: int | None) -> Truth:
    """The ground truth of at most `max_images` evenly spaced images."""
    if max_images is None or max_images >= len(truth["images"]):
        return dict(truth)
    step = len(truth["images"]) / max(max_images, 1)
    images = [truth["images"][int(i * step)] for i in range(max_images)]
    ids = {image["id"] for image in images}
    return {**truth, "images": images, "annotations": [a for a in truth["annotations"] if a.get("image_id") in ids]}


def held_out_part(truth: Mapping[str, Any], fraction: float) -> Truth:
    """The ground truth of the images that `Source.validation_split` leaves out of training."""
    names = {
        image["id"]: original_image(image.get("source_image"), str(image.get("file_name") or image_name(image)))
        for image in truth["images"]
    }
    ids = held_out(names, fraction)
    return {
        **truth,
        "images": [image for image in truth["images"] if image["id"] in ids],
        "annotations": [a for a in truth["annotations"] if a.get("image_id") in ids],
    }


def federated_categories(truth: Mapping[str, Any]) -> dict[int, set[int]]:
    """Per image the classes that count under the LVIS rule: those annotated in it and its `neg_category_ids`.

    Raises:
        DataError: an image has neither `neg_category_ids` nor `pos_category_ids`.
    """
    counted: dict[int, set[int]] = {}
    for image in truth["images"]:
        if "neg_category_ids" not in image and "pos_category_ids" not in image:
            raise DataError(
                f"image {image['id']} has neither neg_category_ids nor pos_category_ids: "
                "score without the annotated-classes rule"
            )
        counted[image["id"]] = set(image.get("neg_category_ids", ()))
    for annotation in truth["annotations"]:
        counted[annotation["image_id"]].add(annotation["category_id"])
    return counted


def clean_annotations(truth: Mapping[str, Any], *, with_masks: bool) -> list[dict[str, Any]]:
    """The annotations as the metric library needs them: checked, ids from 1, masks as RLE or polygons, area filled in.

    Ids are given anew because an annotation with the id 0 counts as "no match" in the matching.

    Raises:
        DataError: naming the first annotation with an unknown image or category, a box that is not finite, or a
            missing, damaged or wrongly sized mask.
    """
    sizes = {image["id"]: [image.get("height"), image.get("width")] for image in truth["images"]}
    categories = {category["id"] for category in truth["categories"]}
    cleaned = []
    for number, annotation in enumerate(truth["annotations"], start=1):
        image_id, category_id = annotation.get("image_id"), annotation.get("category_id")
        if image_id not in sizes or category_id not in categories:
            label = f"annotation {annotation.get('id', number)}"
            raise DataError(f"{label}: image_id {image_id!r} or category_id {category_id!r} is not in the file")
        clean = {
            "id": number,
            "image_id": image_id,
            "category_id": category_id,
            "bbox": annotation.get("bbox"),
            "iscrowd": int(annotation.get("iscrowd", 0)),
            "area": annotation.get("area"),
        }
        if with_masks:
            clean["segmentation"] = _checked_mask(annotation, sizes[image_id], number)
        cleaned.append(clean)
    _check_boxes(cleaned, truth["annotations"])
    areas = _mask_areas(cleaned, truth["annotations"]) if with_masks else {}
    for clean in cleaned:
        area = clean["area"]
        if not isinstance(area, int | float) or not math.isfinite(area):
            box = clean["bbox"]
            clean["area"] = float(areas.get(clean["id"], box[2] * box[3]))
    return cleaned


def _check_boxes(cleaned: Sequence[Mapping[str, Any]], original: Sequence[Mapping[str, Any]]) -> None:
    """Refuse what is not four finite numbers with sides of 0 or more."""
    boxes = [clean["bbox"] for clean in cleaned]
    with suppress(TypeError, ValueError):
        array = np.array(boxes, dtype=np.float64).reshape(len(boxes), 4)
        if np.isfinite(array).all() and (array[:, 2:] >= 0).all():
            return
    for box, annotation in zip(boxes, original, strict=True):
        if not isinstance(box, Sequence) or len(box) != 4 or not _finite(box) or min(box[2:]) < 0:
            raise DataError(f"annotation {annotation.get('id')}: bbox {box!r} is not a finite [x, y, width, height]")


def _finite(values: Iterable[Any]) -> bool:
    return all(isinstance(x, int | float) and math.isfinite(x) for x in values)


def _checked_mask(annotation: Mapping[str, Any], size_hw: list[Any], number: int) -> Any:
    """Polygons as they are, uncompressed RLE compressed, compressed RLE with `counts` as str (checked later)."""
    segmentation = annotation.get("segmentation")
    if type(segmentation) is dict and type(segmentation.get("counts")) is str and segmentation.get("size") == size_hw:
        return segmentation
    label = f"annotation {annotation.get('id', number)}"
    if isinstance(segmentation, Mapping):
        given = segmentation.get("size")
        if not isinstance(given, Sequence) or list(given) != size_hw:
            raise DataError(f"{label}: its mask has the size {given!r}, its image {size_hw}")
        counts = segmentation.get("counts")
        if isinstance(counts, bytes):
            counts = counts.decode("ascii", errors="replace")
        if not isinstance(counts, str):
            try:
                size, runs = decode_runs(segmentation)
            except ValueError as error:
                raise DataError(f"{label}: mask: {error}") from error
            return encode_runs(runs, size)
        return {"size": size_hw, "counts": counts}
    polygons: list[Any] = segmentation if isinstance(segmentation, list) else []
    if not polygons or not all(isinstance(p, list) and len(p) >= 6 and not len(p) % 2 for p in polygons):
        raise DataError(f"{label}: segmentation is neither RLE nor polygons of three points or more")
    if not all(_finite(polygon) for polygon in polygons):
        raise DataError(f"{label}: a polygon is not finite")
    return polygons


def _mask_areas(cleaned: Sequence[Mapping[str, Any]], original: Sequence[Mapping[str, Any]]) -> dict[int, int]:
    """Check all compressed masks at once; their pixels by clean id."""
    rows = [a for a in cleaned if isinstance(a["segmentation"], dict)]
    counts = [a["segmentation"]["counts"].encode("ascii", errors="replace") for a in rows]
    checked = check_rles(counts, [a["segmentation"]["size"] for a in rows])
    if checked.bad is not None:
        number = rows[checked.bad]["id"]
        identifier = original[number - 1].get("id", number)
        raise DataError(f"annotation {identifier}: its mask is damaged: the RLE cannot be decoded")
    return dict(zip((a["id"] for a in rows), checked.areas.tolist(), strict=True))
