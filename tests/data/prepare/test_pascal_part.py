"""Pascal Part: the rule that names a part, boxes and masks, splits, and everything that can be missing."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from tests.data.prepare.conftest import read_json, rectangle, write_image, write_list, write_mat
from vlpart.data.indexing import load_source
from vlpart.data.prepare import prepare
from vlpart.data.prepare.pascal_part import category_of, part_names, read_mat
from vlpart.data.source import Source
from vlpart.errors import DataError
from vlpart.text.vocabulary import Vocabulary

pytest.importorskip("scipy")


def box(*corners: int) -> np.ndarray:
    return rectangle(20, 30, *corners)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two train images (a bus with a person; a potted plant), one val image (a chair without parts, a dog)."""
    voc = tmp_path / "VOCdevkit" / "VOC2010"
    mats = tmp_path / "Annotations_Part"
    write_mat(
        mats / "2008_000002.mat",
        [
            ("bus", [("fliplate", box(2, 3, 6, 5)), ("frontside", box(0, 0, 9, 9)), ("wheel_1", box(4, 4, 5, 5))]),
            ("person", [("rear", box(7, 1, 9, 4)), ("lebrow", box(1, 1, 2, 2))]),
        ],
    )
    write_mat(mats / "2009_000010.mat", [("pottedplant", [("pot", box(0, 0, 3, 3)), ("plant", box(3, 3, 30, 20))])])
    write_mat(mats / "2010_000300.mat", [("chair", []), ("dog", [("lfpa", box(10, 10, 12, 20))])])
    for stem in ("2008_000002", "2009_000010", "2010_000300"):
        write_image(voc / "JPEGImages" / f"{stem}.jpg")
    write_list(voc / "ImageSets" / "Main" / "train.txt", ["2009_000010", "2008_000002"])
    write_list(voc / "ImageSets" / "Main" / "val.txt", ["2010_000300"])
    return tmp_path


@pytest.mark.parametrize(
    ("object_name", "part", "name"),
    [
        ("person", "rear", "person:ear"),
        ("person", "head", "person:head"),
        ("person", "hair", "person:hair"),
        ("person", "llarm", "person:arm"),
        ("bicycle", "chainwheel", "bicycle:wheel"),
        ("bus", "bliplate", "bus:license plate"),
        ("cat", "rfpa", "cat:paw"),
        ("dog", "lfpa", "dog:paw"),
        ("horse", "lfho", None),
        ("person", "lebrow", None),
        ("pottedplant", "plant", "potted plant:plant"),
        ("aeroplane", "stern", None),
        ("table", "leg", None),
        ("tvmonitor", "screen", None),
    ],
)
def test_the_first_class_whose_short_name_occurs_in_the_part(object_name: str, part: str, name: str | None) -> None:
    found = category_of(object_name, part)
    names = {entry.id: entry.name for entry in Vocabulary.load("pascal_part").entries}
    assert (None if found is None else names[found]) == name


def test_the_rule_knows_every_class_in_id_order() -> None:
    ids = [number for rows in part_names().values() for _, number in rows]
    assert sorted(ids) == list(range(1, 94))
    assert all(list(rows) == sorted(rows, key=lambda row: row[1]) for rows in part_names().values())


def test_splits_ids_boxes_and_masks(root: Path) -> None:
    report = prepare("pascal_part", root)
    assert [str(file.path.name) for file in report.written] == ["train.json", "train_base.json", "val.json"]
    assert (report.problems, report.image_root) == ([], root / "VOCdevkit" / "VOC2010" / "JPEGImages")
    train = read_json(root / "train.json")
    assert [image["id"] for image in train["images"]] == [2009000010, 2008000002]
    assert train["images"][1] == {"id": 2008000002, "file_name": "2008_000002.jpg", "height": 20, "width": 30}
    names = {category["id"]: category["name"] for category in train["categories"]}
    assert list(names.values()) == list(Vocabulary.load("pascal_part").names)
    rows = [(a["id"], a["image_id"], names[a["category_id"]], a["bbox"], a["area"]) for a in train["annotations"]]
    assert rows == [
        (1, 2009000010, "potted plant:pot", [0, 0, 2, 2], 9),
        (2, 2009000010, "potted plant:plant", [3, 3, 26, 16], 27 * 17),
        (3, 2008000002, "bus:license plate", [2, 3, 3, 1], 8),
        (4, 2008000002, "bus:wheel", [4, 4, 0, 0], 1),
        (5, 2008000002, "person:ear", [7, 1, 1, 2], 6),
    ]
    assert np.array_equal(coco_mask.decode(train["annotations"][2]["segmentation"]), box(2, 3, 6, 5))
    assert {a["iscrowd"] for a in train["annotations"]} == {0}
    val = read_json(root / "val.json")
    assert [names[a["category_id"]] for a in val["annotations"]] == ["dog:paw"]


def test_the_base_file_has_its_own_ids_and_no_bus_or_dog(root: Path) -> None:
    prepare("pascal_part", root)
    base = read_json(root / "train_base.json")
    names = {category["id"]: category["name"] for category in base["categories"]}
    assert list(names.values()) == list(Vocabulary.load("pascal_part_base").names)
    assert list(names) == list(range(1, 78))
    assert [names[a["category_id"]] for a in base["annotations"]] == [
        "potted plant:pot",
        "potted plant:plant",
        "person:ear",
    ]
    assert [a["id"] for a in base["annotations"]] == [1, 2, 3]


def test_base_only(root: Path, tmp_path: Path) -> None:
    report = prepare("pascal_part", root, tmp_path / "out", base_only=True)
    assert [file.path for file in report.written] == [tmp_path / "out" / "train_base.json"]


def test_the_second_run_gives_the_same_bytes_and_nothing_else_is_left(root: Path) -> None:
    prepare("pascal_part", root)
    first = {path.name: path.read_bytes() for path in root.iterdir() if path.is_file()}
    prepare("pascal_part", root)
    assert {path.name: path.read_bytes() for path in root.iterdir() if path.is_file()} == first
    assert set(first) == {"train.json", "train_base.json", "val.json"}


def test_training_reads_the_result(root: Path) -> None:
    report = prepare("pascal_part", root)
    assert report.image_root is not None
    source = Source(name="p", annotations=root / "train.json", images=report.image_root, vocabulary="pascal_part")
    loaded = load_source(source)
    assert (len(loaded), len(loaded.store.labels), len(loaded.vocabulary)) == (2, 4, 93)
    assert loaded.report.dropped_annotations == {"empty box": 1}


def test_broken_and_missing_files_are_listed_and_the_rest_is_written(root: Path) -> None:
    mats, voc = root / "Annotations_Part", root / "VOCdevkit" / "VOC2010"
    write_list(
        voc / "ImageSets" / "Main" / "train.txt",
        ["2008_000002", "2008_000005", "2008_000006", "2008_000007", "2008_000008", "2008_000009", "2008_000011"],
    )
    for stem in ("2008_000005", "2008_000007", "2008_000009"):
        shutil.copy(mats / "2008_000002.mat", mats / f"{stem}.mat")
    (mats / "2008_000006.mat").write_bytes((mats / "2008_000002.mat").read_bytes()[:300])
    for stem in ("2008_000006", "2008_000008", "2008_000011"):
        write_image(voc / "JPEGImages" / f"{stem}.jpg")
    write_image(voc / "JPEGImages" / "2008_000007.jpg", 25, 30)
    (voc / "JPEGImages" / "2008_000009.jpg").write_bytes(b"not an image")
    write_mat(mats / "2008_000011.mat", [("cat", [("head", box(0, 0, 0, 0)), ("tail", box(1, 1, 3, 3))])])
    report = prepare("pascal_part", root)
    expected = {
        "train: 2008_000005": "image is missing",
        "train: 2008_000006": "damaged",
        "train: 2008_000007": "masks are 30x20, its image is 30x25",
        "train: 2008_000008": "cannot read",
        "train: 2008_000009": "cannot be read",
        "train: 2008_000011.mat": "cat:head has no pixel",
    }
    found = {problem.where: problem.why for problem in report.problems}
    assert list(found) == list(expected)
    assert all(text in found[where] for where, text in expected.items())
    assert [image["file_name"] for image in read_json(root / "train.json")["images"]] == [
        "2008_000002.jpg",
        "2008_000011.jpg",
    ]
    assert report.problems_file == root / "pascal_part.problems.txt"
    assert len(report.problems_file.read_text().splitlines()) == 6
    assert "6 problems" in str(report)


def test_the_list_of_problems_goes_when_there_are_none(root: Path) -> None:
    image = root / "VOCdevkit" / "VOC2010" / "JPEGImages" / "2008_000002.jpg"
    content = image.read_bytes()
    image.unlink()
    assert prepare("pascal_part", root).problems_file is not None
    image.write_bytes(content)
    assert prepare("pascal_part", root).problems == []
    assert not (root / "pascal_part.problems.txt").exists()


def test_masks_of_two_sizes_in_a_file(root: Path) -> None:
    write_mat(root / "x.mat", [("cat", [("head", rectangle(10, 10, 0, 0, 2, 2))])])
    with pytest.raises(DataError, match="masks of 30x20 and of 10x10"):
        read_mat(root / "x.mat")


@pytest.mark.parametrize(
    ("content", "message"),
    [({"other": 1}, "no variable 'anno'"), ({"anno": np.zeros((1, 1))}, "not of the Pascal Part form")],
)
def test_other_mat_files(tmp_path: Path, content: dict[str, object], message: str) -> None:
    from scipy.io import savemat

    savemat(tmp_path / "x.mat", content)
    with pytest.raises(DataError, match=message):
        read_mat(tmp_path / "x.mat")


def test_a_wrong_folder_is_an_error_that_says_what_is_expected(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no folder Annotations_Part .*expected there: .*VOC2010"):
        prepare("pascal_part", root / "VOCdevkit")
    shutil.rmtree(root / "VOCdevkit" / "VOC2010" / "JPEGImages")
    (root / "VOCdevkit" / "VOC2010" / "JPEGImages").mkdir()
    with pytest.raises(DataError, match="not one of the 2 files of train can be used"):
        prepare("pascal_part", root)
    assert not (root / "train.json").exists()


def test_without_voc_every_file_is_in_one_split(root: Path) -> None:
    shutil.rmtree(root / "VOCdevkit")
    report = prepare("pascal_part", root)
    assert [file.path.name for file in report.written] == ["all.json", "all_base.json"]
    assert report.image_root is None
    assert any("not checked" in note for note in report.notes)
    assert len(read_json(root / "all.json")["images"]) == 3


def test_exact_on_real_files(shared: Path, tmp_path: Path) -> None:
    """Against a straightforward reading of the 18 files: every mask, box, class and id, in order."""
    from scipy.io import loadmat

    root = shared / "data" / "pascal_mat"
    report = prepare("pascal_part", root, tmp_path)
    assert report.problems == []
    vocabulary = Vocabulary.load("pascal_part")
    expected = []
    for path in sorted((root / "Annotations_Part").glob("*.mat")):
        for item in loadmat(path)["anno"][0, 0]["objects"][0]:
            object_name = {"pottedplant": "potted plant"}.get(str(item["class"][0]), str(item["class"][0]))
            for part in item["parts"][0] if item["parts"].size else ():
                for entry in vocabulary.entries:
                    owner, short = (entry.abbr or entry.name).split(":")
                    if owner == object_name and short in str(part["part_name"][0]):
                        y, x = np.nonzero(part["mask"])
                        corner = [int(x.min()), int(y.min()), int(x.max() - x.min()), int(y.max() - y.min())]
                        code = coco_mask.encode(np.asfortranarray(part["mask"].astype(np.uint8)))
                        image_id = int(path.stem.replace("_", ""))
                        expected.append((image_id, entry.id, corner, code["size"], code["counts"].decode()))
                        break
    content = read_json(tmp_path / "all.json")
    found = [
        (a["image_id"], a["category_id"], a["bbox"], a["segmentation"]["size"], a["segmentation"]["counts"])
        for a in content["annotations"]
    ]
    assert len(found) == 364
    assert found == expected
    assert len(content["images"]) == 16
    assert len(read_json(tmp_path / "all_base.json")["annotations"]) == 315


def test_a_missing_scipy_is_told_before_the_first_file(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(DataError, match=r'^reading \.mat files needs scipy: pip install "vlpart\[train\]"$'):
        prepare("pascal_part", root)
