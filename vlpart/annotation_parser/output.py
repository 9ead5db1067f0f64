"""What a parser finds, as JSON data, and many of them as one COCO-format file, written record by record."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from vlpart.annotation_parser.labelled_images import AnnotatedObject, LabelledImage
from vlpart.errors import DataError, OutputError
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
        How many "images", "annotations" (of parts) and "skipped" there are.

    Raises:
        DataError: every record is one of a skipped image.
        OutputError: the file cannot be written.
    """
    numbering = _Numbering(vocabulary)
    counts = {"images": 0, "annotations": 0, "skipped": 0}
    temporary = output.with_name(f".{output.name}.{uuid.uuid4().hex[:8]}.tmp")
    images, annotations = temporary.with_suffix(".images"), temporary.with_suffix(".annotations")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with images.open("w", encoding="utf-8") as first, annotations.open("w", encoding="utf-8") as second:
            for record in records:
                if "image" not in record:
                    counts["skipped"] += 1
                    continue
                first.write(json.dumps(record["image"]) + "\n")
                counts["images"] += 1
                for annotation in numbering(record):
                    second.write(json.dumps(annotation) + "\n")
        if not counts["images"]:
            raise DataError(f"none of the {counts['skipped']} images could be used: {output} is not written")
        categories = _categories(vocabulary, numbering.ids)
        open_ended = _OpenEnded(categories)  # of all images: only now are the categories complete
        with temporary.open("w", encoding="utf-8") as file:
            info = {"description": "parts found by vlpart's annotation parser", "settings": settings}
            file.write(f'{{"info": {json.dumps(info)},\n"images": [\n')
            _join(file, (json.dumps(image | open_ended(image["image_labels"])) for image in _lines(images)))
            file.write('],\n"annotations": [\n')
            _join(file, (line.rstrip("\n") for line in _text(annotations)))
            file.write(f'],\n"categories": {json.dumps(categories)}}}\n')
        temporary.replace(output)
    except OSError as error:
        raise OutputError(f"cannot write {output}: {error.strerror or error}; run it again to go on") from error
    finally:
        for path in (temporary, images, annotations):
            path.unlink(missing_ok=True)
    return counts | {"annotations": numbering.parts}


def _text(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8") as file:
        yield from file


def _lines(path: Path) -> Iterator[Record]:
    return (json.loads(line) for line in _text(path))


def _join(file: TextIO, entries: Iterable[str]) -> None:
    """Entries of a JSON list, a line each."""
    for number, entry in enumerate(entries):
        file.write((",\n" if number else "") + entry)


class _Numbering:
    """Annotations with ids and categories, from records; `ids` has the category ids, `parts` counts the parts.

    Annotated objects come before their parts, which name them; objects that the vocabulary does not have are left out.
    """

    def __init__(self, vocabulary: Vocabulary | None) -> None:
        self.ids = {} if vocabulary is None else {e.name: e.id for e in reversed(vocabulary.entries)}
        self.parts = 0
        self._count = 0
        self._closed = vocabulary is not None
        self._known = {plain(name): name for name in self.ids}

    def __call__(self, record: Record) -> Iterator[Record]:
        owners: dict[int, int] = {}
        for index, each in enumerate(record.get("objects", ())):
            name = self._known.get(plain(each["name"]), None if self._closed else each["name"])
            if name is not None:
                annotation = self._numbered(name, record, each)
                owners[index] = annotation["id"]
                yield annotation
        for part in record["parts"]:
            self.parts += 1
            owner = {"object_annotation_id": owners[part["object"]]} if part.get("object") in owners else {}
            yield self._numbered(part["name"], record, part) | owner

    def _numbered(self, name: str, record: Record, content: Record) -> Record:
        self._count += 1
        category = self.ids.setdefault(name, len(self.ids) + 1)
        head = {"id": self._count, "image_id": record["image"]["id"], "category_id": category}
        return head | {key: value for key, value in content.items() if key not in ("name", "object")}


class _OpenEnded:
    """The part classes of some labels: a parser may miss any of them, so that none is known to be absent."""

    def __init__(self, categories: Iterable[Mapping[str, Any]]) -> None:
        self._ids: dict[str, list[int]] = {}
        for category in categories:
            if category.get("part"):
                self._ids.setdefault(plain(category["object"]), []).append(category["id"])

    def __call__(self, labels: Iterable[str]) -> dict[str, list[int]]:
        found = {identifier for label in labels for identifier in self._ids.get(plain(label), [])}
        return {"not_exhaustive_category_ids": sorted(found)}


def settings_of(output: Path) -> Any:
    """The settings that a file of `write_coco` was written with, None for any other file; reads its first line only."""
    with output.open(encoding="utf-8", errors="replace") as file:
        first = file.readline(1 << 20).rstrip().removesuffix(",")
    try:
        return json.loads(first + "}")["info"]["settings"]
    except (ValueError, KeyError, TypeError):
        return None


def _categories(vocabulary: Vocabulary | None, ids: Mapping[str, int]) -> list[dict[str, Any]]:
    if vocabulary is None:
        found = [(name, number, *name.partition(":")[::2]) for name, number in ids.items()]
    else:
        found = [(e.name, e.id, e.object or "", e.part or "") for e in vocabulary.entries]
    return [
        {"id": number, "name": name} | ({"object": owner, "part": part} if part else {})
        for name, number, owner, part in found
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
