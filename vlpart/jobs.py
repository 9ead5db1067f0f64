"""Work over many items: the same function over files in several processes, and long runs that are shared out over
processes, written as they go, and taken up again after an interruption.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import shutil
import signal
import uuid
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

from vlpart.errors import DataError, OutputError
from vlpart.files import open_regular, read_text, why, write_file

if TYPE_CHECKING:
    from filelock import BaseFileLock


Item = TypeVar("Item")
Answer = TypeVar("Answer")

Progress = Callable[[str, int, int | None], object]
"""Called with (what is being done, done, total) whenever there is more of it; total is None where it is not known."""


def default_processes() -> int:
    """Processes a command uses unless told: the processors of this machine, 8 at most."""
    return max(1, min(8, os.cpu_count() or 1))


def run_over(
    function: Callable[[Item], Answer],
    items: Sequence[Item],
    *,
    processes: int = 1,
    label: str = "",
    progress: Progress | None = None,
    chunk: int = 16,
) -> Iterator[Answer]:
    """`function(item)` of every item, in the order of the items.

    Args:
        function: a module-level function (or a `partial` of one); it should not raise for a bad file but say so in its
            answer, since an exception ends the run.
        processes: 1 = in this process. More are started fresh ("spawn"), so a script that asks for them needs
            `if __name__ == "__main__":`.
        label: what is being done, for `progress`.
        chunk: items handed to a process at a time.

    Raises:
        DataError: a process was killed from outside (usually for want of memory).
    """
    total = len(items)
    if progress is not None:
        progress(label, 0, total)
    answers = map(function, items) if processes <= 1 or total <= chunk else _in_pool(function, items, processes, chunk)
    for done, answer in enumerate(answers, start=1):
        yield answer
        if progress is not None:
            progress(label, done, total)


def _in_pool(function: Callable[[Item], Answer], items: Sequence[Item], processes: int, chunk: int) -> Iterator[Answer]:
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), initializer=_leave_interrupts_to_parent)
    try:
        yield from pool.map(function, items, chunksize=chunk)
    except BrokenProcessPool:
        raise DataError(
            "a worker process was killed, usually for want of memory; run again with fewer --processes"
        ) from None
    finally:  # also when this process is interrupted: nothing new starts, what runs ends with its chunk
        pool.shutdown(wait=True, cancel_futures=True)


def _leave_interrupts_to_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


Record = dict[str, Any]
SKIPPED = "skipped"
"""First key of the record of an item that could not be done."""

_SETTINGS = "settings.json"
_MAX_SETTINGS = 50_000_000
_MAX_LINE = 1 << 30
_HEAD = re.compile(rb'\{"item": (\d{1,15}), "record": \{("skipped": )?')  # what a line is, without reading the rest


def rank_and_world() -> tuple[int, int]:
    """This process and the number of processes, from torchrun's variables; (0, 1) without it.

    Raises:
        DataError: the variables are no numbers or do not fit together.
    """
    try:
        rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    except ValueError:
        raise DataError("RANK and WORLD_SIZE must be whole numbers: start with torchrun, or unset them") from None
    if not 0 <= rank < world:
        raise DataError(f"RANK {rank} is not below WORLD_SIZE {world}: start with torchrun, or unset them")
    return rank, world


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job on disk.

    Attributes:
        folder: holds the finished items until the result is written.
        settings: whatever the result depends on, as JSON data; items of other settings are not taken up.
        total: number of items.
        label: what is being done, for `progress`.
        restart: throw away unfinished work of other settings, instead of refusing to go on.
    """

    folder: Path
    settings: Mapping[str, Any]
    total: int
    label: str = ""
    restart: bool = False

    def run(
        self,
        compute: Callable[[list[int]], Iterable[tuple[int, Record]]],
        write: Callable[[Iterator[Record]], None],
        progress: Progress | None = None,
        check: Callable[[Record], bool] = lambda record: True,
    ) -> bool:
        """Compute this process's share of what is missing; whoever completes the job writes the result.

        Args:
            compute: gets the numbers of items and yields (number, record) for each, in any order.
            write: gets all records in the order of the items, one at a time.
            progress: told about every item, of those of this process.
            check: whether a record that was read from the folder is one that `compute` gives.

        Returns:
            Whether this process wrote the result. The job's folder is then gone.

        Raises:
            OutputError: the folder belongs to a job with other settings, is damaged, or cannot be written.
        """
        rank, world = rank_and_world()
        share = range(rank, self.total, world)
        if self.total and not share:
            return False  # more processes than items: the others may be done already
        self._prepare(share)
        done = self._finished()
        missing = [item for item in share if item not in done]
        count = len(share) - len(missing)
        if missing:
            with _open(self.folder / f"items-{rank}-{uuid.uuid4().hex[:8]}.jsonl") as file:
                for item, record in compute(missing):
                    _append(file, {"item": item, "record": record})
                    count += 1
                    if progress is not None:
                        progress(self.label, count, len(share))
        return self._finish(write, check)

    def _prepare(self, share: Container[int]) -> None:
        """Make the folder, or see that it is ours; what was skipped of this process's share is not done any more."""
        text = json.dumps(dict(self.settings) | {"items": self.total}, sort_keys=True)
        path = self.folder / _SETTINGS
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            with self._lock():
                if self.restart and path.is_file() and read_text(path, _MAX_SETTINGS) != text:
                    shutil.rmtree(self.folder)
                self.folder.mkdir(exist_ok=True)
                if not path.is_file():
                    write_file(path, text.encode())
                known = read_text(path, _MAX_SETTINGS)
                if known == text:
                    self._forget_skipped(share)
        except OSError as error:
            raise OutputError(f"cannot write {self.folder}: {why(error)}") from error
        if known != text:
            raise OutputError(
                f"{self.folder} holds unfinished work of other settings: use --overwrite to throw it away, or name "
                "another output"
            )

    def _lock(self) -> BaseFileLock:
        from filelock import FileLock

        return FileLock(f"{self.folder}.lock")

    def _forget_skipped(self, share: Container[int]) -> None:
        """Nobody appends to the files of earlier processes, which alone have lines of this share."""
        for path in sorted(self.folder.glob("items-*.jsonl")):
            with open_regular(path) as file:
                heads = (_HEAD.match(line) for line in _lines(file))
                if not any(head is not None and head[2] and int(head[1]) in share for head in heads):
                    continue
                temporary = path.with_suffix(".tmp")
                file.seek(0)
                with temporary.open("wb") as kept:
                    for line in _lines(file):
                        head = _HEAD.match(line)
                        if head is None or not head[2] or int(head[1]) not in share:
                            kept.write(line)
            temporary.replace(path)

    def _finished(self) -> dict[int, tuple[Path, int]]:
        """Where the line of every item is: file, and first byte. A line that was cut off by a crash does not count."""
        found: dict[int, tuple[Path, int]] = {}
        for path in sorted(self.folder.glob("items-*.jsonl")):
            with open_regular(path) as file:
                offset = 0
                for line in _lines(file):
                    head = _HEAD.match(line) if line.endswith(b"}\n") else None
                    if head is not None and int(head[1]) < self.total:
                        found.setdefault(int(head[1]), (path, offset))
                    offset += len(line)
        return found

    def _finish(self, write: Callable[[Iterator[Record]], None], check: Callable[[Record], bool]) -> bool:
        """Write the result if all items are done and nobody else has."""
        with self._lock():
            if not (self.folder / _SETTINGS).is_file():
                return False  # another process wrote the result while this one waited
            found = self._finished()
            if len(found) < self.total:
                return False
            write(_records(found, check))
            shutil.rmtree(self.folder)
        Path(f"{self.folder}.lock").unlink(missing_ok=True)
        return True


def _records(blocks: Mapping[int, tuple[Path, int]], check: Callable[[Record], bool]) -> Iterator[Record]:
    """The records of all items in order, read one at a time."""
    files: dict[Path, Any] = {}
    try:
        for item in sorted(blocks):
            path, offset = blocks[item]
            if path not in files:
                files[path] = open_regular(path)
            files[path].seek(offset)
            damaged = OutputError(f"{path} is damaged (item {item}): delete {path.parent}, and run again")
            try:
                record = json.loads(files[path].readline(_MAX_LINE))["record"]
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise damaged from error
            if not isinstance(record, dict) or not (SKIPPED in record or check(record)):
                raise damaged
            yield record
    finally:
        for file in files.values():
            file.close()


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    """The lines of a file; one that is longer than any that is written here comes in pieces, which are no records."""
    while line := file.readline(_MAX_LINE):
        yield line


def _open(path: Path) -> Any:
    try:
        return path.open("w", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error


def _append(file: Any, line: Record) -> None:
    try:
        file.write(json.dumps(line) + "\n")
        file.flush()
    except OSError as error:
        raise OutputError(f"cannot write {file.name}: {error.strerror or error}; run it again to go on") from error
