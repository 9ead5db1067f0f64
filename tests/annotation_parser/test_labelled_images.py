from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vlpart.annotation_parser.labelled_images import LabelledImage, digest, read_labelled_folders, read_labels
from vlpart.errors import DataError
from vlpart.text.vocabulary import Vocabulary


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Folders `n02084071` (not of ImageNet-1k), `n02085620`, `swivel_chair`, `bus/more` and `empty`."""
    for name in ("n02084071/a.png", "n02085620/b.png", "swivel_chair/d.png", "swivel_chair/c.png", "bus/more/e.png"):
        path = tmp_path / "pictures" / name
        path.parent.mkdir(parents=True) if not path.parent.exists() else None
        Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(path)
    (tmp_path / "pictures" / "empty").mkdir()
    (tmp_path / "pictures" / "bus" / "notes.txt").write_text("no image")
    return tmp_path / "pictures"


def test_a_folder_is_a_label(folders: Path) -> None:
    found = read_labelled_folders(folders)
    assert [(i.image_id, i.file_name, i.labels) for i in found] == [
        (1, "bus/more/e.png", ("bus",)),
        (2, "n02084071/a.png", ("n02084071",)),
        (3, "n02085620/b.png", ("n02085620",)),
        (4, "swivel_chair/c.png", ("swivel chair",)),
        (5, "swivel_chair/d.png", ("swivel chair",)),
    ]
    assert [i.file_name for i in read_labelled_folders(folders, per_folder=1, only=["Swivel chair"])] == [
        "swivel_chair/c.png"
    ]


def test_folders_by_name_or_wordnet_id(folders: Path) -> None:
    golden = Vocabulary.load("golden_pascal")
    found = read_labelled_folders(folders, labels=golden)
    assert [(i.file_name, i.labels) for i in found] == [("bus/more/e.png", ("bus",)), ("n02085620/b.png", ("dog",))]
    chihuahua = read_labelled_folders(folders, labels=Vocabulary.load("imagenet_1k"))
    assert [i.labels for i in chihuahua if i.file_name.startswith("n0")] == [("Chihuahua",)]


def test_nothing_found(folders: Path) -> None:
    with pytest.raises(DataError, match="there is no folder"):
        read_labelled_folders(folders / "none")
    with pytest.raises(DataError, match="has no label 'zebra': it has "):
        read_labelled_folders(folders, only=["zebra"])


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    images = [{"id": i, "file_name": f"{i}.jpg", "width": 9, "height": 9} for i in (1, 2, 3, 4)]
    images[0]["pos_category_ids"] = [5, 6]
    images[3]["pos_category_ids"] = [6]
    path = tmp_path / "labels.json"
    categories = [{"id": 5, "name": "bus"}, {"id": 6, "name": "bus:wheel"}, {"id": 7, "name": "van"}]
    annotations = [{"id": n, "image_id": 2, "category_id": c} for n, c in enumerate((7, 5, 7, 6))]
    path.write_text(json.dumps({"images": images, "categories": categories, "annotations": annotations}))
    return path


def test_labels_of_a_file_are_its_objects(labels: Path) -> None:
    assert [(i.image_id, i.labels) for i in read_labels(labels)] == [(1, ("bus",)), (2, ("van", "bus"))]
    assert [(i.image_id, i.labels) for i in read_labels(labels, only=["VAN"])] == [(2, ("van",))]


def test_a_file_with_wrong_ids(labels: Path) -> None:
    document = json.loads(labels.read_text())
    document["images"][0]["pos_category_ids"] = [99]
    labels.write_text(json.dumps(document))
    with pytest.raises(DataError, match="image 1 has the unknown category 99"):
        read_labels(labels)


def test_digest_sees_every_change() -> None:
    one = LabelledImage(image_id=1, file_name="a", labels=("x",))
    others = [
        LabelledImage(image_id=2, file_name="a", labels=("x",)),
        LabelledImage(image_id=1, file_name="a", labels=()),
    ]
    assert len({digest([one]), digest([one, one]), digest([]), *(digest([o]) for o in others)}) == 5
