"""`vlpart bulk`: millions of images, on one machine or many, into Parquet files."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vlpart.cli.console import Bars, say
from vlpart.cli.options import IMAGES, Detecting, NoProgress, with_groups

if TYPE_CHECKING:
    from vlpart.bulk.run import Summary
    from vlpart.bulk.worker import Done

_EVERY = 30.0  # seconds between two lines, where there is no terminal for a bar
_WORK = "Work"

Source = Annotated[
    str,
    typer.Argument(
        help="A folder with all that is below it; shards of images (a.tar, shards/*.tar, train-{000..099}.tar); or a "
        "list of images: .txt, .csv, .jsonl, .parquet. Paths, or addresses: s3://, gs://, and what fsspec knows."
    ),
]
Dest = Annotated[str, typer.Argument(help="Folder for the Parquet files: a path, or an address.")]
Column = Annotated[str, typer.Option(help="Of a list: where the paths are.", rich_help_panel=IMAGES)]
Batch = Annotated[int, typer.Option(min=1, help="Images per forward pass, at most.", rich_help_panel=_WORK)]
BlockSize = Annotated[
    int,
    typer.Option(
        min=1, max=1_000_000, help="Images of a block: what is written together, and done again.", rich_help_panel=_WORK
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Processes with the model, at most. Default: one per GPU, else one per --threads processors.",
        rich_help_panel=_WORK,
    ),
]
Threads = Annotated[int, typer.Option(min=1, help="Processor threads of each.", rich_help_panel=_WORK)]
Readers = Annotated[
    int, typer.Option(min=1, help="Threads of each that read and decode images.", rich_help_panel=_WORK)
]
Address = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT",
        help="Ray cluster to use; auto: the one this machine is in. Default: this machine alone.",
        rich_help_panel=_WORK,
    ),
]
KeepGoing = Annotated[
    bool,
    typer.Option("--keep-going", help="Go on after a block of which no image can be read.", rich_help_panel=_WORK),
]
RetryFailed = Annotated[
    bool,
    typer.Option(
        "--retry-failed", help="Do blocks again that have images that could not be read.", rich_help_panel=_WORK
    ),
]


def register(app: typer.Typer) -> None:
    """Add the command to the `vlpart` command."""
    app.command("bulk")(bulk)


@with_groups
def bulk(
    source: Source,
    dest: Dest,
    asked: Detecting,
    column: Column = "path",
    batch: Batch = 1,
    block_size: BlockSize = 1000,
    workers: Workers = None,
    threads: Threads = 1,
    readers: Readers = 2,
    address: Address = None,
    keep_going: KeepGoing = False,
    retry_failed: RetryFailed = False,
    no_progress: NoProgress = False,
) -> None:
    """Find objects and their parts in millions of images.

    Three tables of Parquet files in DEST: images, detections (boxes, masks, names, scores, objects of parts) and
    failed, the images that cannot be read; with those, the exit code is 1. The work is cut into blocks; the same
    command again does what is missing, after Ctrl-C or the loss of a machine too.
    Needs pip install "vlpart[ray]". Try it: vlpart bulk photos/ found/
    """
    from vlpart.errors import VlpartError

    try:
        from vlpart.bulk.run import bulk as run
    except ImportError as error:  # pyarrow comes with Ray
        raise VlpartError(f'{error.name} is not installed: pip install "vlpart[ray]"') from error
    with _Reporter(hidden=no_progress) as report:
        summary = run(
            source,
            dest,
            model=asked.model,
            weights=None if asked.weights is None else str(asked.weights),
            engine=None if asked.engine is None else asked.engine.value,
            device=asked.device,
            precision=asked.precision.value,
            vocabulary=asked.vocabulary,
            score_threshold=asked.threshold,
            iou=asked.kept_iou,
            keep_nested=asked.nested,
            max_pixels=asked.most_pixels,
            max_detections=asked.max_detections,
            short_side=asked.short_side,
            max_side=asked.max_side,
            slices=asked.slices,
            column=column,
            block_size=block_size,
            batch_size=batch,
            workers=workers,
            threads=threads,
            readers=readers,
            address=address,
            keep_going=keep_going,
            retry_failed=retry_failed,
            progress=report.progress,
            on_block=report.block,
        )
    report.summary(summary)
    if summary.failed or summary.failed_before:
        raise typer.Exit(1)


class _Reporter:
    """A bar on a terminal; elsewhere a line now and then, on standard error."""

    def __init__(self, *, hidden: bool) -> None:
        self._bars, self._hidden = Bars(hidden=hidden, transient=True), hidden
        self._started = self._said = time.monotonic()
        self._images = self._failed = self._done = 0
        self._total: int | None = None

    def progress(self, label: str, done: int, total: int | None) -> None:
        """So much is done."""
        self._bars(label, done, total)
        self._done, self._total = (done, total) if total is not None else (0, None)
        now = time.monotonic()
        if not self._hidden and not self._bars.shown and now - self._said >= _EVERY:
            self._said = now
            count = f"{done}" if total is None else f"{done} of {total}"
            say(f"{label}: {count}, {self._images} images in {now - self._started:.0f} s", err=True)

    def block(self, done: Done) -> None:
        """A block is finished."""
        self._images += done.images
        self._failed += done.failed

    def summary(self, summary: Summary) -> None:
        """The last line."""
        seconds = time.monotonic() - self._started
        there = f", {summary.existing} of {summary.blocks} blocks were there" if summary.existing else ""
        failed = f", {summary.failed} failed" if summary.failed else ""
        say(
            f"{summary.images} images, {summary.detections} detections{failed}{there}, in {seconds:.1f} s "
            f"({summary.cpu_seconds:.1f} CPU seconds), results in {summary.dest}"
        )
        if summary.failed_before:
            say(
                f"{summary.failed_before} images failed in an earlier run ({summary.dest}/failed says why): "
                "--retry-failed does their blocks again",
                err=True,
            )

    def __enter__(self) -> _Reporter:
        self._bars.__enter__()
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self._bars.__exit__(kind, error, trace)
        if error is None or isinstance(error, Exception):
            return
        state = "nothing finished" if self._total is None else f"{self._done} of {self._total} blocks finished"
        say(f"interrupted: {state}, the same command goes on with the rest", err=True)
        if isinstance(error, KeyboardInterrupt):
            raise typer.Exit(130) from None
