"""Folders, lists and shards become a stream of addresses, always in the same order."""

from __future__ import annotations

import gzip
import io
import json
import sys
import tarfile
import tracemalloc
from pathlib import Path

import pytest

pytest.importorskip("pyarrow", reason='pyarrow is missing: pip install "vlpart[ray]"')
import pyarrow
from pyarrow import parquet

from vlpart.bulk.places import open_place, reach, walk
from vlpart.bulk.sources import list_items, members, root_of
from vlpart.errors import DataError, ImageError


def listed(source: str | Path, column: str = "path") -> list[str]:
    return [item.address for item in list_items(str(source), column)]


def test_a_folder_gives_images_and_shards_by_name_and_what_is_below_it_last(photos: Path) -> None:
    (photos / "a.TAR").write_bytes(b"")
    if sys.platform != "win32":  # where making a link needs a right of its own
        (photos / "up").symlink_to(photos, target_is_directory=True)
    items = list(list_items(str(photos)))
    names = [Path(item.address).relative_to(photos).as_posix() for item in items]
    assert names == ["0.png", "1.png", "2.png", "3.png", "3b.jpg", "4.png", "a.TAR", "more/5.png", "more/6.png"]
    assert [item.shard for item in items].index(True) == 6
    assert sum(item.shard for item in items) == 1


@pytest.mark.parametrize("kind", ["txt", "csv", "jsonl", "parquet"])
def test_a_list_names_images_relative_to_its_folder_or_anywhere(tmp_path: Path, kind: str) -> None:
    paths = ["a b.jpg", "./c/d.jpg", "/far/e.jpg", "s3://bucket/f.jpg", "https://example.org/g.jpg", "h.tar"]
    file = tmp_path / f"images.{kind}"
    if kind == "txt":
        file.write_text("# photos\n\n" + "\n".join(paths))
    elif kind == "csv":
        file.write_text("id,path\r\n" + "".join(f'{i},"{path}"\r\n' for i, path in enumerate(paths)), "utf-8-sig")
    elif kind == "jsonl":
        file.write_text("".join(json.dumps({"path": path, "id": 1}) + "\n" for path in paths))
    else:
        parquet.write_table(pyarrow.table({"id": range(len(paths)), "path": paths}), file)
    folder = tmp_path.as_posix()
    assert listed(file) == [f"{folder}/a b.jpg", f"{folder}/c/d.jpg", *paths[2:5], f"{folder}/h.tar"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "id,file\n1,x.jpg\n", "has no column 'path': choose one with --column (it has id, file)"),
        ("a.jsonl", '{"file": "x.jpg"}\n', "has no column 'path': choose one with --column (line 1 has file)"),
        ("a.jsonl", "[1]\n", "line 1 has no object of JSON"),
        ("a.jsonl", '{"path": 5}\n', "line 1: '5' is no path of an image"),
        ("a.jsonl", "{\n", "cannot read"),
        ("a.parquet", "PAR1", "cannot read"),
        ("a.txt", "x" * 2_000_000, "line 1 is longer than"),
    ],
)
def test_a_list_that_is_none_is_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError) as refused:
        listed(tmp_path / name)
    assert message in str(refused.value)
    assert name in str(refused.value)


def test_another_column_can_be_chosen(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("path,file\n1,/x.jpg\n")
    assert listed(tmp_path / "a.csv", "file") == ["/x.jpg"]


def test_a_pattern_in_the_last_place_chooses_shards_and_images(tmp_path: Path) -> None:
    for name in ("a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar", "b.tar", "c.jpg", "d.md"):
        (tmp_path / name).write_bytes(b"")

    def names(pattern: str) -> list[str]:
        return [Path(each).name for each in listed(tmp_path / pattern)]

    assert names("a-{08..10}.tar") == ["a-08.tar", "a-09.tar", "a-10.tar"]
    assert names("*") == ["a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar", "b.tar", "c.jpg"]
    assert names("[bc].*") == ["b.tar", "c.jpg"]
    with pytest.raises(DataError, match="matches x"):
        names("x*.tar")
    with pytest.raises(DataError, match="a pattern goes into the last place"):
        listed(tmp_path / "*" / "x.tar")
    with pytest.raises(DataError, match="is no range"):
        names("{5..4}.tar")


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no .*nothing: name a folder"):
        listed(tmp_path / "nothing")
    with pytest.raises(DataError, match="cannot be listed: write the addresses"):
        listed("https://example.org/photos")
    with pytest.raises(DataError, match="cannot open nosuch://x: Protocol not known"):
        listed("nosuch://x")


def test_an_object_store_of_fsspec_is_listed_and_read_like_a_folder() -> None:
    base = open_place("memory://bucket/photos")
    for name in ("b.png", "a.png", "deep/c.png", ".no.png"):
        (base / name).write(name.encode(), base / ".tmp")
    (base / "a.png").write(b"again", base / ".tmp")  # replaces the first
    assert listed("memory://bucket/photos") == [
        f"memory://bucket/photos/{name}" for name in ("a.png", "b.png", "deep/c.png")
    ]
    assert reach("memory://bucket/photos/a.png", base).read(100) == b"again"
    assert reach("memory://bucket/photos/deep/c.png", base).read(3) is None  # more than three bytes
    assert [each.address for each, _ in walk(base / "deep")] == ["memory://bucket/photos/deep/c.png"]
    assert root_of("memory://bucket/photos/*.tar").path == base.path
    assert root_of("memory://bucket/photos/list.csv").path == base.path
    assert (base / "nothing").kind() == ""
    assert (base / "nothing").names() == []


def test_options_of_an_address_stay_with_its_file_system() -> None:
    base = open_place("s3://key:secret@bucket/photos?region=eu-west-1&endpoint_override=localhost:9")
    assert base.address == "s3://bucket/photos"
    image = reach("s3://bucket/photos/x y.jpg", base)
    assert image.files is base.files
    assert image.path == "bucket/photos/x y.jpg"
    other = reach("s3://other/z.jpg", base)
    assert other.files is base.files
    assert other.path == "other/z.jpg"


def test_ranges_of_any_size_end_soon(tmp_path: Path) -> None:
    for name in ("a-0.png", "a-7.png", "b-7.png", "a-007.png"):
        (tmp_path / name).touch()
    assert listed(tmp_path / "a-{0..999999}.png") == [str(tmp_path / name) for name in ("a-0.png", "a-7.png")]
    assert listed(tmp_path / "?-{7..9}.png") == [str(tmp_path / name) for name in ("a-7.png", "b-7.png")]
    with pytest.raises(DataError, match="1,000 numbers at most"):
        listed(tmp_path / "*-{0..999999}.png")
    for digits in ("9" * 5000, "²"):
        with pytest.raises(DataError):
            listed(tmp_path / f"a-{{0..{digits}}}.png")


def test_names_of_members_are_not_read_without_end() -> None:
    """Packed, gigabytes of a name are a few megabytes."""
    head = tarfile.TarInfo("././@LongLink")
    head.type, head.size = tarfile.GNUTYPE_LONGNAME, 300_000_000
    packed = gzip.compress(head.tobuf() + bytes(300_000_000), 1)
    tracemalloc.start()
    ((_, reason),) = members(io.BytesIO(packed), "a.tar.gz")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert isinstance(reason, ImageError)
    assert "have 300,000,000 bytes" in str(reason)
    assert peak < 10_000_000


def shard(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def test_images_of_a_shard_come_in_its_order_and_the_rest_is_passed_over() -> None:
    data = shard({"b.jpg": b"1", "b.json": b"{}", "deep/a.PNG": b"2", "deep/.c.png": b"3"})
    found = list(members(io.BytesIO(data), "x.tar"))
    assert found == [("x.tar#b.jpg", b"1"), ("x.tar#deep/a.PNG", b"2")]


def test_a_shard_that_ends_early_says_so_after_what_could_be_read() -> None:
    data = shard({"a.jpg": b"1" * 600, "b.jpg": b"2" * 600})
    for size in (1536, 1900, 2048, 2100):  # after an image, in the next head, after it, in the next image
        first, last = list(members(io.BytesIO(data[:size]), "x.tar"))
        assert first == ("x.tar#a.jpg", b"1" * 600)
        assert last[0] == "x.tar"
        assert isinstance(last[1], ImageError)
        assert "damaged" in str(last[1])
    ((_, error),) = members(io.BytesIO(b"no tar file" * 100), "x.tar")
    assert isinstance(error, ImageError)
