"""Label Studio's exports JSON and JSON-MIN: tasks with polygons, rectangles and brush masks in percent of the image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
from numpy.typing import NDArray

from vlpart.data.image_files import ImageFinder
from vlpart.data.readers.coco import parse_json
from vlpart.data.readers.dataset import LabelledPicture, LabelledSet, corners, picture_of
from vlpart.data.readers.values import MAX_PIXELS
from vlpart.errors import DataError

_OF_ANNOTATION = ("created_at", "updated_at", "annotator")
"""Texts of a task of JSON-MIN that are not data."""


def is_labelstudio(content: Any) -> bool:
    """Whether parsed JSON is an export of Label Studio."""
    first = content[0] if isinstance(content, list) and content else None
    if not isinstance(first, dict):
        return False
    return (isinstance(first.get("data"), dict) and "annotations" in first) or _is_minimal(first)


def _is_minimal(task: dict[str, Any]) -> bool:
    """Whether it is of JSON-MIN: one annotation, with the data of its task and the regions by control beside it."""
    return "annotation_id" in task and "data" not in task


def _whole_task(task: dict[str, Any]) -> dict[str, Any]:
    """A task of JSON-MIN as JSON has it."""
    lists = [value for value in task.values() if isinstance(value, list)]
    values = [value for each in lists for value in each if isinstance(value, dict)]
    results = [
        {
            "type": next((key for key in value if key.endswith("labels")), None),
            "value": value,
            "original_height": value.get("original_height"),
            "original_width": value.get("original_width"),
        }
        for value in values
    ]
    texts = {key: value for key, value in task.items() if isinstance(value, str) and key not in _OF_ANNOTATION}
    return {"id": task.get("id"), "data": texts, "annotations": [{"result": results}]}


def read_labelstudio(file: Path) -> LabelledSet:
    """Read an export; of a task the first annotation that was not cancelled.

    A task that nobody has annotated, or that was skipped, is left out: its image would count as one that shows nothing.

    Args:
        file: the JSON file; images are looked for beside it and in `images/`, with and without the prefix that uploads
            get.

    Raises:
        DataError: it is none, nothing in it is annotated, or a size is neither given nor to be had from the image.
    """
    content = parse_json(file, "")
    if not is_labelstudio(content):
        raise DataError(f"{file} is no export of Label Studio")
    labelled = LabelledSet(format="labelstudio")
    finders = [ImageFinder(file.parent / "images"), ImageFinder(file.parent)]
    for data, results in _annotated(content, labelled.notes):
        name = next((value for value in data.values() if isinstance(value, str) and value), "")
        name, path = _locate(name, finders)
        sizes = [(r.get("original_height"), r.get("original_width")) for r in results]
        stated = next((size for size in sizes if None not in size), None)
        picture = picture_of(name, path, stated, file)
        labelled.pictures.append(picture)
        for result in results:
            _add(labelled, picture, result)
    if not labelled.pictures:
        raise DataError(
            f"{file}: nobody has annotated any of its tasks; submit them in Label Studio, and export as JSON"
        )
    return labelled


def _annotated(content: list[Any], notes: Counter[str]) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """(data, regions) of the tasks that somebody has annotated; what is left out goes into the notes."""
    seen: set[str] = set()
    for task in content:
        if isinstance(task, dict) and _is_minimal(task):
            task = _whole_task(task)
            if str(task["id"]) in seen:
                notes["further annotations of a task"] += 1
                continue
            seen.add(str(task["id"]))
        data = task.get("data") if isinstance(task, dict) else None
        if not isinstance(data, dict):
            notes["tasks without data"] += 1
            continue
        chosen = [a for a in task.get("annotations") or [] if isinstance(a, dict) and not a.get("was_cancelled")]
        if not chosen:
            notes["tasks that nobody has annotated"] += 1
            continue
        yield data, [result for result in chosen[0].get("result") or [] if isinstance(result, dict)]


def _locate(address: str, finders: list[ImageFinder]) -> tuple[str, Path | None]:
    """File name of an image, and where it is. Uploads are called "1a2b3c4d-a.jpg", local files "?d=folder/a.jpg"."""
    parts = urlsplit(address)
    name = parse_qs(parts.query).get("d", [parts.path])[0].lstrip("/") or address
    short = Path(name).name
    without = short.partition("-")[2] if len(short.partition("-")[0]) == 8 else short
    for finder in finders:
        for option in (name, short, without):
            if option and (place := finder.find(option)) is not None:
                return place, finder.root / place
    return short, None


def _add(labelled: LabelledSet, picture: LabelledPicture, result: dict[str, Any]) -> None:
    value, kind = result.get("value"), result.get("type")
    labels = value.get(kind) if isinstance(value, dict) and isinstance(kind, str) else None
    label = labels[0] if isinstance(labels, list) and labels else None
    if not isinstance(value, dict) or label is None:
        labelled.notes[f"results without a label ({str(kind)[:30]})"] += 1
    elif kind == "polygonlabels":
        points = corners(value.get("points")) / 100 * (picture.width, picture.height)
        labelled.add_region(picture, label, segmentation=[points.ravel().tolist()])
    elif kind == "rectanglelabels" and not value.get("rotation"):
        sides = corners([[value.get("x"), value.get("y")], [value.get("width"), value.get("height")]])
        sides = sides / 100 * (picture.width, picture.height)
        box = [*sides[0].tolist(), *(sides[0] + sides[1]).tolist()] if len(sides) == 2 else None
        labelled.add_region(picture, label, box=box)
    elif kind == "brushlabels":
        bitmap = decode_brush(value.get("rle"), (picture.height, picture.width))
        if bitmap is None:
            labelled.notes["brush masks that cannot be read"] += 1
        else:
            labelled.add_region(picture, label, segmentation=bitmap)
    else:
        labelled.notes[f"results of a kind that is not read ({str(kind)[:30]})"] += 1


# Brush masks are RGBA pixels as a stream of bits: the number of values (32 bits), bits of a value less one (5), four
# bit widths of run lengths less one (4 each), then runs: a flag (1 = one value is repeated), which width (2 bits), the
# length less one, and the value or values.

_HEAD = (32, 5, 4, 4, 4, 4)
_WIDTHS = (4, 8, 12, 16)


def decode_brush(packed: Any, size: tuple[int, int]) -> NDArray[np.bool_] | None:
    """(height, width) bool of a brush mask, or None if it is broken or of another size."""
    height, width = size
    try:
        bits = np.unpackbits(np.asarray(packed, dtype=np.uint8))
    except (TypeError, ValueError, OverflowError):
        return None
    stream = _Bits(bits)
    total, word, *widths = (stream.number(count) for count in _HEAD)
    if total != height * width * 4 or total > 4 * MAX_PIXELS:
        return None
    values = np.zeros(total, dtype=np.int64)
    at = 0
    while at < total and stream.left():
        repeated = stream.number(1)
        stop = min(at + 1 + stream.number(widths[stream.number(2)] + 1), total)
        if repeated:
            values[at:stop] = stream.number(word + 1)
        else:
            values[at:stop] = stream.numbers(word + 1, stop - at)
        at = stop
    if at < total or stream.over:
        return None
    opaque: NDArray[np.bool_] = values.reshape(height, width, 4)[:, :, 3] > 0
    return opaque


class _Bits:
    """Reads numbers from bits; beyond the end they are 0, and `over` says so."""

    def __init__(self, bits: NDArray[np.uint8]) -> None:
        self.bits, self.at, self.over = bits, 0, False

    def left(self) -> bool:
        return self.at < len(self.bits)

    def number(self, count: int) -> int:
        chosen = self.bits[self.at : self.at + count]
        self.over |= len(chosen) < count
        self.at += count
        return int("0" + "".join(map(str, chosen.tolist())), 2)

    def numbers(self, count: int, many: int) -> NDArray[np.int64]:
        chosen = self.bits[self.at : self.at + count * many]
        self.over |= len(chosen) < count * many
        self.at += count * many
        if self.over:
            return np.zeros(many, dtype=np.int64)
        weights = 1 << np.arange(count - 1, -1, -1, dtype=np.int64)
        return chosen.reshape(many, count).astype(np.int64) @ weights


def encode_brush(bitmap: NDArray[np.bool_]) -> list[int]:
    """The inverse of `decode_brush`: opaque where True."""
    flat = np.repeat(bitmap.reshape(-1).astype(np.uint8) * 255, 4)
    edges = np.concatenate([[0], np.flatnonzero(np.diff(flat)) + 1, [len(flat)]])
    text = [f"{len(flat):032b}", f"{7:05b}", *(f"{width - 1:04b}" for width in _WIDTHS)]
    for start, stop in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        while start < stop:
            length = min(stop - start, 1 << _WIDTHS[-1])
            which = next(i for i, width in enumerate(_WIDTHS) if length <= 1 << width)
            text.append(f"1{which:02b}{length - 1:0{_WIDTHS[which]}b}{int(flat[start]):08b}")
            start += length
    joined = "".join(text)
    joined += "0" * (-len(joined) % 8)
    bits = np.frombuffer(joined.encode(), dtype=np.uint8) - ord("0")
    return [int(value) for value in np.packbits(bits)]
