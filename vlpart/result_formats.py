"""A `Result` in the forms of others: COCO entries, supervision, plain data for JSON and back."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vlpart.errors import DataError, OutputError
from vlpart.masks import MaskStack
from vlpart.text.vocabulary import Vocabulary

if TYPE_CHECKING:
    import supervision

    from vlpart.results import Result

FORMAT = "vlpart.result"
VERSION = 1


def to_coco(result: Result, image_id: int | str) -> list[dict[str, Any]]:
    """See `Result.to_coco`."""
    entries = []
    for i, class_id in enumerate(result.class_ids.tolist()):
        x0, y0, x1, y1 = result.boxes_xyxy[i]
        entry: dict[str, Any] = {
            "image_id": image_id,
            "category_id": result.vocabulary.entries[class_id].id,
            "bbox": [_short(value) for value in (x0, y0, x1 - x0, y1 - y0)],
            "score": _short(result.scores[i]),
        }
        if result.masks is not None:
            entry["segmentation"] = result.masks.rle(i)
        entries.append(entry)
    return entries


def to_supervision(result: Result) -> supervision.Detections:
    """See `Result.to_supervision`."""
    try:
        from supervision import Detections
    except ImportError as error:
        raise OutputError('supervision is not installed: pip install "vlpart[supervision]"') from error
    return Detections(
        xyxy=result.boxes_xyxy.copy(),
        mask=None if result.masks is None else np.asarray(result.masks),
        confidence=result.scores.copy(),
        class_id=result.class_ids.copy(),
        data={"class_name": np.array(result.names, dtype=str), "owner": result.owners.copy()},
    )


def to_dict(result: Result, full_vocabulary: bool = True) -> dict[str, Any]:
    """See `Result.to_dict`."""
    vocabulary, class_ids = result.vocabulary, result.class_ids
    if not full_vocabulary and len(result):
        used, class_ids = np.unique(class_ids, return_inverse=True)
        vocabulary = vocabulary.subset(used.tolist())
    names, owners = result.names, result.owners.tolist()
    detections = []
    for i, class_id in enumerate(class_ids.tolist()):
        detection: dict[str, Any] = {
            "name": names[i],
            "class_id": class_id,
            "score": _short(result.scores[i]),
            "box_xyxy": [_short(value) for value in result.boxes_xyxy[i]],
            "object": owners[i] if owners[i] >= 0 else None,
        }
        if result.masks is not None:
            detection["mask"] = result.masks.rle(i)
        detections.append(detection)
    return {
        "format": FORMAT,
        "version": VERSION,
        "path": result.path,
        "image_size": list(result.image_size),
        "vocabulary": vocabulary.to_dict(),
        "detections": detections,
    }


def read_json(path: str | os.PathLike[str]) -> Any:
    """The content of a JSON file; see `Result.load`."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"not JSON ({error})"
        raise DataError(f"cannot read the saved result {os.fspath(path)}: {reason}") from error


def from_dict(data: Mapping[str, Any], image: NDArray[np.uint8] | None = None) -> Result:
    """See `Result.from_dict`."""
    from vlpart.results import Result

    if not isinstance(data, Mapping) or data.get("format") != FORMAT or data.get("version") != VERSION:
        raise DataError(f"not a saved result: expected format {FORMAT!r}, version {VERSION}, as Result.save writes it")
    try:
        size = (int(data["image_size"][0]), int(data["image_size"][1]))
        found = list(data["detections"])
        rles = [detection["mask"] for detection in found if "mask" in detection]
        if rles and len(rles) != len(found):
            raise ValueError("some detections have a mask and some have none")
        return Result(
            image_size=size,
            boxes_xyxy=[detection["box_xyxy"] for detection in found],
            scores=[detection["score"] for detection in found],
            class_ids=[detection["class_id"] for detection in found],
            masks=MaskStack.from_rles(rles, size) if rles or not found else None,
            vocabulary=Vocabulary.from_dict(data["vocabulary"]),
            image=image,
            path=data.get("path"),
        )
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise DataError(f"the saved result is damaged: {type(error).__name__}: {error}") from error


def _short(value: np.float32) -> float:
    """The shortest decimal that is this float32 again (0.87 instead of 0.8700000047683716)."""
    return float(str(np.float32(value)))
