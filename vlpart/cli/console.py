"""What the commands share for printing: tables for people or for pipes, and one line for an error."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress

import typer

from vlpart.names import printable

LONGEST_ERROR = 2000


def say(text: object, *, err: bool = False, lines: bool = False, end: str = "\n") -> None:
    """Text for people; what files, servers and devices put into it cannot steer the terminal (`names.printable`).

    Args:
        err: on standard error.
        lines: `text` has line breaks and tabs of our own; otherwise they are escaped too.
    """
    typer.echo(printable(str(text), lines=lines) + end, err=err, nl=False)


def print_error(message: object) -> None:
    """One line on standard error, if that can be written to."""
    text = " ".join(str(message).split())
    if len(text) > LONGEST_ERROR:  # a name in it may be of any length
        text = f"{text[:LONGEST_ERROR]} ... ({len(text)} characters)"
    with suppress(OSError, ValueError):  # full, or closed
        say(f"error: {text}", err=True)


def is_terminal() -> bool:
    """Whether both streams are there and are a terminal."""
    return all(stream is not None and stream.isatty() for stream in (sys.stdout, sys.stderr))


def print_table(headings: Sequence[str], rows: Iterable[Sequence[object]], right: Sequence[str] = ()) -> None:
    """A table on a terminal; lines with tabs and without headings in a pipe, so that `cut` and `grep` work.

    Args:
        headings: column headings; as many cells in every row.
        right: headings of columns that are aligned to the right.
    """
    if sys.stdout is None or not sys.stdout.isatty():
        for row in rows:
            typer.echo("\t".join(printable(str(cell)) for cell in row))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in headings:
        table.add_column(heading, justify="right" if heading in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(printable(str(cell)) for cell in row))
    Console().print(table, markup=False)


def megabytes(size: int | None) -> str:
    """A file size for people: "14.2 MB"; empty if it is not known."""
    return "" if size is None else f"{size / 1e6:.1f} MB"
