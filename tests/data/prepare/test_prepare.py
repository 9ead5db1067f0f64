"""What all preparations share: names, folders, processes, and a full disk."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.data.prepare.conftest import rectangle, voc_xml, write_image, write_list, write_mat
from vlpart.data.prepare import DATASETS, prepare
from vlpart.data.prepare.common import LISTED, PrepareReport
from vlpart.errors import DataError, OutputError


def test_every_data_set_has_its_function() -> None:
    assert set(DATASETS) == {
        "coco",
        "lvis",
        "pascal_part",
        "pascal_part_one",
        "partimagenet",
        "in_s11",
        "in_s20",
        "golden",
        "voc",
        "lvis_minival",
        "paco",
    }
    assert all(callable(info.load()) for info in DATASETS.values())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [("ade20k", {}, "unknown data set 'ade20k'; known: pascal_part"), ("voc", {"base_only": True}, "no base classes")],
)
def test_wrong_requests(tmp_path: Path, name: str, options: dict[str, bool], message: str) -> None:
    with pytest.raises(DataError, match=message):
        prepare(name, tmp_path, **options)


def test_a_root_that_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a folder"):
        prepare("voc", tmp_path / "nowhere")


def make_voc(root: Path, number: int) -> None:
    folder = root / "VOC2007"
    (folder / "Annotations").mkdir(parents=True)
    stems = [f"{i:06}" for i in range(1, number + 1)]
    for stem in stems:
        (folder / "Annotations" / f"{stem}.xml").write_text(voc_xml([("dog", (1, 1, 5, 5), 0)] * 20))
        (folder / "JPEGImages").mkdir(exist_ok=True)
        (folder / "JPEGImages" / f"{stem}.jpg").write_bytes(b"")
    write_list(folder / "ImageSets" / "Main" / "train.txt", stems)


def test_two_processes_give_the_same_bytes_as_one(tmp_path: Path) -> None:
    pytest.importorskip("scipy")
    mats, voc = tmp_path / "Annotations_Part", tmp_path / "VOCdevkit" / "VOC2010"
    stems = [f"2008_{i:06}" for i in range(20)]
    for i, stem in enumerate(stems):
        write_mat(mats / f"{stem}.mat", [("cat", [("head", rectangle(20, 30, i, 0, i + 3, 9))])])
        write_image(voc / "JPEGImages" / f"{stem}.jpg")
    write_list(voc / "ImageSets" / "Main" / "train.txt", stems)
    write_list(voc / "ImageSets" / "Main" / "val.txt", stems[:1])
    seen: list[tuple[str, int, int]] = []
    prepare("pascal_part", tmp_path, tmp_path / "one", progress=lambda *step: seen.append(step))
    prepare("pascal_part", tmp_path, tmp_path / "two", processes=2)
    assert seen[:2] == [("pascal_part train", 0, 20), ("pascal_part train", 1, 20)]
    assert seen[20] == ("pascal_part train", 20, 20)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_an_output_that_cannot_be_written(tmp_path: Path) -> None:
    make_voc(tmp_path, 2)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot write"):
        prepare("voc", tmp_path, tmp_path / "file")


def test_the_output_is_tried_before_the_work(tmp_path: Path) -> None:
    make_voc(tmp_path, 2)
    (tmp_path / "file").write_text("in the way")
    seen: list[object] = []
    with pytest.raises(OutputError):
        prepare("voc", tmp_path, tmp_path / "file" / "below", progress=lambda *step: seen.append(step))
    assert seen == []


def test_a_list_of_problems_that_cannot_be_written_is_a_note(tmp_path: Path) -> None:
    make_voc(tmp_path, 2)
    (tmp_path / "VOC2007" / "Annotations" / "000001.xml").unlink()
    (tmp_path / "voc.problems.txt").mkdir()
    report = prepare("voc", tmp_path)
    assert len(report.problems) == 1
    assert report.problems_file is None
    assert "could not be brought up to date" in report.notes[-1]


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
def test_a_full_disk_leaves_the_earlier_file_and_nothing_half_written(tmp_path: Path) -> None:
    make_voc(tmp_path, 40)
    output = tmp_path / "out"
    output.mkdir()
    (output / "voc_2007_train.json").write_text("earlier")
    script = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "from vlpart.data.prepare import prepare\n"
        "from vlpart.errors import OutputError\n"
        "try:\n"
        f"    prepare('voc', {str(tmp_path)!r}, {str(output)!r})\n"
        "except OutputError as error:\n"
        "    print(error)\n"
    )
    command = [sys.executable, "-B", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.startswith(f"cannot write {output / 'voc_2007_train.json'}: ")
    assert [path.name for path in output.iterdir()] == ["voc_2007_train.json"]
    assert (output / "voc_2007_train.json").read_text() == "earlier"


def test_a_long_list_of_problems_is_cut_in_print_only() -> None:
    report = PrepareReport(dataset="x")
    for i in range(LISTED + 5):
        report.problem(f"file {i}", "two\nlines")
    lines = str(report).splitlines()
    assert sum("two lines" in line for line in lines) == LISTED
    assert "    ... and 5 more" in lines
