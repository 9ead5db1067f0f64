"""Predict many images into a folder: streamed, so memory does not grow with their number, and safe to interrupt."""

from __future__ import annotations

import math
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from inspect import signature
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from vlpart.checks import in_range, one_of, predicts, typed, whole
from vlpart.data.image_files import STDIN, is_url, list_images, named_sources
from vlpart.data.images import MAX_PIXELS, ReadImage
from vlpart.errors import ImageError, OutputError, SelectionError, VlpartError
from vlpart.inference.output import PipeWriter, ResultWriter, writer_for
from vlpart.inference.stream import in_batches, read_ahead
from vlpart.results.select import parse
from vlpart.signals import StopRequest
from vlpart.text.vocabulary import Vocabulary
from vlpart.web import shown

if TYPE_CHECKING:
    from vlpart.inference.base import BasePredictor
    from vlpart.inference.given_file import PartsOfGiven
    from vlpart.results.result import Result


def readable_threshold(names: int) -> float:
    """The lowest score that the command line keeps where none is given, for an image that can be read.

    Every name that is asked for is another chance for a false one: 0.42 for one name, 0.03 more for every ten times as
    many, so 0.5 for the names of the embedded model. Of what that draws over 0.5 in val images of ten kinds, 0.74 to
    0.98 is right; F1 falls slowly on both sides.
    """
    return round(0.42 + 0.03 * math.log10(max(names, 1)), 2)


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a batch did.

    Attributes:
        finished: images predicted and written.
        failed: images (or sources) that were skipped; `on_failure` was called for each.
        existing: images that were left alone because their results were there (`skip_existing`).
        detections: instances in all finished images.
        seconds: wall-clock time.
        output: the folder.
        coco: the COCO JSON file, or None if it was not asked for or no image was finished.
        yolo: the data file of YOLO labels, likewise.
    """

    finished: int
    failed: int
    existing: int
    detections: int
    seconds: float
    output: Path
    coco: Path | None
    yolo: Path | None


@dataclass(frozen=True, kw_only=True)
class ImageReport:
    """One finished image: its source as given or found, the result, and the files written for it alone."""

    image: str
    result: Result
    files: Sequence[Path]


@typed("output", "recursive", "keep_nested", "skip_existing", "shard", "on_result", "on_failure", "on_existing")
def predict_to_folder(
    predictor: BasePredictor | PartsOfGiven,
    sources: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    *,
    output: str | Path | IO[bytes] = "vlpart-results",
    formats: Iterable[str] = ("image", "json"),
    vocabulary: Vocabulary | str | Sequence[str] | None = None,
    score_threshold: float | None = None,
    short_side: int | None = None,
    max_side: int | None = None,
    max_detections: int | None = None,
    max_pixels: int | None = MAX_PIXELS,
    slices: int | None = None,
    batch_size: int = 1,
    recursive: bool = False,
    keep_nested: bool = True,
    iou: float | None = None,
    select: str | None = None,
    drawing: Mapping[str, Any] | None = None,
    skip_existing: bool = False,
    shard: tuple[int, int] = (1, 1),
    on_result: Callable[[ImageReport], object] | None = None,
    on_failure: Callable[[str, VlpartError], object] | None = None,
    on_existing: Callable[[str], object] | None = None,
) -> Summary:
    """Predict every image of `sources` and write the results as they come.

    The next images are read, and the files of the last ones made, while the current ones are predicted. Broken images
    are skipped. Results of an earlier run with the same names are replaced; a source image never is. If the run is
    interrupted, the finished images stay, and the COCO file holds exactly those; if there are none, there is no COCO
    file.

    Examples:
        >>> from vlpart import load
        >>> summary = predict_to_folder(load("tiny"), ["photo.jpg"], output="results", formats=["json", "coco"])
        >>> summary.finished, summary.failed, summary.coco.name
        (1, 0, 'coco.json')

    Args:
        predictor: from `vlpart.load`, or the parts of given objects (`vlpart.inference.given_file.PartsOfGiven`).
        sources: files, folders, globs and http(s) addresses; "-" is one image from standard input.
        output: folder for the results, made if needed. If it lies inside a source folder, what is in it is left out.
            Or an open binary file, which gets the results as lines of JSON (`formats` "jsonl"), or the one result as
            "json" or "image".
        formats: any of `vlpart.inference.output.FORMATS`.
        vocabulary, score_threshold, short_side, max_side, max_detections: see `Predictor.predict`.
        max_pixels: larger images are refused; None = no limit.
        slices: side of overlapping tiles, see `Predictor.predict`.
        batch_size: images per forward pass, at most; fewer where memory or a CPU asks for it.
        recursive: go into subfolders of source folders.
        keep_nested: False drops detections inside a better one of the same class (`Result.without_nested`).
        iou: drop detections that overlap a better one of any name by so much (`Result.without_overlapping`).
        select: keep only what this phrase means, objects with their parts (`Result.select`); an image without it is
            skipped.
        drawing: keyword arguments of `Result.plot` for the format `image`.
        skip_existing: leave out images all of whose files are in the folder, whatever run they are from. Not with
            `coco` and `jsonl`, whose one file would lack them, nor with `crops` and `cutouts`, whose number nobody
            knows.
        shard: (i, n) takes every n-th image from the i-th on, counted from 1, for n processes with the same sources and
            the same folder. Names of results are those of a single process; of the files about all images, each has its
            own (`coco_2_of_8.json`).
        on_result: called after the files of an image are written.
        on_failure: called with the source and the error for everything that was skipped.
        on_existing: called with every image that `skip_existing` leaves out.

    Raises:
        ImageError: a source folder has no images, a glob matches none, a source is empty or no path.
        SelectionError: the phrase of `select` is not understood.
        OutputError: the folder is not writable, the disk is full, the output folder is a source folder or has YOLO
            labels of other classes, or a format is unknown or does not go with `skip_existing`.
        VlpartError: the vocabulary does not fit the model, and whatever else is not the fault of a single image.
        ValueError: `batch_size` is not a whole number from 1, or `shard` is no (i, n) with 1 <= i <= n.
    """
    started = time.monotonic()
    batch_size = whole("batch_size", batch_size, 1, 10**6)
    _check_arguments(predictor, score_threshold, max_detections, iou, drawing, (on_result, on_failure, on_existing))
    if not 1 <= shard[0] <= shard[1]:
        raise ValueError(f"shard is (i, n) with 1 <= i <= n, got {shard!r}")
    named = named_sources(sources)
    writer = writer_for(named, output, formats, dict(drawing or {}), skip_existing=skip_existing, shard=shard)
    sizes = {"short_side": short_side, "max_side": max_side, "max_pixels": max_pixels}
    read = partial(_read_one, partial(predictor.read, **sizes, **({} if slices is None else {"slices": slices})))
    unlisted: list[ImageError] = []
    listing = list_images(named, recursive=recursive, on_unlisted=unlisted.append)
    images = _read_all(listing, unlisted, writer, read, skip_existing, shard)
    names = None if vocabulary is None else Vocabulary.of(vocabulary)
    if select is not None:
        parse(select, predictor.vocabulary if names is None else names)  # before anything is computed
    job = _Job(
        detect=partial(
            predictor.detect, vocabulary=names, score_threshold=score_threshold, max_detections=max_detections
        ),
        writer=writer,
        keep_nested=keep_nested,
        iou=iou,
        select=select,
        on_result=on_result or (lambda report: None),
        on_failure=on_failure or (lambda image, error: None),
        on_existing=on_existing or (lambda image: None),
    )
    with writer.stack:
        writer.start()
        ahead = read_ahead(images, depth=2 * batch_size, idle=job.finish)
        writer.stack.callback(ahead.close)
        job.encoder = writer.stack.enter_context(_encoder())
        try:
            for batch in in_batches(ahead, batch_size):
                job.run(batch)
        finally:
            job.finish()
    return Summary(
        finished=writer.finished,
        failed=job.failed,
        existing=job.existing,
        detections=writer.detections,
        seconds=time.monotonic() - started,
        output=writer.output,
        coco=writer.coco.path if writer.coco else None,
        yolo=writer.yolo,
    )


@dataclass(frozen=True)
class _Read:
    """An image that was read, or an error that says why not, or neither: its results exist.

    `stem` is the name of its results.
    """

    source: str
    stem: str = ""
    image: ReadImage | None = None
    error: VlpartError | None = None


def _read_all(
    sources: Iterator[Path | str],
    unlisted: list[ImageError],
    writer: ResultWriter | PipeWriter,
    read: Callable[[str], ReadImage],
    skip_existing: bool,
    shard: tuple[int, int],
) -> Iterator[_Read]:
    """Read image after image; what cannot be read comes as an error, in its place; a folder that cannot be listed too.

    Args:
        unlisted: filled by the listing while `sources` goes on.
    """
    number, count = shard
    place = 0
    for source in map(str, sources):
        yield from _errors_of(unlisted)
        # Named here, where broken images and those of other shards count too: every run gives an image the same name.
        stem = writer.stem(source)
        if stem is None:
            continue
        place += 1
        if (place - number) % count:
            continue
        if skip_existing and writer.is_done(stem):
            yield _Read(source, stem)
            continue
        try:
            yield _Read(source, stem, read(source))
        except ImageError as error:
            yield _Read(source, stem, error=error)
    yield from _errors_of(unlisted)


def _read_one(read: Callable[[Any], ReadImage], source: str) -> ReadImage:
    """An image of the listing; "-" is standard input."""
    if source != STDIN:
        return read(source)
    return replace(read(sys.stdin.buffer), path=STDIN)


def _errors_of(unlisted: list[ImageError]) -> Iterator[_Read]:
    while unlisted:
        yield _Read("listing", error=unlisted.pop(0))


@contextmanager
def _encoder() -> Iterator[ThreadPoolExecutor]:
    """A thread that makes the files of results while the next ones are computed; what it has not begun is dropped."""
    executor = ThreadPoolExecutor(1, thread_name_prefix="vlpart-encoder")
    try:
        yield executor
    finally:
        executor.shutdown(cancel_futures=True)


_Files = Mapping[Path, bytes]


@dataclass(kw_only=True)
class _Job:
    """A run: predicts and writes batch after batch, and keeps the counts.

    The files of a batch are made while the next one is predicted, and written after that; or sooner, if the next image
    is not there yet. Writing and the calls of the user are in the main thread, in the order of the images.
    """

    detect: Callable[[Sequence[ReadImage]], list[Result]]
    writer: ResultWriter | PipeWriter
    keep_nested: bool
    iou: float | None
    select: str | None
    on_result: Callable[[ImageReport], object]
    on_failure: Callable[[str, VlpartError], object]
    on_existing: Callable[[str], object]
    failed: int = 0
    existing: int = 0
    encoder: ThreadPoolExecutor | None = None
    _pending: deque[tuple[_Read, Future[tuple[Result, _Files]] | None]] = field(default_factory=deque)

    def run(self, batch: Sequence[_Read]) -> None:
        """Predict the images of a batch that could be read, write those of the batch before."""
        assert self.encoder is not None
        images = [item.image for item in batch if item.image is not None]
        try:
            results = iter(self.detect(images) if images else ())
        finally:
            self.finish()
        for item in batch:
            made = None if item.image is None else self.encoder.submit(self._encoded, item.stem, next(results))
            self._pending.append((item, made))

    def finish(self) -> None:
        """Write what was predicted, in order, and report every image."""
        try:
            while self._pending:
                self._finish_one(*self._pending.popleft())
        except BaseException:
            self._pending.clear()
            raise

    def _finish_one(self, item: _Read, made: Future[tuple[Result, _Files]] | None) -> None:
        if item.error is not None:
            self._fail(item.source, item.error)
            return
        if made is None:
            self.existing += 1
            self.on_existing(item.source)
            return
        try:
            result, files = made.result()
        except (OutputError, SelectionError) as error:
            self._fail(item.source, error)
            return
        with StopRequest() as stop:  # what is written is also in the COCO file, and reported
            self.writer.write(item.source, item.stem, result, files)
            self.on_result(ImageReport(image=item.source, result=result, files=tuple(files)))
        stop.deliver()

    def _encoded(self, stem: str, result: Result) -> tuple[Result, _Files]:
        """What is kept of a result, and its files."""
        if not self.keep_nested:
            result = result.without_nested()
        if self.iou is not None:
            result = result.without_overlapping(self.iou)
        if self.select is not None:
            result = result.select(self.select, with_parts=True)
        return result, self.writer.encode(stem, result)

    def _fail(self, image: str, error: VlpartError) -> None:
        self.failed += 1
        self.on_failure(shown(image) if is_url(image) else image, error)


def _check_arguments(
    predictor: Any,
    score_threshold: Any,
    max_detections: Any,
    iou: Any,
    drawing: Any,
    callbacks: Sequence[Any],
) -> None:
    """Before anything is read: the first image would say the same, if there is one that can be read."""
    predicts(predictor)
    for name, share in (("score_threshold", score_threshold), ("iou", iou)):
        if share is not None:
            in_range(name, share, 0, 1)
    if max_detections is not None:
        whole("max_detections", max_detections, 1, 10**6)
    one_of("drawing", drawing, Mapping, type(None))
    if drawing:
        from vlpart.visualize.draw import draw_result

        unknown = [name for name in drawing if name not in signature(draw_result).parameters]
        if unknown:
            raise TypeError(f"drawing has no option {unknown[0]!r:.80}; see Result.plot")
    for callback in callbacks:
        if callback is not None and not callable(callback):
            raise TypeError(f"on_result, on_failure and on_existing are functions, got {callback!r:.80}")
