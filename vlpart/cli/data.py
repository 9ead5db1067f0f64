"""`vlpart data`: prepare the published data sets from their downloads, fetch the published parsed parts, and check and
convert data sets of any kind.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlpart.cli.console import Bars, print_table, say

if TYPE_CHECKING:
    from vlpart.data.check.run import CheckReport

CLASSES = 15
"""Classes of a file that are printed."""

_commands = typer.Typer(no_args_is_help=True, help="Prepare the published data sets; check your own.")
_downloads = typer.Typer(no_args_is_help=True, help="Fetch annotations that the authors of the paper offer.")
_commands.add_typer(_downloads, name="download")


def register(app: typer.Typer) -> None:
    """Add the commands to the `vlpart` command."""
    app.add_typer(_commands, name="data")


@_commands.command("list")
def list_datasets() -> None:
    """List the data sets that can be prepared, what their folder has to hold, and where it is offered."""
    from vlpart.data.prepare import DATASETS

    rows = [(name, info.about, info.layout, " ".join(info.addresses)) for name, info in DATASETS.items()]
    print_table(("data set", "gives", "ROOT holds", "offered at"), rows)


@_commands.command("prepare")
def prepare(
    dataset: Annotated[str, typer.Argument(help="Name of a data set; `vlpart data list` names all.")],
    root: Annotated[Path, typer.Argument(help="Folder of the unpacked download.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for the annotation files; default: ROOT.")
    ] = None,
    base: Annotated[bool, typer.Option("--base", help="Only the 77 base classes (Pascal Part).")] = False,
    processes: Annotated[
        int | None, typer.Option(min=1, help="Processes; default: one per processor, 8 at most.")
    ] = None,
    no_progress: Annotated[bool, typer.Option("--no-progress", help="No progress bar.")] = False,
) -> None:
    """Make the annotation files of a published data set from its official download.

    What is broken or missing is left out, listed, and makes the exit code 1. Running it again gives the same files.
    """
    from vlpart.data.prepare import prepare as run
    from vlpart.jobs import default_processes

    with Bars(hidden=no_progress) as progress:
        report = run(
            dataset, root, output, base_only=base, processes=processes or default_processes(), progress=progress
        )
    say(str(report), lines=True)
    if report.problems:
        raise typer.Exit(1)


@_downloads.command("parsed")
def download_parsed(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME...", help="What to fetch; without a name they are listed.", show_default=False),
    ] = None,
    data: Annotated[
        Path, typer.Option("--data", envvar="VLPART_DATA", help="Data root of the recipes.", file_okay=False)
    ] = Path("datasets"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are there.")] = False,
    no_progress: Annotated[bool, typer.Option("--no-progress", help="No progress bar.")] = False,
) -> None:
    """Fetch parts that the annotation parser found, as published, to where the recipes read them.

    An interrupted download goes on. Archives are unpacked here, and every file is read before it gets its place.
    """
    from vlpart.recipes.datasets import DATASETS
    from vlpart.recipes.parsed import PARSED, get_parsed
    from vlpart.recipes.parsed import download_parsed as run

    if not names:
        rows = [
            (each.name, " ".join(DATASETS[name].annotations for name in each.datasets), each.url)
            for each in PARSED.values()
        ]
        print_table(("name", "gives, below the data root", "offered at"), rows)
        return
    for name in names:
        get_parsed(name)
    for name in names:
        with Bars(hidden=no_progress, in_bytes=True) as progress:
            arrived = run(name, data, overwrite=overwrite, progress=progress)
        for file in arrived:
            say(f"{file.path}: {file.images} images, {file.parts} parts")


@_commands.command("check")
def check(
    paths: Annotated[list[Path], typer.Argument(help="Folder of a data set of any format, or its annotation files.")],
    images: Annotated[Path | None, typer.Option(help="Folder of the images; default: found by itself.")] = None,
    decode: Annotated[bool, typer.Option("--decode", help="Decode every image: finds those that are cut off.")] = False,
    page: Annotated[bool, typer.Option("--page", help="Write a page of sample images with their masks.")] = False,
    output: Annotated[Path, typer.Option("--output", "-o", help="Where --page goes.", dir_okay=False)] = Path(
        "vlpart-data-check.html"
    ),
    strict: Annotated[bool, typer.Option("--strict", help="Warnings make the exit code 1, too.")] = False,
    all_classes: Annotated[bool, typer.Option("--all-classes", help="Print every class.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
    processes: Annotated[
        int | None, typer.Option(min=1, help="Processes; default: one per processor, 8 at most.")
    ] = None,
    no_progress: Annotated[bool, typer.Option("--no-progress", help="No progress bar.")] = False,
) -> None:
    """Check a data set before training on it. The exit code is 1 if there are errors.

    COCO files are checked as they are; YOLO, LabelMe, VOC, CVAT, Label Studio and label maps are converted for it.
    """
    from vlpart.data.check.run import check as run
    from vlpart.jobs import default_processes

    with Bars(hidden=no_progress) as progress:
        report = run(paths, images, decode=decode, processes=processes or default_processes(), progress=progress)
    if as_json:
        typer.echo(json.dumps(report.to_dict(), indent=1))
    else:
        _print(report, None if all_classes else CLASSES)
    if page:
        from vlpart.visualize.data_page import write_page

        say(f"page: {write_page(report, output)}", err=as_json)
    if not report.is_fit(strict):
        raise typer.Exit(1)


def _print(report: CheckReport, classes: int | None) -> None:
    for line in report.converted:
        say(line)
    for split in report.splits:
        say(
            f"{split.path}: {len(split.images)} images, {split.total_annotations} annotations, "
            f"{len(split.categories)} classes; images: {split.image_root or 'not found'}"
        )
        counts = report.histogram(split)
        shown = counts[:classes]
        rows = [(count.name, count.annotations, count.images) for count in shown]
        print_table(("class", "annotations", "images"), rows, right=("annotations", "images"))
        if len(shown) < len(counts):
            say(f"... and {len(counts) - len(shown)} more classes (--all-classes)")
    for path in report.skipped:
        say(f"skipped: {path} is no annotation file")
    for finding in report.findings:
        say(finding)
    errors, warnings = (sum(found.count for found in group) for group in (report.errors, report.warnings))
    say(f"{errors} errors, {warnings} warnings" if report.findings else "nothing was found wrong")


@_commands.command("convert")
def convert(
    sources: Annotated[list[Path], typer.Argument(help="Folders or annotation files; several are put together.")],
    to: Annotated[
        str, typer.Option("--to", help="coco, yolo, labelme, voc, cvat, labelstudio or label-maps.", metavar="FORMAT")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="New folder for the result.", file_okay=False)],
    rename: Annotated[
        list[str] | None,
        typer.Option("--rename", help="'bumper=car:bumper', several with commas, or a file with one on each line."),
    ] = None,
    drop: Annotated[list[str] | None, typer.Option("--drop", help="A class to leave out; may be repeated.")] = None,
    split: Annotated[
        float | None, typer.Option("--split", help="Part of the images that becomes the val split, e.g. 0.2.")
    ] = None,
) -> None:
    """Write a data set of another tool as COCO, YOLO, LabelMe, VOC, CVAT, Label Studio or label maps.

    What SOURCE is, is found out: COCO and LVIS JSON, YOLO, LabelMe, VOC XML, CVAT XML, Label Studio JSON, label maps.
    Images are linked, not copied. What the new format cannot hold is listed.
    """
    from vlpart.data.convert import convert as run
    from vlpart.data.convert.edit import read_renames

    done = run(sources, output, to, renames=read_renames(rename or ()), dropped=drop or (), val_fraction=split)
    say(f"{' + '.join(done.formats)} -> {to}: {done.images} images, {done.regions} regions in {done.output}")
    say(f"{len(done.names)} classes: {', '.join(done.names[:CLASSES])}{', ...' * (len(done.names) > CLASSES)}")
    for title, counts in (("not read", done.unread), (f"{to} cannot hold", done.lost)):
        for reason, count in counts.items():
            say(f"{title}: {count} x {reason}")
    if done.hint:
        say(f"hint: {done.hint}")
