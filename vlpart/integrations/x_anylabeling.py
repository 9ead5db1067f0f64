"""X-AnyLabeling: what its remote server model asks for and is answered.

`vlpart serve` has the routes below `/x-anylabeling` (`vlpart.serve.labelling`): enter that address as the server.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vlpart.checks import typed
from vlpart.masks.polygons import rectangle

if TYPE_CHECKING:
    from vlpart.results.result import Result


@typed()
def model_info(name: str, classes: Sequence[str]) -> dict[str, Any]:
    """A model in the list of models; a text in its prompt line is a vocabulary."""
    return {
        "display_name": name,
        "classes": list(classes),
        "widgets": [
            {"name": "edit_text", "value": None, "placeholder": "car: wheel, door; person"},
            {"name": "button_send", "value": None},
            {"name": "button_run", "value": None},
            {"name": "edit_conf", "value": 0.45},
            {"name": "edit_iou", "value": 0.7},
            {"name": "toggle_preserve_existing_annotations", "value": False},
        ],
        "batch_processing_mode": "default",
    }


@typed()
def shapes_of(result: Result) -> list[dict[str, Any]]:
    """The shapes of a result: polygons of masks, one for each piece, rectangles of detections without one.

    `group_id` ties the pieces of one detection together, and the description names the object of a part.
    """
    shapes: list[dict[str, Any]] = []
    for i, name in enumerate(result.names):
        pieces = [] if result.masks is None else [p for p in result.masks.polygons(i) if len(p) >= 3]
        kind = "polygon" if pieces else "rectangle"
        owner = int(result.owners[i])
        shape = {
            "label": name,
            "shape_type": kind,
            "score": round(float(result.scores[i]), 4),
            "group_id": i + 1,
            "description": "" if owner < 0 else f"part of {result.names[owner]} {owner + 1}",
            "difficult": False,
            "attributes": {},
            "flags": {},
        }
        shapes += [{**shape, "points": p.round(2).tolist()} for p in pieces or [rectangle(result.boxes_xyxy[i])]]
    return shapes
