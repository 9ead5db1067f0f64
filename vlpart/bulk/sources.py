"""What `vlpart bulk` reads: folders, lists of images, shards of images in tar files; as a stream in a fixed order."""

from __future__ import annotations

import csv
import io
import json
import re
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import IO, Any, cast

import pyarrow
from pyarrow import parquet

from vlpart.bulk.places import Place, open_place, scheme_of, walk
from vlpart.data.image_files import IMAGE_SUFFIXES
from vlpart.data.images import MAX_FILE_BYTES
from vlpart.errors import DataError, ImageError
from vlpart.files import why

SHARDS = (".tar", ".tar.gz", ".tgz")
LISTS = (".txt", ".csv", ".jsonl", ".ndjson", ".parquet")
_MAX_LINE = 1 << 20
_MOST_PATTERNS = 1000  # that every name is compared with
_RANGE = re.compile(r"\{([0-9]{1,18})\.\.([0-9]{1,18})\}")
_BROKEN = (tarfile.TarError, EOFError, zlib.error, UnicodeDecodeError)


@dataclass(frozen=True)
class Item:
    """Something to read: the address of an image, or of a shard."""

    address: str
    shard: bool = False


def root_of(source: str) -> Place:
    """The folder that a source is in or is: addresses below it are read with its options.

    Raises:
        DataError: see `open_place`.
    """
    place = open_place(_without_pattern(source)[0])
    return place.parent if _is_list(place.address) or _has(place.address, SHARDS) else place


def list_items(source: str, column: str = "path") -> Iterator[Item]:
    """The images and shards of a source, one after the other.

    Args:
        source: a folder, with all that is below it; an image; a shard (.tar); a pattern in the last place of an address
            (`shards/*.tar`, `train-{000..099}.tar`); or a list of images (.txt with a line each, .csv, .jsonl,
            .parquet). What a list names without a scheme is relative to its folder.
        column: of a list, where the addresses are.

    Raises:
        DataError: there is nothing, it cannot be read, or a list has no such column.
    """
    address, pattern = _without_pattern(source)
    place = open_place(address)
    try:
        kind = place.kind()
    except OSError as error:
        raise DataError(f"cannot read {place.address}: {why(error)}") from error
    if pattern:
        return _matching(place, pattern)
    if kind == "folder":
        return _of_folder(place)
    if not kind:
        hint = "; a pattern goes into the last place, as in shards/*.tar" if "*" in place.address else ""
        raise DataError(f"there is no {place.address}: name a folder, a list of images, or shards (.tar){hint}")
    if _is_list(place.address):
        return _of_list(place, column)
    return iter([Item(place.address, _has(place.address, SHARDS))])


def _of_folder(folder: Place) -> Iterator[Item]:
    """What is below a folder; a folder that cannot be listed is taken for an image, which then cannot be read."""
    for place, listed in walk(folder):
        item = _item(place) if listed else Item(place.address)
        if item is not None:
            yield item


def _item(place: Place) -> Item | None:
    """A file of a folder, if it is an image or a shard."""
    shard = _has(place.address, SHARDS)
    return Item(place.address, shard) if shard or _has(place.address, IMAGE_SUFFIXES) else None


def _has(address: str, endings: tuple[str, ...]) -> bool:
    return address.lower().endswith(endings)


def _is_list(address: str) -> bool:
    return _has(address, LISTS)


# ---- patterns


def _without_pattern(source: str) -> tuple[str, str]:
    """(folder, pattern) of an address whose last place is a pattern; (source, "") of any other."""
    path, mark, options = source.partition("?") if scheme_of(source) else (source, "", "")
    folder, slash, name = path.rpartition("/")
    if not any(sign in name for sign in "*[{") and not ("?" in name and not scheme_of(source)):
        return source, ""
    return (folder or slash or ".") + mark + options, name


def _matching(folder: Place, pattern: str) -> Iterator[Item]:
    wanted = set(_expanded(pattern))
    try:
        names = [name for name, deeper in folder.names() if not deeper]
    except OSError as error:
        raise DataError(f"cannot list the folder {folder.address}: {why(error)}") from error
    plain = len(wanted) > 1 and not _signs(pattern)
    found = [name for name in names if name in wanted or (not plain and any(fnmatchcase(name, p) for p in wanted))]
    items = [item for item in (_item(folder / name) for name in found) if item is not None]
    if not items:
        raise DataError(f"no image and no shard (.tar) in {folder.address} matches {pattern}")
    yield from items


def _signs(pattern: str) -> bool:
    return any(sign in pattern for sign in "*?[")


def _expanded(pattern: str) -> list[str]:
    """`a-{08..11}.tar` as a-08.tar to a-11.tar, as webdataset writes it."""
    found = _RANGE.search(pattern)
    if found is None:
        return [pattern]
    first, last = int(found[1]), int(found[2])
    if not first <= last < first + 1_000_000:
        raise DataError(f"{found[0]} in {pattern} is no range of at most a million numbers, as in {{000..099}}")
    if _signs(pattern) and last - first >= _MOST_PATTERNS:
        raise DataError(f"{found[0]} in {pattern}: beside * ? [ there are {_MOST_PATTERNS:,} numbers at most")
    width = len(found[1])
    return [f"{pattern[: found.start()]}{i:0{width}}{pattern[found.end() :]}" for i in range(first, last + 1)]


# ---- lists


def _of_list(place: Place, column: str) -> Iterator[Item]:
    rows = {"parquet": _of_parquet, "txt": _of_text, "csv": _of_csv}.get(place.address.lower().rsplit(".", 1)[1])
    folder = place.parent
    try:
        for number, value in (rows or _of_json)(place, column):
            if not isinstance(value, str) or not value.strip() or "\0" in value:
                raise DataError(f"{place.address}, line {number}: '{str(value)[:80]}' is no path of an image")
            named = value.strip()
            if not scheme_of(named) and not PurePosixPath(named).is_absolute() and named[1:2] != ":":
                named = (folder / named.removeprefix("./")).address
            yield Item(named, _has(named, SHARDS))
    except (OSError, ValueError, csv.Error, pyarrow.ArrowException) as error:
        raise DataError(f"cannot read {place.address}: {why(error)}") from error


def _lines(place: Place) -> Iterator[tuple[int, str]]:
    with place.regular().files.open_input_stream(place.path) as stream:
        file = io.BufferedReader(stream, 1 << 20)
        number = 0
        while line := file.readline(_MAX_LINE):
            number += 1
            if len(line) == _MAX_LINE:
                raise DataError(f"{place.address}, line {number} is longer than {_MAX_LINE:,} bytes: it is no list")
            yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")


def _of_text(place: Place, column: str) -> Iterator[tuple[int, Any]]:
    for number, line in _lines(place):
        if line.strip() and not line.startswith("#"):
            yield number, line


def _of_json(place: Place, column: str) -> Iterator[tuple[int, Any]]:
    for number, line in _lines(place):
        if line.strip():
            row = json.loads(line)
            if not isinstance(row, dict) or column not in row:
                known = ", ".join(row) if isinstance(row, dict) else "no object of JSON"
                raise DataError(_no_column(place, column, f"line {number} has {known[:200]}"))
            yield number, row[column]


def _of_csv(place: Place, column: str) -> Iterator[tuple[int, Any]]:
    reader = csv.DictReader(line for _, line in _lines(place))
    names = reader.fieldnames or []
    if column not in names:
        raise DataError(_no_column(place, column, f"it has {', '.join(names)[:200]}"))
    for row in reader:
        yield reader.line_num, row[column]


def _of_parquet(place: Place, column: str) -> Iterator[tuple[int, Any]]:
    with parquet.ParquetFile(place.regular().path, filesystem=place.files) as file:
        names = file.schema_arrow.names
        if column not in names:
            raise DataError(_no_column(place, column, f"it has {', '.join(names)[:200]}"))
        number = 0
        for batch in file.iter_batches(batch_size=10_000, columns=[column]):
            for value in batch.column(0).to_pylist():
                number += 1
                yield number, value


def _no_column(place: Place, column: str, there: str) -> str:
    return f"{place.address} has no column '{column}': choose one with --column ({there})"


# ---- shards


class _Member(tarfile.TarInfo):
    """A member whose long name or attributes are read into memory only if they are of a usual size."""

    def _proc_member(self, archive: tarfile.TarFile) -> Any:  # the entry point that tarfile has for this
        described = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE)
        if self.type in (*described, tarfile.SOLARIS_XHDTYPE) and self.size > _MAX_LINE:
            raise tarfile.ReadError(f"a name or its attributes have {self.size:,} bytes")
        return super()._proc_member(archive)  # type: ignore[misc]


class _Tail:
    """A stream that remembers the end of what was read of it: tarfile takes a cut between two members for the end."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._size, self._last = stream, 0, b""

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self._size += len(data)
        self._last = (self._last + data)[-tarfile.BLOCKSIZE :]
        return data

    def is_end(self) -> bool:
        """Whether an archive may end here: after whole blocks, with one of zeros."""
        return self._size % tarfile.BLOCKSIZE == 0 and not any(self._last)


def members(stream: IO[bytes], address: str) -> Iterator[tuple[str, bytes | ImageError]]:
    """(name, content) of the images of a shard, in its order, read once from front to end; others are passed over.

    One that is too large comes as the reason; so does, under the name of the shard, what ends it before its end.

    Raises:
        OSError: the stream cannot be read any further.
    """
    raw = _Tail(stream)
    try:
        with tarfile.open(fileobj=cast("IO[bytes]", raw), mode="r|*", tarinfo=_Member) as archive:
            for member in archive:
                name = PurePosixPath(member.name)
                if not member.isreg() or name.name.startswith(".") or not _has(member.name, IMAGE_SUFFIXES):
                    continue
                if member.size > MAX_FILE_BYTES:
                    yield f"{address}#{member.name}", ImageError(f"it has more than the {MAX_FILE_BYTES:,} bytes read")
                    continue
                file = archive.extractfile(member)
                assert file is not None  # of a regular file
                yield f"{address}#{member.name}", file.read()
        if _has(address, SHARDS[:1]) and not raw.is_end():  # of compressed ones, the end is checked
            raise EOFError("it has no end")
    except _BROKEN as error:
        yield address, ImageError(f"the shard is damaged, what comes after is lost: {why(error)}")
