"""A `Result` in the forms of others: COCO, LabelMe, YOLO, supervision, tables (pandas), GeoJSON, plain data for JSON
and back.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vlpart import files
from vlpart.errors import DataError, OutputError, VlpartError
from vlpart.files import why
from vlpart.masks.polygons import Polygon, area, joined, rectangle
from vlpart.masks.shapes import LABELME_VERSION, labelme_shapes, yolo_names
from vlpart.masks.stack import MaskStack
from vlpart.text.vocabulary import Vocabulary

if TYPE_CHECKING:
    import fiftyone
    import pandas
    import supervision

    from vlpart.types import NamedDetections

Affine = tuple[float, float, float, float, float, float]
"""Coefficients (a, b, c, d, e, f) of x' = a x + b y + c, y' = d x + e y + f."""

FORMAT = "vlpart.result"
VERSION = 2

#: What reading a saved result raises where a value is missing or of the wrong kind.
DAMAGED = (KeyError, TypeError, ValueError, IndexError, OverflowError, MemoryError, RecursionError, VlpartError)

#: Pixels of a side and of an image that a saved result may claim.
MAX_SIDE, MAX_AREA = 1_000_000, 1_000_000_000


def to_coco(result: NamedDetections, image_id: int | str) -> list[dict[str, Any]]:
    """See `Result.to_coco`."""
    entries, rles = [], None if result.masks is None else result.masks.rles()
    for i, class_id in enumerate(result.class_ids.tolist()):
        x0, y0, x1, y1 = result.boxes_xyxy[i]
        entry: dict[str, Any] = {
            "image_id": image_id,
            "category_id": result.vocabulary.entries[class_id].id,
            "bbox": [_short(value) for value in (x0, y0, x1 - x0, y1 - y0)],
            "score": _short(result.scores[i]),
        }
        if rles is not None:
            entry["segmentation"] = rles[i]
        entries.append(entry)
    return entries


def to_labelme(result: NamedDetections, image_path: str | None = None) -> dict[str, Any]:
    """See `Result.to_labelme`."""
    names, owners, shapes = result.names, result.owners.tolist(), []
    for i, name in enumerate(names):
        owner = owners[i] if owners[i] >= 0 else None
        more = {
            "group_id": i + 1,
            "description": "" if owner is None else f"part of {names[owner]} {owner + 1}",
            "score": _short(result.scores[i]),
        }
        shapes += [{**shape, **more} for shape in labelme_shapes(name, result.masks, i, result.boxes_xyxy[i])]
    if image_path is None:
        image_path = "" if result.path is None else Path(result.path).name
    return {
        "version": LABELME_VERSION,
        "flags": {},
        "shapes": shapes,
        "imagePath": image_path,
        "imageData": None,
        "imageHeight": result.image_size[0],
        "imageWidth": result.image_size[1],
    }


def to_yolo(result: NamedDetections) -> str:
    """See `Result.to_yolo`."""
    height, width = result.image_size
    lines = []
    for i, class_id in enumerate(result.class_ids.tolist()):
        if result.masks is None:
            x0, y0, x1, y1 = result.boxes_xyxy[i].astype(np.float64)
            numbers = np.array([(x0 + x1) / 2 / width, (y0 + y1) / 2 / height, (x1 - x0) / width, (y1 - y0) / height])
        else:
            numbers = (_one_polygon(result.masks, result.boxes_xyxy[i], i) / (width, height)).reshape(-1)
        lines.append(f"{class_id} " + " ".join(f"{number:.6g}" for number in numbers.clip(0, 1)) + "\n")
    return "".join(lines)


def _one_polygon(masks: MaskStack, box_xyxy: NDArray[np.float32], i: int) -> Polygon:
    """All of a mask in one outline, holes cut out by bridges; of an empty mask, the box."""
    rings = masks.rings(i)
    return joined(rings) if rings else rectangle(box_xyxy)


def yolo_data(vocabulary: Vocabulary) -> str:
    """The data file (YAML) that goes with `to_yolo`, see `vlpart.masks.shapes.yolo_names`."""
    return yolo_names(vocabulary.names)


def to_supervision(result: NamedDetections) -> supervision.Detections:
    """See `Result.to_supervision`."""
    try:
        from supervision import Detections
    except ImportError as error:
        raise OutputError('supervision is not installed: pip install "vlpart[supervision]"') from error
    ids = _instance_ids(result)
    owners = result.owners
    return Detections(
        xyxy=result.boxes_xyxy.copy(),
        mask=None if result.masks is None else np.asarray(result.masks),
        confidence=result.scores.copy(),
        class_id=result.class_ids.copy(),
        data={
            "class_name": np.array(result.names, dtype=str),
            "id": ids,
            "owner": np.where(owners >= 0, ids[owners], -1) if len(ids) else ids.copy(),
        },
    )


def to_fiftyone(result: NamedDetections) -> fiftyone.Detections:
    """See `Result.to_fiftyone`."""
    try:
        from fiftyone import Detection, Detections
    except ImportError as error:
        raise OutputError("fiftyone is not installed: pip install fiftyone") from error
    height, width = result.image_size
    found = []
    for i, name in enumerate(result.names):
        x0, y0, x1, y1 = map(float, result.boxes_xyxy[i])
        crop = None if result.masks is None else result.masks.crop(i)
        more = {}
        if crop is not None and crop.bitmap.size:  # FiftyOne stretches a mask over its box
            x0, y0, x1, y1 = crop.x0, crop.y0, crop.x1, crop.y1
            more["mask"] = crop.bitmap.astype(bool)
        box = [x0 / width, y0 / height, (x1 - x0) / width, (y1 - y0) / height]
        class_id = int(result.class_ids[i])
        words = {"object": result.vocabulary.object_name(class_id), "part": result.vocabulary.part_name(class_id)}
        found.append(Detection(label=name, bounding_box=box, confidence=float(result.scores[i]), **words, **more))
    for detection, owner in zip(found, result.owners.tolist(), strict=True):
        detection["owner"] = found[owner].id if owner >= 0 else None
    return Detections(detections=found)


def _instance_ids(result: NamedDetections) -> NDArray[np.int64]:
    """(N,) numbers that no detection of another image has, the same ones for the same result."""
    content = hashlib.blake2b(repr((result.path, result.image_size, len(result))).encode(), digest_size=5)
    for column in (result.boxes_xyxy, result.scores, result.class_ids):
        content.update(np.ascontiguousarray(column).tobytes())
    start = int.from_bytes(content.digest()) >> 1
    return (np.int64(start) << np.int64(22)) + np.arange(len(result), dtype=np.int64)


def to_dict(result: NamedDetections, full_vocabulary: bool = False) -> dict[str, Any]:
    """See `Result.to_dict`."""
    vocabulary, class_ids = result.vocabulary, result.class_ids.tolist()
    written = vocabulary if full_vocabulary or not class_ids else vocabulary.subset(sorted(set(class_ids)))
    names, owners = result.names, result.owners.tolist()
    rles = None if result.masks is None else result.masks.rles()
    detections = []
    for i, class_id in enumerate(class_ids):
        detection: dict[str, Any] = {
            "name": names[i],
            "category_id": vocabulary.entries[class_id].id,
            "score": _short(result.scores[i]),
            "box_xyxy": [_short(value) for value in result.boxes_xyxy[i]],
            "object_index": owners[i] if owners[i] >= 0 else None,
        }
        if rles is not None:
            detection["mask"] = rles[i]
        detections.append(detection)
    return {
        "format": FORMAT,
        "version": VERSION,
        "path": result.path,
        "image_size": list(result.image_size),
        "vocabulary": {**written.to_dict(), "name": vocabulary.title},
        "detections": detections,
    }


def read_json(path: str | os.PathLike[str]) -> Any:
    """The content of a JSON file; see `Result.load`."""
    try:
        return files.read_json(path)
    except (OSError, ValueError) as error:
        reason = why(error) if isinstance(error, OSError) else f"not JSON ({why(error)})"
        raise DataError(f"cannot read the saved result {os.fspath(path)}: {reason}") from error


def result_fields(data: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `Result` that a saved result stands for; see `Result.from_dict`."""
    if not isinstance(data, Mapping) or data.get("format") != FORMAT or data.get("version") not in (1, VERSION):
        raise DataError(
            f"not a saved result: expected format {FORMAT!r}, version 1 to {VERSION}, as Result.save writes it"
        )
    try:
        size = (int(data["image_size"][0]), int(data["image_size"][1]))
        if not (0 < size[0] <= MAX_SIDE and 0 < size[1] <= MAX_SIDE and size[0] * size[1] <= MAX_AREA):
            raise ValueError(f"the image size is {size}")
        detections = list(data["detections"])
        rles = [detection["mask"] for detection in detections if "mask" in detection]
        if rles and len(rles) != len(detections):
            raise ValueError("some detections have a mask and some have none")
        vocabulary = Vocabulary.from_dict(data["vocabulary"])
        if data["version"] == 1:  # until version 2, detections had the places of entries, from 0
            class_ids = [detection["class_id"] for detection in detections]
        else:
            class_ids = [vocabulary.index_of_id[detection["category_id"]] for detection in detections]
        return {
            "image_size": size,
            "boxes_xyxy": [detection["box_xyxy"] for detection in detections],
            "scores": [detection["score"] for detection in detections],
            "class_ids": class_ids,
            "masks": MaskStack.from_rles(rles, size) if rles or not detections else None,
            "vocabulary": vocabulary,
            "path": data.get("path"),
            "owners": _owners(detections) if data.get("grouping") == "given" else None,
        }
    except DAMAGED as error:
        raise damaged(error) from error


def _owners(detections: list[Any]) -> list[int]:
    return [-1 if detection.get("object_index") is None else detection["object_index"] for detection in detections]


def damaged(error: Exception) -> DataError:
    """What to raise for a saved result whose values do not make one."""
    return DataError(f"the saved result is damaged: {type(error).__name__}: {why(error)}")


def _short(value: np.float32) -> float:
    """The shortest decimal that is this float32 again (0.87 instead of 0.8700000047683716)."""
    return float(str(np.float32(value)))


def to_dataframe(result: NamedDetections) -> pandas.DataFrame:
    """See `Result.to_dataframe`."""
    try:
        import pandas
    except ImportError as error:
        raise OutputError("pandas is not installed: pip install pandas") from error
    vocabulary, class_ids = result.vocabulary, result.class_ids.tolist()
    sides = result.boxes_xyxy.reshape(-1, 4)
    boxes = (sides[:, 2] - sides[:, 0]) * (sides[:, 3] - sides[:, 1])
    return pandas.DataFrame(
        {
            "path": [result.path] * len(result),
            "name": result.names,
            "object": [vocabulary.object_name(i) for i in class_ids],
            "part": [vocabulary.part_name(i) for i in class_ids],
            "score": result.scores,
            "owner": result.owners,
            **{name: sides[:, k] for k, name in enumerate(("x0", "y0", "x1", "y1"))},
            "area": boxes.astype(np.float64) if result.masks is None else result.masks.areas().astype(np.float64),
        }
    )


def to_geojson(result: NamedDetections, transform: Affine | None = None) -> dict[str, Any]:
    """See `Result.to_geojson`."""
    names, owners, features = result.names, result.owners.tolist(), []
    for i, name in enumerate(names):
        rings = [rectangle(result.boxes_xyxy[i])] if result.masks is None else result.masks.rings(i)
        polygons = [[_closed(ring, transform) for ring in rings_of_one] for rings_of_one in _nested(rings)]
        geometry: dict[str, Any] | None = None
        if len(polygons) == 1:
            geometry = {"type": "Polygon", "coordinates": polygons[0]}
        elif polygons:
            geometry = {"type": "MultiPolygon", "coordinates": polygons}
        owner = owners[i] if owners[i] >= 0 else None
        features.append(
            {
                "type": "Feature",
                "id": i,
                "geometry": geometry,
                "properties": {
                    "name": name,
                    "score": round(float(result.scores[i]), 6),
                    "part_of": owner,
                    "objectType": "detection",  # this and the classification are what QuPath reads
                    "classification": {"name": name},
                },
            }
        )
    return {"type": "FeatureCollection", "features": features}


def _closed(ring: Polygon, transform: Affine | None) -> list[list[float]]:
    """The corners of a ring, the first one again at the end, in the coordinates asked for."""
    x, y = np.concatenate([ring, ring[:1]]).T
    if transform is not None:
        a, b, c, d, e, f = transform
        x, y = a * x + b * y + c, d * x + e * y + f
    return [[round(float(u), 9), round(float(v), 9)] for u, v in zip(x, y, strict=True)]


def _nested(rings: Sequence[Polygon]) -> list[list[Polygon]]:
    """Rings that are filled by the even-odd rule as polygons: an outline, then its holes."""
    around = [[k for k, other in enumerate(rings) if k != i and _holds(other, ring)] for i, ring in enumerate(rings)]
    polygons = {i: [ring] for i, ring in enumerate(rings) if len(around[i]) % 2 == 0}
    for i, ring in enumerate(rings):
        if len(around[i]) % 2:
            outlines = [k for k in around[i] if k in polygons]
            polygons[min(outlines, key=lambda k: area(rings[k]))].append(ring)
    return list(polygons.values())


def _holds(outer: Polygon, inner: Polygon) -> bool:
    """Whether one ring lies inside another: the middle of its first side does (corners may touch)."""
    x, y = (inner[0] + inner[1]) / 2
    (x0, y0), (x1, y1) = outer.T, np.roll(outer, -1, axis=0).T
    crosses = (y0 > y) != (y1 > y)
    with np.errstate(divide="ignore", invalid="ignore"):
        left = x < (x1 - x0) * (y - y0) / (y1 - y0) + x0
    return bool(np.count_nonzero(crosses & left) % 2)
