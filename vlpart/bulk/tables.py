"""The tables that `vlpart bulk` writes: images, detections, failed images; and the results read back from them.

A detection is a row, as SQL and data frames have it. `image_id` is the number of the block times `MOST_IN_BLOCK` plus
the place of the image in the block, so it depends on the sources and the size of the blocks alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import islice
from typing import Any

import numpy as np
import pyarrow
from pyarrow import parquet

from vlpart.bulk.places import Place, open_place
from vlpart.checks import typed
from vlpart.errors import DataError
from vlpart.files import why
from vlpart.masks.stack import MaskStack
from vlpart.results.result import Result
from vlpart.text.vocabulary import Vocabulary

MOST_IN_BLOCK = 1_000_000
"""Images of a block, at most."""

_IMAGE = [("image_id", pyarrow.int64()), ("path", pyarrow.string())]
_SIZE = [("width", pyarrow.int32()), ("height", pyarrow.int32())]

SCHEMAS = {
    "images": pyarrow.schema([*_IMAGE, *_SIZE, ("detections", pyarrow.int32())]),
    "detections": pyarrow.schema(
        [
            *_IMAGE,
            *_SIZE,
            ("detection", pyarrow.int32()),
            ("owner", pyarrow.int32()),
            ("category_id", pyarrow.int64()),
            ("name", pyarrow.string()),
            ("object", pyarrow.string()),
            ("part", pyarrow.string()),
            ("score", pyarrow.float32()),
            *((side, pyarrow.float32()) for side in ("x0", "y0", "x1", "y1")),
            ("area", pyarrow.int64()),
            ("mask", pyarrow.string()),
        ]
    ),
    "failed": pyarrow.schema([*_IMAGE, ("reason", pyarrow.string())]),
}
"""Name of a table (and of its folder) to its columns; see docs/bulk.md."""

MOST_ROWS = 100_000_000
MOST_BYTES = 16_000_000_000
"""Of a file that is read back; more cannot be held in memory."""

_ROWS = 50_000  # of a table, held before they are written


def file_of(dest: Place, table: str, block: int) -> Place:
    """The file of a table that belongs to a block."""
    return dest / f"{table}/{block:08}.parquet"


def detection_rows(image_id: int, path: str, result: Result) -> dict[str, list[Any]]:
    """Columns of the table of detections, N values each, for the N detections of an image."""
    count, (height, width) = len(result), result.image_size
    vocabulary, class_ids = result.vocabulary, result.class_ids.tolist()
    x0, y0, x1, y1 = result.boxes_xyxy.T.tolist() if count else ([], [], [], [])
    sides = result.boxes_xyxy.astype(np.float64)
    boxes = ((sides[:, 2] - sides[:, 0]) * (sides[:, 3] - sides[:, 1])).round().astype(np.int64)
    return {
        "image_id": [image_id] * count,
        "path": [path] * count,
        "width": [width] * count,
        "height": [height] * count,
        "detection": list(range(count)),
        "owner": result.owners.tolist(),
        "category_id": [vocabulary.ids[i] for i in class_ids],
        "name": result.names,
        "object": [vocabulary.object_name(i) for i in class_ids],
        "part": [vocabulary.part_name(i) for i in class_ids],
        "score": result.scores.tolist(),
        "x0": x0,
        "y0": y0,
        "x1": x1,
        "y1": y1,
        "area": boxes.tolist() if result.masks is None else result.masks.areas().tolist(),
        "mask": [None] * count if result.masks is None else [each["counts"] for each in result.masks.rles()],
    }


class TableWriter:
    """A table into one Parquet file; rows are held until there are enough for a row group.

    Args:
        place: the file, written as it is filled.
        table: a name of `SCHEMAS`.
    """

    def __init__(self, place: Place, table: str) -> None:
        self.place, self._schema, self.rows = place, SCHEMAS[table], 0
        self._columns: dict[str, list[Any]] = {name: [] for name in self._schema.names}
        self._held = 0
        self._writer = parquet.ParquetWriter(
            place.path, self._schema, filesystem=place.files, compression="zstd", store_schema=False
        )

    def add(self, columns: Mapping[str, list[Any]], count: int) -> None:
        """Add `count` rows: of every column, as many values."""
        for name, values in columns.items():
            self._columns[name] += values
        self.rows += count
        self._held += count
        if self._held >= _ROWS:
            self._flush()

    def close(self, facts: Mapping[str, str]) -> None:
        """Write what is held and end the file, with `facts` in its metadata."""
        if self._held:
            self._flush()
        self._writer.add_key_value_metadata(dict(facts))
        self._writer.close()

    def drop(self) -> None:
        """End the file, and delete it, as far as that can be done."""
        give_up(self._writer)
        with suppress(OSError):
            self.place.files.delete_file(self.place.path)

    def _flush(self) -> None:
        self._writer.write_table(pyarrow.table(self._columns, schema=self._schema))
        self._columns = {name: [] for name in self._schema.names}
        self._held = 0


def give_up(writer: parquet.ParquetWriter) -> None:
    """Close a file that could not be written; on a full disk pyarrow would try it again when the object goes."""
    if writer.is_open:
        with suppress(OSError, ValueError):  # the second one for pyarrow's own
            writer.close()
        writer.is_open = False


def facts_of(place: Place) -> dict[str, str]:
    """What a finished file says about itself in its metadata.

    Raises:
        OSError, pyarrow.ArrowException: it cannot be read.
    """
    with parquet.ParquetFile(place.regular().path, filesystem=place.files) as file:
        known = file.metadata.metadata or {}
    return {key.decode(errors="replace"): value.decode(errors="replace") for key, value in known.items()}


@typed()
def read_results(dest: str) -> Iterator[Result]:
    """The `Result` of every image in a folder that `vlpart bulk` wrote, block by block; failed images have none.

    Examples:
        >>> from vlpart.bulk.run import bulk
        >>> summary = bulk("photos", "found", vocabulary="person: hair", in_process=True)
        >>> [result.path is not None for result in read_results("found")]
        [True]

    Args:
        dest: the folder, as `vlpart bulk` was given it.

    Raises:
        DataError: it is no such folder, or damaged.
    """
    place = open_place(dest)
    settings = (place / "_vlpart/settings.json").read_json()
    if settings is None:
        raise DataError(f"{place.address} holds nothing that vlpart bulk wrote")
    if not isinstance(settings, dict) or not isinstance(settings.get("vocabulary"), dict):
        raise DataError(f"{place.address}/_vlpart/settings.json is damaged")
    vocabulary = Vocabulary.from_dict(settings["vocabulary"])
    for name, folder in (place / "images").names():
        if folder or not name.endswith(".parquet"):
            continue
        try:
            images, found = (_rows(place, table, name) for table in ("images", "detections"))
            counts = [image["detections"] for image in images]
            if min(counts, default=0) < 0 or sum(counts) != len(found):
                raise ValueError(f"it has {len(found)} detections, not {sum(counts)}")
        except (OSError, ValueError, TypeError, pyarrow.ArrowException) as error:
            raise DataError(f"cannot read block {name} of {place.address}: {why(error)}") from error
        rows = iter(found)
        for image, count in zip(images, counts, strict=True):
            try:
                result = _result(image, list(islice(rows, count)), vocabulary)
            except (LookupError, TypeError, ValueError, OverflowError) as error:
                raise DataError(f"block {name} of {place.address} is damaged: {why(error)}") from error
            yield result


def _rows(dest: Place, table: str, name: str) -> list[dict[str, Any]]:
    """The rows of a block.

    Raises:
        OSError, ValueError, pyarrow.ArrowException: they cannot be read, or are not those of the table.
    """
    place = (dest / f"{table}/{name}").regular()
    with parquet.ParquetFile(place.path, filesystem=place.files) as file:
        if not file.schema_arrow.equals(SCHEMAS[table]):
            raise ValueError(f"its columns are not those of {table}")
        groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
        if file.metadata.num_rows > MOST_ROWS or sum(group.total_byte_size for group in groups) > MOST_BYTES:
            raise ValueError(f"it has more than {MOST_ROWS:,} rows or {MOST_BYTES:,} bytes")
        return file.read().to_pylist()


def _result(image: Mapping[str, Any], rows: list[dict[str, Any]], vocabulary: Vocabulary) -> Result:
    size = (image["height"], image["width"])
    masks = [{"size": list(size), "counts": row["mask"]} for row in rows if row["mask"] is not None]
    return Result(
        image_size=size,
        boxes_xyxy=[[row[side] for side in ("x0", "y0", "x1", "y1")] for row in rows],
        scores=[row["score"] for row in rows],
        class_ids=np.array([vocabulary.index_of_id[row["category_id"]] for row in rows], dtype=np.int64),
        masks=MaskStack.from_rles(masks, size) if len(masks) == len(rows) else None,
        vocabulary=vocabulary,
        path=image["path"],
        owners=np.array([row["owner"] for row in rows], dtype=np.int64),
    )
