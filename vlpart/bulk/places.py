"""Files and folders by address, here or in an object store, behind the one interface of pyarrow's file systems.

`s3://`, `gs://`, `abfs://` and `hdfs://` are pyarrow's own, what other addresses mean is asked of fsspec; anything
without `scheme://` is a path of this machine.
"""

from __future__ import annotations

import json
import os
import re
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from pyarrow import fs as arrow_fs

from vlpart.errors import DataError, OutputError
from vlpart.files import local_path, open_regular, read_at_most, why

ARROW_SCHEMES = ("s3", "gs", "gcs", "abfs", "abfss", "hdfs", "viewfs")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_MAX_JSON = 100_000_000


@dataclass(frozen=True)
class Place:
    """A file or folder, there or not.

    Attributes:
        files: the pyarrow file system.
        path: in that file system.
        address: what names it for people and for `reach`: a path of this machine, or an address without options.
    """

    files: Any
    path: str
    address: str

    @property
    def is_local(self) -> bool:
        """Whether it is in the file system of this machine."""
        return isinstance(self.files, arrow_fs.LocalFileSystem)

    def __truediv__(self, name: str) -> Place:
        """What is called `name` (with `/`, several levels) below this folder."""
        return Place(self.files, _joined(self.path, name), _joined(self.address, name))

    def kind(self) -> str:
        """ "file", "folder", or "" where there is nothing.

        Raises:
            OSError: it cannot be asked.
        """
        found = self.files.get_file_info(self.path).type
        return {arrow_fs.FileType.File: "file", arrow_fs.FileType.Directory: "folder"}.get(found, "")

    def names(self) -> list[tuple[str, bool]]:
        """(name, whether it is a folder) of what is in this folder, by name; [] where there is no such folder.

        On this machine, a link to a folder is not followed.

        Raises:
            OSError: it cannot be listed.
        """
        if self.is_local:
            try:
                with os.scandir(self.path) as entries:
                    found = [(each.name, each.is_dir(follow_symlinks=False), each.is_dir()) for each in entries]
            except FileNotFoundError:
                return []
            return sorted((name, real) for name, real, seen in found if real == seen)
        selector = arrow_fs.FileSelector(self.path, allow_not_found=True)
        infos = self.files.get_file_info(selector)
        return sorted({(each.base_name, each.type == arrow_fs.FileType.Directory) for each in infos if each.base_name})

    def read(self, limit: int) -> bytes | None:
        """All of a file, or None where it has more than `limit` bytes.

        Raises:
            OSError: it cannot be read.
        """
        with self.regular().files.open_input_stream(self.path) as stream:
            return read_at_most(stream, limit)

    def regular(self) -> Place:
        """This file, to be opened by pyarrow, which would wait for ever for a pipe of this machine.

        Raises:
            OSError: it is a pipe, a device or a folder of this machine, or cannot be opened.
        """
        if self.is_local:
            open_regular(self.path).close()
        return self

    def read_json(self) -> Any:
        """The content of a JSON file that this package wrote, or None where there is none.

        Raises:
            OutputError: it is damaged, or cannot be read.
        """
        try:
            data = self.read(_MAX_JSON)
            if data is None:
                raise ValueError(f"it has more than the {_MAX_JSON:,} bytes that are read")
            return json.loads(data)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError, MemoryError) as error:
            raise OutputError(f"cannot read {self.address}: {why(error)}") from error

    def write(self, data: bytes, beside: Place) -> None:
        """Write a file that is there whole or not at all, by way of a temporary one in the folder `beside`.

        Raises:
            OutputError: it cannot be written.
        """
        temporary = beside / f"{uuid.uuid4().hex}.tmp"

        def put() -> None:
            """Write beside the place, then move it there."""
            beside.make()
            with self.files.open_output_stream(temporary.path) as stream:
                stream.write(data)
            temporary.move(self)

        writing(self.address, put)

    def make(self) -> None:
        """Make this folder, and those it is in."""
        self.files.create_dir(self.path, recursive=True)

    def move(self, target: Place) -> None:
        """Give a file another name in the same file system; a file of that name is replaced."""
        target.parent.make()
        self.files.move(self.path, target.path)

    @property
    def parent(self) -> Place:
        """The folder this is in."""
        return Place(self.files, self.path.rpartition("/")[0] or "/", self.address.rpartition("/")[0])


def writing(address: str, action: Callable[[], None]) -> None:
    """Do what writes to `address`, and say in one line if it fails.

    Raises:
        OutputError: it does.
    """
    try:
        action()
    except (OSError, ValueError) as error:
        raise OutputError(f"cannot write {address}: {why(error)}") from error


@lru_cache(maxsize=64)
def open_place(address: str) -> Place:
    """What an address names; nothing is read yet.

    Args:
        address: a path, or scheme://... with options behind a `?` as pyarrow takes them
            (`s3://key:secret@bucket/photos?region=eu-west-1&endpoint_override=localhost:9000`).

    Raises:
        DataError: no such kind of address, or what it needs is not installed.
    """
    scheme = scheme_of(address)
    if scheme in ("", "file"):
        path = local_path(address[len("file://") :] if scheme else address).absolute()
        name = os.path.normpath(path)
        return Place(arrow_fs.LocalFileSystem(), Path(name).as_posix(), Path(name).as_posix())
    if scheme in ("http", "https"):
        raise DataError(
            f"{without_options(address)} cannot be listed: write the addresses of images into a file, a line each"
        )
    plain = without_options(address)
    try:
        if scheme in ARROW_SCHEMES:
            files, path = arrow_fs.FileSystem.from_uri(address)
        else:
            from fsspec.core import url_to_fs

            files, path = url_to_fs(address)
            files, plain = arrow_fs.PyFileSystem(arrow_fs.FSSpecHandler(files)), _without_secret(address).rstrip("/")
    except (ImportError, OSError, ValueError, NotImplementedError) as error:
        raise DataError(f"cannot open {plain}: {why(error)}") from error
    return Place(files, path.rstrip("/"), plain)


def without_options(address: str) -> str:
    """An address as people may see it: without what is behind a `?`, and without user and password."""
    if not scheme_of(address):
        return address
    return _without_secret(address).partition("?")[0].rstrip("/")


def _without_secret(address: str) -> str:
    return re.sub(r"(?<=://)[^/@]*:[^/@]*@", "", address)


def scheme_of(address: str) -> str:
    """`s3` of `s3://...`, in small letters; "" of a path."""
    found = _SCHEME.match(address)
    return found[1].lower() if found else ""


def reach(address: str, base: Place) -> Place:
    """The place of an address; below `base` in its file system, with its options.

    Raises:
        DataError: see `open_place`.
    """
    scheme = scheme_of(address)
    if not scheme:
        return Place(arrow_fs.LocalFileSystem(), address, address)
    if address.startswith(base.address + "/"):
        return base / address[len(base.address) + 1 :]
    if scheme in ("s3", "gs", "gcs") and scheme == scheme_of(base.address):  # another bucket, the same options
        return Place(base.files, address.partition("://")[2], address)
    scheme, _, rest = address.partition("://")
    host, _, inside = rest.partition("/")
    return open_place(f"{scheme}://{host}") / inside


def _joined(folder: str, name: str) -> str:
    return f"{folder.rstrip('/')}/{name}" if name else folder


def walk(folder: Place) -> Iterator[tuple[Place, bool]]:
    """(file, True) of a folder and of the folders below it, in the order of their names; hidden ones are left out.

    Only the names of one folder, and those of the folders still to come, are held at a time. A folder below that cannot
    be listed comes itself, with False.

    Raises:
        DataError: the folder cannot be listed.
    """
    waiting = [folder]
    while waiting:
        current = waiting.pop()
        try:
            names = current.names()
        except OSError as error:
            if current == folder:
                raise DataError(f"cannot list the folder {current.address}: {why(error)}") from error
            yield current, False
            continue
        visible = [(name, deeper) for name, deeper in names if not name.startswith(".")]
        yield from ((current / name, True) for name, deeper in visible if not deeper)
        waiting += [current / name for name, deeper in reversed(visible) if deeper]
