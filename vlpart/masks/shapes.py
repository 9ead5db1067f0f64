"""Masks and names as the files of labelling tools have them."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vlpart.masks.polygons import FAITHFUL, deviation
from vlpart.masks.stack import MaskStack

#: What LabelMe wants to read in its files: the version whose keys these are.
LABELME_VERSION = "5.5.0"

#: Polygons of one instance in LabelMe; masks of more pieces are masks there.
MOST_PIECES = 20


def labelme_shapes(
    label: str, masks: MaskStack | None, i: int, box_xyxy: NDArray[np.floating[Any]]
) -> list[dict[str, Any]]:
    """The LabelMe shapes of one instance: its polygons; a mask where polygons cannot hold it (holes, thin lines); else
    its box.

    Args:
        label: its name.
        masks: of all instances, or None.
        i: which one.
        box_xyxy: pixels.
    """
    shape: dict[str, Any] = {"label": label, "group_id": None, "description": "", "flags": {}, "mask": None}
    crop = None if masks is None else masks.crop(i)
    if masks is None or crop is None or not crop.bitmap.size:
        corners = np.asarray(box_xyxy, dtype=np.float64).reshape(2, 2).tolist()
        return [{**shape, "points": corners, "shape_type": "rectangle"}]
    for pieces in (masks.polygons(i), masks.rings(i)):
        if 0 < len(pieces) <= MOST_PIECES and deviation(crop.bitmap, crop.x0, crop.y0, pieces, apart=True) <= FAITHFUL:
            return [{**shape, "points": piece.round(2).tolist(), "shape_type": "polygon"} for piece in pieces]
    ends = [[crop.x0, crop.y0], [crop.x1 - 1, crop.y1 - 1]]  # the last pixels are inside
    buffer = BytesIO()
    Image.fromarray(crop.bitmap.astype(np.uint8)).save(buffer, "PNG")
    packed = base64.b64encode(buffer.getvalue()).decode("ascii")
    return [{**shape, "points": ends, "shape_type": "mask", "mask": packed}]


def yolo_names(names: Sequence[str]) -> str:
    """The data file (YAML) of a YOLO data set: the names of the classes, and where images and labels are.

    It names no `path`: readers then look beside the file itself, from whatever folder they are started.
    """
    lines = [f"  {i}: {json.dumps(name, ensure_ascii=False)}" for i, name in enumerate(names)]
    return "\n".join(["# labels: labels/, images: images/", "train: images", "val: images", "names:", *lines, ""])
