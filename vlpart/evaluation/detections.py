"""Detections as columns, checked before any metric sees them, and read from files."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vlpart.data.readers.coco import parse_json
from vlpart.errors import DataError, EvaluationError
from vlpart.evaluation.identity import is_renumbered, translated
from vlpart.files import MAX_JSON_BYTES, is_folder, read_regular, why
from vlpart.masks.rle import check_rles, decode_runs, encode_runs, runs_box

Detection = Mapping[str, Any]
_FIELDS = ("image_id", "category_id", "bbox", "score")


@dataclass(frozen=True, kw_only=True)
class DetectionTable:
    """N checked detections.

    Attributes:
        image_ids, category_ids: (N,) int64, ids of the ground truth.
        boxes_xywh: (N, 4) float64 pixels.
        scores: (N,) float64, finite.
        masks: N compressed COCO RLEs (`counts` is a str), or None.
        mask_areas: (N,) int64 pixels, or None.
    """

    image_ids: NDArray[np.int64]
    category_ids: NDArray[np.int64]
    boxes_xywh: NDArray[np.float64]
    scores: NDArray[np.float64]
    masks: list[dict[str, Any]] | None
    mask_areas: NDArray[np.int64] | None

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, keep: ArrayLike) -> DetectionTable:
        """The rows of a bool mask or of indices, in that order."""
        rows = np.asarray(keep)
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows.astype(np.int64)
        return DetectionTable(
            image_ids=self.image_ids[rows],
            category_ids=self.category_ids[rows],
            boxes_xywh=self.boxes_xywh[rows],
            scores=self.scores[rows],
            masks=None if self.masks is None else [self.masks[i] for i in rows.tolist()],
            mask_areas=None if self.mask_areas is None else self.mask_areas[rows],
        )

    def areas(self, kind: str) -> NDArray[np.float64]:
        """(N,) pixels of the masks or the boxes."""
        if kind == "masks":
            assert self.mask_areas is not None
            return self.mask_areas.astype(np.float64)
        return self.boxes_xywh[:, 2] * self.boxes_xywh[:, 3]


def check_detections(truth: Mapping[str, Any], detections: Iterable[Detection], *, with_masks: bool) -> DetectionTable:
    """Validate detections against the images and categories of the ground truth.

    Args:
        truth: from `vlpart.evaluation.truth.check_form`.
        detections: with the ids of the annotation file. Where one has a mask and no box, it has the box of the mask.
        with_masks: they need a mask of the size of their image.

    Raises:
        EvaluationError: naming the place of the first bad detection and what is wrong with it.
    """
    rows = detections if isinstance(detections, list) else list(detections)
    for place, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise EvaluationError(f"detection {place} is no dictionary: {repr(row)[:60]}")
    sizes = {image["id"]: (image.get("height"), image.get("width")) for image in truth["images"]}
    categories = {category["id"] for category in truth["categories"]}
    renumbered = is_renumbered(truth)
    if renumbered:
        rows = translated(rows, truth)
    table = _fast_table(rows, sizes, categories, with_masks)
    if table is None:  # something is unusual or wrong: look again, slowly, for what to say
        if not renumbered:
            rows = translated(rows, truth)
        rows = [_with_box(row) for row in rows]
        for place, detection in enumerate(rows):
            problem = _problem(detection, sizes, categories, with_masks)
            if problem:
                raise EvaluationError(f"detection {place}: {problem}")
        table = _table(rows, with_masks)
    return table


def _fast_table(
    rows: Sequence[Detection],
    sizes: Mapping[int, tuple[Any, Any]],
    categories: set[int],
    with_masks: bool,
) -> DetectionTable | None:
    """All columns at once, or None if anything is not as it should be."""
    try:
        table = _table(rows, with_masks)
        known = set(table.image_ids.tolist()) <= set(sizes) and set(table.category_ids.tolist()) <= categories
        if not known or not np.isfinite(table.scores).all() or not np.isfinite(table.boxes_xywh).all():
            return None
        if (table.boxes_xywh[:, 2:] < 0).any():
            return None
        if table.masks is not None:
            fits = map(_has_size, table.masks, map(sizes.__getitem__, table.image_ids.tolist()))
            return table if all(fits) else None
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError, UnicodeEncodeError):
        return None
    return table


def _table(rows: Sequence[Detection], with_masks: bool) -> DetectionTable:
    """The columns; raises one of several errors where a field is missing or of another type."""
    columns = [list(map(itemgetter(field), rows)) for field in _FIELDS]
    image_ids, category_ids = (_whole(column) for column in columns[:2])
    boxes = _floats(columns[2]).reshape(len(rows), -1 if rows else 4)
    if boxes.shape[1] != 4:
        raise ValueError("boxes are x, y, width, height")
    masks = areas = None
    if with_masks:
        masks = [_as_text(row["segmentation"]) for row in rows]
        sizes = np.array([mask["size"] for mask in masks]).reshape(-1, 2)
        if sizes.size and sizes.dtype.kind != "i":  # 120.0 is as good as 120, "120" is not
            masks = [{**mask, "size": list(decode_runs(mask)[0])} for mask in masks]
            sizes = np.array([mask["size"] for mask in masks]).reshape(-1, 2)
        checked = check_rles([mask["counts"].encode("ascii") for mask in masks], sizes)
        if checked.bad is not None:
            raise ValueError("a mask cannot be decoded")
        areas = checked.areas
    return DetectionTable(
        image_ids=image_ids,
        category_ids=category_ids,
        boxes_xywh=boxes,
        scores=_floats(columns[3]).reshape(len(rows)),
        masks=masks,
        mask_areas=areas,
    )


def _floats(values: list[Any]) -> NDArray[np.float64]:
    array = np.array(values)
    if len(values) and array.dtype.kind not in "fiu" and not all(type(each) in (int, float) for each in array.flat):
        raise ValueError("boxes and scores are numbers")  # whole numbers of more than 64 bits are; text never is
    return array.astype(np.float64)


def _whole(values: list[Any]) -> NDArray[np.int64]:
    array = np.array(values)
    if len(values) and array.dtype.kind != "i":
        raise ValueError("ids are whole numbers")
    return array.astype(np.int64).reshape(len(values))


def _as_text(segmentation: Any) -> dict[str, Any]:
    """A compressed RLE with `counts` as str; runs given as a list are packed."""
    counts = segmentation["counts"]
    if isinstance(counts, str):
        return segmentation if type(segmentation) is dict else dict(segmentation)
    if isinstance(counts, bytes):
        return {"size": segmentation["size"], "counts": counts.decode("ascii")}
    size, runs = decode_runs(segmentation)
    return encode_runs(runs, size)


def _with_box(row: Any) -> Any:
    """A detection without a box gets that of its mask."""
    if not isinstance(row, Mapping) or row.get("bbox") is not None or not isinstance(row.get("segmentation"), Mapping):
        return row
    try:
        (height, _), runs = decode_runs(row["segmentation"])
    except ValueError:  # told as a problem of the mask
        return {**row, "bbox": [0.0, 0.0, 0.0, 0.0]}
    x0, y0, x1, y1 = runs_box(runs, height) if len(runs) else (0.0, 0.0, 0.0, 0.0)
    return {**row, "bbox": [x0, y0, x1 - x0, y1 - y0]}


def _has_size(mask: Mapping[str, Any], size_hw: tuple[Any, Any]) -> bool:
    height, width = mask["size"]
    return bool(height == size_hw[0] and width == size_hw[1])


def _problem(
    detection: Any, sizes: Mapping[int, tuple[Any, Any]], categories: set[int], with_masks: bool
) -> str | None:
    """What is wrong with a detection, or None."""
    fields = (*_FIELDS, "segmentation") if with_masks else _FIELDS
    if not isinstance(detection, Mapping):
        return f"is a {type(detection).__name__}, not an object with {', '.join(fields)}"
    missing = [field for field in fields if detection.get(field) is None]
    if missing == ["segmentation"]:
        return "has no segmentation: add --boxes to score boxes only"
    if missing:
        return f"has no {missing[0]}"
    for field, known in (("image_id", sizes), ("category_id", categories)):
        value = detection[field]
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value not in known:
            return f"{field} {value!r:.60} is not in the ground truth"
    box = detection["bbox"]
    numbers = isinstance(box, Sequence | np.ndarray) and len(box) == 4 and all(map(_is_finite, box))
    if not numbers or box[2] < 0 or box[3] < 0:
        return f"bbox {box!r} is not a finite [x, y, width, height]"
    if not _is_finite(detection["score"]):
        return f"score {detection['score']!r} is not a finite number"
    if with_masks:
        return _mask_problem(detection["segmentation"], sizes[int(detection["image_id"])])
    return None


def _is_finite(value: Any) -> bool:
    if not isinstance(value, int | float | np.number) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond any float
        return False


def _mask_problem(segmentation: Any, size_hw: tuple[Any, Any]) -> str | None:
    """What is wrong with an RLE, or None."""
    if not isinstance(segmentation, Mapping):
        return "segmentation is not an RLE with size and counts"
    try:
        decode_runs(segmentation, size_hw)
    except ValueError as error:
        return f"mask: {error}"
    return None


def read_detections(path: Path) -> list[dict[str, Any]]:
    """Detections of a file: a JSON list, an object with `annotations`, or JSON lines; or of a folder of shards.

    Raises:
        EvaluationError: missing, or none of these; an entry that is no object is named.
    """
    content = read_content(path)
    return listed(content.get("annotations") if isinstance(content, Mapping) else content, path)


def listed(content: Any, path: Path) -> list[dict[str, Any]]:
    """The entries of a list of detections.

    Raises:
        EvaluationError: it is no list, or an entry is no object.
    """
    if not isinstance(content, list):
        raise EvaluationError(f"{path} is neither a list of detections nor an object with annotations")
    for place, each in enumerate(content):
        if not isinstance(each, dict):
            raise EvaluationError(f"{path}: detection {place} is no JSON object: {str(each)[:60]}")
    return content


def read_content(path: Path) -> Any:
    """What a file of detections holds: a list, or an object that may bring its own images and categories.

    Raises:
        EvaluationError: missing or broken.
    """
    from vlpart.evaluation.shards import read_shards

    if is_folder(path):
        return read_shards(path)
    try:
        if path.suffix == ".jsonl":
            return [json.loads(line) for line in read_regular(path, MAX_JSON_BYTES).splitlines() if line.strip()]
        return parse_json(path, "")
    except OSError as error:
        raise EvaluationError(f"cannot read {path}: {why(error)}") from error
    except DataError as error:
        raise EvaluationError(str(error)) from error
    except (ValueError, RecursionError) as error:
        raise EvaluationError(f"{path} is not valid JSON: {error}") from error
