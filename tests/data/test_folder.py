"""Which file of a user's folder is which split, where its images are, and what is said when it cannot be told."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vlpart.data.check.run import check
from vlpart.data.folder import find_val, json_files, open_folder
from vlpart.data.indexing import load_source
from vlpart.data.source import Source
from vlpart.errors import DataError


def content(names: tuple[str, ...] = ("1.png", "2.png")) -> dict[str, Any]:
    images = [{"id": i, "file_name": name, "width": 20, "height": 16} for i, name in enumerate(names, 1)]
    annotations = [
        {"id": i, "image_id": i, "category_id": 1, "bbox": [2, 2, 9, 8], "area": 72, "iscrowd": 0, "segmentation": []}
        for i in range(1, len(names) + 1)
    ]
    return {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "car:wheel"}]}


def put(path: Path, document: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def images(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names or ("1.png", "2.png"):
        Image.new("RGB", (20, 16), (10 * int(name[0]), 9, 9)).save(folder / name)


@pytest.mark.parametrize(
    ("train", "val", "train_images", "val_images"),
    [
        ("train.json", "val.json", "images", "images"),
        ("train.json", "val.json", ".", "."),
        ("annotations/instances_train2017.json", "annotations/instances_val2017.json", "train2017", "val2017"),
        ("train/_annotations.coco.json", "valid/_annotations.coco.json", "train", "valid"),
        ("my_parts.json", None, "images", None),
        ("_annotations.coco.json", None, ".", None),
    ],
)
def test_usual_layouts(tmp_path: Path, train: str, val: str | None, train_images: str, val_images: str) -> None:
    put(tmp_path / train, content())
    images(tmp_path / train_images)
    if val is not None:
        put(tmp_path / val, content(("3.png", "4.png")))
        images(tmp_path / val_images, "3.png", "4.png")
    put(tmp_path / "notes.json", "[]")
    found = open_folder(tmp_path)
    assert (found.train.path, found.train.image_root) == (tmp_path / train, tmp_path / train_images)
    assert (found.val and found.val.path) == (val and tmp_path / val)
    assert (found.val and found.val.image_root) == (val and tmp_path / val_images)
    report = check(tmp_path)  # `vlpart data check` finds the same
    assert {split.path for split in report.splits} == {tmp_path / name for name in (train, val) if name}
    assert {split.image_root for split in report.splits} == {
        split.image_root for split in (found.train, found.val) if split
    }
    assert report.errors == []


def test_names_come_before_other_names(tmp_path: Path) -> None:
    images(tmp_path / "images")
    for name in ("train.json", "train_one.json", "test.json", "extra.json"):
        put(tmp_path / name, content())
    found = open_folder(tmp_path)
    assert (found.train.path.name, found.val) == ("train.json", None)
    assert len(json_files(tmp_path)) == 4


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no folder .*nowhere.*--data"):
        open_folder(tmp_path / "nowhere")
    with pytest.raises(DataError, match="no JSON files"):
        open_folder(tmp_path)
    put(tmp_path / "val.json", content())
    with pytest.raises(DataError, match=r"train split \(val\.json\).*train\.json"):
        open_folder(tmp_path)
    put(tmp_path / "a.json", content())
    put(tmp_path / "b.json", content())
    with pytest.raises(DataError, match=r"2 files could be the train split \(a\.json, b\.json\)"):
        open_folder(tmp_path)
    put(tmp_path / "train.json", '{"images": [')
    with pytest.raises(DataError, match=r"train\.json is not valid JSON"):
        open_folder(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"annotations": []}, "no annotations"),
        ({"categories": [{"id": 1}]}, r"categories \[1\] have no name"),
        ({}, "its images are not in"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    put(tmp_path / "train.json", content() | change)
    with pytest.raises(DataError, match=message):
        open_folder(tmp_path)


def test_missing_images_are_counted(tmp_path: Path) -> None:
    put(tmp_path / "train.json", content())
    images(tmp_path / "images", "1.png")
    with pytest.raises(DataError, match=r"1 of 2 images are not in .*images, first: 2\.png; `vlpart data check"):
        open_folder(tmp_path)


def test_held_out_images_are_not_trained_on(tmp_path: Path) -> None:
    names = tuple(f"{i}.png" for i in range(10))
    path = put(tmp_path / "all.json", content(names))
    images(tmp_path / "images", *names)
    source = Source(name="own", annotations=path, images=tmp_path / "images", masks=False, validation_split=0.3)
    loaded = load_source(source)
    assert len(loaded) == 7
    assert "3 of 10 images are held out for evaluation" in str(loaded.report)
    from vlpart.evaluation.dataset import open_dataset

    held = {image["id"] for image in open_dataset(path, None, validation_split=0.3).truth["images"]}
    assert held == set(range(1, 11)) - set(loaded.store.image_ids.tolist())


def test_source_images_may_be_numbers(tmp_path: Path) -> None:
    names = tuple(f"{i}.png" for i in range(6))
    document = content(names)
    for i, image in enumerate(document["images"]):
        image["source_image"] = i // 2
    path = put(tmp_path / "all.json", document)
    images(tmp_path / "images", *names)
    source = Source(name="own", annotations=path, images=tmp_path / "images", masks=False, validation_split=0.34)
    loaded = load_source(replace(source, unlabelled="unknown"))
    from vlpart.evaluation.dataset import open_dataset
    from vlpart.recipes.finetune import finetune

    held = {image["id"] for image in open_dataset(path, None, validation_split=0.34).truth["images"]}
    assert len(held) == 2 and held == set(range(1, 7)) - set(loaded.store.image_ids.tolist())
    assert finetune(tmp_path, validation_split=0.34).evaluate_on[0].validation_split == 0.34


@pytest.mark.parametrize("train", ["train.json", "trainval.json"])
def test_images_in_both_splits_are_refused(tmp_path: Path, train: str) -> None:
    images(tmp_path / "images", "1.png", "2.png", "3.png")
    put(tmp_path / train, content(("1.png", "2.png")))
    put(tmp_path / "val.json", content(("./2.png", "3.png")))
    with pytest.raises(DataError, match=rf"1 images are in both {train} and val\.json .*take them out of one"):
        open_folder(tmp_path)
    put(tmp_path / "val.json", content(("3.png",)))
    assert open_folder(tmp_path).val is not None
    put(tmp_path / "train.json", content(("1.png",)))
    assert open_folder(tmp_path).train.path.name == "train.json"


def test_relatives_in_both_splits_are_refused(tmp_path: Path) -> None:
    for folder, name in (("train", "1_jpg.rf.aa.png"), ("valid", "1_jpg.rf.bb.png")):
        put(tmp_path / folder / "_annotations.coco.json", content((name,)))
        images(tmp_path / folder, name)
    with pytest.raises(DataError, match=r"crops or variants of 1 source images .*valid.* \(1_jpg\)"):
        open_folder(tmp_path)
    assert "leak-source" in {finding.kind for finding in check(tmp_path).errors}
    for folder, name in (("train", "1.png"), ("valid", "2.png")):
        document = content((name,))
        document["images"][0]["source_image"] = "scan.png"
        put(tmp_path / folder / "_annotations.coco.json", document)
        images(tmp_path / folder, name)
    with pytest.raises(DataError, match=r"\(scan\.png\)"):
        open_folder(tmp_path)
    for folder in ("train", "valid"):  # one name in two folders: two images
        put(tmp_path / folder / "_annotations.coco.json", content(("3.png",)))
        images(tmp_path / folder, "3.png")
    assert open_folder(tmp_path).val is not None


def test_what_a_check_finds_in_the_file_is_not_left_out_in_silence(tmp_path: Path) -> None:
    document = content()
    document["annotations"][1]["category_id"] = 9
    put(tmp_path / "train.json", document)
    images(tmp_path / "images")
    message = r"train\.json: 1 x category ids .*annotation 2 has the category id 9, .*`vlpart data check .*` lists all"
    with pytest.raises(DataError, match=message):
        open_folder(tmp_path)
    document = content()
    document["annotations"][1]["id"] = 0  # a warning
    put(tmp_path / "train.json", document)
    assert open_folder(tmp_path).train.total_annotations == 2


@pytest.mark.parametrize("name", ["dev", "test", "val", "train"])
def test_the_name_of_the_folder_says_nothing(tmp_path: Path, name: str) -> None:
    root = tmp_path / name
    put(root / "parts.json", content())
    images(root / "images")
    found = open_folder(root)
    assert (found.train.path.name, found.val) == ("parts.json", None)
    put(root / "valid" / "_annotations.coco.json", content(("3.png",)))
    images(root / "valid", "3.png")
    assert (val := open_folder(root).val) is not None and val.kind == "val"


def test_empty_folders_are_told_what_helps(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="put the annotation file there$"):
        open_folder(tmp_path)
    with pytest.raises(DataError, match="or name the file"):
        check(tmp_path)


def test_a_val_split_needs_no_train_split(tmp_path: Path) -> None:
    val = put(tmp_path / "annotations" / "instances_val2017.json", content())
    assert find_val(tmp_path) == val
    put(tmp_path / "val" / "_annotations.coco.json", content())
    assert find_val(tmp_path) == val
    put(val.with_name("instances_minival.json"), content())
    with pytest.raises(DataError, match="2 files could be the val split"):
        find_val(tmp_path)
    put(tmp_path / "other" / "parts.json", content())
    with pytest.raises(DataError, match=r"no val split: call the annotation file val\.json"):
        find_val(tmp_path / "other")
