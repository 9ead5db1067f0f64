"""Images with exactly one VOC object, counted in the VOC XML."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.data.prepare.conftest import read_json, voc_xml, write_json
from vlpart.data.prepare import prepare
from vlpart.errors import DataError

BOX = (1, 1, 5, 5)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Four annotated images: one cat, a cat and a chair, one dog, one person that is marked difficult."""
    objects = {
        "2008_000001": [("cat", BOX, 0)],
        "2008_000002": [("cat", BOX, 0), ("chair", BOX, 1)],
        "2008_000003": [("dog", BOX, 0)],
        "2008_000004": [("person", BOX, 1)],
    }
    folder = tmp_path / "VOCdevkit" / "VOC2010" / "Annotations"
    folder.mkdir(parents=True)
    for stem, listed in objects.items():
        (folder / f"{stem}.xml").write_text(voc_xml(listed))
    images = [
        {"id": i, "file_name": f"{stem}.jpg", "height": 20, "width": 30} for i, stem in enumerate(objects, start=1)
    ]
    annotations = [{"id": 10 + i, "image_id": i, "category_id": 1} for i in (1, 2, 3, 4, 1)]
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cat:head"}]}
    write_json(tmp_path / "train.json", content)
    write_json(tmp_path / "train_base.json", content)
    return tmp_path


def test_one_object_and_in_the_base_file_no_bus_or_dog(root: Path) -> None:
    report = prepare("pascal_part_one", root)
    assert report.problems == []
    one, base = read_json(root / "train_one.json"), read_json(root / "train_base_one.json")
    assert [image["id"] for image in one["images"]] == [1, 3, 4]
    assert [a["id"] for a in one["annotations"]] == [11, 13, 14, 11]
    assert [image["id"] for image in base["images"]] == [1, 4]
    assert one["categories"] == [{"id": 1, "name": "cat:head"}]


def test_broken_xml_is_listed_once(root: Path) -> None:
    folder = root / "VOCdevkit" / "VOC2010" / "Annotations"
    (folder / "2008_000001.xml").write_text(voc_xml([("cat", BOX, 0)])[:-20])
    (folder / "2008_000003.xml").unlink()
    report = prepare("pascal_part_one", root)
    assert [problem.where for problem in report.problems] == ["2008_000001", "2008_000003"]
    assert "not valid XML" in report.problems[0].why
    assert [image["id"] for image in read_json(root / "train_one.json")["images"]] == [4]


def test_pascal_part_comes_first(root: Path) -> None:
    (root / "train.json").unlink()
    with pytest.raises(DataError, match="vlpart data prepare pascal_part"):
        prepare("pascal_part_one", root)


def test_no_voc_annotations(root: Path) -> None:
    with pytest.raises(DataError, match="no VOC2010/Annotations in"):
        prepare("pascal_part_one", root / "VOCdevkit" / "VOC2010" / "Annotations")


def test_another_output_folder(root: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    prepare("pascal_part_one", root, output)
    assert sorted(path.name for path in output.iterdir()) == ["train_base_one.json", "train_one.json"]
