"""VOC XML: boxes counted from 1, and every way a file can be wrong or hostile."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.data.prepare.conftest import voc_xml, write_list
from vlpart.data.readers import get_reader, read_voc
from vlpart.data.readers.voc import image_ids, parse_voc
from vlpart.errors import DataError

DOG = [("dog", (1, 2, 30, 20), 0)]


def write(tmp_path: Path, text: str | bytes, name: str = "000001.xml") -> Path:
    path = tmp_path / "Annotations" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_split_list(tmp_path: Path) -> None:
    write(tmp_path, voc_xml(DOG), "000001.xml")
    write(tmp_path, voc_xml([("pottedplant", (2, 2, 2, 2), 1)]), "000002.xml")
    write_list(tmp_path / "ImageSets" / "Main" / "train.txt", ["000002", "000001"])
    file = get_reader("voc")(tmp_path / "ImageSets" / "Main" / "train.txt")
    assert len(file.categories) == 20
    assert not file.has_masks
    images = list(file.images)
    assert [(image.id, image.file_name, image.height, image.width) for image in images] == [
        (2, "000002.jpg", 20, 30),
        (1, "000001.jpg", 20, 30),
    ]
    assert [(a.id, a.category_id, a.box_xyxy) for image in images for a in image.annotations] == [
        (1, 16, (1, 1, 2, 2)),
        (2, 12, (0, 1, 30, 20)),
    ]


def test_a_folder_with_classes_of_its_own(tmp_path: Path) -> None:
    write(tmp_path, voc_xml([("wheel", (1, 1, 2, 2), 0), ("dog", (1, 1, 2, 2), 0)]), "b.xml")
    write(tmp_path, voc_xml([]).replace("x.jpg", "a.png"), "a.xml")
    file = read_voc(tmp_path / "Annotations")
    assert [(category.id, category.name) for category in file.categories] == [(1, "dog"), (2, "wheel")]
    images = list(file.images)
    assert [(image.id, image.file_name) for image in images] == [(1, "a.png"), (2, "b.jpg")]
    assert [a.category_id for a in images[1].annotations] == [2, 1]


def test_fractions_are_kept(tmp_path: Path) -> None:
    box = parse_voc(write(tmp_path, voc_xml([("dog", ("1.5", "2", "10.25", "20"), 0)]))).objects[0].box_xyxy
    assert box == (0.5, 1, 10.25, 20)


@pytest.mark.parametrize(
    ("stems", "ids"),
    [
        (["000005", "2008_000652"], [5, 2008000652]),
        (["a", "000005"], [1, 2]),
        (["1_2", "12"], [1, 2]),
        (["²", "3"], [1, 2]),
    ],
)
def test_image_ids(stems: list[str], ids: list[int]) -> None:
    assert image_ids(stems) == ids


BOMB = b'<!DOCTYPE a [<!ENTITY b "bbbbbbbbbb"><!ENTITY c "&b;&b;&b;&b;">]><annotation>&c;</annotation>'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "declares a document type"),
        (BOMB.decode().encode("utf-16"), "declares a document type"),
        (b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotation/>', "declares a document type"),
        (b"<annotation>&b;</annotation>", "not valid XML"),
        (b"", "not valid XML"),
        (b"<annotation><size>", "not valid XML"),
        (b"\x00\x01", "not valid XML"),
        (b"<a>" * 500 + b"</a>" * 500, "nests elements"),
        (b"<a>" * 5000, "not valid XML"),
        (b"<html/>", "expected <annotation>"),
        (b"<annotation/>", "the image has no usable <width>"),
        (voc_xml(DOG, (0, 30)), "image size 30x0"),
        (voc_xml(DOG).replace("<xmin>1<", "<xmin>left<"), "expected a number"),
        (voc_xml(DOG).replace("<xmin>1<", "<xmin>nan<"), "no usable <xmin>"),
        (voc_xml(DOG).replace("<name>dog</name>", "<name> </name>"), "no <name>"),
    ],
)
def test_bad_files(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        parse_voc(write(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="more than the 10,000,000"):
        parse_voc(write(tmp_path, b"<annotation>" + b" " * 10_000_000))


@pytest.mark.parametrize(
    ("lines", "message"),
    [([], "names no image"), (["000001", "000001"], "names an image twice"), (["../../x"], "without folders")],
)
def test_bad_lists(tmp_path: Path, lines: list[str], message: str) -> None:
    path = tmp_path / "ImageSets" / "Main" / "train.txt"
    write_list(path, lines)
    with pytest.raises(DataError, match=message):
        read_voc(path)


def test_missing_list(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot read the VOC list"):
        read_voc(tmp_path / "train.txt")
