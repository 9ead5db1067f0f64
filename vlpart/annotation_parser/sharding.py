"""Long jobs over many items: shared out over processes, written as they go, and taken up again after an interruption.

Every process appends one JSON line per finished item to a file of its own in the job's folder. Starting the same job
again, with any number of processes, does what is missing. The process that finds the last item done writes the result.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlpart.errors import DataError, OutputError

Record = dict[str, Any]
Progress = Callable[[int, int], None]
"""Called with the items done and the items of this process."""

_SETTINGS = "settings.json"


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
    """

    folder: Path
    settings: Mapping[str, Any]
    total: int

    def run(
        self,
        compute: Callable[[list[int]], Iterable[tuple[int, Record]]],
        write: Callable[[Iterator[Record]], None],
        progress: Progress | None = None,
    ) -> bool:
        """Compute this process's share of what is missing; whoever completes the job writes the result.

        Args:
            compute: gets the numbers of items and yields (number, record) for each, in any order.
            write: gets all records in the order of the items, one at a time.
            progress: told about every item.

        Returns:
            Whether this process wrote the result. The job's folder is then gone.

        Raises:
            OutputError: the folder belongs to a job with other settings, or cannot be written.
        """
        self._prepare()
        rank, world = rank_and_world()
        share = range(rank, self.total, world)
        done = self._finished()
        missing = [item for item in share if item not in done]
        count = len(share) - len(missing)
        if missing:
            with _open(self.folder / f"items-{rank}-{uuid.uuid4().hex[:8]}.jsonl") as file:
                for item, record in compute(missing):
                    _append(file, {"item": item, "record": record})
                    count += 1
                    if progress is not None:
                        progress(count, len(share))
        return self._finish(write)

    def _prepare(self) -> None:
        """Make the folder, or see that it is ours."""
        text = json.dumps(dict(self.settings) | {"items": self.total}, sort_keys=True)
        path = self.folder / _SETTINGS
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f".{uuid.uuid4().hex[:8]}.tmp")
            temporary.write_text(text, encoding="utf-8")
            try:
                os.link(temporary, path)  # fails where another process was first
            except FileExistsError:
                pass
            except OSError:  # a file system without links
                if not path.exists():
                    temporary.replace(path)
            temporary.unlink(missing_ok=True)
            known = path.read_text(encoding="utf-8")
        except OSError as error:
            raise OutputError(f"cannot write {self.folder}: {error.strerror or error}") from error
        if known != text:
            raise OutputError(
                f"{self.folder} holds unfinished work of other settings: delete that folder to start afresh, or name "
                "another output"
            )

    def _finished(self) -> dict[int, tuple[Path, int]]:
        """Where the line of every finished item is. A line that was cut off by a crash does not count."""
        found: dict[int, tuple[Path, int]] = {}
        for path in sorted(self.folder.glob("items-*.jsonl")):
            with path.open("rb") as file:
                offset = 0
                for line in file:
                    if line.endswith(b"}\n") and (item := _item_of(line)) is not None:
                        found.setdefault(item, (path, offset))
                    offset += len(line)
        return found

    def _finish(self, write: Callable[[Iterator[Record]], None]) -> bool:
        """Write the result if all items are done and nobody else has."""
        from filelock import FileLock

        lock = FileLock(f"{self.folder}.lock")
        with lock:
            if not (self.folder / _SETTINGS).is_file():
                return False  # another process wrote the result while this one waited
            found = self._finished()
            if len(found) < self.total:
                return False
            write(_records(found))
            shutil.rmtree(self.folder)
        Path(lock.lock_file).unlink(missing_ok=True)
        return True


def _item_of(line: bytes) -> int | None:
    """The number at the head of a line, without reading the rest."""
    head, _, _ = line.removeprefix(b'{"item": ').partition(b",")
    return int(head) if head.isdigit() else None


def _records(found: Mapping[int, tuple[Path, int]]) -> Iterator[Record]:
    """The records of all items in order, read one at a time."""
    files: dict[Path, Any] = {}
    try:
        for item in sorted(found):
            path, offset = found[item]
            if path not in files:
                files[path] = path.open("rb")
            files[path].seek(offset)
            yield json.loads(files[path].readline())["record"]
    finally:
        for file in files.values():
            file.close()


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
