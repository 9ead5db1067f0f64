"""PartImageNet in both official layouts, and IN-S11 made from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.data.prepare.conftest import read_json, write_image, write_json
from vlpart.data.indexing import load_source
from vlpart.data.prepare import prepare
from vlpart.data.source import Source
from vlpart.errors import DataError
from vlpart.text.vocabulary import Vocabulary
from vlpart.types import AnnotationKind

CATEGORIES = [
    {"id": entry.id, "name": entry.name, "supercategory": entry.object}
    for entry in Vocabulary.load("partimagenet").entries
]


def image(number: Any, name: str, **more: Any) -> dict[str, Any]:
    return {"id": number, "file_name": name, "height": 20, "width": 30, **more}


def annotation(number: Any, image_id: Any, category_id: Any, segmentation: Any = None, **more: Any) -> dict[str, Any]:
    polygons = [[1, 2, 9, 2, 9, 8, 1, 8]] if segmentation is None else segmentation
    return {
        "id": number,
        "image_id": image_id,
        "category_id": category_id,
        "bbox": [1, 2, 8, 6],
        "area": 48,
        "iscrowd": 0,
        "segmentation": polygons,
        **more,
    }


def content(images: list[Any], annotations: list[Any], categories: list[Any] | None = None) -> dict[str, Any]:
    return {"images": images, "annotations": annotations, "categories": categories or CATEGORIES}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The class-disjoint layout: a fish and a car in train, a snake in val."""
    train = content(
        [image(0, "n01440764_10029.JPEG"), image(3, "n02814533_7.JPEG"), image(5, "n01440764_8.JPEG")],
        [annotation(1, 3, 25), annotation(2, 0, 9), annotation(3, 3, 24)],
    )
    write_json(tmp_path / "train.json", train)
    write_json(tmp_path / "val.json", content([image(0, "n01728572_1.JPEG")], [annotation(1, 0, 18)]))
    for name in ("train/n01440764/n01440764_10029", "train/n02814533/n02814533_7", "train/n01440764/n01440764_8"):
        write_image(tmp_path / f"{name}.JPEG")
    write_image(tmp_path / "val/n01728572/n01728572_1.JPEG")
    return tmp_path


def test_ids_are_kept_and_names_get_their_folder(root: Path) -> None:
    report = prepare("partimagenet", root)
    assert report.problems == []
    assert [file.path.name for file in report.written] == ["train_format.json", "val_format.json"]
    train = read_json(root / "train_format.json")
    assert [(entry["id"], entry["file_name"]) for entry in train["images"]] == [
        (0, "n01440764/n01440764_10029.JPEG"),
        (3, "n02814533/n02814533_7.JPEG"),
        (5, "n01440764/n01440764_8.JPEG"),
    ]
    assert [(a["id"], a["image_id"], a["category_id"]) for a in train["annotations"]] == [
        (1, 3, 25),
        (2, 0, 9),
        (3, 3, 24),
    ]
    assert train["annotations"][0]["bbox"] == [1, 2, 8, 6]
    assert [category["name"] for category in train["categories"]] == [entry["name"] for entry in CATEGORIES]
    source = Source(name="p", annotations=root / "train_format.json", images=root / "train", vocabulary="partimagenet")
    assert len(load_source(source)) == 2


def test_the_seg_layout(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        listed = content([image("a", "x\\n01440764_1.JPEG")], [annotation("q", "a", 9)])
        write_json(tmp_path / "annotations" / split / f"{split}.json", listed)
        write_image(tmp_path / "images" / split / "n01440764_1.JPEG")
    report = prepare("partimagenet", tmp_path)
    assert report.problems == []
    assert len(report.written) == 3
    test = read_json(tmp_path / "test_format.json")
    assert test["images"] == [image(1, "n01440764_1.JPEG")]
    assert [(a["id"], a["image_id"]) for a in test["annotations"]] == [(1, 1)]
    assert any("count from 1 now" in note for note in report.notes)


def test_points_and_lines_are_closed_and_odd_entries_listed(root: Path) -> None:
    listed = [
        annotation(1, 0, 9, [[4, 5]]),
        annotation(2, 0, 9, [[4, 5, 6, 7], [1, 1, 2, 1, 2, 2]]),
        annotation(3, 0, 9, [[1, 2, 3]]),
        annotation(4, 0, 9, [[1, 2, float("nan"), 4, 5, 6]]),
        annotation(5, 0, 9, []),
        annotation(6, 0, 9, bbox=[1, 2, 3]),
        annotation(7, 99, 9),
        annotation(8, 0, 77),
        annotation(9, 0, 9, area=None, iscrowd=None),
        annotation(10, 0, 9, {"size": [20, 30], "counts": [5, 6, 589]}),
        annotation(11, 0, 9, {"size": [20, 30], "counts": "damaged"}),
    ]
    write_json(root / "train.json", content([image(0, "n01440764_10029.JPEG")], listed))
    report = prepare("partimagenet", root)
    written = read_json(root / "train_format.json")["annotations"]
    assert [a["id"] for a in written] == [1, 2, 9, 10]
    assert written[0]["segmentation"] == [[4, 5, 4, 5, 4, 5]]
    assert written[1]["segmentation"] == [[4, 5, 6, 7, 4, 5], [1, 1, 2, 1, 2, 2]]
    assert (written[2]["area"], written[2]["iscrowd"]) == (48, 0)
    found = [problem.where.rsplit(" ", 1)[1] for problem in report.problems]
    assert found == ["3", "4", "5", "6", "7", "8", "11"]
    assert any("2 annotations have polygons of one or two points" in note for note in report.notes)


def test_missing_images_and_bad_images_are_listed(root: Path) -> None:
    images = [
        image(0, "n01440764_10029.JPEG"),
        image(1, "n01440764_404.JPEG"),
        image(2, "n01440764_8.JPEG", height=0),
        image(0, "n02814533_7.JPEG"),
        {"id": 7, "height": 3, "width": 3},
    ]
    write_json(root / "train.json", content(images, [annotation(i + 1, i, 9) for i in range(3)]))
    report = prepare("partimagenet", root)
    assert len(read_json(root / "train_format.json")["images"]) == 1
    assert len(read_json(root / "train_format.json")["annotations"]) == 1
    texts = " | ".join(map(str, report.problems))
    assert len(report.problems) == 4
    for text in ("n01440764_404.JPEG is missing", "30x0", "there twice", "no file_name"):
        assert text in texts


def test_classes_are_matched_by_name_not_by_id(root: Path) -> None:
    shifted = [{"id": 100 - entry["id"], "name": entry["name"].upper().replace(" ", "_")} for entry in CATEGORIES]
    write_json(root / "train.json", content([image(0, "n01440764_8.JPEG")], [annotation(1, 0, 100 - 9)], shifted))
    prepare("partimagenet", root)
    assert read_json(root / "train_format.json")["annotations"][0]["category_id"] == 9


def test_another_class_list_is_refused(root: Path) -> None:
    write_json(root / "train.json", content([], [], [{"id": 0, "name": "Quadruped"}]))
    with pytest.raises(DataError, match="'Quadruped', none of the 40 parts"):
        prepare("partimagenet", root)


def test_entries_that_are_no_objects(root: Path) -> None:
    write_json(root / "train.json", content([image(0, "n01440764_8.JPEG")], [annotation(1, 0, 9), None]))
    with pytest.raises(DataError, match="the list 'annotations' holds a NoneType"):
        prepare("partimagenet", root)


def test_broken_json_and_an_empty_folder(root: Path, tmp_path: Path) -> None:
    (root / "val.json").write_text((root / "val.json").read_text()[:-30])
    with pytest.raises(DataError, match="not valid JSON"):
        prepare("partimagenet", root)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match=r"no train.json and no val.json"):
        prepare("partimagenet", empty)


def test_a_missing_split_is_a_problem(root: Path) -> None:
    (root / "val.json").unlink()
    report = prepare("partimagenet", root)
    assert [str(problem) for problem in report.problems] == [f"{root / 'val.json'}: the annotation file is missing"]
    assert [file.path.name for file in report.written] == ["train_format.json"]


def test_in_s11_takes_the_super_category_of_the_first_annotation(root: Path) -> None:
    report = prepare("in_s11", root)
    written = read_json(root / "partimagenet_supercat_image_info.json")
    assert [(entry["id"], entry["file_name"], entry["pos_category_ids"]) for entry in written["images"]] == [
        (3, "n02814533/n02814533_7.JPEG", [6]),
        (0, "n01440764/n01440764_10029.JPEG", [2]),
    ]
    assert written["annotations"] == []
    assert [category["name"] for category in written["categories"]] == list(
        Vocabulary.load("partimagenet_supercategories").names
    )
    assert any("1 images have no annotation" in note for note in report.notes)
    source = Source(
        name="s11",
        annotations=report.written[0].path,
        images=root / "train",
        vocabulary="partimagenet_supercategories",
        kind=AnnotationKind.IMAGE_LABELS,
        reader="image_labels",
    )
    loaded = load_source(source)
    assert [loaded.store[i].image_labels.tolist() for i in range(2)] == [[6], [2]]
