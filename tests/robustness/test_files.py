"""Whatever opens a file of a user refuses what is no regular file, and bounds what it reads."""

from __future__ import annotations

import io
import os
import signal
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest

from tests.robustness.mutations import KINDS
from vlpart.annotation_parser.bank import HEADER, ReferenceBank
from vlpart.annotation_parser.output import settings_of
from vlpart.data import images
from vlpart.data.check.leaks import digest
from vlpart.data.convert.edit import read_renames
from vlpart.data.prepare import pascal_part
from vlpart.data.readers import label_maps, yolo
from vlpart.data.readers.coco import load_json
from vlpart.data.readers.cvat import read_cvat
from vlpart.data.readers.dataset import size_of
from vlpart.data.readers.detect import detect
from vlpart.data.readers.voc import list_voc, parse_xml
from vlpart.errors import DataError, EvaluationError, OutputError, VlpartError
from vlpart.evaluation.detections import read_content
from vlpart.evaluation.shards import read_shards
from vlpart.files import MAX_TEXT_BYTES, copy_file, read_text
from vlpart.inference.output import _write_yolo_data
from vlpart.jobs import Job
from vlpart.results.result import Result
from vlpart.text.encoders import _read
from vlpart.text.vocabulary import Vocabulary
from vlpart.training.checkpoint import load_checkpoint
from vlpart.training.logging import read_log
from vlpart.zoo.run_folder import open_run
from vlpart.zoo.weights import load_state_dict

pipes = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")


@contextmanager
def limit(seconds: int) -> Iterator[None]:
    """Fail instead of waiting for ever."""

    def late(number: int, frame: FrameType | None) -> None:
        raise AssertionError("it waits for somebody to write")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "annotations": ("a.json", load_json),
    "annotations of any form": ("a.json", detect),
    "bank": (HEADER, lambda path: ReferenceBank(path.parent)),
    "checkpoint": ("step_00000001.pt", load_checkpoint),
    "CVAT": ("annotations.xml", lambda path: read_cvat(path)),
    "detections": ("d.json", read_content),
    "detections by line": ("d.jsonl", read_content),
    "image": ("i.png", KINDS["images"].read),
    "label map": ("l.png", lambda path: label_maps._regions(path, (4, 4), {}, {}, None)),  # type: ignore[arg-type]
    "label map names": ("labelmap.txt", label_maps._read_names),
    "log": ("log.jsonl", read_log),
    "MATLAB": ("m.mat", pascal_part.read_mat),
    "names of YOLO labels": ("data.yaml", lambda path: _write_yolo_data(path, Vocabulary.parse("dog"))),
    "renames": ("r.txt", lambda path: read_renames([str(path)])),
    "result": ("r.json", Result.load),
    "run folder": ("recipe.json", lambda path: open_run(path.parent)),
    "shards": ("00000.jsonl", lambda path: read_shards(path.parent)),
    "size of an image": ("s.png", size_of),
    "VOC": ("v.xml", parse_xml),
    "VOC list": ("v.txt", list_voc),
    "vocabulary": ("v.txt", Vocabulary.load),
    "weights": ("w.pth", load_state_dict),
    "YOLO": ("data.yaml", yolo.read_yaml),
}


@pipes
@pytest.mark.parametrize("name", READERS)
def test_pipes_are_refused(name: str, tmp_path: Path) -> None:
    file, read = READERS[name]
    os.mkfifo(tmp_path / file)
    with limit(20), pytest.raises(VlpartError) as caught:
        read(tmp_path / file)
    assert "\n" not in str(caught.value)


@pipes
def test_pipes_that_are_no_error(tmp_path: Path) -> None:
    """What can be had otherwise, or is looked at by the way, is passed over."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with limit(20):
        assert _read(pipe, "key", (1, 1)) is None
        assert digest(pipe) is None
        with pytest.raises(OSError, match="a pipe"):
            settings_of(pipe)
        with pytest.raises(OSError, match="a pipe"):
            copy_file(pipe, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no /dev/zero here")
@pytest.mark.parametrize("name", ["annotations", "YOLO", "VOC list", "result", "MATLAB"])
def test_devices_are_refused(name: str, tmp_path: Path) -> None:
    file, read = READERS[name]
    (tmp_path / file).symlink_to("/dev/zero")
    with limit(20), pytest.raises(VlpartError, match="a device"):
        read(tmp_path / file)


@pytest.mark.parametrize("name", ["YOLO", "VOC list", "label map names", "renames", "VOC", "MATLAB"])
def test_files_over_the_limit_are_refused_unread(name: str, tmp_path: Path) -> None:
    file, read = READERS[name]
    with (tmp_path / file).open("wb") as sparse:
        sparse.truncate(MAX_TEXT_BYTES + 1)
    with pytest.raises(DataError, match="more than"):
        read(tmp_path / file)


def test_text_of_files(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_bytes(b"\xef\xbb\xbfa\xff")
    assert read_text(path) == "a�"
    with pytest.raises(UnicodeDecodeError):
        read_text(path, errors="strict")


def test_copies_are_whole_or_absent(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"content")
    assert copy_file(tmp_path / "a", tmp_path / "b").read_bytes() == b"content"
    with pytest.raises(FileNotFoundError):
        copy_file(tmp_path / "nothing", tmp_path / "c")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_a_matlab_file_that_unpacks_to_gigabytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("scipy")
    monkeypatch.setattr(pascal_part, "MAX_UNPACKED", 1_000_000)
    packed = zlib.compress(bytes(2_000_000))
    path = tmp_path / "a.mat"
    path.write_bytes(b"MATLAB 5.0".ljust(124) + b"\0\1IM" + struct.pack("<II", 15, len(packed)) + packed)
    with pytest.raises(DataError, match="unpacks to more than"):
        pascal_part.read_mat(path)


def test_small_matlab_files_are_read_as_before() -> None:
    scipy_io = pytest.importorskip("scipy.io")
    for compressed in (False, True):
        buffer = io.BytesIO()
        scipy_io.savemat(buffer, {"anno": [1, 2, 3]}, do_compression=compressed)
        pascal_part._check_unpacked(buffer.getvalue())


def job(folder: Path) -> Job:
    return Job(folder=folder, settings={"a": 1}, total=2)


def finished(folder: Path, line: bytes) -> list[object]:
    """The records of a job whose folder holds the line of item 0, and which computes what is missing."""
    records: list[object] = []
    folder.mkdir()
    (folder / "settings.json").write_text('{"a": 1, "items": 2}')
    (folder / "items-0-x.jsonl").write_bytes(line)
    job(folder).run(lambda items: ((item, {"made": item}) for item in items), records.extend)
    return records


def test_lines_of_jobs_that_are_not_theirs_do_not_count(tmp_path: Path) -> None:
    foreign = b'{"item": 7, "record": {"b": 1}}\n{"item": %s, "record": {}}\n\xff\n{"item": 1' % (b"9" * 5000)
    assert finished(tmp_path / "job", foreign) == [{"made": 0}, {"made": 1}]


def test_damaged_lines_of_jobs_are_one_typed_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is damaged"):
        finished(tmp_path / "job", b'{"item": 0, "record": {"b": }}\n')


@pipes
def test_jobs_do_not_wait_for_pipes(tmp_path: Path) -> None:
    (tmp_path / "job").mkdir()
    os.mkfifo(tmp_path / "job" / "items-0-x.jsonl")
    with limit(20), pytest.raises(VlpartError, match="a pipe"):
        job(tmp_path / "job").run(lambda items: ((item, {}) for item in items), lambda records: None)


def test_limits_are_those_of_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_FILE_BYTES", 10)
    (tmp_path / "a.png").write_bytes(bytes(11))
    with pytest.raises(VlpartError, match="more than"):
        KINDS["images"].read(tmp_path / "a.png")


def test_predictions_that_are_nested_too_deep(tmp_path: Path) -> None:
    (tmp_path / "d.json").write_text("[" * 200_000)
    with pytest.raises(EvaluationError, match="nested too deeply"):
        read_content(tmp_path / "d.json")
