"""LVIS and PACO JSON: file names from `coco_url`, lists of verified classes required."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vlpart.data.readers import get_reader, read_lvis
from vlpart.errors import DataError


def write(tmp_path: Path, *images: dict[str, Any]) -> Path:
    path = tmp_path / "lvis.json"
    listed = [{"height": 2, "width": 3, "neg_category_ids": [1], **image} for image in images]
    path.write_text(json.dumps({"images": listed, "annotations": [], "categories": [{"id": 1, "name": "dog"}]}))
    return path


def test_the_address_goes_before_the_file_name(tmp_path: Path) -> None:
    address = "http://images.cocodataset.org/val2017/000000000009.jpg"
    path = write(
        tmp_path,
        {"id": 1, "coco_url": address, "file_name": "COCO_val2014_000000000009.jpg"},
        {"id": 2, "coco_url": address.replace("9", "8")},
        {"id": 3, "file_name": "train2017/7.jpg"},
    )
    images = list(read_lvis(path).images)
    assert [image.file_name for image in images] == [
        "val2017/000000000009.jpg",
        "val2017/000000000008.jpg",
        "train2017/7.jpg",
    ]
    assert images[0].negative_ids == [1]


@pytest.mark.parametrize("name", ["lvis", "paco"])
def test_a_plain_coco_file_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "coco.json"
    path.write_text(json.dumps({"images": [{"id": 1, "file_name": "x"}], "annotations": [], "categories": []}))
    with pytest.raises(DataError, match="1 images have no neg_category_ids"):
        get_reader(name)(path)


def test_errors_are_those_of_coco(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="neither file_name nor coco_url"):
        list(read_lvis(write(tmp_path, {"id": 1})).images)
    with pytest.raises(DataError, match="image ids occur twice"):
        read_lvis(write(tmp_path, {"id": 1, "file_name": "x"}, {"id": 1, "file_name": "y"}))
    path = tmp_path / "list.json"
    path.write_text('{"images": 3}')
    with pytest.raises(DataError, match="no list 'images'"):
        read_lvis(path)
    path.write_text("[" * 100_000)
    with pytest.raises(DataError, match="not valid JSON"):
        read_lvis(path)
