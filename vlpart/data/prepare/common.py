"""What the preparations share: finding what was downloaded, image sizes from headers, annotation files written whole or
not at all, and the report of what was written and left out.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vlpart.errors import DataError, ImageError, OutputError
from vlpart.files import is_folder, is_there, write_file
from vlpart.jobs import Progress
from vlpart.text.vocabulary import Vocabulary

Category = dict[str, Any]


class MissingDownloadError(DataError):
    """What should have been downloaded is not in the folder; the message says what is expected there."""


def find(root: Path, candidates: Sequence[str], what: str, layout: str) -> Path:
    """The first of `candidates` (relative to `root`; "." = the root itself) that exists.

    Raises:
        MissingDownloadError: none does; the message says what was looked for and what the folder should hold.
    """
    for candidate in candidates:
        path = root / candidate
        if path.exists():
            return path
    tried = ", ".join(candidates)
    raise MissingDownloadError(f"no {what} in {root} (looked for {tried}); expected there: {layout}")


def require_folder(root: Path) -> None:
    """Refuse a root that is not a folder.

    Raises:
        MissingDownloadError: it does not exist or is a file.
    """
    if not is_folder(root):
        raise MissingDownloadError(f"{root} is not a folder; give the one that holds the downloaded data set")


def list_names(folder: Path) -> set[str]:
    """Names of the entries of a folder; empty if there is no such folder."""
    try:
        return set(os.listdir(folder))  # noqa: PTH208 - names only, a million at once
    except OSError:
        return set()


def list_in(content: Mapping[str, Any], key: str, path: Path) -> list[dict[str, Any]]:
    """The list of objects under `key`.

    Raises:
        DataError: there is none, or something in it is no object.
    """
    value = content.get(key)
    if not isinstance(value, list):
        raise DataError(f"{path} has no list {key!r}; is it the annotation file of this data set?")
    strange = [entry for entry in value if not isinstance(entry, dict)]
    if strange:
        raise DataError(f"{path}: the list {key!r} holds a {type(strange[0]).__name__} where an object is expected")
    return value


def categories_of(vocabulary: Vocabulary, indices: Iterable[int] | None = None) -> list[Category]:
    """COCO categories of a vocabulary (or some of its entries), in order, with the ids of the data set."""
    categories = []
    for i in range(len(vocabulary)) if indices is None else indices:
        entry = vocabulary.entries[i]
        category: Category = {"id": entry.id, "name": entry.name}
        if entry.part is not None:
            category |= {"object": entry.object, "part": entry.part, "supercategory": "PART"}
        else:
            category["supercategory"] = "OBJECT"
        categories.append(category)
    return categories


def write_coco(
    report: PrepareReport,
    path: Path,
    *,
    description: str,
    images: Sequence[Mapping[str, Any]],
    annotations: Sequence[Mapping[str, Any]],
    categories: Sequence[Mapping[str, Any]],
) -> None:
    """Write a COCO file through a temporary one and add it to the report. The same content gives the same bytes.

    Raises:
        DataError: a number is not finite.
        OutputError: the folder cannot be written or the disk is full; an earlier file of that name is then unchanged.
    """
    document = {
        "info": {"description": description},
        "images": images,
        "annotations": annotations,
        "categories": categories,
    }
    try:
        text = json.dumps(document, separators=(",", ":"), allow_nan=False)
    except ValueError as error:
        raise DataError(f"{path.name} would hold NaN or infinity ({error}); the downloaded file is damaged") from None
    write_file(path, (text + "\n").encode())
    report.written.append(Written(path, len(images), len(annotations)))


def write_problems(report: PrepareReport, folder: Path) -> None:
    """Write all problems to `<data set>.problems.txt`, or remove the file of an earlier run.

    If that cannot be done, a note says so: the problems themselves are in the report anyway.
    """
    path = folder / f"{report.dataset}.problems.txt"
    try:
        if report.problems:
            text = "".join(f"{problem}\n" for problem in report.problems)
            report.problems_file = write_file(path, text.encode("utf-8", "backslashreplace"))
        elif path.exists():
            path.unlink()
    except (OutputError, OSError) as error:
        report.notes.append(f"{path} could not be brought up to date: {error}")


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
        image_root: folder that the file names in the output are relative to.
        written: the annotation files that are ready.
        notes: what was changed or left out by rule, one line each.
        problems: broken or missing files and entries; nothing is left out without standing here or in `notes`.
        problems_file: text file with all problems, if there are any.
    """

    dataset: str
    image_root: Path | None = None
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
        if self.image_root is not None:
            lines.append(f"  images: {self.image_root}")
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
        processes, progress: see `vlpart.jobs.run_over`.
    """

    root: Path
    output: Path
    base_only: bool = False
    processes: int = 1
    progress: Progress | None = None


Preparation = Callable[[Task], PrepareReport]


def image_size(path: Path) -> tuple[int, int]:
    """(width, height) as stored: EXIF orientation is not applied.

    Raises:
        DataError: missing, empty, or no image.
    """
    from vlpart.data.images import image_header

    try:
        with image_header(path, max_pixels=None) as image:
            width, height = image.size
    except ImageError as error:
        if not is_there(path):
            raise DataError("the image is missing") from None
        reason = str(error).replace(str(path), "").strip()
        raise DataError(f"the image cannot be read ({reason}); download it again") from None
    if width < 1 or height < 1:
        raise DataError(f"the image has the size {width}x{height}")
    return width, height
