"""Predict many images into a folder: streamed, so memory does not grow with their number, and safe to interrupt."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, TypeVar

from PIL import Image

from vlpart.batch_output import CocoFile, OutputNames, make_folder
from vlpart.data.images import MAX_PIXELS, list_images, read_image
from vlpart.errors import ImageError, OutputError, VlpartError
from vlpart.files import encode_picture, write_file

if TYPE_CHECKING:
    import numpy as np

    from vlpart.predictor import Predictor
    from vlpart.results import Result
    from vlpart.text.vocabulary import Vocabulary

FORMATS = ("picture", "json", "coco", "labels")
"""What can be written. Per image: `picture` NAME_parts.jpg, `json` NAME_parts.json, `labels` NAME_labels.png (16 bit);
for all images together: `coco` coco.json."""

_Item = TypeVar("_Item")


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a batch did.

    Attributes:
        finished: images predicted and written.
        failed: images (or sources) that were skipped; `on_failure` was called for each.
        detections: instances in all finished images.
        seconds: wall-clock time.
        output: the folder.
        coco: the COCO JSON file, or None if it was not asked for or no image was finished.
    """

    finished: int
    failed: int
    detections: int
    seconds: float
    output: Path
    coco: Path | None


@dataclass(frozen=True, kw_only=True)
class ImageReport:
    """One finished image: its source as given or found, the result, and the files written for it alone."""

    image: str
    result: Result
    files: Sequence[Path]


def predict_to_folder(
    predictor: Predictor,
    sources: str | Path | Iterable[str | Path],
    *,
    output: str | Path = "vlpart-results",
    formats: Iterable[str] = ("picture", "json"),
    vocabulary: Vocabulary | str | Sequence[str] | None = None,
    score_threshold: float | None = None,
    short_side: int | None = None,
    max_side: int | None = None,
    max_detections: int | None = None,
    max_pixels: int | None = MAX_PIXELS,
    batch_size: int = 1,
    recursive: bool = False,
    keep_nested: bool = True,
    on_result: Callable[[ImageReport], object] | None = None,
    on_failure: Callable[[str, VlpartError], object] | None = None,
) -> Summary:
    """Predict every image of `sources` and write the results as they come.

    The next images are read while the current ones are predicted. Broken images are skipped. Results of an earlier run
    with the same names are replaced; a source image never is. If the run is interrupted, the finished images stay, and
    the COCO file holds exactly those.

    Args:
        predictor: from `vlpart.load`.
        sources: files, folders, globs and http(s) addresses.
        output: folder for the results, made if needed. If it lies inside a source folder, what is in it is left out.
        formats: any of `FORMATS`.
        vocabulary, score_threshold, short_side, max_side, max_detections: see `Predictor.predict`.
        max_pixels: larger images are refused; None = no limit.
        batch_size: images per forward pass, at most; fewer where memory or a CPU asks for it.
        recursive: go into subfolders of source folders.
        keep_nested: False drops detections inside a better one of the same class (`Result.without_nested`).
        on_result: called after the files of an image are written.
        on_failure: called with the source and the error for everything that was skipped.

    Raises:
        ImageError: a source folder has no images, a glob matches none.
        OutputError: the folder is not writable, the disk is full, or the output folder is a source folder.
        VlpartError: the vocabulary does not fit the model, and whatever else is not the fault of a single image.
    """
    started = time.monotonic()
    given = [sources] if isinstance(sources, str | Path) else list(sources)
    names = OutputNames([str(source) for source in given], Path(output).expanduser())
    images = _read_all(list_images(given, recursive=recursive), names, max_pixels)
    job = _Job(
        predictor=predictor,
        writer=_Writer(names=names, formats=check_formats(formats)),
        options={
            "vocabulary": vocabulary,
            "score_threshold": score_threshold,
            "short_side": short_side,
            "max_side": max_side,
            "max_detections": max_detections,
            "max_pixels": None,  # checked when the image was read
        },
        keep_nested=keep_nested,
        on_result=on_result or (lambda report: None),
        on_failure=on_failure or (lambda image, error: None),
    )
    with job.writer.stack:
        make_folder(names.output)
        ahead = _read_ahead(images, depth=2 * batch_size)
        job.writer.stack.callback(ahead.close)
        for batch in _batches(ahead, batch_size):
            job.run(batch)
    return Summary(
        finished=job.writer.finished,
        failed=job.failed,
        detections=job.writer.detections,
        seconds=time.monotonic() - started,
        output=names.output,
        coco=job.writer.coco.path if job.writer.coco else None,
    )


def check_formats(formats: Iterable[str]) -> tuple[str, ...]:
    """`formats` without repeats, in the order of `FORMATS`. Raises `OutputError` for an unknown or empty choice."""
    chosen = [formats] if isinstance(formats, str) else list(formats)
    if not chosen:
        raise OutputError(f"no output format given: choose from {', '.join(FORMATS)}")
    for name in chosen:
        if name not in FORMATS:
            raise OutputError(f"unknown output format {name!r}: choose from {', '.join(FORMATS)}")
    return tuple(name for name in FORMATS if name in chosen)


@dataclass(frozen=True)
class _Read:
    """An image that was read, or why it was not. `pixels` is (H, W, 3) uint8 RGB."""

    image: str
    pixels: np.ndarray | None
    error: VlpartError | None = None


def _read_all(images: Iterator[Path | str], names: OutputNames, max_pixels: int | None) -> Iterator[_Read]:
    """Read image after image; what cannot be read comes as an error, in its place."""
    try:
        for image in map(str, images):
            if names.is_result(image):
                continue
            try:
                yield _Read(image, read_image(image, max_pixels=max_pixels))
            except ImageError as error:
                yield _Read(image, None, error)
    except ImageError as error:  # a folder that cannot be listed ends the listing
        yield _Read("listing", None, error)


@dataclass(kw_only=True)
class _Job:
    """A run: predicts and writes batch after batch, and keeps the counts."""

    predictor: Predictor
    writer: _Writer
    options: Mapping[str, Any]
    keep_nested: bool
    on_result: Callable[[ImageReport], object]
    on_failure: Callable[[str, VlpartError], object]
    failed: int = 0

    def run(self, batch: Sequence[_Read]) -> None:
        """Predict the images of a batch that could be read, write them in order, report every one."""
        results = self._predict([item.pixels for item in batch if item.pixels is not None])
        for item in batch:
            result = next(results) if item.error is None else item.error
            if isinstance(result, VlpartError):
                self._fail(item.image, result)
                continue
            if not self.keep_nested:
                result = result.without_nested()
            result.path = item.image
            try:
                files = self.writer.encode(item.image, result)
            except OutputError as error:
                self._fail(item.image, error)
                continue
            self.writer.write(item.image, result, files)
            self.on_result(ImageReport(image=item.image, result=result, files=tuple(files)))

    def _predict(self, pixels: Sequence[np.ndarray]) -> Iterator[Result | ImageError]:
        """A result for every image. If the batch is refused because of an image, each is tried alone."""
        if not pixels:
            return
        try:
            yield from self.predictor.predict(list(pixels), **self.options)
        except ImageError as error:
            if len(pixels) == 1:
                yield error
            else:
                for one in pixels:
                    yield from self._predict([one])

    def _fail(self, image: str, error: VlpartError) -> None:
        self.failed += 1
        self.on_failure(image, error)


@dataclass(kw_only=True)
class _Writer:
    """Writes the chosen formats of one result after the other."""

    names: OutputNames
    formats: Sequence[str]
    coco: CocoFile | None = None
    finished: int = 0
    detections: int = 0
    stack: ExitStack = field(default_factory=ExitStack)

    def encode(self, image: str, result: Result) -> dict[Path, bytes]:
        """The files of one result, in memory. Raises `OutputError` for what is wrong with this image alone."""
        stem = self.names.stem(image)
        targets = {kind: self.names.target(stem + _ENDINGS[kind]) for kind in self.formats if kind in _ENDINGS}
        return {path: _encode(kind, result, path) for kind, path in targets.items()}

    def write(self, image: str, result: Result, files: Mapping[Path, bytes]) -> None:
        """Write the files of one result and add it to the COCO file. Raises `OutputError` if the disk refuses."""
        for path, data in files.items():
            write_file(path, data)
        if "coco" in self.formats:
            if self.coco is None:
                self.coco = self.stack.enter_context(_open_coco(self.names.target("coco.json"), result))
            self.coco.add(self.names.relative(image), result.image_size, _annotations(result))
        self.finished += 1
        self.detections += len(result)


_ENDINGS = {"picture": "_parts.jpg", "json": "_parts.json", "labels": "_labels.png"}


def _encode(kind: str, result: Result, path: Path) -> bytes:
    if kind == "json":
        return (result.to_json(indent=1) + "\n").encode(errors="backslashreplace")  # a path that is no Unicode
    if kind == "picture":
        return encode_picture(result.plot(), "JPEG", path.name)
    return encode_picture(Image.fromarray(result.label_map()), "PNG", path.name)


def _annotations(result: Result) -> list[dict[str, Any]]:
    """COCO annotations: result entries with the area and the crowd flag that readers of ground truth expect."""
    boxes = result.boxes_xyxy
    sizes = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) if result.masks is None else result.masks.areas()
    entries = zip(result.to_coco(image_id=0), sizes.tolist(), strict=True)
    return [{**entry, "area": area, "iscrowd": 0} for entry, area in entries]


def _open_coco(path: Path, result: Result) -> CocoFile:
    """The COCO file of a run, with the categories of the vocabulary of its first result."""
    from vlpart import __version__

    categories = [
        {"id": entry.id, "name": entry.name, "object": entry.object, "part": entry.part}
        for entry in result.vocabulary.entries
    ]
    return CocoFile(path, categories, {"description": f"predictions of vlpart {__version__}"})


def _read_ahead(items: Iterable[_Item], depth: int) -> Generator[_Item, None, None]:
    """Iterate in a thread of its own, at most `depth` items ahead; what the iterator raises is raised here."""
    ready: Queue[tuple[bool, Any]] = Queue(maxsize=depth)
    stop = Event()

    def put(entry: tuple[bool, Any]) -> None:
        while not stop.is_set():
            with suppress(Full):
                ready.put(entry, timeout=0.1)
                return

    def work() -> None:
        try:
            for item in items:
                put((True, item))
                if stop.is_set():
                    return
        except BaseException as error:  # noqa: BLE001 (handed to the consumer, which raises it)
            put((False, error))
        else:
            put((False, None))

    Thread(target=work, name="vlpart-reader", daemon=True).start()
    try:
        while True:
            try:
                more, value = ready.get(timeout=0.1)  # with a timeout, so that Ctrl-C is heard on every system
            except Empty:
                continue
            if more:
                yield value
            elif value is None:
                return
            else:
                raise value
    finally:
        stop.set()


def _batches(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    batch: list[_Item] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
