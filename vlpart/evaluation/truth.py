"""Ground truth in COCO form: read it through the one reader, number it for the metrics, say what its categories are.

The metrics work with whole numbers from 0 on. Where a file has other ids, or two categories of one name, its images
and categories are numbered anew; their entries then carry the ids of the file as `file_id` and `file_ids`. Detections
always speak of the ids of the file, see `vlpart.evaluation.identity`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vlpart.data.readers.base import AnnotationEntry, CategoryEntry, ImageEntry, refuse
from vlpart.data.readers.coco import Header, image_name, parse_json, read_header
from vlpart.data.readers.regions import Raw, read_regions
from vlpart.data.readers.values import Id, class_key, identifier
from vlpart.data.validation_split import held_out, original_image
from vlpart.errors import DataError
from vlpart.masks.polygons import rectangle
from vlpart.masks.rasterise import mask_area

Truth = dict[str, Any]

#: Key of ground truth that was read: lines about what was left out or put together.
NOTES = "vlpart_notes"


def read_ground_truth(path: Path, *, merge_names: bool = True) -> Truth:
    """A COCO-style file with `images`, `annotations` and `categories`; see `check_form`.

    Raises:
        DataError: missing, not JSON, or not of that form.
    """
    return check_form(parse_json(Path(path), ""), str(path), merge_names=merge_names, with_files=True)


def check_form(content: Any, name: str, *, merge_names: bool = True, with_files: bool = False) -> Truth:
    """The content of a COCO file, checked and in one form; what went through here before is given back as it is.

    Images and categories have numbers as `id`; annotations have `id`, `image_id`, `category_id`, `bbox` (four floats),
    `area` (of the mask where the file gives none), `iscrowd`, `difficult` (0 or 1), `object_annotation_id`, and
    `segmentation` (polygons, compressed RLE, or None). Annotations with an empty box or mask are left out.

    Args:
        content: the parsed file.
        name: for messages.
        merge_names: categories of one name are one class (`class_key`), as in training. Lists that come with the
            package keep theirs apart.
        with_files: images need names and sizes; scoring detections of boxes needs neither.

    Raises:
        DataError: it is not of that form; the first entry that is wrong is named.
    """
    lists = ("images", "annotations", "categories")
    if not isinstance(content, Mapping) or not all(isinstance(content.get(key), list) for key in lists):
        raise DataError(f"{name} is not a COCO file: it needs the lists images, annotations and categories")
    if NOTES in content:
        return dict(content)
    if not all(str(each.get("name") or "").strip() for each in content["categories"] if isinstance(each, Mapping)):
        raise DataError(f"{name}: some categories have no name")
    header = read_header(content, Path(name), refuse(name), with_files=with_files)
    for key, entries in (("images", header.images), ("categories", header.categories)):
        if not entries:
            raise DataError(f"{name} has no {key}")
    notes: list[str] = []
    class_of = _classes(header.categories.values(), merge_names, notes)
    return {
        **content,
        "images": _images(content["images"], header, class_of),
        "categories": _category_entries(content["categories"], header, class_of),
        "annotations": _annotations(header, class_of, name, notes),
        NOTES: notes,
    }


def _classes(categories: Any, merge_names: bool, notes: list[str]) -> dict[int, CategoryEntry]:
    """Number of a category -> the category that it counts as: the first of its name."""
    first: dict[str, CategoryEntry] = {}
    class_of = {}
    for category in categories:
        key = class_key(category.name) if merge_names else str(category.id)
        class_of[category.id] = first.setdefault(key, category)
    merged = [category.name for category in categories if class_of[category.id] is not category]
    if merged:
        shown = ", ".join(repr(name)[:60] for name in merged[:3])
        notes.append(f"{len(merged)} categories share their name with another one and count as it ({shown}).")
    return class_of


def _by_file_id(entries: Sequence[Raw]) -> dict[Id | None, Raw]:
    category_of: dict[Id | None, Raw] = {}
    for entry in entries:
        category_of.setdefault(identifier(entry["id"]), entry)
    return category_of


def _images(raw: Sequence[Raw], header: Header, class_of: Mapping[int, CategoryEntry]) -> list[dict[str, Any]]:
    entries = _by_file_id(raw)
    found = []
    for file_id, image in header.images.items():
        known = {"height": image.height or None, "width": image.width or None, "file_name": image.file_name or None}
        clean = {**entries[file_id], **known, "id": image.id}
        lists = {
            "pos_category_ids": image.positive_ids,
            "neg_category_ids": image.negative_ids,
            "not_exhaustive_category_ids": image.not_exhaustive_ids,
        }
        for field, ids in lists.items():
            if clean.get(field) is None:
                clean.pop(field, None)
            else:
                clean[field] = list(dict.fromkeys(class_of[number].id for number in ids))
        if image.id != file_id:
            clean["file_id"] = file_id
        found.append(clean)
    return found


def _category_entries(
    raw: Sequence[Raw], header: Header, class_of: Mapping[int, CategoryEntry]
) -> list[dict[str, Any]]:
    """In the order of the file, without those that count as another."""
    entries = _by_file_id(raw)
    numbered: dict[int, dict[str, Any]] = {}
    for file_id in dict.fromkeys(entries):
        if file_id is None or (category := header.categories.get(file_id)) is None:
            continue
        if class_of[category.id] is category:
            clean = {**entries[file_id], "id": category.id, "name": category.name}
            if category.part is not None or "part" in clean:
                clean |= {"object": category.object, "part": category.part}
            numbered[category.id] = clean
    same: dict[int, list[Id]] = {}
    for file_id, category in header.categories.items():
        same.setdefault(class_of[category.id].id, []).append(file_id)
    for number, ids in same.items():
        if ids != [number]:
            numbered[number]["file_ids"] = ids
    return list(numbered.values())


def _annotations(
    header: Header, class_of: Mapping[int, CategoryEntry], name: str, notes: list[str]
) -> list[dict[str, Any]]:
    report = refuse(name)
    annotations: list[dict[str, Any]] = []
    left_out: Counter[str] = Counter()
    images = header.images.values()
    for image, entries in read_regions(images, header.annotations, header.categories, report, number_missing=True):
        for raw, entry in entries:
            if entry.unusable == "no box":
                report("no-box-no-mask", f"annotation {entry.id} of {image.file_name} has neither a box nor a mask")
            if entry.unusable == "empty mask" or (entry.unusable == "empty box" and entry.mask is None):
                left_out[entry.unusable] += 1
                continue
            annotations.append(_annotation(entry, raw, image, class_of[entry.category_id].id))
    notes.extend(f"{count} annotations are left out: {reason}." for reason, count in left_out.items())
    return annotations


def _annotation(entry: AnnotationEntry, raw: Raw, image: ImageEntry, category_id: int) -> dict[str, Any]:
    assert entry.box_xyxy is not None
    x0, y0, x1, y1 = entry.box_xyxy
    given = raw.get("bbox")
    box = [float(value) for value in given] if given and any(given) else [x0, y0, x1 - x0, y1 - y0]
    box[2:] = [max(value, 0.0) for value in box[2:]]
    area = entry.area
    if area is None and entry.mask_pixels is not None:
        area = float(entry.mask_pixels)
    elif area is None and entry.mask is not None:
        area = float(mask_area(entry.mask, image.height, image.width))
    mask: Any = entry.mask
    if isinstance(mask, bytes):
        mask = {"size": [image.height, image.width], "counts": mask.decode("ascii")}
    elif mask is not None:
        mask = [polygon.ravel().tolist() for polygon in mask]
    elif entry.segmentation is not None:  # an image without a size: only boxes can be scored
        mask = entry.segmentation
    return {
        "id": entry.id,
        "image_id": image.id,
        "category_id": category_id,
        "bbox": box,
        "area": box[2] * box[3] if area is None else area,
        "iscrowd": int(entry.crowd),
        "difficult": int(entry.difficult),
        "object_annotation_id": entry.owner_id,
        "segmentation": mask,
    }


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
    """The annotations of `check_form` as the metric library needs them, with ids from 1.

    Ids are given anew because an annotation with the id 0 counts as "no match" in the matching.

    Raises:
        DataError: masks are to be scored and there is none, or an image has no size.
    """
    annotations = truth["annotations"]
    if with_masks:
        sizeless = next((image for image in truth["images"] if not (image.get("height") and image.get("width"))), None)
        if sizeless is not None:
            raise DataError(f"image {sizeless['id']} has no height and width, which masks need: score boxes (--boxes)")
        if annotations and not any(annotation["segmentation"] for annotation in annotations):
            raise DataError("no annotation has a mask: score boxes only (--boxes)")
    return [{**annotation, "id": number} for number, annotation in enumerate(annotations, start=1)]


def for_kind(annotations: Sequence[Mapping[str, Any]], kind: str) -> list[dict[str, Any]]:
    """The annotations that count for "masks" or "boxes".

    An annotation without a mask among others with one is no ground truth for masks: its box is a region where
    detections of its class count neither way, like a crowd.
    """
    if kind != "masks":
        return [{k: v for k, v in annotation.items() if k != "segmentation"} for annotation in annotations]
    found = []
    for annotation in annotations:
        clean = dict(annotation)
        if not clean["segmentation"]:
            x, y, w, h = clean["bbox"]
            clean |= {"iscrowd": 1, "segmentation": [rectangle((x, y, x + w, y + h)).ravel().tolist()]}
        found.append(clean)
    return found
