"""`vlpart parse golden`: all parser runs of the golden set, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from vlpart.cli import parse_options as o
from vlpart.cli.console import note, print_table, say
from vlpart.cli.options import with_groups
from vlpart.cli.parse import build, commands, find


def register(app: typer.Typer) -> None:
    """Add the command to `vlpart parse`."""
    commands.command("golden")(golden)


@with_groups
def golden(
    *,
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
    computation: o.Computation,
    run: o.Run,
) -> None:
    """Parse the golden ImageNet images as published: the parts of four vocabularies, and the bank that they need.

    What is there already stays; interrupted, the command goes on when it is run again. Under torchrun the images of
    every run are shared out.
    """
    from vlpart.annotation_parser.bank import HEADER
    from vlpart.annotation_parser.features.base import DINO
    from vlpart.recipes.parser import BANKS, check_data, golden_runs, not_here

    finds = [(each, run.overwrite or not (data / each.output).is_file()) for each in golden_runs(architecture)]
    to_do = [each for each, wanted in finds if wanted]
    base = [BANKS[each.bank] for each in to_do if each.searches and not (bank / HEADER).is_file()]
    if dry_run:
        rows = [("build", each.name, data / each.annotations, each.features, bank, "to do") for each in base]
        rows += [
            ("find", x.name, data / x.labels, x.model, data / x.output, "to do" if wanted else "there, stays")
            for x, wanted in finds
        ]
        print_table(("command", "recipe", "reads", "with", "writes", "state"), rows)
        for path, command in not_here([*base, *to_do], data).items():
            say(f"missing: {path} (`{command}`)")
        return
    check_data([*base, *to_do], data)
    options: dict[str, Any] = {"data": data, **vars(computation), "batch": run.batch, "no_progress": run.no_progress}
    steps = [partial(build, bank=bank, recipe=each.name, features=DINO, **options) for each in base]
    for each, wanted in finds:
        if wanted:
            used = bank if each.searches else None
            steps.append(partial(find, bank=used, recipe=each.name, overwrite=run.overwrite, **options))
        else:
            note(f"{data / each.output} is there and stays; --overwrite replaces it")
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
