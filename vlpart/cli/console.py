"""What the commands share for printing: tables for people or for pipes, and one line for an error."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

import typer


def print_error(message: object) -> None:
    """One line on standard error."""
    typer.echo(f"error: {' '.join(str(message).split())}", err=True)


def print_table(headings: Sequence[str], rows: Iterable[Sequence[object]], right: Sequence[str] = ()) -> None:
    """A table on a terminal; lines with tabs and without headings in a pipe, so that `cut` and `grep` work.

    Args:
        headings: column headings; as many cells in every row.
        right: headings of columns that are aligned to the right.
    """
    if not sys.stdout.isatty():
        for row in rows:
            typer.echo("\t".join(str(cell) for cell in row))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in headings:
        table.add_column(heading, justify="right" if heading in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    Console().print(table, markup=False)


def megabytes(size: int | None) -> str:
    """A file size for people: "14.2 MB"; empty if it is not known."""
    return "" if size is None else f"{size / 1e6:.1f} MB"
