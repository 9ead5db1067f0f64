"""What a parser finds, as JSON data, and many of them as one COCO-format file, written record by record."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from vlpart.annotation_parser.labelled_images import AnnotatedObject, LabelledImage
from vlpart.errors import DataError
from vlpart.files import open_regular
from vlpart.inference.coco_file import CocoFile, output_errors
from vlpart.jobs import Record
from vlpart.masks.rle import encode_runs, runs_of_bitmap
from vlpart.names import plain
from vlpart.text.vocabulary import Vocabulary


@dataclass(frozen=True, kw_only=True)
class ParsedPart:
    """One part of an image.

    Attributes:
        name: in the vocabulary that is written.
        found_as: the base part that it was transferred from or detected as ("dog:head").
        box_xyxy: pixels of the image.
        score: of the detection, or the overlap of the transferred box with its proposal (1 without proposals), or the
            mean score of votes and detector.
        object_index: which of the annotated objects of the image it belongs to, if it was parsed by objects.
        mask: (H, W) bool at the size of the target, if masks are kept and the part was not detected; else None.
    """

    name: str
    found_as: str
    box_xyxy: tuple[float, float, float, float]
    score: float
    object_index: int | None = None
    mask: NDArray[np.bool_] | None = None


def write_coco(
    output: Path, records: Iterable[Record], vocabulary: Vocabulary | None, settings: Mapping[str, Any]
) -> dict[str, int]:
    """Write a COCO-format file, record by record; it is there whole or not at all.

    Args:
        output: the file.
        records: see `find_parts`; in the order in which they are written.
        vocabulary: the categories; None makes them from the names, in the order in which they turn up.
        settings: goes into `info`.

    Returns:
        How many "images" (those with a part, or with an annotated object), "annotations" (of parts), "empty" and
        "skipped" images there are. Empty ones are not listed: nothing is known to be absent from them.

    Raises:
        DataError: every record is one of a skipped image.
        OutputError: the file cannot be written.
    """
    numbering = _Numbering(vocabulary)
    skipped = empty = 0

    def categories() -> list[dict[str, Any]]:
        return _categories(vocabulary, numbering.ids)

    def finish(image: dict[str, Any]) -> dict[str, Any]:
        """The part classes of its labels, of all images: a parser may miss any, so none is known to be absent."""
        return image | {"not_exhaustive_category_ids": numbering.open_ended(image["image_labels"])}

    about = {"description": "parts found by vlpart's annotation parser", "settings": settings}
    with output_errors(output), ExitStack() as stack:
        coco = CocoFile(output, about, categories, finish)
        stack.callback(coco.discard)
        for record in records:
            if "image" not in record:
                skipped += 1
            elif not record["parts"] and not record.get("objects"):
                empty += 1
            else:
                coco.add(record["image"], numbering(record, coco.next_id))
        if not coco.images and not empty:
            raise DataError(f"none of the {skipped} images could be used: {output} is not written")
        coco.complete()
    return {"images": coco.images, "annotations": numbering.parts, "empty": empty, "skipped": skipped}


class _Numbering:
    """Annotations with categories, from records; `ids` has the category ids, `parts` counts the parts.

    Annotated objects come before their parts, which name them; objects that the vocabulary does not have are left out.
    """

    def __init__(self, vocabulary: Vocabulary | None) -> None:
        self.ids = {} if vocabulary is None else {e.name: e.id for e in reversed(vocabulary.entries)}
        self.parts = 0
        self._vocabulary = vocabulary
        self._known = {plain(name): name for name in self.ids}

    def __call__(self, record: Record, first: int) -> list[Record]:
        """The annotations of a record; `first` is the id that the first of them will have."""
        annotations: list[Record] = []
        owners: dict[int, int] = {}
        for index, each in enumerate(record.get("objects", ())):
            name = self._known.get(plain(each["name"]), None if self._vocabulary else each["name"])
            if name is not None:
                owners[index] = first + len(annotations)
                annotations.append(self._annotation(name, each))
        for part in record["parts"]:
            self.parts += 1
            owner = {"object_annotation_id": owners[part["object"]]} if part.get("object") in owners else {}
            annotations.append(self._annotation(part["name"], part) | owner)
        return annotations

    def open_ended(self, labels: Iterable[str]) -> list[int]:
        """The ids of the part classes of some labels, once all categories are known."""
        return sorted({identifier for label in labels for identifier in self._parts_of.get(plain(label), ())})

    @cached_property
    def _parts_of(self) -> dict[str, list[int]]:
        ids_by_object: dict[str, list[int]] = {}
        for category in _categories(self._vocabulary, self.ids):
            if category.get("part"):
                ids_by_object.setdefault(plain(category["object"]), []).append(category["id"])
        return ids_by_object

    def _annotation(self, name: str, content: Record) -> Record:
        category = self.ids.setdefault(name, len(self.ids) + 1)
        return {"category_id": category} | {k: v for k, v in content.items() if k not in ("name", "object")}


def is_parsed(record: Record) -> bool:
    """Whether a record, as read from the folder of an unfinished job, is one of `image_record`."""
    image, parts, objects = record.get("image"), record.get("parts"), record.get("objects", [])
    return (
        isinstance(image, dict)
        and isinstance(image.get("file_name"), str)
        and isinstance(image.get("id", 0), int | str)
        and all(type(image.get(side)) is int and image[side] > 0 for side in ("height", "width"))
        and isinstance(image.get("image_labels"), list)
        and all(isinstance(label, str) for label in image["image_labels"])
        and isinstance(parts, list)
        and isinstance(objects, list)
        and all(map(_is_region, [*parts, *objects]))
    )


def _is_region(region: Any) -> bool:
    if not isinstance(region, dict) or not isinstance(region.get("name"), str):
        return False
    box = region.get("bbox")
    if not isinstance(box, list) or len(box) != 4:
        return False
    finite = all(type(side) in (int, float) and abs(side) < math.inf for side in box)  # NaN is not, either
    return finite and isinstance(region.get("object", 0), int)


def settings_of(output: Path) -> Any:
    """The settings that a file of `write_coco` was written with, None for any other file; reads its first line only."""
    with open_regular(output) as file:
        first = file.readline(1 << 20).decode("utf-8", errors="replace").rstrip().removesuffix(",")
    try:
        return json.loads(first + "}")["info"]["settings"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _categories(vocabulary: Vocabulary | None, ids: Mapping[str, int]) -> list[dict[str, Any]]:
    if vocabulary is None:
        rows = [(name, number, *name.partition(":")[::2]) for name, number in ids.items()]
    else:
        rows = [(e.name, e.id, e.object or "", e.part or "") for e in vocabulary.entries]
    return [
        {"id": number, "name": name} | ({"object": owner, "part": part} if part else {})
        for name, number, owner, part in rows
    ]


def image_record(labelled: LabelledImage, image: NDArray[np.uint8], parts: Sequence[ParsedPart]) -> Record:
    """A parsed image as JSON data: its entry among the images, and its parts."""
    height, width = image.shape[:2]
    entry = {
        "id": labelled.image_id,
        "file_name": labelled.file_name,
        "height": height,
        "width": width,
        "image_labels": list(labelled.labels),
    }
    record: Record = {"image": entry, "parts": [_part(part, height, width) for part in parts]}
    if labelled.objects:
        record["objects"] = [_object(each) for each in labelled.objects]
    return record


def _object(annotated: AnnotatedObject) -> Record:
    """An annotated object, as it was annotated."""
    x0, y0, x1, y1 = annotated.box_xyxy
    record: Record = {"name": annotated.label, "bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0)}
    if annotated.segmentation is not None:
        record["segmentation"] = annotated.segmentation
    return record | {"iscrowd": 0}


def _part(part: ParsedPart, height: int, width: int) -> Record:
    x0, y0, x1, y1 = part.box_xyxy
    record: Record = {
        "name": part.name,
        "bbox": [round(value, 3) for value in (x0, y0, x1 - x0, y1 - y0)],
        "area": round((x1 - x0) * (y1 - y0), 3),
        "iscrowd": 0,
        "score": round(part.score, 4),
        "found_as": part.found_as,
    }
    if part.object_index is not None:
        record["object"] = part.object_index
    if part.mask is not None:
        values = torch.from_numpy(part.mask.astype(np.float32))[None, None]
        full = F.interpolate(values, size=(height, width), mode="bilinear", align_corners=False)[0, 0].numpy() >= 0.5
        record["segmentation"] = encode_runs(runs_of_bitmap(full, 0, 0, height), (height, width))
        record["area"] = int(full.sum())
    return record
