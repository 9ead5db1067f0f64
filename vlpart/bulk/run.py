"""A bulk job from its start to its end: the blocks that are missing go through Ray Data to processes with the model.

Ray Data keeps a few blocks in work for every process and takes the next ones when it gets answers, so nothing piles up.
It starts a lost process anew, on another machine if need be, and gives it its block again.
"""

from __future__ import annotations

import logging
import math
import os
import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow

from vlpart.bulk import job
from vlpart.bulk.places import open_place, scheme_of, without_options
from vlpart.bulk.tables import MOST_IN_BLOCK
from vlpart.bulk.worker import BlockWorker, Done, Request, weight_file
from vlpart.checks import in_range, typed, whole
from vlpart.data.images import MAX_PIXELS
from vlpart.errors import DataError, VlpartError
from vlpart.files import is_there, local_path
from vlpart.inference.batch import readable_threshold
from vlpart.jobs import Progress, default_processes
from vlpart.text.vocabulary import Vocabulary
from vlpart.zoo.download import sha256_of

_STORE = 200_000_000  # bytes of Ray's object store on this machine: only numbers of blocks go through it
_QUEUES = 4096  # pieces the work is handed out in, at most; Ray keeps a record of each


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a run did.

    Attributes:
        dest: address of the folder.
        blocks: of the job; finished: those that are finished now; existing: that were so before.
        images, failed, detections: of the blocks that this run finished.
        failed_before: images that could not be read, of the blocks that were finished before.
        cpu_seconds: of the processes with the model, for these images.
    """

    dest: str
    blocks: int
    finished: int
    existing: int
    images: int
    failed: int
    detections: int
    cpu_seconds: float
    failed_before: int = 0


@typed()
def bulk(
    source: str | os.PathLike[str],
    dest: str | os.PathLike[str],
    *,
    model: str | None = None,
    weights: str | None = None,
    engine: str | None = None,
    device: str | None = None,
    precision: str = "auto",
    vocabulary: Any = None,
    score_threshold: float | None = None,
    iou: float | None = 0.7,
    keep_nested: bool = False,
    max_detections: int | None = None,
    short_side: int | None = None,
    max_side: int | None = None,
    max_pixels: int | None = MAX_PIXELS,
    slices: int | None = None,
    column: str = "path",
    block_size: int = 1000,
    batch_size: int = 1,
    workers: int | None = None,
    threads: int = 1,
    readers: int = 2,
    address: str | None = None,
    in_process: bool = False,
    keep_going: bool = False,
    retry_failed: bool = False,
    progress: Progress | None = None,
    on_block: Callable[[Done], object] | None = None,
) -> Summary:
    """Predict all images of a source into Parquet files; a run that was ended goes on where it stopped.

    Args:
        source: see `vlpart.bulk.sources.list_items`; dest: a folder, made if needed. Paths or addresses (`s3://`).
        model, weights, device, precision: see `vlpart.load`; `model` may be an exported file, `engine` what runs it.
        vocabulary, max_detections, short_side, max_side, max_pixels, slices: see `Predictor.predict`.
        score_threshold: None takes `vlpart.inference.batch.readable_threshold`.
        iou, keep_nested: see `vlpart.predict_to_folder`.
        column: of a list of images, where the paths are.
        block_size: images of a block.
        batch_size: images per forward pass, at most.
        workers: processes with the model, at most; None = one per GPU, or one per `threads` processors.
        threads: processor threads of each; readers: threads of each that read and decode images.
        address: of a Ray cluster ("auto", "host:6379", "ray://host:10001"); None = this machine alone.
        in_process: no Ray, everything in this process, one block after the other.
        keep_going: blocks of which no image can be read are written, too, instead of ending the run.
        retry_failed: blocks with images that could not be read are done again.
        progress: told about images that are listed, and blocks that are done.
        on_block: told about every block that is done.

    Raises:
        DataError: the source has no images, cannot be listed, or none of the many images of a block can be read.
        OutputError: `dest` has results of other settings, another run works there, or it cannot be written.
        VlpartError: the model or vocabulary is not to be had, Ray is not installed or gives up.
        ValueError: a number that is out of range.
    """
    block_size = whole("block_size", block_size, 1, MOST_IN_BLOCK)
    numbers = {"batch_size": batch_size, "threads": threads, "readers": readers}
    numbers = {name: whole(name, value, 1, 10**6) for name, value in numbers.items()}
    if workers is not None:
        whole("workers", workers, 1, 10**6)
    if iou is not None:
        in_range("iou", iou, 0, 1)
    if not in_process:
        _ray()  # before anything is listed in vain
    file = weight_file(model, weights)
    names = _default_vocabulary(model, weights, engine) if vocabulary is None else Vocabulary.of(vocabulary)
    threshold = (
        readable_threshold(len(names))
        if score_threshold is None
        else in_range("score_threshold", score_threshold, 0, 1)
    )
    request = Request(
        source=_absolute(source),
        dest=_absolute(dest),
        model=None if model is None else _absolute_file(model),
        weights=None if weights is None else _absolute_file(weights),
        engine=engine,
        device=device,
        precision=precision,
        sha256=sha256_of(file),
        vocabulary=names,
        score_threshold=threshold,
        iou=iou,
        keep_nested=keep_nested,
        max_detections=max_detections,
        short_side=short_side,
        max_side=max_side,
        max_pixels=max_pixels,
        slices=slices,
        keep_going=keep_going,
        **numbers,
    )
    place = open_place(request.dest)
    settings = _settings(request, file.name, column, block_size)
    with job.kept(place):
        plan = job.prepare(place, settings, request.source, column, block_size, progress)
        there = job.finished(place) & set(range(plan.blocks))
        failed = job.failures(place, sorted(there))
        if retry_failed:
            job.reopen(place, failed)
            there, failed = there - set(failed), {}
        missing = [block for block in range(plan.blocks) if block not in there]
        tally = _Tally(request.dest, plan.blocks, plan.blocks - len(missing), progress, on_block)
        if missing:
            job.forget_starts(place)
            work = _here(missing, request) if in_process else _on_ray(missing, request, workers, address)
            with closing(work) as blocks:
                tally.take(blocks)
            job.tidy(place)
        return tally.summary(sum(failed.values()))


class _Tally:
    """Counts what comes back, and tells about it."""

    def __init__(
        self,
        dest: str,
        blocks: int,
        existing: int,
        progress: Progress | None,
        on_block: Callable[[Done], object] | None,
    ) -> None:
        self._dest, self._blocks, self._existing = open_place(dest).address, blocks, existing
        self._progress, self._on_block = progress or (lambda label, done, total: None), on_block or (lambda done: None)
        self._done: Counter[str] = Counter()
        self._cpu_seconds = 0.0

    def take(self, blocks: Iterator[Done]) -> None:
        """Count blocks as they come.

        Raises:
            VlpartError: one is not finished.
        """
        self._progress("blocks", self._existing, self._blocks)
        for done in blocks:
            if done.problem:
                raise VlpartError(done.problem)
            self._done.update(blocks=1, images=done.images, failed=done.failed, detections=done.detections)
            self._cpu_seconds += done.cpu_seconds
            self._on_block(done)
            self._progress("blocks", self._existing + self._done["blocks"], self._blocks)

    def summary(self, failed_before: int) -> Summary:
        """What was counted."""
        return Summary(
            dest=self._dest,
            blocks=self._blocks,
            finished=self._existing + self._done["blocks"],
            existing=self._existing,
            images=self._done["images"],
            failed=self._done["failed"],
            detections=self._done["detections"],
            cpu_seconds=self._cpu_seconds,
            failed_before=failed_before,
        )


# ---- what a job is


def _settings(request: Request, model: str, column: str, block_size: int) -> dict[str, Any]:
    """All that the content of the files depends on, as JSON data; options of addresses may be secret."""
    kept = ("score_threshold", "iou", "keep_nested", "max_detections", "short_side", "max_side", "max_pixels", "slices")
    return {
        "source": without_options(request.source),
        "column": column,
        "block_size": block_size,
        "model": model,
        "model_sha256": request.sha256,
        "engine": request.engine,
        "precision": request.precision,
        "batch_size": request.batch_size,
        **{name: getattr(request, name) for name in kept},
        "vocabulary_sha256": request.vocabulary.content_hash,
        "vocabulary": request.vocabulary.to_dict(),
    }


def _default_vocabulary(model: str | None, weights: str | None, engine: str | None) -> Vocabulary:
    """What a model looks for unless it is told."""
    from vlpart.export.engines import is_exported
    from vlpart.zoo.resolve import resolve

    if is_exported(model):
        from vlpart.export.predictor import load_exported

        return load_exported(str(model), engine).vocabulary
    return Vocabulary.load(resolve(model, weights).describe()[0].vocabulary)


def _absolute(address: str | os.PathLike[str]) -> str:
    """An address that means the same in another working folder."""
    named = os.fspath(address)
    if not named:
        raise DataError("an empty name is no source and no folder: . is this folder")
    return named if scheme_of(named) else str(local_path(named).absolute())


def _absolute_file(name: str) -> str:
    """The absolute path of a file or folder; what is none is a name."""
    path = local_path(name)
    return str(path.absolute()) if is_there(path) else name


# ---- who does it


def _here(missing: Sequence[int], request: Request) -> Generator[Done, None, None]:
    """Block after block, in this process."""
    worker = BlockWorker(request)
    for block in missing:
        yield worker.run(block)


def _on_ray(
    missing: Sequence[int], request: Request, workers: int | None, address: str | None
) -> Generator[Done, None, None]:
    """Blocks as they are done, by processes on this machine or in a cluster."""
    ray = _ray()
    from ray.exceptions import RayError

    own = not ray.is_initialized()  # a program that has started Ray keeps it
    if own:
        _start(ray, request, workers, address)
    try:
        processes, gpus = _pool(ray, request, workers)
        count = min(len(missing), _QUEUES)
        pieces = [missing[i * len(missing) // count : (i + 1) * len(missing) // count] for i in range(count)]
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.target_max_block_size = 1  # bytes: what is done is told at once, not gathered
        data = ray.data.from_arrow([pyarrow.table({"block": piece}) for piece in pieces]).map_batches(
            BlockWorker,
            fn_constructor_args=(request,),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(
                min_size=1, max_size=min(processes, count), max_tasks_in_flight_per_actor=2
            ),
            num_cpus=request.threads,
            num_gpus=gpus,
        )
        for row in data.iter_rows():
            yield Done(**row)
    except RayError as error:
        raise VlpartError(
            f"Ray gave up, the same command goes on with what is missing: {_first_line(error)}"
        ) from error
    finally:
        if own:
            ray.shutdown()


def _ray() -> Any:
    """Ray, which tells nobody that it is used, and writes its logs into its own folder alone."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise VlpartError('Ray is not installed: pip install "vlpart[ray]"') from error
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return ray


def _start(ray: Any, request: Request, workers: int | None, address: str | None) -> None:
    """Connect to a cluster, or make this machine one, as long as this process lives.

    Raises:
        VlpartError: there is no such cluster, or Ray cannot be started.
    """
    quiet = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    count = workers or max(1, default_processes() // request.threads)
    own = {"num_cpus": count * request.threads, "object_store_memory": _STORE, "include_dashboard": False}
    try:
        with _silent_stderr():
            ray.init(**({"address": "local", **own} if address is None else {"address": address}), **quiet)
    except Exception as error:  # Ray raises bare ones where a part of it does not come up in its thirty seconds
        where = "on this machine" if address is None else f"at {address}"
        raise VlpartError(f"cannot use Ray {where}: {_first_line(error)}") from error


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """What the C++ of Ray says while it starts, that its log has a level for one, goes nowhere."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _pool(ray: Any, request: Request, workers: int | None) -> tuple[int, float]:
    """(processes, GPUs of each) that a cluster has room for; more processes than GPUs share them.

    Raises:
        VlpartError: no machine has room for one, or no GPU where one is asked for.
    """
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    wanted = request.device is not None and request.device.startswith("cuda")
    gpus = sum(int(each.get("GPU", 0)) for each in machines) if wanted or request.device is None else 0
    room = sum(int(each.get("CPU", 0)) // request.threads for each in machines)
    if not room:
        raise VlpartError(f"no machine of the cluster has {request.threads} processors: choose fewer --threads")
    if wanted and not gpus:
        raise VlpartError("no machine of the cluster has a GPU that Ray knows of: leave out --device")
    processes = workers or min(gpus or room, room)
    return processes, 1 / math.ceil(processes / gpus) if gpus else 0.0


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[0][:300]
