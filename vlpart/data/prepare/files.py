"""Finding what was downloaded, reading JSON, and writing annotation files whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vlpart.data.prepare.report import PrepareReport, Written
from vlpart.errors import DataError, OutputError
from vlpart.files import write_file
from vlpart.text.vocabulary import Vocabulary

Category = dict[str, Any]


def find(root: Path, candidates: Sequence[str], what: str, layout: str) -> Path:
    """The first of `candidates` (relative to `root`; "." = the root itself) that exists.

    Raises:
        DataError: none does; the message says what was looked for and what the folder should hold.
    """
    for candidate in candidates:
        path = root / candidate
        if path.exists():
            return path
    tried = ", ".join(candidates)
    raise DataError(f"no {what} in {root} (looked for {tried}); expected there: {layout}")


def require_folder(root: Path) -> None:
    """Refuse a root that is not a folder.

    Raises:
        DataError: it does not exist or is a file.
    """
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; give the one that holds the downloaded data set")


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
