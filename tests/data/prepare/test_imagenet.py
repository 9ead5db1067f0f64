"""IN-S20 and the golden set from ImageNet-1k class folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.data.prepare.conftest import read_json, write_image
from vlpart.data.indexing import load_source
from vlpart.data.prepare import imagenet, prepare
from vlpart.data.source import Source
from vlpart.errors import DataError
from vlpart.text.vocabulary import Vocabulary
from vlpart.types import AnnotationKind

# classes 405 (airliner) and 672 (mountain bike), counted from 1 into the sorted WordNet ids
AIRLINER, MOUNTAIN_BIKE = "n02690373", "n03792782"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two class folders, a few images each, one of them too large."""
    train = tmp_path / "train"
    for name, size in (("a.JPEG", (20, 30)), ("b.JPEG", (20, 1001)), ("c.JPEG", (1000, 8))):
        write_image(train / AIRLINER / name, *size)
    write_image(train / MOUNTAIN_BIKE / "x.JPEG")
    (train / MOUNTAIN_BIKE / "notes.txt").write_text("no image")
    return tmp_path


def missing(report: object) -> list[str]:
    return [problem.why for problem in report.problems if "class folder is missing" not in problem.why]  # type: ignore[attr-defined]


def test_in_s20(root: Path) -> None:
    report = prepare("in_s20", root)
    written = read_json(root / "imagenet_voc_image_info.json")
    assert written["images"] == [
        {"id": 1, "file_name": f"{AIRLINER}/a.JPEG", "height": 20, "width": 30, "pos_category_ids": [1]},
        {"id": 3, "file_name": f"{AIRLINER}/c.JPEG", "height": 1000, "width": 8, "pos_category_ids": [1]},
        {"id": 4, "file_name": f"{MOUNTAIN_BIKE}/x.JPEG", "height": 20, "width": 30, "pos_category_ids": [2]},
    ]
    assert [category["id"] for category in written["categories"]] == list(range(1, 21))
    assert missing(report) == []
    assert any("1 images with a side over 1000" in note for note in report.notes)
    folders = {w for _, w in imagenet.class_folders(Vocabulary.load("imagenet_s20"), wnids())}
    assert len(report.problems) == len(folders) - 2


def wnids() -> list[str]:
    return [str(entry.wnid) for entry in Vocabulary.load("imagenet_1k").entries]


def test_ranges_count_from_one_and_include_both_ends() -> None:
    folders = list(imagenet.class_folders(Vocabulary.load("imagenet_s20"), wnids()))
    assert folders[0] == (1, AIRLINER)
    birds = [wnid for category_id, wnid in folders if category_id == 3]  # [[10, 14]]
    assert birds == wnids()[9:14]


def test_broken_images_and_empty_folders_are_listed(root: Path) -> None:
    (root / "train" / AIRLINER / "a.JPEG").write_bytes(b"")
    (root / "train" / MOUNTAIN_BIKE / "x.JPEG").unlink()
    report = prepare("in_s20", root)
    assert sorted(missing(report)) == [
        "the class folder holds no images",
        "the image cannot be read (is empty (0 bytes)); download it again",
    ]
    assert [entry["id"] for entry in read_json(root / "imagenet_voc_image_info.json")["images"]] == [3]


def test_golden_takes_the_first_images_of_a_folder_under_every_label(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imagenet, "GOLDEN_PER_FOLDER", 2)
    report = prepare("golden", root)
    assert sorted(file.path.name for file in report.written) == sorted(imagenet.GOLDEN_FILES.values())
    everything = read_json(root / "imagenet_golden_image_info.json")
    names = {category["id"]: category["name"] for category in everything["categories"]}
    assert len(names) == 117
    labelled = [(Path(e["file_name"]).name, names[e["pos_category_ids"][0]], e["id"]) for e in everything["images"]]
    assert labelled == [
        ("a.JPEG", "aeroplane", 1),
        ("x.JPEG", "bicycle", 3),
        ("x.JPEG", "Bicycle", 4),
        ("a.JPEG", "Aeroplane", 5),
        ("x.JPEG", "bicycle", 7),
    ]
    paco = read_json(root / "imagenet_paco_image_info.json")
    assert [(e["id"], e["pos_category_ids"]) for e in paco["images"]] == [(1, [306])]
    assert len(read_json(root / "imagenet_addition_image_info.json")["images"]) == 0


def test_training_reads_the_result(root: Path) -> None:
    report = prepare("golden", root)
    assert report.image_root is not None
    source = Source(
        name="golden",
        annotations=root / "imagenet_golden_image_info.json",
        images=report.image_root,
        vocabulary="golden",
        kind=AnnotationKind.IMAGE_LABELS,
    )
    assert len(load_source(source)) == 7


def test_the_kaggle_layout(root: Path) -> None:
    target = root / "ILSVRC" / "Data" / "CLS-LOC"
    target.mkdir(parents=True)
    (root / "train").rename(target / "train")
    assert prepare("in_s20", root).image_root == target / "train"


def test_packed_or_other_folders_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no class folders like n0"):
        prepare("in_s20", tmp_path)
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / f"{AIRLINER}.tar").write_bytes(b"")
    with pytest.raises(DataError, match="still packed"):
        prepare("in_s20", tmp_path)
