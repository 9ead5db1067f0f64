"""What the commands share for showing things: the only progress bars and tables, and one line for an error."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Self

import typer

from vlpart.names import config_name, printable

if TYPE_CHECKING:
    from rich.progress import Progress

LONGEST_ERROR = 2000

#: What makes rich take other streams for a terminal. Without any, it is not even imported where there is none.
_FORCING = frozenset({"FORCE_COLOR", "TTY_COMPATIBLE"})


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
    return _is_terminal(sys.stdout) and _is_terminal(sys.stderr)


def _is_terminal(stream: IO[str] | None) -> bool:
    return stream is not None and stream.isatty()


def note(text: str) -> None:
    """One line on standard error."""
    say(f"note: {text}", err=True)


def note_config(name: str) -> None:
    """Say what the path of a published configuration is taken for; nothing about other names."""
    if (meant := config_name(name)) != name:
        note(f"{name}: the recipe {meant}; a file of that name is not read")


def skipped(image: str, error: Exception) -> None:
    """Say which image was left out, and why."""
    message = " ".join(str(error).split())
    say(f"skipped: {message}" if image in message else f"skipped: {image}: {message}", err=True)


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
        self._tasks: dict[str, Any] = {}
        possible = _is_terminal(sys.stderr) or not _FORCING.isdisjoint(os.environ)
        self._bars = None if hidden or not possible else _progress(in_bytes, transient)

    def __call__(self, label: str, done: int, total: int | None) -> None:
        """So much of something is done."""
        if self._bars is None:
            return
        if label not in self._tasks:
            self._tasks[label] = self._bars.add_task(label, total=total)
        self._bars.update(self._tasks[label], completed=done, total=total)

    def say(self, text: str) -> None:
        """One line on standard error, above the bars."""
        if self._bars is None or self._bars.disable:
            say(text, err=True)
        else:
            self._bars.console.print(printable(text), markup=False, highlight=False)

    @property
    def shown(self) -> bool:
        """Whether there is a terminal for them."""
        return self._bars is not None and not self._bars.disable

    def __enter__(self) -> Self:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()


def _progress(in_bytes: bool, transient: bool) -> Progress:
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

    counts: list[ProgressColumn] = [MofNCompleteColumn()]
    if in_bytes:
        counts = [DownloadColumn(), TransferSpeedColumn()]
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        *counts,
        TimeRemainingColumn(),
        console=console,
        transient=transient,
        redirect_stdout=is_terminal(),  # a pipe gets its lines directly
        disable=not console.is_terminal,
    )


def existing_folder(folder: Path | None) -> Path | None:
    """Callback of options that name a folder to read: click lets pipes and devices through where it wants no files."""
    if folder is not None and not folder.is_dir():
        raise typer.BadParameter(f"{printable(str(folder))} is not a folder")
    return folder


def print_table(headings: Sequence[str], rows: Iterable[Sequence[object]], right: Sequence[str] = ()) -> None:
    """A table on a terminal; in a pipe lines with tabs below one with the headings, so that `cut` and `grep` work.

    Args:
        headings: column headings; as many cells in every row.
        right: headings of columns that are aligned to the right.
    """
    if sys.stdout is None or not sys.stdout.isatty():
        for row in (headings, *rows):
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
