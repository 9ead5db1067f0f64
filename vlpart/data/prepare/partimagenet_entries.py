"""Single entries of a PartImageNet file: ids, classes, boxes and polygons brought to clean COCO form."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vlpart.errors import DataError
from vlpart.rle import decode_runs
from vlpart.text.vocabulary import Vocabulary


class Numbering:
    """Ids to write: those of the file if all are unique whole numbers from `lowest` on, else running ones from 1."""

    def __init__(self, found: Sequence[Any], lowest: int) -> None:
        fine = all(type(number) is int and number >= lowest for number in found) and len(set(found)) == len(found)
        self.renumbered = not fine
        self.ids: list[int] = list(found) if fine else list(range(1, len(found) + 1))


def class_ids(categories: Sequence[Mapping[str, Any]], vocabulary: Vocabulary, path: Path) -> dict[Any, int]:
    """Category id in the file -> id in the list `partimagenet`, by name (case, `_` and `-` do not count).

    Raises:
        DataError: a name that the list does not have.
    """
    known = {_plain(entry.name): entry.id for entry in vocabulary.entries}
    found: dict[Any, int] = {}
    for category in categories:
        name, identifier = category.get("name"), category.get("id")
        if not isinstance(name, str) or _plain(name) not in known or not isinstance(identifier, int | str):
            raise DataError(
                f"{path}: the category {identifier!r} is called {name!r}, none of the 40 parts of PartImageNet "
                "(`vlpart vocabularies show partimagenet`); give the part annotations, not those of whole objects"
            )
        found[identifier] = known[_plain(name)]
    return found


def _plain(name: str) -> str:
    return " ".join(name.replace("_", " ").replace("-", " ").split()).casefold()


def check_annotation(entry: Mapping[str, Any]) -> tuple[dict[str, Any], bool, str]:
    """`(box, area, crowd flag, mask in COCO form; whether a polygon was closed; "")`. The last says what is wrong."""
    segmentation = entry.get("segmentation")
    closed = False
    if isinstance(segmentation, list):
        polygons = []
        for polygon in segmentation:
            if not _numbers(polygon) or not polygon or len(polygon) % 2:
                return {}, False, "its segmentation holds something that is no polygon"
            points = list(polygon)
            while len(points) < 6:  # one point three times; a line there and back
                points += points[:2]
                closed = True
            polygons.append(points)
        segmentation = polygons
    elif isinstance(segmentation, Mapping):
        try:
            decode_runs(segmentation)
        except (ValueError, OverflowError) as error:
            return {}, False, str(error)
    if not segmentation:
        return {}, False, "it has no segmentation"
    box = entry.get("bbox")
    if not isinstance(box, list) or not _numbers(box) or len(box) != 4:
        return {}, False, f"its box is {box!r}, expected four finite numbers"
    area = entry.get("area")
    if not _numbers([area]):
        area = box[2] * box[3]
    crowd = 1 if entry.get("iscrowd") in (1, True) else 0
    return {"bbox": list(box), "area": area, "iscrowd": crowd, "segmentation": segmentation}, closed, ""


def _numbers(values: Any) -> bool:
    try:
        return isinstance(values, list) and all(
            isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) for value in values
        )
    except OverflowError:  # a whole number beyond any float
        return False
