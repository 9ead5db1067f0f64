"""Downloads that can be interrupted: progress, resume, size and SHA-256, one process at a time per file.

A download is written to `<file>.part` and moved into place when it is whole and verified. What was downloaded is
recorded in `<file>.json` (address, size, SHA-256); a later use compares the file with that record, and with the
catalogue where it knows.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.client
import json
import shutil
import time
import urllib.error
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlpart import web
from vlpart.checks import natural
from vlpart.errors import DownloadError, WeightsError
from vlpart.files import cache_folder, read_regular
from vlpart.jobs import Progress
from vlpart.zoo.catalogue import ASSETS, ModelEntry, get_model

__all__ = ["Progress", "cache_folder", "download_file", "download_model", "sha256_of"]

BLOCK = 1 << 18
TRIES = 4
SLOWEST = 10_000
"""Bytes a second that a server must send on average, after twice the time-out."""
MAX_UNKNOWN_SIZE = 20_000_000_000
"""Bytes of a download whose size neither the catalogue nor the server tells."""
PAUSE = 0.25
"""Seconds before the second try; doubled each time."""
LOCK_TIMEOUT = 6 * 3600.0


def download_model(
    name: str,
    *,
    folder: Path | None = None,
    progress: Progress | None = None,
    force: bool = False,
    timeout: float = 30.0,
) -> Path:
    """The weight file of a model of the catalogue; downloaded if it is not there yet.

    Args:
        name: see `catalogue.list_models`.
        folder: where to keep it; default `cache_folder() / "models"`. Models that come with the package stay where
            they are.
        progress: told about the bytes as they arrive; the total is None if the server does not say.
        force: download again even if the file is there.
        timeout: seconds without an answer before a try counts as failed; a try also fails after twice that and a
            second for every `SLOWEST` bytes that came.

    Raises:
        ModelNotFoundError: no such model.
        DownloadError: it could not be downloaded or verified; the message says where to put the file by hand.
        WeightsError: the file of an embedded model is missing.
    """
    entry = get_model(name)
    if entry.file is not None:
        path = ASSETS / entry.file
        if not path.is_file():
            raise WeightsError(
                f"The file of the embedded model {name!r} is missing ({path}); install the package again."
            )
        return path
    if entry.url is None:
        raise DownloadError(f"The model {name!r} has no address to download from; give a weight file with --weights.")
    target = (folder or cache_folder() / "models") / entry.file_name
    try:
        return download_file(
            entry.url, target, size=entry.size, sha256=entry.sha256, progress=progress, force=force, timeout=timeout
        )
    except DownloadError as error:
        raise DownloadError(f"{str(error).rstrip('.')}. {_by_hand(entry, target)}") from error


def _by_hand(entry: ModelEntry, target: Path) -> str:
    url = web.shown(entry.url or "")
    return f"Without network: fetch {url} elsewhere, save it as {target}, or pass it with --weights FILE."


def download_file(
    url: str,
    target: Path,
    *,
    size: int | None = None,
    sha256: str | None = None,
    progress: Progress | None = None,
    force: bool = False,
    timeout: float = 30.0,
) -> Path:
    """Download `url` to `target`, or find that it is already there and right.

    An interrupted download goes on where it stopped, in this call (`TRIES` times) and in the next. Two processes that
    want the same file wait for one another.

    Args:
        size, sha256: what is expected; None = not known (the server's length is still checked, the hash is recorded).

    Returns:
        `target`.

    Raises:
        DownloadError: refused, not found, incomplete, of the wrong size or hash, or the disk is full.
    """
    from filelock import FileLock, Timeout

    if not url.startswith(("https://", "http://")):
        raise DownloadError(f"Only http and https addresses can be downloaded, not '{web.shown(url)}'.")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{target}.lock", timeout=LOCK_TIMEOUT):
            if not force and _already_there(target, size, sha256):
                return target
            return _fetch(_Job(url, target, size, sha256, progress or _silent, timeout))
    except Timeout as error:
        raise DownloadError(
            f"Another process has been downloading {target} for hours; remove {target}.lock if it is gone."
        ) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
            raise DownloadError(
                f"The disk is full: {target.parent} has no room for the download; "
                "free some or set VLPART_CACHE, then run it again to go on."
            ) from error
        raise DownloadError(
            f"{target.parent} cannot be written to ({error.strerror or error}); set VLPART_CACHE to another folder."
        ) from error


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# ---- one download


@dataclass
class _Job:
    url: str
    target: Path
    size: int | None
    sha256: str | None
    progress: Progress
    timeout: float

    @property
    def name(self) -> str:
        """The address for messages and records, without credentials."""
        return web.shown(self.url)

    @property
    def part(self) -> Path:
        return self.target.with_name(self.target.name + ".part")

    @property
    def notes(self) -> Path:
        """What the server said about the file that `part` is the beginning of."""
        return self.target.with_name(self.target.name + ".part.json")

    def forget(self) -> None:
        """Remove what was downloaded so far."""
        self.part.unlink(missing_ok=True)
        self.notes.unlink(missing_ok=True)


class _Interrupted(Exception):
    """The connection broke; another try may go on."""


def _silent(label: str, done: int, total: int | None) -> None:
    """The progress of nobody."""


def _fetch(job: _Job) -> Path:
    reason = ""
    for attempt in range(TRIES):
        before = _length(job.part)
        try:
            _receive(job)
            return _finish(job)
        except _Interrupted as error:
            reason = str(error)
            if _length(job.part) <= before and attempt:
                break  # nothing arrives any more
            time.sleep(PAUSE * 2**attempt)
    done = _length(job.part)
    kept = f"; {done} bytes are kept, run it again to go on" if done else ""
    raise DownloadError(f"{job.name} could not be downloaded: {reason}{kept}.")


def _receive(job: _Job) -> None:
    """Bring `job.part` to its full length, from where it is.

    Raises:
        _Interrupted: the connection failed or broke.
        DownloadError: the server refused, or offers something else than expected.
    """
    done = _length(job.part)
    if job.size is not None and done > job.size:
        job.forget()
        done = 0
    if job.size is not None and done == job.size:
        return
    notes = _read_json(job.notes) if done else {}
    if done and notes.get("url") != job.name:
        job.forget()
        done, notes = 0, {}
    headers = {"User-Agent": _user_agent(), "Accept-Encoding": "identity"}
    if done:
        headers["Range"] = f"bytes={done}-"
        if isinstance(version := notes.get("version"), str) and version.isprintable() and version:
            headers["If-Range"] = version
    try:
        with (
            web.Watch(2 * job.timeout) as watch,
            web.open_url(job.url, watch, timeout=job.timeout, headers=headers) as response,
        ):
            _copy(job, response, done, watch)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and done:
            if done == notes.get("total"):
                return
            job.forget()
            raise _Interrupted("the server has another file than before") from error
        answer = web.reason_of(error).removeprefix("HTTP ")
        if error.code in (408, 429, 500, 502, 503, 504):
            raise _Interrupted(f"the server answered {answer}") from error
        raise DownloadError(f"{job.name}: the server answered {answer}.") from error
    except _DiskError as error:
        raise error.cause from error
    except web.FAILURES as error:
        if isinstance(error, ValueError | http.client.InvalidURL):
            raise DownloadError(f"{job.name} cannot be downloaded: {web.reason_of(error)}.") from None
        raise _Interrupted(web.reason_of(error)) from error


def _copy(job: _Job, response: Any, done: int, watch: web.Watch) -> None:
    """Write the answer behind the `done` bytes that are there, or from the start if the server sends everything.

    Raises:
        _Interrupted: the answer ended too early, or is not what was asked for.
        DownloadError: a web page, or a file of another size than expected.
        OSError: the disk is full.
    """
    if "text/html" in response.headers.get("Content-Type", "").lower():
        raise DownloadError(f"{job.name} gives a web page, not a file (a login or an error page?).")
    if response.status != 206 or not response.headers.get("Content-Range", "").startswith(f"bytes {done}-"):
        if response.status == 206:
            job.forget()
            raise _Interrupted("the server sent another range than asked for")
        done = 0
    length = natural(response.headers.get("Content-Length", ""))
    total = None if length is None else done + length
    if done and total != _read_json(job.notes).get("total"):
        job.forget()
        raise _Interrupted("the server has another file than before")
    if job.size is not None and total is not None and total != job.size:
        job.forget()
        raise DownloadError(f"{job.name} has {total} bytes, but {job.size} are expected; the file there has changed.")
    limit = job.size or total or MAX_UNKNOWN_SIZE
    version = response.headers.get("ETag", "")
    version = response.headers.get("Last-Modified", "") if not version or version.startswith("W/") else version
    notes = {"url": job.name, "version": version, "total": total}
    started = time.monotonic()
    with _disk():
        free = shutil.disk_usage(job.part.parent).free
        if total is not None and total - done > free:
            raise OSError(errno.ENOSPC, f"{total - done} bytes are needed, {free} are free")
        job.notes.write_text(json.dumps(notes), encoding="utf-8")
        file = job.part.open("ab" if done else "wb")
    received = 0
    with file:
        job.progress(job.target.name, done, total)
        while block := response.read1(BLOCK):
            received += len(block)
            done += len(block)
            watch.extend(started + 2 * job.timeout + received / SLOWEST)
            if done > limit:
                break
            with _disk():
                file.write(block)
            job.progress(job.target.name, done, total)
        with _disk():
            file.flush()
    if done > limit:
        job.forget()
        raise DownloadError(f"{job.name} gives more than the {limit} bytes that are expected; nothing was kept.")
    if watch.expired and total is None:
        raise _Interrupted("it took too long")
    if total is not None and done < total:
        raise _Interrupted(f"the connection broke after {done} of {total} bytes")


class _DiskError(Exception):
    """Wraps an error of the disk, to be told from one of the network, which may be an OSError too."""

    def __init__(self, cause: OSError) -> None:
        super().__init__(str(cause))
        self.cause = cause


@contextlib.contextmanager
def _disk() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _DiskError(error) from error


def _finish(job: _Job) -> Path:
    """Verify the whole file, record it, move it into place."""
    size = _length(job.part)
    if job.size is not None and size != job.size:
        job.forget()
        raise DownloadError(f"{job.name} gave {size} bytes, but {job.size} are expected; nothing was kept.")
    if size == 0:
        job.forget()
        raise DownloadError(f"{job.name} gave an empty file.")
    digest = sha256_of(job.part)
    if job.sha256 is not None and digest != job.sha256:
        job.forget()
        raise DownloadError(f"{job.name} has the SHA-256 {digest}, but {job.sha256} is expected; nothing was kept.")
    job.part.replace(job.target)
    _record(job.target, job.name, digest)
    job.notes.unlink(missing_ok=True)
    return job.target


def _already_there(target: Path, size: int | None, sha256: str | None) -> bool:
    """Whether `target` is whole. Its hash is computed again only if the file changed since the record was written.

    Raises:
        DownloadError: it is there, but not what was recorded or what is expected.
    """
    if not target.is_file():
        return False
    state = target.stat()
    record = _read_json(_record_path(target))
    expected_size = size if size is not None else record.get("size")
    expected = sha256 or record.get("sha256")
    if expected_size is not None and state.st_size != expected_size:
        raise DownloadError(
            f"{target} has {state.st_size} bytes, but {expected_size} are expected; delete it and download again."
        )
    if expected is None:
        _record(target, None, sha256_of(target))  # put there by hand
        return True
    unchanged = record.get("mtime_ns") == state.st_mtime_ns and record.get("sha256") == expected
    if not unchanged:
        if sha256_of(target) != expected:
            raise DownloadError(f"{target} is damaged (its SHA-256 is not {expected}); delete it and download again.")
        _record(target, record.get("url"), expected)
    return True


def _record_path(target: Path) -> Path:
    return target.with_name(target.name + ".json")


def _record(target: Path, url: str | None, digest: str) -> None:
    state = target.stat()
    record = {"url": url, "size": state.st_size, "sha256": digest, "mtime_ns": state.st_mtime_ns}
    path = _record_path(target)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(record, indent=1), encoding="utf-8")
    temporary.replace(path)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(read_regular(path, 1_000_000).decode("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _length(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _user_agent() -> str:
    from vlpart import __version__

    return f"vlpart/{__version__}"
