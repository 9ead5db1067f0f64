"""`vlpart annotate`: images labelled by a model, as a project of a labelling tool."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlpart.cli.console import Bars, say, skipped
from vlpart.cli.options import Device, NoProgress, Overlap, Recursive, Threshold, Words, complete_models

if TYPE_CHECKING:
    from vlpart.errors import ImageError
    from vlpart.results.result import Result


class Tool(StrEnum):
    """Choices of --to."""

    LABELSTUDIO = "labelstudio"
    CVAT = "cvat"
    LABELME = "labelme"
    X_ANYLABELING = "x-anylabeling"
    COCO = "coco"


class Rank(StrEnum):
    """Choices of --rank."""

    NAME = "name"
    UNCERTAIN = "uncertain"


_NEXT = {
    Tool.LABELSTUDIO: "paste labels.xml as the labelling interface, import tasks.json; its images are local files",
    Tool.CVAT: "make a task of images/ and upload annotations.xml as CVAT 1.1",
    Tool.LABELME: "open the folder with labelme",
    Tool.X_ANYLABELING: "open the folder with X-AnyLabeling",
    Tool.COCO: "annotations.json names the images in images/",
}


def register(app: typer.Typer) -> None:
    """Add the command to the `vlpart` command."""
    app.command("annotate")(annotate)


def annotate(
    sources: Annotated[list[str], typer.Argument(metavar="SOURCE", help="Image files, folders or globs.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="New folder for the project.", file_okay=False)],
    to: Annotated[Tool, typer.Option("--to", help="Tool that the labels are for.")] = Tool.LABELSTUDIO,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            help="Model name (`vlpart models list`), weight file or run folder. Default: tiny.",
            autocompletion=complete_models,
        ),
    ] = None,
    vocabulary: Words = None,
    device: Device = None,
    threshold: Threshold = None,
    iou: Overlap = 0.7,
    rank: Annotated[
        Rank, typer.Option(help="uncertain: images that will probably need most corrections come first.")
    ] = Rank.NAME,
    top: Annotated[int | None, typer.Option(min=1, help="Only the first so many images.")] = None,
    recursive: Recursive = False,
    no_progress: NoProgress = False,
) -> None:
    """Label images with a model, as a project of Label Studio, CVAT, LabelMe or X-AnyLabeling to be corrected there.

    The images are linked, not copied, and ranking.csv says how many corrections each will probably need. The corrected
    project goes into `vlpart train finetune --data`.
    """
    from vlpart.data.image_files import list_images
    from vlpart.integrations.annotate import annotate_folder
    from vlpart.text.vocabulary import Vocabulary
    from vlpart.zoo.resolve import resolve

    resolved = resolve(model)
    names = None if vocabulary is None else Vocabulary.of(vocabulary)
    total = sum(1 for _ in list_images(sources, recursive=recursive, on_unlisted=lambda error: None))
    from vlpart.inference.predictor import load

    with Bars(hidden=no_progress, in_bytes=True, transient=True) as progress:
        resolved.fetch(progress)
    predictor = load(resolved, device=device)
    done = 0
    with Bars(hidden=no_progress, transient=True) as progress:

        def on_image(image: str, result: Result) -> None:
            """One more is done."""
            nonlocal done
            done += 1
            progress("labelling", done, total)

        def on_failure(image: str, error: ImageError) -> None:
            """One more is left out."""
            nonlocal done
            done += 1
            skipped(image, error)

        report = annotate_folder(
            predictor,
            sources,
            output,
            to.value,
            vocabulary=names,
            score_threshold=threshold,
            iou=iou,
            rank=rank.value,
            top=top,
            recursive=recursive,
            on_image=on_image,
            on_failure=on_failure,
        )
    say(f"{report.images} images with {report.regions} labels in {report.output}: {_NEXT[to]}")
    if rank is Rank.UNCERTAIN:
        name, doubt = report.order[0]
        say(f"first: {name}, which will probably need {doubt:.1f} corrections; all in {report.output / 'ranking.csv'}")
    for reason, count in report.lost.items():
        say(f"{to.value} cannot hold: {count} x {reason}")
    if report.failed:
        raise typer.Exit(1)
