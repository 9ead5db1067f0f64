"""`vlpart predict`: photos in, annotated images and data out."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Self

import typer

from vlpart.cli.completion import complete_formats, complete_models, complete_vocabularies
from vlpart.cli.console import Bars, say, skipped
from vlpart.errors import VlpartError

if TYPE_CHECKING:
    from vlpart.inference.batch import ImageReport, Summary

_MODEL = "Model"
_IMAGES = "Images"
_OUTPUT = "Output"
_DRAWING = "Pictures"
SAMPLE = "sample"


class PrecisionChoice(StrEnum):
    """Choices of --precision."""

    AUTO = "auto"
    FLOAT32 = "float32"
    BF16 = "bf16"


class Colours(StrEnum):
    """Choices of --colours."""

    OBJECT = "object"
    INSTANCE = "instance"
    CLASS = "class"
    PART = "part"


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
        list[str] | None,
        typer.Argument(
            metavar="SOURCE",
            help="Image files, folders, globs or http(s) addresses; `sample` is the photo that comes with the package.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            help="Model name (`vlpart models list`), weight file, or run folder. Default: tiny, or what --weights is.",
            autocompletion=complete_models,
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
            autocompletion=complete_vocabularies,
            rich_help_panel=_MODEL,
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            help="cpu, cuda, cuda:1, mps. Default: cuda where there is one, else cpu; mps only when asked for.",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    precision: Annotated[
        PrecisionChoice, typer.Option(help="Of the computation.", rich_help_panel=_MODEL)
    ] = PrecisionChoice.AUTO,
    threshold: Annotated[
        float | None,
        typer.Option(
            "--threshold",
            "-t",
            min=0,
            max=1,
            help="Lowest score to keep. Default: 0.45 for one name, more for many; 0.53 for 350.",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    iou: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            help="Drop what overlaps a better detection of any name by so much; 1: nothing.",
            rich_help_panel=_MODEL,
        ),
    ] = 0.7,
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
            help="image, json, coco, labels (PNG label maps), labelme, yolo, crops, cutouts (transparent PNG); repeat "
            "or separate with commas.",
            callback=_formats,
            autocompletion=complete_formats,
            rich_help_panel=_OUTPUT,
        ),
    ] = ["image", "json"],  # noqa: B006 (typer copies it)
    labels: Annotated[bool, typer.Option("--labels/--no-labels", help="Names.", rich_help_panel=_DRAWING)] = True,
    scores: Annotated[
        bool, typer.Option("--scores/--no-scores", help="Scores behind the names.", rich_help_panel=_DRAWING)
    ] = True,
    masks: Annotated[
        bool,
        typer.Option("--masks/--no-masks", help="Masks; boxes are drawn instead of them.", rich_help_panel=_DRAWING),
    ] = True,
    boxes: Annotated[bool, typer.Option("--boxes", help="Boxes too.", rich_help_panel=_DRAWING)] = False,
    colours: Annotated[
        Colours,
        typer.Option(
            "--colours",
            "--colors",
            help="object: an object and its parts go together; instance: all differ; class, part: by name.",
            rich_help_panel=_DRAWING,
        ),
    ] = Colours.OBJECT,
    line_width: Annotated[
        float | None, typer.Option(min=0.5, max=200, help="Of contours, pixels.", rich_help_panel=_DRAWING)
    ] = None,
    font_size: Annotated[
        float | None, typer.Option(min=4, max=500, help="Of names, pixels.", rich_help_panel=_DRAWING)
    ] = None,
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
    Try it: vlpart predict sample
    """
    from vlpart.data.image_files import list_images
    from vlpart.data.images import MAX_PIXELS
    from vlpart.inference.batch import predict_to_folder, readable_threshold
    from vlpart.inference.output import check_formats
    from vlpart.text.vocabulary import Vocabulary
    from vlpart.zoo.resolve import resolve

    sources = _sources(sources)
    # What may be wrong is looked at before anything large is loaded.
    found = resolve(model, weights)
    check_formats(formats, skip_existing=skip_existing)
    names = None if vocabulary is None else Vocabulary.of(vocabulary)
    total = sum(1 for _ in list_images(sources, recursive=recursive, on_unlisted=lambda error: None))
    from vlpart.inference.predictor import load

    with Bars(hidden=no_progress, in_bytes=True, transient=True) as progress:
        found.fetch(progress)
    predictor = load(found, device=device, precision=precision.value)
    with _Reporter(total, output, progress=not no_progress) as report:
        summary = predict_to_folder(
            predictor,
            sources,
            output=output,
            formats=formats,
            vocabulary=names,
            score_threshold=readable_threshold(len(names or predictor.vocabulary)) if threshold is None else threshold,
            short_side=short_side,
            max_side=max_side,
            max_detections=max_detections,
            max_pixels=MAX_PIXELS if max_pixels is None else max_pixels or None,
            batch_size=batch,
            recursive=recursive,
            keep_nested=nested,
            iou=None if iou == 1 else iou,
            drawing={
                "labels": labels,
                "scores": scores,
                "masks": masks,
                "boxes": boxes or None,
                "colours": colours.value,
                "line_width": line_width,
                "font_size": font_size,
            },
            skip_existing=skip_existing,
            on_result=report.result,
            on_failure=report.failure,
            on_existing=report.existing,
        )
    report.summary(summary)
    if summary.failed:
        raise typer.Exit(1)


def _sources(given: list[str] | None) -> list[str]:
    """The sources, `sample` being the photo in the package unless there is a file of that name here."""
    from vlpart.files import is_there, local_path

    if not given:
        raise typer.BadParameter(
            "no image given: name a file, a folder or an address, or try the photo that comes with the package: "
            "vlpart predict sample",
            param_hint="SOURCE",
        )
    photo = Path(__file__).parents[1] / "assets" / "samples" / "astronaut.jpg"
    return [str(photo) if each == SAMPLE and not is_there(local_path(each)) else each for each in given]


def _listed(files: Sequence[Path], output: Path) -> str:
    """The files of one image, all below the output folder: of what has a file per detection, its folder."""
    shown: dict[str, int] = {}
    for path in files:
        place = path.relative_to(output)
        pieces = place.parts[0] in ("crops", "cutouts")
        key = f"{place.parent.as_posix()}/" if pieces else place.as_posix()
        shown[key] = shown.get(key, 0) + 1
    return ", ".join(f"{key} ({count})" if key.endswith("/") else key for key, count in shown.items())


class _Reporter:
    """One line per image: finished on standard output, skipped on standard error; a bar below them on a terminal."""

    def __init__(self, total: int, output: Path, *, progress: bool) -> None:
        self._output, self._total = output, total
        self._done = self._finished = 0
        self._bars = Bars(hidden=not progress, transient=True)

    def _advance(self) -> None:
        self._done += 1
        self._bars("predicting", self._done, self._total)

    def result(self, report: ImageReport) -> None:
        """Say what was found in an image and where its files are."""
        self._finished += 1
        where = f" -> {self._output}: {_listed(report.files, self._output)}" if report.files else ""
        say(f"{report.result.summary(report.result.path or report.image)}{where}")
        self._advance()

    def failure(self, image: str, error: VlpartError) -> None:
        """Say which image was skipped and why."""
        skipped(image, error)
        self._advance()

    def existing(self, image: str) -> None:
        """Nothing to say of an image whose results were there: a second run may have thousands."""
        self._advance()

    def summary(self, summary: Summary) -> None:
        """The last line: how many, how long, where."""
        images = "1 image" if summary.finished == 1 else f"{summary.finished} images"
        skipped = f", {summary.failed} skipped" if summary.failed else ""
        existing = f", {summary.existing} already there" if summary.existing else ""
        of_all = [path.name for path in (summary.coco, summary.yolo) if path is not None]
        where = f", results in {summary.output}" if summary.finished or summary.existing else ""
        where += f", of all images in {' and '.join(of_all)} there" if of_all else ""
        say(f"{images}{existing}{skipped} in {summary.seconds:.1f} s{where}")

    def __enter__(self) -> Self:
        self._bars.__enter__()
        self._bars("predicting", 0, self._total)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.__exit__(kind, error, trace)
        reason = "interrupted" if isinstance(error, KeyboardInterrupt) else "stopped"
        if error is not None and self._finished:
            say(f"{reason}: {self._finished} finished, results in {self._output}", err=True)
        elif error is not None and not isinstance(error, Exception):  # an error says itself why there is nothing
            say(f"{reason}: nothing finished", err=True)
        if isinstance(error, KeyboardInterrupt):
            raise typer.Exit(130) from None
