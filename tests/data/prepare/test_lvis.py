"""COCO, LVIS and PACO: checked, used as distributed; minival can be made from LVIS val."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.data.prepare.conftest import read_json, write_image, write_json
from vlpart.data.prepare import DATASETS, prepare
from vlpart.data.prepare.lvis import MINIVAL
from vlpart.errors import DataError
from vlpart.text.vocabulary import Vocabulary


def categories(name: str) -> list[dict[str, Any]]:
    return [{"id": entry.id, "name": entry.name} for entry in Vocabulary.load(name).entries]


def lvis_image(number: int, split: str) -> dict[str, Any]:
    address = f"http://images.cocodataset.org/{split}/{number:012}.jpg"
    lists = {"neg_category_ids": [1], "not_exhaustive_category_ids": []}
    return {"id": number, "coco_url": address, "height": 20, "width": 30, **lists}


@pytest.fixture
def val(tmp_path: Path) -> Path:
    """LVIS val with two images of val2017 and one of train2017, and the images of COCO beside it."""
    content = {
        "images": [lvis_image(9, "val2017"), lvis_image(10, "train2017"), lvis_image(11, "val2017")],
        "annotations": [{"id": i, "image_id": image, "category_id": 3} for i, image in enumerate((11, 10, 9), start=1)],
        "categories": categories("lvis_v1"),
    }
    write_json(tmp_path / "lvis" / "lvis_v1_val.json", content)
    for number in (9, 11):
        write_image(tmp_path / "coco" / "val2017" / f"{number:012}.jpg")
    return tmp_path / "lvis"


def test_minival_is_the_part_of_val_in_val2017(val: Path) -> None:
    report = prepare("lvis_minival", val)
    assert report.problems == []
    assert report.image_root is not None
    assert (report.image_root / "val2017").is_dir()
    written = read_json(val / MINIVAL)
    assert [image["file_name"] for image in written["images"]] == [
        "val2017/000000000009.jpg",
        "val2017/000000000011.jpg",
    ]
    assert [a["id"] for a in written["annotations"]] == [1, 3]
    assert len(written["categories"]) == 1203
    assert [(file.is_new, file.images) for file in report.written] == [(True, 2)]


def test_the_distributed_minival_is_used_as_it_is(val: Path) -> None:
    prepare("lvis_minival", val)
    before = (val / MINIVAL).read_bytes()
    report = prepare("lvis_minival", val)
    assert (val / MINIVAL).read_bytes() == before
    assert [(file.is_new, file.images, file.annotations) for file in report.written] == [(False, 2, 2)]


def test_missing_images_are_listed(val: Path) -> None:
    (val.parent / "coco" / "val2017" / "000000000011.jpg").unlink()
    report = prepare("lvis_minival", val)
    assert [problem.where for problem in report.problems] == [
        "lvis_v1_val.json: val2017/000000000011.jpg",
    ]


def test_without_coco_the_images_are_not_checked(val: Path) -> None:
    (val.parent / "coco").rename(val.parent / "elsewhere")
    report = prepare("lvis_minival", val)
    assert (report.problems, report.image_root) == ([], None)
    assert any("not checked" in note for note in report.notes)


def test_no_lvis(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no LVIS minival in .*lvis_v1_val.json"):
        prepare("lvis_minival", tmp_path)


def paco(folder: Path, split: str, **changes: Any) -> None:
    lists = {"neg_category_ids": [], "not_exhaustive_category_ids": []}
    image = {"id": 5, "file_name": "train2017/000000000005.jpg", "height": 20, "width": 30, **lists}
    content = {
        "images": [image],
        "annotations": [{"id": 1, "image_id": 5, "category_id": 23}],
        "categories": categories("paco"),
        "part_categories": [],
        **changes,
    }
    write_json(folder / "annotations" / f"paco_lvis_v1_{split}.json", content)


def test_paco_is_checked_and_nothing_is_written(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        paco(tmp_path, split)
    before = sorted(path.as_posix() for path in tmp_path.rglob("*"))
    report = prepare("paco", tmp_path)
    assert report.problems == []
    assert [(file.path.name, file.is_new) for file in report.written] == [
        ("paco_lvis_v1_train.json", False),
        ("paco_lvis_v1_val.json", False),
        ("paco_lvis_v1_test.json", False),
    ]
    assert sorted(path.as_posix() for path in tmp_path.rglob("*")) == before


def test_paco_problems(tmp_path: Path) -> None:
    annotations = [{"id": 1, "image_id": 6, "category_id": 23}, {"id": 2, "image_id": 5, "category_id": 1}]
    paco(tmp_path, "train", annotations=annotations)
    paco(tmp_path, "val", images=[{"id": 5, "height": 2, "width": 2}, {"id": 5, "file_name": "x.jpg"}], annotations=[])
    report = prepare("paco", tmp_path)
    texts = [problem.why for problem in report.problems]
    assert texts == [
        "1 annotations belong to images that are not listed",
        "1 annotations are of classes that are not listed",
        "1 image ids occur twice",
        "2 images have no neg_category_ids, which the LVIS evaluation needs",
        "1 images have neither coco_url nor file_name",
        "the annotation file is missing",
    ]


def test_another_class_list_is_refused(tmp_path: Path) -> None:
    paco(tmp_path, "train", categories=[{"id": 1, "name": "dog"}])
    with pytest.raises(DataError, match="is it the official file"):
        prepare("paco", tmp_path)


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """COCO with an image in each split, as distributed."""
    for split, number in (("train", 9), ("val", 11)):
        image = {"id": number, "file_name": f"{number:012}.jpg", "height": 20, "width": 30}
        content = {
            "images": [image],
            "annotations": [{"id": 1, "image_id": number, "category_id": 18}],
            "categories": categories("coco"),
        }
        write_json(tmp_path / "annotations" / f"instances_{split}2017.json", content)
        write_image(tmp_path / f"{split}2017" / f"{number:012}.jpg")
    return tmp_path


def test_coco_is_checked_and_used_as_it_is(coco: Path) -> None:
    before = {path: path.read_bytes() for path in coco.rglob("*.json")}
    report = prepare("coco", coco)
    assert (report.problems, len(report.written)) == ([], 2)
    assert all(not file.is_new for file in report.written)
    assert {path: path.read_bytes() for path in coco.rglob("*.json")} == before
    (coco / "val2017" / "000000000011.jpg").unlink()
    (coco / "annotations" / "instances_train2017.json").unlink()
    problems = [str(problem) for problem in prepare("coco", coco).problems]
    assert len(problems) == 2
    assert "instances_train2017.json: the annotation file is missing" in problems[0]
    assert "instances_val2017.json: val2017/000000000011.jpg" in problems[1]


def test_lvis_train_is_checked(val: Path) -> None:
    (val / "lvis_v1_val.json").rename(val / "lvis_v1_train.json")
    write_image(val.parent / "coco" / "train2017" / f"{10:012}.jpg")
    report = prepare("lvis", val)
    assert (report.problems, report.written[0].is_new, report.written[0].images) == ([], False, 3)


@pytest.mark.parametrize("dataset", DATASETS)
def test_what_is_not_there_names_its_address(dataset: str, tmp_path: Path) -> None:
    assert DATASETS[dataset].addresses
    for folder in (tmp_path / "nosuch", tmp_path):
        with pytest.raises(DataError) as caught:
            prepare(dataset, folder)
        for address in DATASETS[dataset].addresses:
            assert address in str(caught.value)
