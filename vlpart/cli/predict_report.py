"""What `vlpart predict` says while it works."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import typer

from vlpart.cli.console import Bars, say, skipped
from vlpart.errors import VlpartError

if TYPE_CHECKING:
    from vlpart.inference.batch import ImageReport, Summary


def _listed(files: Sequence[Path], output: Path) -> str:
    """The files of one image, all below the output folder: of what has a file per detection, its folder."""
    shown: dict[str, int] = {}
    for path in files:
        place = path.relative_to(output)
        pieces = place.parts[0] in ("crops", "cutouts")
        key = f"{place.parent.as_posix()}/" if pieces else place.as_posix()
        shown[key] = shown.get(key, 0) + 1
    return ", ".join(f"{key} ({count})" if key.endswith("/") else key for key, count in shown.items())


class Reporter:
    """One line per image: finished on standard output, skipped on standard error; a bar below them on a terminal.

    Args:
        total: number of images.
        output: the folder of the results.
        progress: whether there is a bar.
        piped: the results go to standard output, so whatever is said goes to standard error.
    """

    def __init__(self, total: int, output: Path, *, progress: bool, piped: bool = False) -> None:
        self._output, self._total, self._piped = output, total, piped
        self._done = self._finished = 0
        self._bars = Bars(hidden=not progress, transient=True)

    def _advance(self) -> None:
        self._done += 1
        self._bars("predicting", self._done, self._total)

    def result(self, report: ImageReport) -> None:
        """Say what was found in an image and where its files are."""
        self._finished += 1
        where = f" -> {self._output}: {_listed(report.files, self._output)}" if report.files and not self._piped else ""
        say(f"{report.result.summary(report.result.path or report.image)}{where}", err=self._piped)
        self._advance()

    def failure(self, image: str, error: VlpartError) -> None:
        """Say which image was skipped and why."""
        skipped(image, error)
        self._advance()

    def existing(self, image: str) -> None:
        """Nothing to say of an image whose results were there: a second run may have thousands."""
        self._advance()

    def summary(self, summary: Summary) -> None:
        """The last line: how many, how long, where."""
        images = "1 image" if summary.finished == 1 else f"{summary.finished} images"
        skipped = f", {summary.failed} skipped" if summary.failed else ""
        existing = f", {summary.existing} already there" if summary.existing else ""
        of_all = [path.name for path in (summary.coco, summary.yolo) if path is not None]
        written = (summary.finished or summary.existing) and not self._piped
        where = f", results in {summary.output}" if written else ""
        where += f", of all images in {' and '.join(of_all)} there" if of_all else ""
        say(f"{images}{existing}{skipped} in {summary.seconds:.1f} s{where}", err=self._piped)

    def __enter__(self) -> Self:
        self._bars.__enter__()
        self._bars("predicting", 0, self._total)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.__exit__(kind, error, trace)
        reason = "interrupted" if isinstance(error, KeyboardInterrupt) else "stopped"
        if error is not None and self._finished:
            say(f"{reason}: {self._finished} finished, results in {self._output}", err=True)
        elif error is not None and not isinstance(error, Exception):  # an error says itself why there is nothing
            say(f"{reason}: nothing finished", err=True)
        if isinstance(error, KeyboardInterrupt):
            raise typer.Exit(130) from None
