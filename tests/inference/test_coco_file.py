"""The COCO file of a batch: whole or not there, whatever stops it."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from vlpart.errors import OutputError
from vlpart.inference.coco_file import CocoFile, make_folder, output_errors

CATEGORIES = [{"id": 7, "name": "café"}]


def image(file_name: str, height: int, width: int) -> dict[str, Any]:
    return {"file_name": file_name, "height": height, "width": width}


def annotation(score: float) -> dict[str, object]:
    return {"category_id": 7, "bbox": [1, 2, 3, 4], "score": score}


def test_coco_file_of_images_with_and_without_annotations(tmp_path: Path) -> None:
    with CocoFile(tmp_path / "coco.json", {"description": "x"}, lambda: CATEGORIES) as coco:
        coco.add(image("a.jpg", 4, 5), [])
        coco.add(image("ü.jpg", 6, 7), [annotation(0.5), annotation(0.25)])
        coco.add(image("c.jpg", 8, 9), [annotation(0.125)])
        assert not (tmp_path / "coco.json").exists()
    data = json.loads((tmp_path / "coco.json").read_text(encoding="utf-8"))
    assert data["categories"] == CATEGORIES
    assert data["images"][1] == {"id": 2, "file_name": "ü.jpg", "height": 6, "width": 7}
    assert [(x["id"], x["image_id"], x["score"]) for x in data["annotations"]] == [
        (1, 2, 0.5),
        (2, 2, 0.25),
        (3, 3, 0.125),
    ]
    assert os.listdir(tmp_path) == ["coco.json"]


def test_coco_file_without_images_is_not_written(tmp_path: Path) -> None:
    with CocoFile(tmp_path / "coco.json", {}, lambda: CATEGORIES):
        pass
    assert os.listdir(tmp_path) == []


def test_coco_file_replaces_that_of_an_earlier_run(tmp_path: Path) -> None:
    (tmp_path / "coco.json").write_text("old")
    with CocoFile(tmp_path / "coco.json", {}, lambda: CATEGORIES) as coco:
        coco.add(image("a.jpg", 4, 5), [])
    assert json.loads((tmp_path / "coco.json").read_text())["images"][0]["file_name"] == "a.jpg"


class Interrupting:
    """A stream that writes half of what it is given and is then interrupted."""

    def __init__(self, stream: object) -> None:
        self._stream = stream

    def write(self, data: memoryview) -> int:
        self._stream.write(data[: len(data) // 2])  # type: ignore[attr-defined]
        raise KeyboardInterrupt

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


@pytest.mark.parametrize("stream", ["_annotations", "_images"])
def test_an_interrupt_in_the_middle_of_a_write_leaves_complete_images(tmp_path: Path, stream: str) -> None:
    coco = CocoFile(tmp_path / "coco.json", {}, lambda: CATEGORIES)
    with pytest.raises(KeyboardInterrupt), coco:
        coco.add(image("a.jpg", 4, 5), [annotation(0.5)])
        whole = getattr(coco, stream)
        setattr(coco, stream, Interrupting(whole))
        try:
            coco.add(image("b.jpg", 4, 5), [annotation(0.25)])
        finally:
            setattr(coco, stream, whole)
    data = json.loads((tmp_path / "coco.json").read_text())
    assert [image["file_name"] for image in data["images"]] == ["a.jpg"]
    assert [x["score"] for x in data["annotations"]] == [0.5]
    assert os.listdir(tmp_path) == ["coco.json"]


@pytest.mark.parametrize("calls", [0, 1])
def test_a_full_disk_at_the_start_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    """Refused when the second file is opened, or when the first line is written."""
    if calls:
        monkeypatch.setattr(CocoFile, "_put", full_disk)
    else:
        opened, really = [], Path.open

        def open_one(path: Path, *arguments: object, **options: object) -> object:
            opened.append(path)
            return really(path, *arguments, **options) if len(opened) == 1 else full_disk()

        monkeypatch.setattr(Path, "open", open_one)
    with pytest.raises((OutputError, OSError), match="No space left"):
        CocoFile(tmp_path / "coco.json", {}, lambda: CATEGORIES)
    assert os.listdir(tmp_path) == []


def full_disk(*_: object) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("number", "advice"), [(errno.ENOSPC, "free some space or choose"), (errno.EACCES, "; choose")]
)
def test_the_advice_fits_the_error(tmp_path: Path, number: int, advice: str) -> None:
    with pytest.raises(OutputError, match=advice), output_errors(tmp_path):
        raise OSError(number, "refused")


def test_a_file_is_no_output_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file: it is a file; choose a folder with --output"):
        make_folder(tmp_path / "file")
    with pytest.raises(OutputError, match="cannot write"):
        make_folder(tmp_path / ("n" * 300))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_while_writing_coco_is_an_output_error(tmp_path: Path) -> None:
    coco = CocoFile(tmp_path / "coco.json", {}, lambda: CATEGORIES)
    with pytest.raises(OutputError, match="No space left"), coco:
        coco.add(image("a.jpg", 4, 5), [annotation(0.5)])
        whole = coco._annotations
        with Path("/dev/full").open("wb", buffering=0) as full:
            coco._annotations = full
            try:
                coco.add(image("b.jpg", 4, 5), [annotation(0.25)])
            finally:
                coco._annotations = whole
    assert [image["file_name"] for image in json.loads((tmp_path / "coco.json").read_text())["images"]] == ["a.jpg"]
