"""`vlpart predict`: photos in, annotated images and data out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import typer

from vlpart.cli import predict_options as o
from vlpart.cli.console import Bars
from vlpart.cli.predict_report import Reporter
from vlpart.cli.predict_video import run_videos, video_formats

if TYPE_CHECKING:
    from vlpart.inference.base import BasePredictor
    from vlpart.inference.predictor import Predictor
    from vlpart.zoo.resolve import ResolvedModel

SAMPLE = "sample"


def register(app: typer.Typer) -> None:
    """Add the command to the `vlpart` command."""
    app.command("predict")(predict)


def predict(
    sources: o.Sources = None,
    model: o.Model = None,
    weights: o.Weights = None,
    vocabulary: o.Words = None,
    like: o.Like = None,
    objects: o.Objects = None,
    device: o.Device = None,
    precision: o.Precision = o.PrecisionChoice.AUTO,
    engine: o.EngineName = None,
    threshold: o.Threshold = None,
    iou: o.Overlap = 0.7,
    nested: o.Nested = False,
    select: o.Select = None,
    max_detections: o.MaxDetections = None,
    short_side: o.ShortSide = None,
    max_side: o.MaxSide = None,
    max_pixels: o.MaxPixels = None,
    slices: o.Slices = None,
    recursive: o.Recursive = False,
    batch: o.Batch = 1,
    stride: o.Stride = 1,
    start: o.Start = 0.0,
    end: o.End = None,
    smoothing: o.Smoothing = 0.0,
    shard: o.Shard = None,
    output: o.Output = Path("vlpart-results"),
    formats: o.Formats = None,
    labels: o.Labels = True,
    scores: o.Scores = True,
    masks: o.Masks = True,
    boxes: o.Boxes = False,
    colours: o.ColourChoice = o.Colours.OBJECT,
    line_width: o.LineWidth = None,
    font_size: o.FontSize = None,
    skip_existing: o.SkipExisting = False,
    no_progress: o.NoProgress = False,
) -> None:
    """Find objects and their parts in images and videos.

    Results are written as they come: NAME_parts.jpg, NAME_parts.json, and what --format asks for. An image that cannot
    be read is skipped with a line on standard error, and the exit code is then 1. Ctrl-C keeps what is finished. Of a
    video: NAME_parts.mp4, and NAME_parts.jsonl with a line per frame.
    In a pipe: vlpart predict - -o - < photo.jpg. Try it: vlpart predict sample
    """
    from vlpart.data.image_files import list_images
    from vlpart.data.images import MAX_PIXELS
    from vlpart.data.readers.detect import read_any
    from vlpart.export.engines import is_exported
    from vlpart.inference.batch import predict_to_folder, readable_threshold
    from vlpart.inference.given_file import PartsOfGiven
    from vlpart.inference.output import check_formats
    from vlpart.text.vocabulary import Vocabulary
    from vlpart.zoo.resolve import resolve

    piped = str(output) == "-"
    images, videos = _sources(sources)
    if videos and objects is not None:
        raise typer.BadParameter("the objects of a video cannot be given, only those of images", param_hint="--objects")
    share = o.parsed_shard(shard)
    of_videos = video_formats(formats, piped=piped) if videos else ()
    # What may be wrong is looked at before anything large is loaded.
    chosen_engine = o.checked_engine(model, engine)
    found = None if is_exported(model) else resolve(model, weights)
    formats = list(check_formats(formats or (["jsonl"] if piped else ["image", "json"]), skip_existing=skip_existing))
    shown = []
    if like:
        if found is None:
            raise typer.BadParameter("an exported file cannot look at examples: name a model", param_hint="--like")
        from vlpart.inference.exemplars import parse_exemplar  # needs torch

        shown = [parse_exemplar(text) for text in like]
    given = None if objects is None else read_any(objects)
    names = None if vocabulary is None else Vocabulary.of(vocabulary)
    total = 0
    if images:
        total = sum(1 for _ in list_images(images, recursive=recursive, on_unlisted=lambda error: None))
    predictor = _predictor(found, model, chosen_engine, device, precision, progress=not no_progress)
    if shown:
        names = cast("Predictor", predictor).like(shown, names)
    overlap = None if iou == 1 else iou
    asked: dict[str, Any] = {
        "vocabulary": names,
        "score_threshold": readable_threshold(len(names or predictor.vocabulary)) if threshold is None else threshold,
        "short_side": short_side,
        "max_side": max_side,
        "max_detections": max_detections,
        "batch_size": batch,
        "keep_nested": nested,
        "iou": overlap,
        "select": select,
        "drawing": {
            "labels": labels,
            "scores": scores,
            "masks": masks,
            "boxes": boxes or None,
            "colours": colours.value,
            "line_width": line_width,
            "font_size": font_size,
        },
    }
    failed = 0
    if images:
        total = len(range(share[0] - 1, total, share[1]))
        with Reporter(total, output, progress=not no_progress, piped=piped) as report:
            summary = predict_to_folder(
                predictor if given is None else PartsOfGiven(predictor, given, names, keep_nested=nested, iou=overlap),
                images,
                output=sys.stdout.buffer if piped else output,
                formats=formats,
                max_pixels=MAX_PIXELS if max_pixels is None else max_pixels or None,
                slices=slices,
                shard=share,
                recursive=recursive,
                skip_existing=skip_existing,
                on_result=report.result,
                on_failure=report.failure,
                on_existing=report.existing,
                **(asked if given is None else {**asked, "keep_nested": True, "iou": None}),
            )
        report.summary(summary)
        failed = summary.failed
    which: dict[str, Any] = {"stride": stride, "start": start, "end": end, "smoothing": smoothing}
    failed += run_videos(
        predictor, videos, output=output, piped=piped, formats=of_videos, progress=not no_progress, **asked, **which
    )
    if failed:
        raise typer.Exit(1)


def _predictor(
    found: ResolvedModel | None,
    model: str | None,
    engine: str | None,
    device: str | None,
    precision: o.PrecisionChoice,
    *,
    progress: bool,
) -> BasePredictor:
    """The model: an exported file on its engine, everything else on torch."""
    if found is None:
        from vlpart.export.predictor import load_exported

        return load_exported(str(model), engine)
    from vlpart.inference.predictor import load

    with Bars(hidden=not progress, in_bytes=True, transient=True) as bars:
        found.fetch(bars)
    return load(found, device=device, precision=precision.value)


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
