"""Names, whole files and the growing COCO file."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from vlpart.errors import OutputError
from vlpart.files import write_file
from vlpart.inference.coco_file import CocoFile, make_folder, output_errors
from vlpart.inference.output import OutputNames, SourceProtectedError


def touch(*paths: Path) -> list[str]:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"source")
    return [str(path) for path in paths]


def test_files_of_one_folder_are_named_by_their_stem(tmp_path: Path) -> None:
    sources = touch(tmp_path / "a.jpg", tmp_path / "b.JPEG")
    names = OutputNames(sources, tmp_path / "out")
    assert [names.stem(source) for source in sources] == ["a", "b"]


def test_same_stem_in_two_folders_keeps_the_folders(tmp_path: Path) -> None:
    sources = touch(tmp_path / "x" / "p.jpg", tmp_path / "y" / "p.jpg")
    names = OutputNames(sources, tmp_path / "out")
    assert [names.stem(source) for source in sources] == ["x/p", "y/p"]
    assert names.relative(sources[1]) == "y/p.jpg"


def test_images_that_differ_only_in_suffix_or_case_are_numbered(tmp_path: Path) -> None:
    sources = touch(tmp_path / "p.jpg", tmp_path / "p.png", tmp_path / "P.webp")
    names = OutputNames([str(tmp_path)], tmp_path / "out")
    assert [names.stem(source) for source in sources] == ["p", "p-2", "P-3"]


def test_a_number_does_not_take_the_name_of_another_image(tmp_path: Path) -> None:
    sources = touch(tmp_path / "p-2.jpg", tmp_path / "p.jpg", tmp_path / "p.png")
    names = OutputNames(sources, tmp_path / "out")
    assert [names.stem(source) for source in sources] == ["p-2", "p", "p-3"]


def test_folders_and_files_together_share_the_folder_above(tmp_path: Path) -> None:
    inside, beside = touch(tmp_path / "album" / "day" / "p.jpg", tmp_path / "p.jpg")
    names = OutputNames([str(tmp_path / "album"), beside], tmp_path / "out")
    assert [names.stem(inside), names.stem(beside)] == ["album/day/p", "p"]


@pytest.mark.parametrize(
    ("address", "stem"),
    [
        ("https://example.org/cats/my%20cat.jpg?size=large", "my_cat"),
        ("https://example.org/", "example.org"),
        ("https://example.org/..%2f..%2fetc%2fpasswd", "passwd"),
        ("https://example.org/" + "n" * 500 + ".jpg", "n" * 120),
        ("https://example.org/" + "%E7%8C%AB" * 100 + ".jpg", "猫" * 76),
    ],
)
def test_addresses_give_plain_file_names(tmp_path: Path, address: str, stem: str) -> None:
    assert OutputNames([address], tmp_path).stem(address) == stem


def test_the_longest_file_names_leave_room_for_what_is_added(tmp_path: Path) -> None:
    first, second = touch(tmp_path / ("猫" * 83 + ".jpg"), tmp_path / ("猫" * 83 + ".png"))
    names = OutputNames([first, second], tmp_path / "out")
    stems = [names.stem(first), names.stem(second)]
    assert stems == ["猫" * 76, "猫" * 76 + "-2"]
    for stem in stems:
        write_file(names.target(stem + "_parts.json"), b"{}")


def test_names_that_no_file_system_holds_are_no_trouble_yet(tmp_path: Path) -> None:
    for name in ("n" * 300 + ".jpg", "n" * 300 + "*.jpg", "~nobody is called so.jpg"):
        names = OutputNames([name], tmp_path / "out")
        assert names.relative(name) == name
        assert names.stem(name) is not None


def test_the_output_folder_must_not_be_a_source_folder(tmp_path: Path) -> None:
    touch(tmp_path / "album" / "p.jpg")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "album")
    for output in (tmp_path / "album", tmp_path / "album" / ".." / "album", link):
        with pytest.raises(OutputError, match="choose another with --output"):
            OutputNames([str(tmp_path / "album")], output)


def test_results_in_a_subfolder_of_the_source_are_not_sources(tmp_path: Path) -> None:
    source, result = touch(tmp_path / "p.jpg", tmp_path / "out" / "p_parts.jpg")
    names = OutputNames([str(tmp_path)], tmp_path / "out")
    assert names.stem(result) is None
    assert names.stem(source) is not None
    assert names.target("p_parts.jpg") == tmp_path / "out" / "p_parts.jpg"  # a second run may replace it
    assert OutputNames([result], tmp_path / "out").stem(result) is not None  # named explicitly: a source


def test_a_result_never_takes_the_name_of_a_source(tmp_path: Path) -> None:
    sources = touch(tmp_path / "p.jpg", tmp_path / "p_parts.jpg")
    names = OutputNames(sources, tmp_path)
    with pytest.raises(SourceProtectedError, match=r"p_parts\.jpg would overwrite a source"):
        names.target("p_parts.jpg")
    assert names.target("p_parts.json") == tmp_path / "p_parts.json"


def test_a_source_is_recognised_through_links(tmp_path: Path) -> None:
    (source,) = touch(tmp_path / "real" / "q_parts.jpg")
    folder_link = tmp_path / "folder"
    folder_link.symlink_to(tmp_path / "real")
    with pytest.raises(SourceProtectedError):
        OutputNames([source], folder_link).target("q_parts.jpg")
    file_link = tmp_path / "out" / "q_parts.jpg"
    file_link.parent.mkdir()
    file_link.symlink_to(source)
    with pytest.raises(SourceProtectedError):
        OutputNames([source], tmp_path / "out").target("q_parts.jpg")
    with pytest.raises(SourceProtectedError):
        OutputNames([str(file_link)], tmp_path / "out").target("q_parts.jpg")


def test_a_pattern_protects_what_it_may_match(tmp_path: Path) -> None:
    touch(tmp_path / "p.jpg", tmp_path / "p_parts.jpg")
    names = OutputNames([str(tmp_path / "*.jpg")], tmp_path)
    with pytest.raises(SourceProtectedError):
        names.target("p_parts.jpg")
    assert names.target("other_parts.jpg").name == "other_parts.jpg"


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
    touch(tmp_path / "file")
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
