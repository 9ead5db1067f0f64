"""Paths as users name them, the folders that hold downloads, and writing files that are there whole or not at all."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import stat
import uuid
from functools import cache
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from platformdirs import user_cache_path

from vlpart.errors import OutputError

if TYPE_CHECKING:
    from tempfile import TemporaryDirectory

    from PIL import Image

logger = logging.getLogger("vlpart")

MAX_JSON_BYTES = 4_000_000_000
"""Bytes of a JSON file that are read at most; the annotations of the largest public datasets have half of it."""

MAX_TEXT_BYTES = 100_000_000
"""Bytes of a file of lines (names, a split, labels, `data.yaml`) that are read at most."""

_BLOCK = 1 << 24

IMAGE_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
"""Suffix (lower case) to the format an annotated image is written in."""

_OPTIONS: dict[str, dict[str, Any]] = {
    "PNG": {"compress_level": 3},
    "JPEG": {"quality": 92, "subsampling": 0},
    "WEBP": {"quality": 90},
}


def local_path(name: str | os.PathLike[str]) -> Path:
    """The path that a user names: `~` is the home folder, but `~backup.jpg`, where there is no such user, is a name."""
    path = Path(name)
    try:
        return path.expanduser()
    except RuntimeError:  # no such user, or no home folder
        return path


# Of a name that is too long, or that lies in a folder which may not be entered, pathlib raises; os.path says no.


def is_folder(path: str | os.PathLike[str]) -> bool:
    """Whether there is a folder of that name; False for names that no file system can hold."""
    return os.path.isdir(path)  # noqa: PTH112


def is_file(path: str | os.PathLike[str]) -> bool:
    """Whether there is a file of that name; False for names that no file system can hold."""
    return os.path.isfile(path)  # noqa: PTH113


def is_there(path: str | os.PathLike[str]) -> bool:
    """Whether there is anything of that name; False for names that no file system can hold."""
    return os.path.exists(path)  # noqa: PTH110


class NotRegularError(OSError):
    """The name is of a pipe, device, socket or folder; reading it could wait for ever or never end."""


def open_regular(path: str | os.PathLike[str], limit: int | None = None) -> BufferedReader:
    """Open a file of a user for reading, in binary mode; pipes, devices, sockets and folders are refused unopened.

    Args:
        limit: bytes that the file may have, None = any number.

    Raises:
        OSError: as from `open`; `NotRegularError` for what is not a regular file, with errno EFBIG for one that is too
            large. `strerror` is fit for a message.
        ValueError: a null character in the name.
    """
    path = os.fspath(path)  # a number would be what is open already
    _check_regular(os.stat(path).st_mode, path)  # noqa: PTH116  opening some devices does something already
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        state = os.fstat(descriptor)
        _check_regular(state.st_mode, path)  # it may have been exchanged in between
        if limit is not None and state.st_size > limit:
            raise OSError(errno.EFBIG, f"it has {state.st_size:,} bytes, more than the {limit:,} that are read", path)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_regular(path: str | os.PathLike[str], limit: int) -> bytes:
    """The content of a file of a user, of `limit` bytes at most; errors as `open_regular`.

    Files that grow while they are read, or say that they are empty and are not (as in /proc), are held to it as well.
    """
    with open_regular(path, limit) as file:
        data = read_at_most(file, limit)
    if data is None:
        raise OSError(errno.EFBIG, f"it has more than the {limit:,} bytes that are read", path)
    return data


def read_text(path: str | os.PathLike[str], limit: int = MAX_TEXT_BYTES, errors: str = "replace") -> str:
    """The text of a file of a user, in UTF-8 with or without a byte order mark.

    Args:
        errors: "replace" shows bytes that are no such text as U+FFFD, "strict" raises.

    Raises:
        OSError: as from `read_regular`.
        UnicodeDecodeError: it is no such text, and `errors` is "strict".
    """
    return read_regular(path, limit).decode("utf-8-sig", errors=errors)


def read_at_most(file: Any, limit: int) -> bytes | None:
    """All that an open binary file gives, or None if that is more than `limit` bytes; memory grows with what comes.

    Raises:
        TypeError: it gives text.
    """
    parts, size = [], 0
    while part := file.read(_BLOCK):
        if not isinstance(part, bytes | bytearray | memoryview):
            raise TypeError("it gives text")
        parts.append(bytes(part))
        size += len(part)
        if size > limit:
            return None
    return b"".join(parts)


def read_json(path: str | os.PathLike[str], limit: int = MAX_JSON_BYTES) -> Any:
    """The content of a JSON file of a user, in UTF-8 with or without a byte order mark, UTF-16 or UTF-32.

    Raises:
        OSError: as from `read_regular`.
        ValueError: not JSON, nested too deeply, not such text, or too large for the memory.
    """
    try:
        content = read_regular(path, limit)
        return json.loads(content.decode(json.detect_encoding(content)))
    except UnicodeDecodeError as error:
        raise ValueError("it is not UTF-8 text") from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except MemoryError as error:
        raise ValueError("it is too large for the memory") from error


def why(error: BaseException) -> str:
    """The reason in an error of reading or writing a file, in one line."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())[:300]


def _check_regular(mode: int, path: str | os.PathLike[str]) -> None:
    if stat.S_ISREG(mode):
        return
    kinds = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"))
    kind = next((name for test, name in kinds if test(mode)), "a device")
    raise NotRegularError(errno.EINVAL, f"it is {kind}, not a file", os.fspath(path))


def encode_image(image: Image.Image, kind: str, name: str) -> bytes:
    """The bytes of a "PNG", "JPEG" or "WEBP" file; `name` is for the message.

    Raises:
        OutputError: the format cannot hold the image (a WebP side has 16383 pixels at most).
    """
    buffer = BytesIO()
    try:
        image.save(buffer, kind, **_OPTIONS[kind])
    except (OSError, ValueError) as error:
        size = f"{image.width}x{image.height}"
        raise OutputError(f"cannot encode {name} ({size}) as {kind}, try .png: {error}") from error
    return buffer.getvalue()


def write_file(path: Path, data: bytes) -> Path:
    """Write a temporary file beside `path`, then rename it; folders are made as needed. Gives the path.

    Raises:
        OutputError: the folder cannot be made or written, the disk is full.
    """
    path = Path(path)
    temporary = _beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(data)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except (OSError, ValueError) as error:
        raise OutputError(f"cannot write {path}: {getattr(error, 'strerror', None) or error}") from error
    return path


def copy_file(source: str | os.PathLike[str], target: Path) -> Path:
    """Copy a file of a user to `target`, which is there whole or not at all; its folder must be there.

    Raises:
        OSError: as from `open_regular`, or `target` cannot be written.
    """
    temporary = _beside(target)
    try:
        with open_regular(source) as read, temporary.open("xb") as written:
            shutil.copyfileobj(read, written)
        return temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    """A hidden name in the same folder that nobody else has."""
    return path.with_name(f".{path.name[:50]}.{uuid.uuid4().hex[:8]}.tmp")  # up to 4 of 255 bytes a character


def cache_folder() -> Path:
    """The environment variable VLPART_CACHE, else "vlpart" in the platform's cache folder; not created here.

    Where there is no home folder, as for an unknown user in a container: a folder of this process alone.
    """
    chosen = os.environ.get("VLPART_CACHE")
    if chosen:
        return local_path(chosen).absolute()
    try:
        folder = user_cache_path("vlpart", appauthor=False, opinion=False)
    except RuntimeError:
        folder = Path()
    return folder if folder.is_absolute() else Path(_passing_folder().name)


@cache
def _passing_folder() -> TemporaryDirectory[str]:
    from tempfile import TemporaryDirectory

    folder = TemporaryDirectory(prefix="vlpart-")
    logger.warning(
        "there is no home folder: downloads and text vectors are kept in %s for this process alone; set VLPART_CACHE "
        "to a folder that stays",
        folder.name,
    )
    return folder
