"""Downloads that can be interrupted: progress, resume, size and SHA-256, one process at a time per file.

A download is written to `<file>.part` and moved into place when it is whole and verified. What was downloaded is
recorded in `<file>.json` (address, size, SHA-256); a later use compares the file with that record, and with the
catalogue where it knows.
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import json
import shutil
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlpart.errors import DownloadError, WeightsError
from vlpart.files import cache_folder
from vlpart.jobs import Progress
from vlpart.zoo.catalogue import ASSETS, ModelEntry, get_model

__all__ = ["Progress", "cache_folder", "download_file", "download_model", "sha256_of"]

BLOCK = 1 << 18
TRIES = 4
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
        timeout: seconds without an answer before a try counts as failed.

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
    return f"Without network: fetch {entry.url} elsewhere, save it as {target}, or pass it with --weights FILE."


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
        raise DownloadError(f"Only http and https addresses can be downloaded, not '{url}'.")
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
    raise DownloadError(f"{job.url} could not be downloaded: {reason}{kept}.")


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
    if done and notes.get("url") != job.url:
        job.forget()
        done, notes = 0, {}
    request = urllib.request.Request(job.url, headers={"User-Agent": _user_agent(), "Accept-Encoding": "identity"})
    if done:
        request.add_header("Range", f"bytes={done}-")
        if notes.get("version"):
            request.add_header("If-Range", notes["version"])
    try:
        with urllib.request.urlopen(
            request, timeout=job.timeout
        ) as response:  # http or https: checked by download_file
            _copy(job, response, done)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and done:
            if done == notes.get("total"):
                return
            job.forget()
            raise _Interrupted("the server has another file than before") from error
        if error.code in (408, 429, 500, 502, 503, 504):
            raise _Interrupted(f"the server answered {error.code} {error.reason}") from error
        raise DownloadError(f"{job.url}: the server answered {error.code} {error.reason}.") from error
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", None) or error
        raise _Interrupted(str(reason) or type(error).__name__) from error


def _copy(job: _Job, response: Any, done: int) -> None:
    """Write the answer behind the `done` bytes that are there, or from the start if the server sends everything.

    Raises:
        _Interrupted: the answer ended too early, or is not what was asked for.
        DownloadError: a web page, or a file of another size than expected.
        OSError: the disk is full.
    """
    if "text/html" in response.headers.get("Content-Type", "").lower():
        raise DownloadError(f"{job.url} gives a web page, not a file (a login or an error page?).")
    if response.status != 206 or not response.headers.get("Content-Range", "").startswith(f"bytes {done}-"):
        if response.status == 206:
            job.forget()
            raise _Interrupted("the server sent another range than asked for")
        done = 0
    length = response.headers.get("Content-Length")
    total = done + int(length) if length and length.isdigit() else None
    if done and total != _read_json(job.notes).get("total"):
        job.forget()
        raise _Interrupted("the server has another file than before")
    if job.size is not None and total is not None and total != job.size:
        job.forget()
        raise DownloadError(f"{job.url} has {total} bytes, but {job.size} are expected; the file there has changed.")
    free = shutil.disk_usage(job.part.parent).free
    if total is not None and total - done > free:
        raise OSError(errno.ENOSPC, f"{total - done} bytes are needed, {free} are free")
    version = response.headers.get("ETag", "")
    version = response.headers.get("Last-Modified", "") if not version or version.startswith("W/") else version
    job.notes.write_text(json.dumps({"url": job.url, "version": version, "total": total}), encoding="utf-8")
    with job.part.open("ab" if done else "wb") as file:
        job.progress(job.target.name, done, total)
        while block := _read(response):
            file.write(block)
            done += len(block)
            job.progress(job.target.name, done, total)
    if total is not None and done < total:
        raise _Interrupted(f"the connection broke after {done} of {total} bytes")


def _read(response: Any) -> bytes:
    """The next block; what goes wrong here is the network's doing, not the disk's."""
    try:
        return response.read(BLOCK)
    except (OSError, http.client.HTTPException) as error:
        raise _Interrupted(str(error) or type(error).__name__) from error


def _finish(job: _Job) -> Path:
    """Verify the whole file, record it, move it into place."""
    size = _length(job.part)
    if job.size is not None and size != job.size:
        job.forget()
        raise DownloadError(f"{job.url} gave {size} bytes, but {job.size} are expected; nothing was kept.")
    if size == 0:
        job.forget()
        raise DownloadError(f"{job.url} gave an empty file.")
    digest = sha256_of(job.part)
    if job.sha256 is not None and digest != job.sha256:
        job.forget()
        raise DownloadError(f"{job.url} has the SHA-256 {digest}, but {job.sha256} is expected; nothing was kept.")
    job.part.replace(job.target)
    _record(job.target, job.url, digest)
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
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
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
