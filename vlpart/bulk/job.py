"""A bulk job on disk: what it was asked for, its blocks, and which of them are finished.

    DEST/images/00000000.parquet         a block: the file that is written last, so the block is finished
    DEST/detections/00000000.parquet
    DEST/failed/00000000.parquet
    DEST/_vlpart/settings.json           everything that the results depend on
    DEST/_vlpart/plan.json               how many blocks; there when all of them are listed
    DEST/_vlpart/plan/00000000.parquet   what the blocks 0 to 99 consist of, a row group each

The blocks are listed once. So a run that goes on does the same blocks, whatever became of the source meanwhile.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import parquet

from vlpart.bulk.places import Place, without_options, writing
from vlpart.bulk.sources import Item, list_items
from vlpart.bulk.tables import MOST_IN_BLOCK, SCHEMAS, file_of, give_up
from vlpart.errors import DataError, OutputError
from vlpart.files import is_there, why
from vlpart.jobs import Progress

_OWN = "_vlpart"
_LOCK = ".lock"
_IN_A_FILE = 100  # blocks of a file of the plan
_MOST_BYTES = 8_000_000_000  # of the names in a block, 8,000 each at most
_AT_ONCE = 16  # files that are asked for at a time
_PLAN = pyarrow.schema([("path", pyarrow.binary()), ("shard", pyarrow.bool_())])  # names need not be Unicode


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What there is to do: blocks, images that are listed one by one, and shards (whose images nobody counted)."""

    blocks: int
    images: int
    shards: int


def own_folder(dest: Place) -> Place:
    """Where a job keeps what is not a result."""
    return dest / _OWN


def temporary_folder(dest: Place) -> Place:
    """For files that are being written."""
    return dest / f"{_OWN}/tmp"


def prepare(
    dest: Place,
    settings: Mapping[str, Any],
    source: str,
    column: str,
    block_size: int,
    progress: Progress | None = None,
) -> Plan:
    """The blocks of a job; they are listed if nobody has done so. A source without images leaves nothing behind.

    Raises:
        DataError: the source has no images, or cannot be listed.
        OutputError: the folder has a job with other settings or something else, or cannot be written.
    """
    wanted = json.loads(json.dumps(settings))
    known = _is_same(dest, wanted)
    counts = (own_folder(dest) / "plan.json").read_json()
    if counts is None:
        blocks = _blocks(list_items(source, column), block_size)
        first = next(blocks, None)
        if first is None:
            raise DataError(f"no images and no shards (.tar) in {without_options(source)}")
        if not known:
            text = json.dumps(wanted, indent=1) + "\n"
            (own_folder(dest) / "settings.json").write(text.encode(), temporary_folder(dest))
        counts = _write_plan(dest, chain([first], blocks), progress)
    return _checked(dest, counts)


def _checked(dest: Place, counts: Any) -> Plan:
    """What the plan says, if it can be: it has as many files as its blocks need.

    Raises:
        OutputError: it is damaged.
    """
    known: dict[str, Any] = counts if isinstance(counts, dict) else {}
    blocks, images, shards = (known.get(name, -1) for name in ("blocks", "images", "shards"))
    files = [name for name, deeper in (own_folder(dest) / "plan").names() if not deeper and name.endswith(".parquet")]
    whole = all(type(each) is int and 0 <= each < 1 << 62 for each in (blocks, images, shards))
    if not whole or blocks < 1 or -(-blocks // _IN_A_FILE) != len(files):
        raise OutputError(f"the plan in {own_folder(dest).address} is damaged: name another folder for the results")
    return Plan(blocks=blocks, images=images, shards=shards)


@contextmanager
def kept(dest: Place) -> Iterator[None]:
    """Keep a folder of this machine to this run, until the context ends or the process does, however it ends.

    Object stores, and file systems without locks, keep nothing.

    Raises:
        OutputError: another run has it, it is no folder, or cannot be written.
    """
    if not dest.is_local:
        yield
        return
    from filelock import FileLock, Timeout

    own = Path(own_folder(dest).path)
    new, lock = not is_there(own), FileLock(own / _LOCK, timeout=0)
    try:
        if dest.kind() == "file":
            raise OutputError(f"{dest.address} is a file: name a folder for the results")
        own.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise OutputError(f"another run works in {dest.address}: wait for it, or name another folder") from None
    except NotImplementedError:  # no locks here
        yield
        return
    except (OSError, ValueError) as error:
        raise OutputError(f"cannot write {dest.address}: {why(error)}") from error
    try:
        yield
    finally:
        lock.release()
        if new and [path.name for path in own.iterdir()] == [_LOCK]:  # the run did not even begin
            (own / _LOCK).unlink()
            for folder in (own, Path(dest.path)):
                with suppress(OSError):  # it was there before, with something in it
                    folder.rmdir()


def _is_same(dest: Place, wanted: Mapping[str, Any]) -> bool:
    """Whether the job in a folder is the one that is asked for; False where there is none.

    Raises:
        OutputError: it is another one.
    """
    known = (own_folder(dest) / "settings.json").read_json()
    if known is None:
        try:
            taken = [name for name, _ in dest.names() if name in SCHEMAS]
        except OSError as error:
            raise OutputError(f"cannot list the folder {dest.address}: {why(error)}") from error
        if taken:
            raise OutputError(f"{dest.address} has a folder {taken[0]} that is not of this command: name another one")
    elif not isinstance(known, dict):
        raise OutputError(f"{own_folder(dest).address}/settings.json is damaged: name another folder for the results")
    elif known != wanted:
        other = sorted(key for key in {*known, *wanted} if known.get(key) != wanted.get(key))
        which = ", ".join(_difference(key, known, wanted) for key in other)
        raise OutputError(f"{dest.address} holds results of other settings ({which}): name another folder")
    return known is not None


def _difference(key: str, known: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    name = key.replace("_", " ")
    values = [known.get(key), wanted.get(key)]
    if any(isinstance(value, dict) for value in values) or key.endswith("sha256"):
        return name
    return f"{name} {values[0]}, not {values[1]}"


def _blocks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of `size` images; a shard is a block of its own."""
    images: list[Item] = []
    for item in items:
        if item.shard:
            yield [item]
            continue
        images.append(item)
        if len(images) == size:
            yield images
            images = []
    if images:
        yield images


def _write_plan(dest: Place, blocks: Iterator[list[Item]], progress: Progress | None) -> dict[str, int]:
    counts = {"blocks": 0, "images": 0, "shards": 0}
    while part := _first(blocks, _IN_A_FILE):
        temporary = temporary_folder(dest) / f"{uuid.uuid4().hex}.tmp"
        target = own_folder(dest) / f"plan/{counts['blocks'] // _IN_A_FILE:08}.parquet"

        def put(part: list[list[Item]] = part, temporary: Place = temporary, target: Place = target) -> None:
            """Write a part of the plan under a temporary name, then give it its own."""
            temporary.parent.make()
            writer = parquet.ParquetWriter(temporary.path, _PLAN, filesystem=temporary.files, compression="zstd")
            try:
                for block in part:
                    paths = [os.fsencode(item.address) for item in block]
                    shards = [item.shard for item in block]
                    writer.write_table(pyarrow.table({"path": paths, "shard": shards}, schema=_PLAN), len(block))
                writer.close()
            finally:
                give_up(writer)
            temporary.move(target)

        writing(target.address, put)
        shards = sum(item.shard for block in part for item in block)
        counts["blocks"] += len(part)
        counts["shards"] += shards
        counts["images"] += sum(map(len, part)) - shards
        if progress is not None:
            progress("listing", counts["images"] + counts["shards"], None)
    (own_folder(dest) / "plan.json").write(json.dumps(counts).encode(), temporary_folder(dest))
    return counts


def _first(blocks: Iterator[list[Item]], count: int) -> list[list[Item]]:
    return [block for _, block in zip(range(count), blocks, strict=False)]


def items_of(dest: Place, block: int) -> list[Item]:
    """What a block consists of.

    Raises:
        OutputError: the plan is damaged.
        OSError, pyarrow.ArrowException: it cannot be read.
    """
    number, group = divmod(block, _IN_A_FILE)
    place = own_folder(dest) / f"plan/{number:08}.parquet"
    with parquet.ParquetFile(place.regular().path, filesystem=place.files) as file:
        groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)][group : group + 1]
        fits = groups and 1 <= groups[0].num_rows <= MOST_IN_BLOCK and groups[0].total_byte_size <= _MOST_BYTES
        rows = file.read_row_group(group) if fits and file.schema_arrow.equals(_PLAN) else None
    if rows is None or rows.column("path").null_count or rows.column("shard").null_count:
        raise OutputError(f"{place.address} is damaged: name another folder for the results")
    paths, shards = rows.column("path").to_pylist(), rows.column("shard").to_pylist()
    return [Item(os.fsdecode(path), shard) for path, shard in zip(paths, shards, strict=True)]


def finished(dest: Place) -> set[int]:
    """The numbers of the blocks that are finished.

    Raises:
        OutputError: the folder cannot be listed.
    """
    folder = dest / "images"
    try:
        names = folder.names()
    except OSError as error:
        raise OutputError(f"cannot list the folder {folder.address}: {why(error)}") from error
    return {
        int(name[:-8]) for name, deeper in names if not deeper and name[:-8].isdecimal() and name[-8:] == ".parquet"
    }


def failures(dest: Place, blocks: Iterable[int]) -> dict[int, int]:
    """How many images of finished blocks could not be read, of those blocks that have any.

    Raises:
        OutputError: a file is damaged.
    """

    def count(block: int) -> tuple[int, int]:
        place = file_of(dest, "failed", block)
        try:
            return block, parquet.read_metadata(place.regular().path, filesystem=place.files).num_rows
        except FileNotFoundError:  # somebody has dealt with them
            return block, 0
        except (OSError, ValueError, pyarrow.ArrowException) as error:  # the second one for texts that are no UTF-8
            raise OutputError(f"cannot read {place.address}: {why(error)}") from error

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return {block: rows for block, rows in pool.map(count, blocks) if rows}


def reopen(dest: Place, blocks: Iterable[int]) -> None:
    """Take finished blocks for unfinished ones.

    Raises:
        OutputError: the folder cannot be written.
    """
    for block in blocks:
        place = file_of(dest, "images", block)
        writing(place.address, partial(place.files.delete_file, place.path))


def forget_starts(dest: Place) -> None:
    """Delete the notes of earlier runs about blocks they began."""
    _delete(own_folder(dest) / "started")


def tidy(dest: Place) -> None:
    """Delete what a finished job does not need: files of interrupted processes, and notes about blocks in work."""
    _delete(temporary_folder(dest))
    forget_starts(dest)


def _delete(folder: Place) -> None:
    def act() -> None:
        """Remove the folder if it is there."""
        if folder.kind() == "folder":
            folder.files.delete_dir(folder.path)

    writing(folder.address, act)
