"""What a reader does with an entry that it cannot use: raise at once, or hand it to somebody who counts.

The kinds are keys of `vlpart.data.check.findings.KINDS`. What is reported here is refused by everything that reads the
file: training and evaluation raise, and the check lists it as an error.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from vlpart.errors import DataError

#: Called with the kind of a problem and one line that says where it is and what is wrong. If it returns, the entry is
#: left out.
Problem = Callable[[str, str], object]


def refuse(path: Path | str) -> Problem:
    """Raises a `DataError` for the first problem; it names the file."""

    def problem(kind: str, text: str) -> NoReturn:
        raise DataError(f"{path}: {' '.join(text.split())}")

    return problem


class Collected:
    """Counts problems, for one error at the end of a file that says how many there are."""

    #: Problems of masks are told under one name: they have one remedy.
    MASKS = ("malformed-mask", "mask-size")

    def __init__(self) -> None:
        self.masks: list[str] = []
        self.others: list[str] = []

    def __call__(self, kind: str, text: str) -> None:
        """Count one."""
        (self.masks if kind in self.MASKS else self.others).append(" ".join(text.split()))

    def refuse(self, path: Path | str) -> None:
        """Raise a `DataError` with the first of them, if there are any."""
        if self.others:
            more = f" (and {len(self.others) - 1} more problems)" if len(self.others) > 1 else ""
            raise DataError(f"{path}: {self.others[0]}{more}; `vlpart data check` lists them all")
        if self.masks:
            first = "; ".join(self.masks[:3])
            raise DataError(
                f"{path}: {len(self.masks)} malformed segmentations, first: {first}; "
                "fix them, or train on boxes with Source(masks=False)"
            )
