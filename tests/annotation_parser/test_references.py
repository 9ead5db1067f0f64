from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vlpart.annotation_parser.references import Reference, read_base_data, read_base_objects
from vlpart.errors import DataError
from vlpart.text.vocabulary import Vocabulary


def changed(path: Path, **changes: Any) -> Path:
    """The file with other values at the top, or functions that change what is there."""
    document = json.loads(path.read_text())
    for key, value in changes.items():
        document[key] = value(document[key]) if callable(value) else value
    path.write_text(json.dumps(document))
    return path


def test_images_with_exactly_one_object(base_data: Path) -> None:
    data = read_base_data(base_data)
    assert [(r.file_name, r.object, [p.part for p in r.parts]) for r in data.references] == [
        ("cat.png", "cat", ["body", "head"]),
        ("car.png", "car", ["door", "wheel"]),
    ]
    assert dict(data.left_out) == {"with more than one object": 1}


def test_objects_can_be_chosen(base_data: Path) -> None:
    assert [r.object for r in read_base_data(base_data, only_objects=["Car"]).references] == ["car"]
    assert [r.object for r in read_base_data(base_data, exclude_objects=["car"]).references] == ["cat"]
    with pytest.raises(DataError, match="no image with exactly one object and its parts"):
        read_base_data(base_data, exclude_objects=["car", "cat"])
    for misspelt in ({"only_objects": ["car", "cet"]}, {"exclude_objects": ["cet"]}):
        with pytest.raises(DataError, match="has no object 'cet': did you mean cat"):
            read_base_data(base_data, **misspelt)
        with pytest.raises(DataError, match="has no object 'cet': did you mean cat"):
            read_base_objects(base_data, **misspelt)


def test_without_objects_those_of_the_parts_count(base_data: Path) -> None:
    parts_only = changed(
        base_data,
        annotations=lambda all_: [a for a in all_ if a["category_id"] > 2],
        categories=lambda all_: all_[2:],
    )
    data = read_base_data(parts_only)
    assert [r.object for r in data.references] == ["cat", "car"]
    assert dict(data.left_out) == {"with more than one object": 1}


def test_names_come_from_a_vocabulary_by_id(base_data: Path) -> None:
    changed(base_data, categories=lambda all_: [{"id": c["id"], "name": f"class {c['id']}"} for c in all_])
    names = {"entries": [{"id": i + 1, "name": n} for i, n in enumerate(("a", "b", "a:x", "a:y", "b:x", "b:y"))]}
    data = read_base_data(base_data, vocabulary=Vocabulary.from_dict(names))
    assert [(r.object, [p.part for p in r.parts]) for r in data.references] == [("a", ["x", "y"]), ("b", ["x", "y"])]
    with pytest.raises(DataError, match="has no category 3: choose another one"):
        read_base_data(base_data, vocabulary=Vocabulary.from_dict({"entries": names["entries"][:2]}))


def test_crowds_count_as_objects_but_give_no_parts(base_data: Path) -> None:
    changed(base_data, annotations=lambda all_: [a | {"iscrowd": int(a["id"] == 2)} for a in all_])
    assert [p.part for p in read_base_data(base_data).references[0].parts] == ["head"]


def test_bitmaps_of_polygons_codes_and_boxes(base_data: Path) -> None:
    code = {"size": [48, 64], "counts": [10, 5, 48 * 64 - 15]}
    changed(
        base_data,
        annotations=lambda all_: [
            a | {"segmentation": code if a["id"] == 2 else None if a["id"] == 3 else a["segmentation"]} for a in all_
        ],
    )
    data = read_base_data(base_data)
    from_code, from_box = data.references[0].part_bitmaps()
    assert from_code[:, 0].nonzero()[0].tolist() == [10, 11, 12, 13, 14]
    assert (from_code.sum(), from_box.sum(), from_box[12:24, 40:52].all()) == (5, 144, True)
    polygon = data.references[1].part_bitmaps()[0]
    assert (polygon.shape, polygon[12:28, 8:56].all(), polygon.sum()) == ((48, 64), True, 16 * 48)


def test_a_damaged_segmentation_names_its_image(base_data: Path) -> None:
    changed(base_data, annotations=lambda all_: [a | {"segmentation": [["x"] * 6]} for a in all_])
    with pytest.raises(DataError, match=r"cat\.png: a polygon"):
        read_base_data(base_data).references[0].part_bitmaps()


def test_references_survive_json(base_data: Path) -> None:
    reference = read_base_data(base_data).references[0]
    assert Reference.from_dict(json.loads(json.dumps(reference.to_dict()))) == reference


def test_unknown_categories_are_refused(base_data: Path) -> None:
    changed(base_data, annotations=lambda all_: [a | {"category_id": 77} for a in all_])
    with pytest.raises(DataError, match="annotation 1 has the category id 77, which is not among"):
        read_base_data(base_data)
