"""What a preparation gives back: the files written, what was worth noting, and everything that was left out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from vlpart.data.parallel import Progress

LISTED = 20
"""Problems printed one by one; all of them are in the problems file."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A file or entry that could not be used and is missing from the output: where, and why."""

    where: str
    why: str

    def __str__(self) -> str:
        return f"{self.where}: {self.why}"


@dataclass(frozen=True, slots=True)
class Written:
    """An annotation file that is ready: `images` and `annotations` in it; `is_new` = written by this run."""

    path: Path
    images: int
    annotations: int
    is_new: bool = True


@dataclass(kw_only=True)
class PrepareReport:
    """Outcome of `vlpart.data.prepare.prepare`. `str()` gives the lines that the command prints.

    Attributes:
        dataset: name of the data set.
        pictures: folder that the file names in the output are relative to.
        written: the annotation files that are ready.
        notes: what was changed or left out by rule, one line each.
        problems: broken or missing files and entries; nothing is left out without standing here or in `notes`.
        problems_file: text file with all problems, if there are any.
    """

    dataset: str
    pictures: Path | None = None
    written: list[Written] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    problems_file: Path | None = None

    def problem(self, where: object, why: object) -> None:
        """Add a problem; both texts are brought to one line."""
        self.problems.append(Problem(" ".join(str(where).split()), " ".join(str(why).split())))

    def __str__(self) -> str:
        lines = [self.dataset]
        for file in self.written:
            state = "" if file.is_new else " (used as it is)"
            lines.append(f"  {file.path}: {file.images} images, {file.annotations} annotations{state}")
        if self.pictures is not None:
            lines.append(f"  pictures: {self.pictures}")
        lines += [f"  {note}" for note in self.notes]
        if self.problems:
            more = len(self.problems) - LISTED
            lines.append(f"  {len(self.problems)} problems; what they concern is missing from the files above:")
            lines += [f"    {problem}" for problem in self.problems[:LISTED]]
            if more > 0:
                lines.append(f"    ... and {more} more")
            if self.problems_file is not None:
                lines.append(f"  all of them: {self.problems_file}")
        return "\n".join(lines)


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a preparation is asked for: folders, and how to run.

    Attributes:
        root: folder of the data set as downloaded.
        output: folder that gets the annotation files.
        base_only: only the files of the 77 base classes (Pascal Part).
        processes, progress: see `vlpart.data.parallel.run_over`.
    """

    root: Path
    output: Path
    base_only: bool = False
    processes: int = 1
    progress: Progress | None = None


Preparation = Callable[[Task], PrepareReport]
