"""Pascal VOC XML -> COCO JSON."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.data.prepare.conftest import read_json, voc_xml, write_image, write_list
from vlpart.data.indexing import load_source
from vlpart.data.prepare import prepare
from vlpart.data.source import Source
from vlpart.errors import DataError


def write_year(folder: Path, stem: str, split: str = "train") -> None:
    (folder / "Annotations").mkdir(parents=True)
    objects = [("diningtable", (1, 1, 30, 20), 0), ("tvmonitor", (5, 6, 8, 9), 1)]
    (folder / "Annotations" / f"{stem}.xml").write_text(voc_xml(objects))
    write_image(folder / "JPEGImages" / f"{stem}.jpg")
    write_list(folder / "ImageSets" / "Main" / f"{split}.txt", [f"{stem}  1"])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """VOC2007 with one train image."""
    write_year(tmp_path / "VOCdevkit" / "VOC2007", "000012")
    return tmp_path


def test_boxes_ids_classes_and_flags(root: Path) -> None:
    report = prepare("voc", root)
    assert report.problems == []
    assert report.image_root == root / "VOCdevkit" / "VOC2007" / "JPEGImages"
    written = read_json(root / "voc_2007_train.json")
    assert written["images"] == [{"id": 12, "file_name": "000012.jpg", "height": 20, "width": 30}]
    rows = [(a["category_id"], a["bbox"], a["difficult"], a["iscrowd"]) for a in written["annotations"]]
    assert rows == [(11, [0, 0, 30, 20], 0, 0), (20, [4, 5, 4, 4], 1, 0)]
    assert [a["id"] for a in written["annotations"]] == [1, 2]


def test_the_same_boxes_as_the_reader(root: Path) -> None:
    report = prepare("voc", root)
    split = root / "VOCdevkit" / "VOC2007" / "ImageSets" / "Main" / "train.txt"
    assert report.image_root is not None
    sources = [
        Source(name="json", annotations=root / "voc_2007_train.json", images=report.image_root, vocabulary="voc"),
        Source(name="xml", annotations=split, images=report.image_root, vocabulary="voc", reader="voc"),
    ]
    one, other = (load_source(source).store[0] for source in sources)
    assert one.boxes_xyxy.tolist() == other.boxes_xyxy.tolist() == [[0, 0, 30, 20], [4, 5, 8, 9]]
    assert one.labels.tolist() == other.labels.tolist() == [10, 19]
    assert (one.image_id, one.path) == (other.image_id, other.path)


def test_all_years_and_splits(root: Path) -> None:
    write_year(root / "VOCdevkit" / "VOC2012", "2008_000008", "val")
    report = prepare("voc", root)
    assert [file.path.name for file in report.written] == ["voc_2007_train.json", "voc_2012_val.json"]
    assert read_json(root / "voc_2012_val.json")["images"][0]["id"] == 2008000008


def test_the_folder_of_a_year_itself(root: Path, tmp_path: Path) -> None:
    report = prepare("voc", root / "VOCdevkit" / "VOC2007", tmp_path / "out")
    assert [file.path for file in report.written] == [tmp_path / "out" / "voc_2007_train.json"]


def test_missing_broken_and_unknown(root: Path) -> None:
    folder = root / "VOCdevkit" / "VOC2007"
    write_list(folder / "ImageSets" / "Main" / "train.txt", ["000012", "000013", "000014", "000015", "000016"])
    for stem in ("000014", "000015", "000016"):
        (folder / "Annotations" / f"{stem}.xml").write_text(voc_xml([("unicorn", (1, 1, 2, 2), 0)]))
    (folder / "Annotations" / "000015.xml").write_text("<annotation><size>")
    for stem in ("000013", "000015", "000016"):
        write_image(folder / "JPEGImages" / f"{stem}.jpg")
    report = prepare("voc", root)
    texts = [str(problem) for problem in report.problems]
    assert len(texts) == 4
    for text, part in zip(texts, ("000013", "000014.jpg is missing", "not valid XML", "'unicorn'"), strict=True):
        assert part in text
    assert [image["id"] for image in read_json(root / "voc_2007_train.json")["images"]] == [12, 16]


def test_no_voc_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no folder VOC2007"):
        prepare("voc", tmp_path)
