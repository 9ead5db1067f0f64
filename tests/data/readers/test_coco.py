"""Every way a COCO file can be wrong ends in one line that names the file and the entry."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vlpart.data.readers import get_reader, read_coco
from vlpart.errors import DataError


def write(tmp_path: Path, content: Any) -> Path:
    path = tmp_path / "a.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def minimal(**changes: Any) -> dict[str, Any]:
    return {
        "images": [{"id": 4, "file_name": "x.jpg", "width": 20, "height": 10}],
        "categories": [{"id": 9, "name": "dog:head"}, {"id": 2, "name": "dog"}],
        "annotations": [{"id": 1, "image_id": 4, "category_id": 9, "bbox": [1, 2, 3, 4]}],
        **changes,
    }


def test_reads_boxes_categories_and_presence(tmp_path: Path) -> None:
    image = {
        "id": 4,
        "coco_url": "http://images.cocodataset.org/train2017/000000000009.jpg",
        "width": 20,
        "height": 10,
        "pos_category_ids": [9],
        "neg_category_ids": [2],
        "not_exhaustive_category_ids": [9],
        "source_image": "s",
    }
    annotations = [
        {"id": 1, "image_id": 4, "category_id": 9, "bbox": [1, 2, 3, 4.5], "iscrowd": 1},
        {"id": 2, "image_id": 4, "category_id": 2, "segmentation": [[0, 0, 5, 0, 5, 5]]},
    ]
    file = read_coco(write(tmp_path, minimal(images=[image], annotations=annotations)))
    assert [(c.id, c.name, c.object, c.part, c.object_name) for c in file.categories] == [
        (2, "dog", None, None, "dog"),
        (9, "dog:head", "dog", "head", "dog"),
    ]
    assert file.has_masks
    (entry,) = file.images
    assert entry.file_name == "train2017/000000000009.jpg"
    assert (entry.positive_ids, entry.negative_ids, entry.not_exhaustive_ids) == ([9], [2], [9])
    assert entry.source_image == "s"
    crowd, masked = entry.annotations
    assert crowd.box_xyxy == (1, 2, 4, 6.5)
    assert crowd.crowd
    assert masked.box_xyxy == (0, 0, 5, 5)
    assert masked.segmentation == [[0, 0, 5, 0, 5, 5]]


def test_crowd_masks_do_not_make_a_source_with_masks(tmp_path: Path) -> None:
    crowd = {
        "id": 1,
        "image_id": 4,
        "category_id": 9,
        "bbox": [1, 2, 3, 4],
        "iscrowd": 1,
        "segmentation": [[0, 0, 1, 1]],
    }
    assert not read_coco(write(tmp_path, minimal(annotations=[crowd]))).has_masks


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not valid JSON"),
        ("[]", "not a COCO file"),
        ({}, "no list 'images'"),
        (minimal(categories={}), "no list 'categories'"),
        (minimal(images=[{"file_name": "x"}]), "no 'id'"),
        (minimal(images=["x"]), "no 'id'"),
        (minimal(images=[{"id": 4.5, "file_name": "x"}]), "whole number"),
        (minimal(images=[{"id": True, "file_name": "x"}]), "whole number"),
        (minimal(images=[{"id": [4], "file_name": "x"}]), "whole number"),
        (minimal(images=minimal()["images"] * 2), "image ids occur twice"),
        (minimal(categories=minimal()["categories"] * 2), "2 category ids occur twice"),
        (minimal(categories=[{"id": 1, "name": 3}]), "not a string"),
        (minimal(annotations=[{"id": 1, "image_id": 5, "category_id": 9}]), "images that are not listed"),
        (minimal(annotations=[{"id": 1, "category_id": 9}]), "no 'image_id'"),
    ],
)
def test_broken_files(tmp_path: Path, content: Any, message: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(DataError, match=message) as caught:
        read_coco(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": [{"id": 4, "width": 20, "height": 10}]}, "neither file_name nor coco_url"),
        ({"images": [{"id": 4, "file_name": "x", "width": 20}]}, "image 4 has no 'height'"),
        ({"annotations": [{"id": 7, "image_id": 4, "category_id": 9, "bbox": [1, 2, 3]}]}, "annotation 7 has the box"),
        ({"annotations": [{"id": 7, "image_id": 4, "category_id": 9, "bbox": "abcd"}]}, "annotation 7 has the box"),
        ({"annotations": [{"id": 7, "image_id": 4}]}, "annotation 7 has no 'category_id'"),
    ],
)
def test_broken_entries(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        list(read_coco(write(tmp_path, minimal(**changes))).images)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot read the annotations"):
        read_coco(tmp_path / "none.json")


def test_unknown_format() -> None:
    with pytest.raises(DataError, match="known: coco"):
        get_reader("tfrecord")
