"""What a process with the model does: a block of images in, three Parquet files out, there whole or not at all.

What is in the files depends on the block and on what was asked for, not on which process wrote them, when, or how often
it was begun. So a block that is done a second time, because a process or a machine was lost, changes nothing.
"""

from __future__ import annotations

import os
import platform
import time
import uuid
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow

from vlpart.bulk.job import items_of, own_folder, temporary_folder
from vlpart.bulk.places import Place, open_place, reach
from vlpart.bulk.sources import Item, members, root_of
from vlpart.bulk.tables import MOST_IN_BLOCK, SCHEMAS, TableWriter, detection_rows, facts_of, file_of
from vlpart.data.image_files import is_url
from vlpart.data.images import MAX_FILE_BYTES, MAX_PIXELS, ReadImage
from vlpart.errors import DataError, ImageError, OutputError, VlpartError, WeightsError
from vlpart.files import NotRegularError, why
from vlpart.inference.stream import in_batches, read_ahead
from vlpart.text.vocabulary import Vocabulary
from vlpart.web import shown
from vlpart.zoo.download import sha256_of

if TYPE_CHECKING:
    from pathlib import Path

    from vlpart.inference.base import BasePredictor
    from vlpart.results.result import Result

TRIES = 3
"""Times that what may be a fault of the network is tried."""
PAUSE = 1.0
"""Seconds before the second try; four times as many before the third."""
MOST_STARTS = 4
"""Times that a block is begun in one run; more often, and it is taken for what ends the processes."""
MANY = 20
"""Images of a block, none of which can be read, from which on the fault is not looked for in the images."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is asked of every process.

    Attributes:
        source, dest: addresses, as any machine of the cluster understands them.
        model, weights, engine, device, precision: see `vlpart.bulk.run.bulk`; `device` None = the best there is.
        sha256: of the weight file.
        vocabulary, score_threshold, max_detections, short_side, max_side, max_pixels, slices: see `Predictor.predict`.
        iou, keep_nested: see `predict_to_folder`.
        batch_size: images per forward pass, at most.
        threads: processor threads of the computing; readers: of reading and decoding images.
        keep_going: blocks of which nothing can be read are written as well.
    """

    source: str
    dest: str
    model: str | None
    weights: str | None
    engine: str | None
    device: str | None
    precision: str
    sha256: str
    vocabulary: Vocabulary
    score_threshold: float
    iou: float | None
    keep_nested: bool
    max_detections: int | None
    short_side: int | None
    max_side: int | None
    max_pixels: int | None = MAX_PIXELS
    slices: int | None
    batch_size: int
    threads: int
    readers: int
    keep_going: bool


@dataclass(frozen=True, kw_only=True)
class Done:
    """A block that is finished, or why it is not.

    Attributes:
        block: its number.
        images: that were read and predicted; failed: that could not be read.
        detections: in all of them.
        seconds: of this process; cpu_seconds: of its processor threads; both 0 for a block that was finished before.
        problem: what keeps the block from being finished, "" of one that is.
    """

    block: int
    images: int = 0
    failed: int = 0
    detections: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    problem: str = ""


def weight_file(model: str | None, weights: str | None) -> Path:
    """The file that a model is read from, downloaded if need be.

    Raises:
        ModelNotFoundError, WeightsError, DownloadError: see `vlpart.zoo.resolve.resolve`.
    """
    from vlpart.export.engines import is_exported
    from vlpart.files import is_file, local_path
    from vlpart.zoo.resolve import resolve

    if is_exported(model):
        path = local_path(str(model))
        if not is_file(path):
            raise WeightsError(f"there is no exported model {path}: vlpart export writes one")
        return path
    return resolve(model, weights).fetch()


def load_model(request: Request) -> BasePredictor:
    """The predictor of a request.

    Raises:
        VlpartError: it cannot be loaded here, or the weight file of this machine is another one.
    """
    from vlpart.export.engines import is_exported

    path = weight_file(request.model, request.weights)
    if sha256_of(path) != request.sha256:
        raise WeightsError(f"{path} is not the same file on all machines: {platform.node()} has another one")
    if is_exported(request.model):
        from vlpart.export.predictor import load_exported

        return load_exported(path, request.engine, threads=request.threads)
    import torch

    from vlpart.inference.predictor import load

    torch.set_num_threads(request.threads)
    return load(request.model, request.weights, device=request.device, precision=request.precision)


class BlockWorker:
    """Holds the model, and does one block after the other; Ray Data calls it with rows of block numbers."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.problem = ""
        try:
            self.dest, self.root = open_place(request.dest), root_of(request.source)
            self.predictor = load_model(request)
        except VlpartError as error:  # the driver says it in one line; an exception here would come with Ray's traces
            self.problem = str(error)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Blocks by number; what became of each."""
        done = [asdict(self.run(int(block))) for block in batch["block"]]
        return {name: np.array([each[name] for each in done]) for name in done[0]}

    def run(self, block: int) -> Done:
        """Do a block, unless it is finished."""
        if self.problem:
            return Done(block=block, problem=self.problem)
        started, cpu = time.monotonic(), time.process_time()
        try:
            target = file_of(self.dest, "images", block)
            if target.kind() == "file":
                return _told(block, facts_of(target))
            notes = self._note_start(block)
            done = self._try(block)
            for note in notes:
                note.files.delete_file(note.path)
        except VlpartError as error:
            return Done(block=block, problem=str(error))
        except (OSError, LookupError, ValueError, pyarrow.ArrowException) as error:  # the middle two: not our own file
            return Done(block=block, problem=f"cannot do block {block} of {self.dest.address}: {why(error)}")
        return replace(done, seconds=time.monotonic() - started, cpu_seconds=time.process_time() - cpu)

    def _note_start(self, block: int) -> list[Place]:
        """Write down that a block is begun; the notes about it.

        Raises:
            OutputError: it was begun too often.
        """
        folder, head = own_folder(self.dest) / "started", f"{block:08}-"
        (folder / f"{head}{uuid.uuid4().hex}").write(b"", temporary_folder(self.dest))
        notes = [folder / name for name, _ in folder.names() if name.startswith(head)]
        if len(notes) > MOST_STARTS:
            raise OutputError(
                f"block {block} of {self.dest.address} ended {MOST_STARTS} processes, for want of memory perhaps: run "
                "again with a smaller --batch, --max-pixels or fewer --workers"
            )
        return notes

    def _try(self, block: int) -> Done:
        """Do a block; again, if a file system fails in the middle."""
        attempt = 0
        while True:
            try:
                with _BlockFiles(self.dest, block, self.request) as files:
                    for batch in self._batches(items_of(self.dest, block)):
                        self._predict(batch, files)
                    return files.finish()
            except OSError:
                attempt += 1
                if attempt == TRIES:
                    raise
                _pause(attempt)

    def _predict(self, batch: Sequence[tuple[str, ReadImage | ImageError]], files: _BlockFiles) -> None:
        asked, images = self.request, [each for _, each in batch if isinstance(each, ReadImage)]
        what: dict[str, Any] = {
            "vocabulary": asked.vocabulary,
            "score_threshold": asked.score_threshold,
            "max_detections": asked.max_detections,
        }
        results = iter(self.predictor.detect(images, **what) if images else ())
        for path, each in batch:
            if isinstance(each, ImageError):
                files.failed(path, str(each))
                continue
            result = next(results)
            if not asked.keep_nested:
                result = result.without_nested()
            files.found(path, result if asked.iou is None else result.without_overlapping(asked.iou))

    # ---- reading

    def _batches(self, items: Sequence[Item]) -> Iterator[list[tuple[str, ReadImage | ImageError]]]:
        """Images that were read, in the order of the block, a few ahead of the computing."""
        with closing(read_ahead(self._readings(items), depth=self.request.batch_size)) as ahead:
            yield from in_batches(ahead, self.request.batch_size)

    def _readings(self, items: Iterable[Item]) -> Iterator[tuple[str, ReadImage | ImageError]]:
        """Read by several threads, given in order; of any image that is not needed yet, there are few."""
        waiting: deque[tuple[str, Future[ReadImage | ImageError]]] = deque()
        pool = ThreadPoolExecutor(self.request.readers, thread_name_prefix="vlpart-reader")
        try:
            for address, content in self._contents(items):
                waiting.append((address, pool.submit(self._read, address, content)))
                if len(waiting) > self.request.readers:
                    path, future = waiting.popleft()
                    yield path, future.result()
            for path, future in waiting:
                yield path, future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _contents(self, items: Iterable[Item]) -> Iterator[tuple[str, bytes | ImageError | None]]:
        """(address, content) of images; None where it is read by its address."""
        for item in items:
            if not item.shard:
                yield item.address, None
                continue
            place = reach(item.address, self.root)
            try:
                stream = place.regular().files.open_input_stream(place.path)
            except (FileNotFoundError, PermissionError, IsADirectoryError, NotRegularError) as error:
                yield item.address, ImageError(f"cannot read the shard: {why(error)}")
                continue
            with stream:
                yield from members(stream, item.address)

    def _read(self, address: str, content: bytes | ImageError | None) -> ReadImage | ImageError:
        asked = self.request
        sizes: dict[str, Any] = {"short_side": asked.short_side, "max_side": asked.max_side, "slices": asked.slices}
        if isinstance(content, ImageError):
            return content
        try:
            source = self._source(address) if content is None else content
            return replace(self.predictor.read(source, max_pixels=asked.max_pixels, **sizes), path=address)
        except ImageError as error:
            return error
        except DataError as error:  # an address of a kind that there is not
            return ImageError(str(error))

    def _source(self, address: str) -> str | bytes:
        """What the predictor reads: the path or address of an image, or what is in it."""
        if is_url(address):
            return address
        place = reach(address, self.root)
        if place.is_local:
            return place.path
        attempt = 0
        while True:
            try:
                content = place.read(MAX_FILE_BYTES)
            except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
                raise ImageError(f"cannot read {address}: {why(error)}") from error
            except OSError as error:
                attempt += 1
                if attempt == TRIES:
                    raise ImageError(f"cannot read {address}: {why(error)}") from error
                _pause(attempt)
                continue
            if content is None:
                raise ImageError(f"{address} has more than the {MAX_FILE_BYTES:,} bytes that are read")
            return content


def _pause(attempt: int) -> None:
    time.sleep(PAUSE * 4 ** (attempt - 1))


class _BlockFiles:
    """The three files of a block, under temporary names until `finish`; inside `with`, an error deletes them."""

    def __init__(self, dest: Place, block: int, request: Request) -> None:
        self._dest, self._block, self._request = dest, block, request
        self._image = 0
        self._reason = ""
        self._tables: dict[str, TableWriter] = {}
        self._open = False

    def __enter__(self) -> Self:
        folder = temporary_folder(self._dest)
        folder.make()
        name = f"{self._block:08}-{uuid.uuid4().hex}"
        for table in SCHEMAS:
            self._tables[table] = TableWriter(folder / f"{name}-{table}.parquet", table)
        self._open = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._open:
            for table in self._tables.values():
                table.drop()

    def _next(self, path: str) -> dict[str, list[Any]]:
        if self._image == MOST_IN_BLOCK:
            raise DataError(f"{path}: a shard has {MOST_IN_BLOCK:,} images at most, cut it into several")
        self._image += 1
        named = shown(path) if is_url(path) else os.fsencode(path).decode(errors="backslashreplace")
        return {"image_id": [self._block * MOST_IN_BLOCK + self._image - 1], "path": [named]}

    def found(self, path: str, result: Result) -> None:
        """The next image, and what was found in it."""
        row, (height, width) = self._next(path), result.image_size
        rows = detection_rows(row["image_id"][0], row["path"][0], result)
        self._tables["detections"].add(rows, len(result))
        self._tables["images"].add({**row, "width": [width], "height": [height], "detections": [len(result)]}, 1)

    def failed(self, path: str, reason: str) -> None:
        """The next image, and why it cannot be read."""
        self._reason = " ".join(reason.encode(errors="backslashreplace").decode().split())
        self._tables["failed"].add({**self._next(path), "reason": [self._reason]}, 1)

    def finish(self) -> Done:
        """End the files and give them their names.

        Raises:
            DataError: of many images none could be read.
        """
        counts = {table: writer.rows for table, writer in self._tables.items()}
        if counts["failed"] >= MANY and not counts["images"] and not self._request.keep_going:
            raise DataError(
                f"none of the {counts['failed']} images of block {self._block} can be read, the last one because: "
                f"{self._reason} (--keep-going takes them for failed)"
            )
        from vlpart import __version__

        facts = {f"vlpart.{table}": str(count) for table, count in counts.items()}
        facts |= {"vlpart.version": __version__, "vlpart.block": str(self._block)}
        for writer in self._tables.values():
            writer.close(facts)
        self._open = False
        for table in ("detections", "failed", "images"):  # with the last one, the block is finished
            self._tables[table].place.move(file_of(self._dest, table, self._block))
        return _told(self._block, facts)


def _told(block: int, facts: Mapping[str, str]) -> Done:
    images, failed, detections = (int(facts[f"vlpart.{name}"]) for name in ("images", "failed", "detections"))
    return Done(block=block, images=images, failed=failed, detections=detections)
