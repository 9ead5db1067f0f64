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
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

import pyarrow
from pyarrow import parquet

from vlpart.bulk.places import Place, without_options, writing
from vlpart.bulk.sources import Item, list_items
from vlpart.bulk.tables import SCHEMAS, file_of
from vlpart.errors import DataError, OutputError
from vlpart.files import why
from vlpart.jobs import Progress

_OWN = "_vlpart"
_IN_A_FILE = 100  # blocks of a file of the plan
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
    return Plan(blocks=counts["blocks"], images=counts["images"], shards=counts["shards"])


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
            with parquet.ParquetWriter(temporary.path, _PLAN, filesystem=temporary.files, compression="zstd") as writer:
                for block in part:
                    paths = [os.fsencode(item.address) for item in block]
                    shards = [item.shard for item in block]
                    writer.write_table(pyarrow.table({"path": paths, "shard": shards}, schema=_PLAN), len(block))
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
        OSError, pyarrow.ArrowException: the plan cannot be read.
    """
    number, group = divmod(block, _IN_A_FILE)
    place = own_folder(dest) / f"plan/{number:08}.parquet"
    with parquet.ParquetFile(place.path, filesystem=place.files) as file:
        rows = file.read_row_group(group)
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
    found = {}
    for block in blocks:
        place = file_of(dest, "failed", block)
        try:
            rows = parquet.read_metadata(place.path, filesystem=place.files).num_rows
        except (OSError, pyarrow.ArrowException) as error:
            raise OutputError(f"cannot read {place.address}: {why(error)}") from error
        if rows:
            found[block] = rows
    return found


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
