"""`vlpart parse golden`: all parser runs of the golden set, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from vlpart.cli import parse_options as o
from vlpart.cli.console import note, print_table, say
from vlpart.cli.parse import build, commands, find


def register(app: typer.Typer) -> None:
    """Add the command to `vlpart parse`."""
    commands.command("golden")(golden)


def golden(
    architecture: Annotated[str, typer.Option(help="Detector: r50, or swin (the _swinbase files).")] = "r50",
    data: Annotated[
        Path,
        typer.Option("--data", envvar="VLPART_DATA", help="Data root of the published layout.", rich_help_panel=o.DATA),
    ] = Path("datasets"),
    bank: Annotated[
        Path,
        typer.Option(help="Reference bank of Pascal Part; built if it is not there.", rich_help_panel=o.DATA),
    ] = Path("banks/pascal_part"),
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be done and what is missing; write nothing.")
    ] = False,
    feature_weights: o.FeatureWeights = None,
    batch: o.BatchSize = 1,
    device: o.Device = None,
    precision: o.ParsePrecision = "float32",
    overwrite: o.Overwrite = False,
    no_progress: o.NoProgress = False,
) -> None:
    """Parse the golden ImageNet images as published: the parts of four vocabularies, and the bank that they need.

    What is there already stays; interrupted, the command goes on when it is run again. Under torchrun the images of
    every run are shared out.
    """
    from vlpart.annotation_parser.bank import HEADER
    from vlpart.annotation_parser.features.base import DINO
    from vlpart.recipes.parser import BANKS, check_data, golden_runs, not_here

    runs = [(run, overwrite or not (data / run.output).is_file()) for run in golden_runs(architecture)]
    to_do = [run for run, wanted in runs if wanted]
    base = [BANKS[run.bank] for run in to_do if run.searches and not (bank / HEADER).is_file()]
    if dry_run:
        rows = [("build", each.name, data / each.annotations, each.features, bank, "to do") for each in base]
        rows += [
            ("find", run.name, data / run.labels, run.model, data / run.output, "to do" if wanted else "there, stays")
            for run, wanted in runs
        ]
        print_table(("command", "recipe", "reads", "with", "writes", "state"), rows)
        for path, command in not_here([*base, *to_do], data).items():
            say(f"missing: {path} (`{command}`)")
        return
    check_data([*base, *to_do], data)
    options: dict[str, Any] = {
        "data": data,
        "feature_weights": feature_weights,
        "batch": batch,
        "device": device,
        "precision": precision,
        "no_progress": no_progress,
    }
    steps = [partial(build, bank, recipe=each.name, features=DINO, **options) for each in base]
    for run, wanted in runs:
        if wanted:
            steps.append(partial(find, bank if run.searches else None, recipe=run.name, overwrite=overwrite, **options))
        else:
            note(f"{data / run.output} is there and stays; --overwrite replaces it")
    if any([_left_something_out(step) for step in steps]):  # noqa: C419  a list: all steps are taken
        raise typer.Exit(1)


def _left_something_out(step: Callable[[], None]) -> bool:
    """Take a step; what one image does to a run ends that run only with exit code 1."""
    try:
        step()
    except typer.Exit as ended:
        if ended.exit_code != 1:
            raise
        return True
    return False
