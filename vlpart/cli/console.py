"""What the commands share for showing things: the only progress bars and tables, and one line for an error."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any, Self

import typer


def print_error(message: object) -> None:
    """One line on standard error."""
    typer.echo(f"error: {' '.join(str(message).split())}", err=True)


def note(text: str) -> None:
    """One line on standard error."""
    typer.echo(f"note: {text}", err=True)


def skipped(image: str, error: Exception) -> None:
    """Say which image was left out, and why."""
    message = " ".join(str(error).split())
    typer.echo(f"skipped: {message}" if image in message else f"skipped: {image}: {message}", err=True)


def names_in(text: str) -> list[str]:
    """Names separated by commas or semicolons."""
    return [name.strip() for name in text.replace(";", ",").split(",") if name.strip()]


class Bars:
    """A `vlpart.jobs.Progress`: a bar on standard error for each thing that is being done, on a terminal only.

    Args:
        hidden: no bars at all.
        in_bytes: what is counted are bytes.
        transient: the bars go when everything is done.
    """

    def __init__(self, *, hidden: bool = False, in_bytes: bool = False, transient: bool = False) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            MofNCompleteColumn,
            Progress,
            ProgressColumn,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        console = Console(stderr=True)
        counts: list[ProgressColumn] = [MofNCompleteColumn()]
        if in_bytes:
            counts = [DownloadColumn(), TransferSpeedColumn()]
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            *counts,
            TimeRemainingColumn(),
            console=console,
            transient=transient,
            redirect_stdout=sys.stdout.isatty(),  # a pipe gets its lines directly
            disable=hidden or not console.is_terminal,
        )
        self._tasks: dict[str, Any] = {}

    def __call__(self, label: str, done: int, total: int | None) -> None:
        """So much of something is done."""
        if label not in self._tasks:
            self._tasks[label] = self._bars.add_task(label, total=total)
        self._bars.update(self._tasks[label], completed=done, total=total)

    def say(self, text: str) -> None:
        """One line on standard error, above the bars."""
        if self._bars.disable:
            print(text, file=sys.stderr, flush=True)
        else:
            self._bars.console.print(text, markup=False, highlight=False)

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()


def print_table(headings: Sequence[str], rows: Iterable[Sequence[object]], right: Sequence[str] = ()) -> None:
    """A table on a terminal; in a pipe lines with tabs below one with the headings, so that `cut` and `grep` work.

    Args:
        headings: column headings; as many cells in every row.
        right: headings of columns that are aligned to the right.
    """
    if not sys.stdout.isatty():
        for row in (headings, *rows):
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
