"""`vlpart predict`: photos in, annotated images and data out."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Self

import typer

from vlpart.cli.console import is_terminal, say
from vlpart.errors import VlpartError

if TYPE_CHECKING:
    from vlpart.inference.batch import ImageReport, Summary

_MODEL = "Model"
_IMAGES = "Images"
_OUTPUT = "Output"


class Precision(StrEnum):
    """Choices of --precision."""

    AUTO = "auto"
    FLOAT32 = "float32"
    BF16 = "bf16"


def register(app: typer.Typer) -> None:
    """Add the command to the `vlpart` command."""
    app.command("predict")(predict)


def _formats(values: list[str]) -> list[str]:
    """Repeated and comma-separated values as one checked list."""
    from vlpart.inference.output import check_formats

    names = [name.strip().lower() for value in values for name in value.split(",") if name.strip()]
    try:
        return list(check_formats(names))
    except VlpartError as error:
        raise typer.BadParameter(str(error)) from error


def predict(
    sources: Annotated[
        list[str], typer.Argument(metavar="SOURCE", help="Image files, folders, globs or http(s) addresses.")
    ],
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            help="Model name (`vlpart models list`), weight file, or run folder. Default: tiny, or what --weights is.",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Local weight file instead of the download.", rich_help_panel=_MODEL)
    ] = None,
    vocabulary: Annotated[
        str | None,
        typer.Option(
            "--vocabulary",
            "-v",
            help="What to look for: 'car: wheel, door; dog head', a list of `vlpart vocabularies list`, or a file.",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1, mps. Default: the best there is.", rich_help_panel=_MODEL)
    ] = None,
    precision: Annotated[Precision, typer.Option(help="Of the computation.", rich_help_panel=_MODEL)] = Precision.AUTO,
    threshold: Annotated[
        float,
        typer.Option("--threshold", "-t", min=0, max=1, help="Lowest score to keep.", rich_help_panel=_MODEL),
    ] = 0.5,
    nested: Annotated[
        bool,
        typer.Option(
            "--keep-nested", help="Keep detections inside a better one of the same name.", rich_help_panel=_MODEL
        ),
    ] = False,
    max_detections: Annotated[
        int | None, typer.Option(min=1, max=1_000_000, help="Most detections per image.", rich_help_panel=_MODEL)
    ] = None,
    short_side: Annotated[
        int | None,
        typer.Option(min=1, max=100_000, help="Shorter side of the network input, pixels.", rich_help_panel=_IMAGES),
    ] = None,
    max_side: Annotated[
        int | None, typer.Option(min=1, max=100_000, help="Limit of the longer side, pixels.", rich_help_panel=_IMAGES)
    ] = None,
    max_pixels: Annotated[
        int | None, typer.Option(min=0, help="Refuse larger images; 0: no limit.", rich_help_panel=_IMAGES)
    ] = None,
    recursive: Annotated[
        bool, typer.Option("--recursive", "-r", help="Go into subfolders.", rich_help_panel=_IMAGES)
    ] = False,
    batch: Annotated[
        int, typer.Option(min=1, help="Images per forward pass, at most; a CPU takes fewer.", rich_help_panel=_IMAGES)
    ] = 1,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the results.", rich_help_panel=_OUTPUT)
    ] = Path("vlpart-results"),
    formats: Annotated[
        list[str],
        typer.Option(
            "--format",
            "-f",
            help="image, json, coco, labels (PNG label maps), labelme, yolo; repeat or separate with commas.",
            callback=_formats,
            rich_help_panel=_OUTPUT,
        ),
    ] = ["image", "json"],  # noqa: B006 (typer copies it)
    skip_existing: Annotated[
        bool,
        typer.Option("--skip-existing", help="Leave out images whose results are there.", rich_help_panel=_OUTPUT),
    ] = False,
    no_progress: Annotated[
        bool, typer.Option("--no-progress", help="No progress bar.", rich_help_panel=_OUTPUT)
    ] = False,
) -> None:
    """Find objects and their parts in images.

    Results are written as they come: NAME_parts.jpg, NAME_parts.json, and what --format asks for. An image that cannot
    be read is skipped with a line on standard error, and the exit code is then 1. Ctrl-C keeps what is finished.
    """
    from vlpart.data.image_files import list_images
    from vlpart.data.images import MAX_PIXELS
    from vlpart.inference.batch import predict_to_folder
    from vlpart.inference.output import check_formats
    from vlpart.text.vocabulary import Vocabulary
    from vlpart.zoo.catalogue import ModelEntry
    from vlpart.zoo.download import download_model, rich_progress
    from vlpart.zoo.run_folder import open_model

    # What may be wrong is looked at before anything large is loaded.
    entry = open_model(model or "tiny") if model or weights is None else None
    check_formats(formats, skip_existing=skip_existing)
    names = None if vocabulary is None else Vocabulary.of(vocabulary)
    total = sum(1 for _ in list_images(sources, recursive=recursive, on_unlisted=lambda error: None))
    from vlpart.inference.predictor import load

    if isinstance(entry, ModelEntry) and weights is None:
        with nullcontext() if no_progress else rich_progress(entry.name) as progress:
            download_model(entry.name, progress=progress)
    predictor = load(model, weights=weights, device=device, precision=precision.value)
    with _Reporter(total, output, progress=not no_progress) as report:
        summary = predict_to_folder(
            predictor,
            sources,
            output=output,
            formats=formats,
            vocabulary=names,
            score_threshold=threshold,
            short_side=short_side,
            max_side=max_side,
            max_detections=max_detections,
            max_pixels=MAX_PIXELS if max_pixels is None else max_pixels or None,
            batch_size=batch,
            recursive=recursive,
            keep_nested=nested,
            skip_existing=skip_existing,
            on_result=report.result,
            on_failure=report.failure,
            on_existing=report.existing,
        )
    report.summary(summary)
    if summary.failed:
        raise typer.Exit(1)


class _Reporter:
    """One line per image: finished on standard output, skipped on standard error; a bar below them on a terminal."""

    def __init__(self, total: int, output: Path, *, progress: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._output = output
        self._finished = 0
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
            redirect_stdout=is_terminal(),  # a pipe gets its lines directly
            disable=not progress or not (sys.stderr is not None and sys.stderr.isatty()),
        )
        self._task = self._bar.add_task("predicting", total=total)

    def result(self, report: ImageReport) -> None:
        """Say what was found in an image and where its files are."""
        self._finished += 1
        where = f" -> {', '.join(str(path) for path in report.files)}" if report.files else ""
        say(f"{report.result.summary()}{where}")
        self._bar.advance(self._task)

    def failure(self, image: str, error: VlpartError) -> None:
        """Say which image was skipped and why."""
        message = " ".join(str(error).split())
        say(f"skipped: {message}" if image in message else f"skipped: {image}: {message}", err=True)
        self._bar.advance(self._task)

    def existing(self, image: str) -> None:
        """Nothing to say of an image whose results were there: a second run may have thousands."""
        self._bar.advance(self._task)

    def summary(self, summary: Summary) -> None:
        """The last line: how many, how long, where."""
        images = "1 image" if summary.finished == 1 else f"{summary.finished} images"
        skipped = f", {summary.failed} skipped" if summary.failed else ""
        existing = f", {summary.existing} already there" if summary.existing else ""
        where = f", results in {summary.coco or summary.output}" if summary.finished or summary.existing else ""
        say(f"{images}{existing}{skipped} in {summary.seconds:.1f} s{where}")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
        reason = "interrupted" if isinstance(error, KeyboardInterrupt) else "stopped"
        if error is not None and self._finished:
            say(f"{reason}: {self._finished} finished, results in {self._output}", err=True)
        elif error is not None and not isinstance(error, Exception):  # an error says itself why there is nothing
            say(f"{reason}: nothing finished", err=True)
        if isinstance(error, KeyboardInterrupt):
            raise typer.Exit(130) from None
