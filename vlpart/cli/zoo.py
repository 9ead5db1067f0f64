"""`vlpart zoo table`: the published tables again, ours beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vlpart.cli.console import Bars, say
from vlpart.cli.options import PrecisionChoice

_commands = typer.Typer(no_args_is_help=True, help="The published checkpoints together.")


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.add_typer(_commands, name="zoo")


@_commands.callback()
def _group() -> None:
    """The published checkpoints together."""


@_commands.command("table")
def table(
    data: Annotated[
        Path | None, typer.Option(envvar="VLPART_DATA", help="Folder of the benchmarks.", file_okay=False)
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for zoo.md, zoo.json and every evaluation.", file_okay=False)
    ] = Path("vlpart-zoo"),
    model: Annotated[list[str] | None, typer.Option("--model", help="Only this model; may be repeated.")] = None,
    on: Annotated[list[str] | None, typer.Option("--on", help="Only this benchmark; may be repeated.")] = None,
    max_images: Annotated[
        int | None, typer.Option(min=1, help="Only so many evenly spaced images of each benchmark (a dry run).")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, ...")] = None,
    precision: Annotated[PrecisionChoice, typer.Option(help="Of the computation.")] = PrecisionChoice.AUTO,
    no_progress: Annotated[bool, typer.Option("--no-progress", help="No progress bar.")] = False,
) -> None:
    """Regenerate the published tables for the checkpoints and data that are here.

    Evaluations that are already in the output folder are read, not repeated; interrupted ones go on. What is missing is
    named.
    """
    from vlpart.errors import DataError
    from vlpart.evaluation.zoo_table import ZooRunner, fill, published_cells, to_markdown, write_tables
    from vlpart.runtime import process_group

    if data is not None and not data.is_dir():
        raise DataError(f"there is no folder {data}: give the folder of the benchmarks with --data")
    cells = published_cells(model, on)
    with process_group() as group, Bars(hidden=no_progress or group.rank > 0) as progress:
        runner = ZooRunner(
            data or Path(),  # without data nothing is evaluated
            output,
            max_images=max_images,
            device=device,
            precision=precision.value,
            group=group,
            progress=progress,
        )
        alone = group.size == 1  # several processes stop together at an error, one goes on with the next pair
        filled = fill(cells, data, runner.figures, keep_going=alone)
    if group.rank > 0:
        return
    paths = write_tables(filled, output)
    say(to_markdown(filled), lines=True, end="")
    for path in paths:
        say(f"wrote {path}", err=True)
