"""`vlpart predict`: photos in, annotated images and data out."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

import typer

from vlpart.cli import predict_options as o
from vlpart.cli.console import Bars, note, say, skipped
from vlpart.cli.options import Detecting, NoProgress, Recursive, checked_engine, with_groups
from vlpart.cli.predict_video import run_videos, video_formats
from vlpart.errors import VlpartError

if TYPE_CHECKING:
    from vlpart.data.readers.dataset import LabelledSet
    from vlpart.inference.base import BasePredictor
    from vlpart.inference.batch import ImageReport, Summary
    from vlpart.inference.exemplars import Exemplar
    from vlpart.inference.predictor import Predictor
    from vlpart.zoo.resolve import ResolvedModel


SAMPLE = "sample"


def register(app: typer.Typer) -> None:
    """Add the command to the `vlpart` command."""
    app.command("predict")(predict)


@with_groups
def predict(
    *,
    sources: o.Sources = None,
    asked: Detecting,
    like: o.Like = None,
    objects: o.Objects = None,
    select: o.Select = None,
    recursive: Recursive = False,
    batch: o.Batch = 1,
    shard: o.Shard = None,
    output: o.Output = Path("vlpart-results"),
    formats: o.Formats = None,
    drawing: o.Drawing,
    videos: o.OfVideos,
    skip_existing: o.SkipExisting = False,
    no_progress: NoProgress = False,
) -> None:
    """Find objects and their parts in images and videos.

    Results are written as they come: NAME_parts.jpg, NAME_parts.json, and what --format asks for. An image that cannot
    be read is skipped with a line on standard error, and the exit code is then 1. Ctrl-C keeps what is finished. Of a
    video: NAME_parts.mp4, and NAME_parts.jsonl with a line per frame.
    In a pipe: vlpart predict - -o - < photo.jpg. Try it: vlpart predict sample
    """
    from vlpart.export.engines import is_exported
    from vlpart.inference.batch import readable_threshold
    from vlpart.inference.output import check_formats
    from vlpart.text.vocabulary import Vocabulary
    from vlpart.zoo.resolve import resolve

    piped = str(output) == "-"
    images, films = _sources(sources)
    if films and objects is not None:
        raise typer.BadParameter("the objects of a video cannot be given, only those of images", param_hint="--objects")
    share = o.parsed_shard(shard)
    of_videos = video_formats(formats, piped=piped) if films else ()
    # What may be wrong is looked at before anything large is loaded.
    engine = checked_engine(asked.model, asked.engine)
    found = None if is_exported(asked.model) else resolve(asked.model, asked.weights)
    formats = list(check_formats(formats or (["jsonl"] if piped else ["image", "json"]), skip_existing=skip_existing))
    shown = _exemplars(like, exported=found is None)
    given = None if objects is None else _objects(objects)
    names = None if asked.vocabulary is None else Vocabulary.of(asked.vocabulary)
    total = _count(images, share, recursive=recursive) if images else 0
    predictor = _predictor(found, asked, engine, progress=not no_progress)
    if shown:
        names = cast("Predictor", predictor).like(shown, names)
    threshold = asked.threshold
    common: dict[str, Any] = {
        "vocabulary": names,
        "score_threshold": readable_threshold(len(names or predictor.vocabulary)) if threshold is None else threshold,
        "keep_nested": asked.nested,
        "iou": asked.kept_iou,
        "batch_size": batch,
        "select": select,
        "drawing": drawing.arguments(),
        "max_detections": asked.max_detections,
        "short_side": asked.short_side,
        "max_side": asked.max_side,
    }
    failed = 0
    if images:
        of_images = {"formats": formats, "recursive": recursive, "skip_existing": skip_existing, "shard": share}
        limits = {"max_pixels": asked.most_pixels, "slices": asked.slices}
        failed = _run_images(
            predictor,
            given,
            images,
            output,
            total,
            progress=not no_progress,
            default_threshold=common["score_threshold"] if threshold is None and select is None else None,
            **common,
            **of_images,
            **limits,
        )
    if films:
        to: dict[str, Any] = {"output": output, "piped": piped, "formats": of_videos, "progress": not no_progress}
        failed += run_videos(predictor, films, **to, **common, **vars(videos))
    if failed:
        raise typer.Exit(1)


def _objects(path: Path) -> LabelledSet:
    from vlpart.data.readers.detect import read_any

    return read_any(path)


def _exemplars(like: list[str] | None, *, exported: bool) -> list[Exemplar]:
    """What --like shows, read before the model is loaded."""
    if not like:
        return []
    if exported:
        raise typer.BadParameter("an exported file cannot look at examples: name a model", param_hint="--like")
    from vlpart.inference.exemplars import parse_exemplar  # needs torch

    return [parse_exemplar(text) for text in like]


def _count(images: list[str], shard: tuple[int, int], *, recursive: bool) -> int:
    """The images that there are for this process, for the bar."""
    from vlpart.data.image_files import list_images

    listed = sum(1 for _ in list_images(images, recursive=recursive, on_unlisted=lambda error: None))
    return len(range(shard[0] - 1, listed, shard[1]))


def _run_images(
    predictor: BasePredictor,
    given: LabelledSet | None,
    images: list[str],
    output: Path,
    total: int,
    *,
    progress: bool,
    default_threshold: float | None,
    **options: Any,
) -> int:
    """Write what is in images, or the parts of the objects that are given; how many failed.

    Args:
        default_threshold: see `Reporter`.
        options: those of `predict_to_folder`.
    """
    from vlpart.inference.batch import predict_to_folder
    from vlpart.inference.given_file import PartsOfGiven

    piped = str(output) == "-"
    asked: BasePredictor | PartsOfGiven = predictor
    if given is not None:
        names, nested, iou = options["vocabulary"], options["keep_nested"], options["iou"]
        asked = PartsOfGiven(predictor, given, names, keep_nested=nested, iou=iou)
        options |= {"keep_nested": True, "iou": None}
    with Reporter(total, output, progress=progress, piped=piped, default=default_threshold) as report:
        summary = predict_to_folder(
            asked,
            images,
            output=sys.stdout.buffer if piped else output,
            on_result=report.result,
            on_failure=report.failure,
            on_existing=report.existing,
            **options,
        )
    report.summary(summary)
    return summary.failed


def _predictor(found: ResolvedModel | None, asked: Detecting, engine: str | None, *, progress: bool) -> BasePredictor:
    """The model: an exported file on its engine, everything else on torch."""
    if found is None:
        from vlpart.export.predictor import load_exported

        return load_exported(str(asked.model), engine)
    from vlpart.inference.predictor import load

    with Bars(hidden=not progress, in_bytes=True, transient=True) as bars:
        found.fetch(bars)
    return load(found, device=asked.device, precision=asked.precision.value)


def _sources(sources: list[str] | None) -> tuple[list[str], list[str]]:
    """Images and videos, `sample` being the photo in the package unless there is a file of that name here."""
    from vlpart.data.image_files import is_video
    from vlpart.files import is_there, local_path

    if not sources:
        raise typer.BadParameter(
            "no image given: name a file, a folder or an address, or try the photo that comes with the package: "
            "vlpart predict sample",
            param_hint="SOURCE",
        )
    photo = Path(__file__).parents[1] / "assets" / "samples" / "astronaut.jpg"
    named = [str(photo) if each == SAMPLE and not is_there(local_path(each)) else each for each in sources]
    return [each for each in named if not is_video(each)], [each for each in named if is_video(each)]


# ---- what is said meanwhile


def _listed(files: Sequence[Path], output: Path) -> str:
    """The files of one image, all below the output folder: of what has a file per detection, its folder."""
    shown: dict[str, int] = {}
    for path in files:
        place = path.relative_to(output)
        pieces = place.parts[0] in ("crops", "cutouts")
        key = f"{place.parent.as_posix()}/" if pieces else place.as_posix()
        shown[key] = shown.get(key, 0) + 1
    return ", ".join(f"{key} ({count})" if key.endswith("/") else key for key, count in shown.items())


class Reporter:
    """One line per image: finished on standard output, skipped on standard error; a bar below them on a terminal.

    Args:
        total: number of images.
        output: the folder of the results.
        progress: whether there is a bar.
        piped: the results go to standard output, so whatever is said goes to standard error.
        default: the threshold, if nobody asked for it: where nothing is found, the last line says how to find more.
    """

    def __init__(
        self, total: int, output: Path, *, progress: bool, piped: bool = False, default: float | None = None
    ) -> None:
        self._output, self._total, self._piped, self._default = output, total, piped, default
        self._done = self._finished = self._empty = 0
        self._bars = Bars(hidden=not progress, transient=True)

    def _advance(self) -> None:
        self._done += 1
        self._bars("predicting", self._done, self._total)

    def result(self, report: ImageReport) -> None:
        """Say what was found in an image and where its files are."""
        self._finished += 1
        self._empty += not len(report.result)
        where = f" -> {self._output}: {_listed(report.files, self._output)}" if report.files and not self._piped else ""
        say(f"{report.result.summary(report.result.path or report.image)}{where}", err=self._piped)
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
        written = (summary.finished or summary.existing) and not self._piped
        where = f", results in {summary.output}" if written else ""
        where += f", of all images in {' and '.join(of_all)} there" if of_all else ""
        say(f"{images}{existing}{skipped} in {summary.seconds:.1f} s{where}", err=self._piped)
        if self._default is not None and self._empty:
            shown = "in the image" if self._finished == 1 else f"in {self._empty} of the {self._finished} images"
            lower = max(0.05, round(self._default - 0.2, 1))
            note(f"nothing over {self._default} {shown}: --threshold {lower} finds more, and more that is wrong")

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
