"""Endless training batches from several sources, with worker processes and exact resume.

A worker decodes (JPEGs at reduced resolution where the target is much smaller) and augments; it sends little: uint8
pixels and mask bits. The training process unpacks and normalises them.
"""

from __future__ import annotations

import os
import signal
import threading
import time
import warnings
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from vlpart.data.mosaic import mosaic
from vlpart.data.preprocess import normalise_and_pad
from vlpart.data.records import Record
from vlpart.data.sampling import BatchSampler, Draw, Sampling, augmentation_generator
from vlpart.data.source import LoadedSource
from vlpart.data.transforms import augment
from vlpart.data.upright import EXIF_ORIENTATION, check_size, read_annotated
from vlpart.errors import DataError, ImageError, VlpartError
from vlpart.files import is_there
from vlpart.signals import STOP_SIGNALS
from vlpart.types import AnnotationKind, Batch, Sample, Targets


def make_loader(
    sources: Sequence[LoadedSource],
    *,
    seed: int,
    workers: int = 2,
    sampling: Sampling = "weighted",
    rank: int = 0,
    world_size: int = 1,
    divisor: int = 32,
    same_source: bool = False,
    prefetch: int = 2,
    start_method: str | None = None,
) -> Loader:
    """A loader over `sources`.

    Args:
        sources: what is drawn from, with `Source.ratio` and `Source.batch_size`.
        seed: decides the order of images and every augmentation, whatever the number of workers.
        workers: processes that decode and augment; 0 = in this process.
        sampling: "weighted" with replacement, or shuffled "epochs" of a single source.
        rank, world_size: this training process among all; ranks get different draws.
        divisor: batches are padded to a multiple of it.
        same_source: every rank gets the same source in the same step, see `BatchSampler`.
        prefetch: batches that each worker prepares ahead.
        start_method: of the workers: "fork", "spawn", "forkserver", or None for the platform's own.

    Raises:
        DataError: no sources, repeated names, an impossible rank or number of workers.
    """
    if workers < 0 or prefetch < 1 or divisor < 1:
        raise DataError(f"workers must be >= 0, prefetch and divisor >= 1; got {workers}, {prefetch}, {divisor}")
    sampler = BatchSampler(
        sources, seed=seed, sampling=sampling, rank=rank, world_size=world_size, same_source=same_source
    )
    options = LoaderOptions(seed=seed, workers=workers, divisor=divisor, prefetch=prefetch, start_method=start_method)
    return Loader(sources, sampler, options)


@dataclass(frozen=True, kw_only=True)
class LoaderOptions:
    """See `make_loader`."""

    seed: int
    workers: int
    divisor: int
    prefetch: int
    start_method: str | None


class Loader:
    """Iterate for `Batch` after `Batch`, without end.

    The state counts *delivered* batches: what workers have prepared ahead is not lost by a checkpoint. A second
        `iter()` goes on
    after the last delivered batch.
    """

    def __init__(self, sources: Sequence[LoadedSource], sampler: BatchSampler, options: LoaderOptions) -> None:
        self._sampler, self._options = sampler, options
        self._dataset = DrawDataset(sources, options.seed)
        self._kinds = {source.name: source.source.kind for source in sources}
        self._delivered: dict[str, Any] = sampler.state_dict()
        self._batches = 0

    def __iter__(self) -> Iterator[Batch]:
        self._sampler.load_state_dict(self._delivered)
        planned: deque[dict[str, Any]] = deque()

        def plan() -> Iterator[list[Draw]]:
            """What the workers shall read, with the state that the sampler had after each batch."""
            while True:
                draws = self._sampler.next_batch()
                planned.append(self._sampler.state_dict())
                yield draws

        for result in self._packed_batches(plan()):
            if isinstance(result, WorkerFailure):
                raise DataError(result.message)
            self._delivered = planned.popleft()
            self._batches += 1
            yield collate(result, self._kinds[result[0].source], self._options.divisor)

    def _packed_batches(self, plan: Iterator[list[Draw]]) -> Iterator[list[PackedSample] | WorkerFailure]:
        if self._options.workers == 0:
            for draws in plan:
                yield self._dataset.__getitems__(draws)
            return
        try:
            with warnings.catch_warnings():
                for harmless in ("This DataLoader will create", "This process .* is multi-threaded"):
                    warnings.filterwarnings("ignore", message=harmless)
                loader: DataLoader[Any] = DataLoader(
                    self._dataset,
                    batch_sampler=_Once(plan),
                    num_workers=self._options.workers,
                    collate_fn=_unchanged,
                    prefetch_factor=self._options.prefetch,
                    worker_init_fn=_follow_parent,
                    multiprocessing_context=self._options.start_method,
                    generator=torch.Generator(),  # the default one belongs to training and must not be drawn from
                )
                with _stop_signals_blocked():
                    iterator = iter(loader)
            yield from iterator
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise DataError("a data worker was killed (is there enough memory?); try fewer workers") from error

    def state_dict(self) -> dict[str, Any]:
        """Where the delivered batches end: plain numbers, strings and lists (JSON-ready)."""
        return {"version": 1, "batches": self._batches, "sampler": self._delivered}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on after the last batch that was delivered when `state` was taken; takes effect at the next `iter()`.

        Raises:
            DataError: the state is of other sources, another seed, rank or world size.
        """
        if state.get("version") != 1:
            raise DataError(f"a loader state of version {state.get('version')!r}, expected 1")
        self._sampler.load_state_dict(state["sampler"])
        self._delivered = self._sampler.state_dict()
        self._batches = int(state["batches"])


class WorkerFailure:
    """An error of a worker on its way to the training process, as the one line that it will be there."""

    def __init__(self, message: str) -> None:
        self.message = message


class DrawDataset(Dataset[Any]):
    """Draw -> augmented sample. Workers hold it by fork or by shared memory."""

    def __init__(self, sources: Sequence[LoadedSource], seed: int) -> None:
        self._sources = list(sources)
        self._seed = seed

    def __getitem__(self, draw: Draw) -> Sample:
        """The sample of a draw: the same for every process that computes it.

        Raises:
            DataError: the image cannot be read, or has another size than the annotations say.
        """
        loaded = self._sources[draw.source]
        rng = augmentation_generator(self._seed, draw.index)
        largest = max(loaded.source.short_sides)
        factor = max(1.0, (loaded.source.scale_jitter or (1.0, 1.0))[1])

        def read(record: Record) -> NDArray[np.uint8]:
            return decode_image(record.path, (record.height, record.width), shortest_needed=int(largest * factor))

        if loaded.source.mosaic and rng.random() < loaded.source.mosaic:
            return mosaic(loaded, draw.image, read, rng)
        record = loaded.store[draw.image]
        return augment(loaded, record, read(record), rng)

    def __getitems__(self, draws: Sequence[Draw]) -> list[PackedSample] | WorkerFailure:
        """The samples of a batch, ready to travel."""
        try:
            return [pack(self[draw]) for draw in draws]
        except VlpartError as error:
            return WorkerFailure(str(error))


class _Once:
    """A batch sampler over an iterator that is used once."""

    def __init__(self, batches: Iterator[list[Draw]]) -> None:
        self._batches = batches

    def __iter__(self) -> Iterator[list[Draw]]:
        return self._batches


def _unchanged(batch: Any) -> Any:
    return batch


@contextmanager
def _stop_signals_blocked() -> Iterator[None]:
    """Processes that start meanwhile never see the signals that stop; for this one they wait until the end.

    Schedulers and terminals send them to the whole process group. It is the training process that decides when to stop;
    its workers must deliver until then.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _follow_parent(worker: int) -> None:
    """End this worker when the training process is gone, and not before: stop signals are for that process alone.

    A worker whose parent was killed has nobody to read its last batch, and would wait for ever to get rid of it.
    """
    del worker
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    parent = os.getppid()

    def watch() -> None:
        """End this process with the one that started it."""
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, name="follow-parent", daemon=True).start()


@dataclass(kw_only=True)
class PackedMasks:
    """(N, H, W) masks as bits: an eighth of the bytes between processes."""

    bits: NDArray[np.uint8]
    shape: tuple[int, int, int]

    def unpack(self) -> torch.Tensor:
        """(N, H, W) bool."""
        n, height, width = self.shape
        if n == 0:
            return torch.zeros(self.shape, dtype=torch.bool)
        flat = np.unpackbits(self.bits, axis=1, count=height * width)
        return torch.from_numpy(flat.view(bool).reshape(self.shape))


@dataclass(kw_only=True)
class PackedSample:
    """A `Sample` in numpy arrays: these go through an ordinary pipe, so shared memory and handles cannot run out.

    `image` is (3, H, W).
    """

    image: NDArray[np.uint8]
    boxes_xyxy: NDArray[np.float32]
    labels: NDArray[np.int64]
    masks: PackedMasks | None
    image_labels: NDArray[np.int64]
    unknown_labels: NDArray[np.bool_] | None
    ignore_inside: NDArray[np.bool_] | None
    pseudo_labels: NDArray[np.bool_] | None
    source: str
    image_id: int
    path: str


def pack(sample: Sample) -> PackedSample:
    """In the worker."""
    targets = sample.targets
    masks = None
    if targets.masks is not None:
        array = targets.masks.numpy()
        bits = np.packbits(array.reshape(len(array), -1), axis=1) if len(array) else np.zeros((0, 0), dtype=np.uint8)
        masks = PackedMasks(bits=bits, shape=(len(array), array.shape[1], array.shape[2]))
    return PackedSample(
        image=sample.image.contiguous().numpy(),
        boxes_xyxy=targets.boxes_xyxy.numpy(),
        labels=targets.labels.numpy(),
        masks=masks,
        image_labels=targets.image_labels.numpy(),
        unknown_labels=None if targets.unknown_labels is None else targets.unknown_labels.numpy(),
        ignore_inside=None if targets.ignore_inside is None else targets.ignore_inside.numpy(),
        pseudo_labels=None if targets.pseudo_labels is None else targets.pseudo_labels.numpy(),
        source=sample.source,
        image_id=sample.image_id,
        path=sample.path,
    )


def collate(samples: Sequence[PackedSample], kind: AnnotationKind, divisor: int = 32) -> Batch:
    """In the training process: unpack, normalise, pad to a common multiple of `divisor`."""
    images = normalise_and_pad([torch.from_numpy(sample.image) for sample in samples], divisor)
    return Batch(
        images=images,
        targets=[_targets(sample) for sample in samples],
        source=samples[0].source,
        kind=kind,
        image_ids=tuple(sample.image_id for sample in samples),
        paths=tuple(sample.path for sample in samples),
    )


def _targets(sample: PackedSample) -> Targets:
    return Targets(
        boxes_xyxy=torch.from_numpy(sample.boxes_xyxy),
        labels=torch.from_numpy(sample.labels),
        masks=None if sample.masks is None else sample.masks.unpack(),
        image_labels=torch.from_numpy(sample.image_labels),
        unknown_labels=None if sample.unknown_labels is None else torch.from_numpy(sample.unknown_labels),
        ignore_inside=None if sample.ignore_inside is None else torch.from_numpy(sample.ignore_inside),
        pseudo_labels=None if sample.pseudo_labels is None else torch.from_numpy(sample.pseudo_labels),
    )


def decode_image(path: Path, size: tuple[int, int], shortest_needed: int | None = None) -> NDArray[np.uint8]:
    """Read a training image as RGB.

    Args:
        path: file.
        size: (height, width) that the annotations say.
        shortest_needed: the shorter side that training needs. A JPEG with at least twice that is decoded at 1/2, 1/4 or
            1/8 of its size, never below what is needed.

    Returns:
        (H, W, 3) uint8: of that size, or smaller by the JPEG's own reduction. EXIF orientation is applied, unless only
        the unrotated image has the size the annotations say.

    Raises:
        DataError: missing or broken file, or another size than the annotations say.
    """
    from vlpart.data.images import image_header

    try:
        with image_header(path) as image:
            if image.format == "JPEG" and image.mode in ("RGB", "L") and image.getexif().get(EXIF_ORIENTATION, 1) == 1:
                check_size(path, (image.height, image.width), size)
                if shortest_needed is not None:
                    scale = shortest_needed / min(size)
                    image.draft("RGB", (max(1, int(size[1] * scale)), max(1, int(size[0] * scale))))
                return np.array(image.convert("RGB"))
    except (ImageError, OSError, ValueError, SyntaxError, MemoryError) as error:
        if not is_there(path):
            raise DataError(f"the image {path} is missing") from None
        raise DataError(f"cannot decode {path}: {error}; replace the file or take it out of the annotations") from None
    return read_annotated(path, size)
