"""Where the images of an annotation file are: its names against what a folder holds.

Names come with folders of another machine ("C:/Users/me/images/a.jpg"), of an address, or with one folder too many.
Hence a name that is not there as it stands is looked for without its first folders, one after the other. Two images of
a file are never taken to be one: then the shorter name is no answer for either.
"""

from __future__ import annotations

import os
import urllib.parse
from collections.abc import Iterable, Iterator
from pathlib import Path


class ImageFinder:
    """Finds images below a folder; every folder is listed once."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        self._listed: dict[str, set[str]] = {}

    def find(self, file_name: str) -> str | None:
        """The name below `root` (or absolute) of an image that a file calls `file_name`; None if it is not there."""
        return next((name for name in _candidates(file_name) if self.has(name)), None)

    def find_all(self, file_names: Iterable[str]) -> dict[str, str | None]:
        """`find` for the different names of a file; None too where the names of two images lead to one file."""
        names = list(dict.fromkeys(file_names))
        place_of = {name: name if self.has(name) else None for name in names}
        taken = {name for name, place in place_of.items() if place is not None}
        shortened: dict[str, list[str]] = {}
        for name in (name for name, place in place_of.items() if place is None):
            if (place := self.find(name)) is not None:
                shortened.setdefault(os.path.normpath(place), []).append(name)
                place_of[name] = place
        for place, same in shortened.items():
            if len(same) > 1 or place in taken:
                place_of.update(dict.fromkeys(same))
        return place_of

    def has(self, name: str) -> bool:
        """Whether `root` holds an entry of exactly this name."""
        folder, last = os.path.split(name)
        if folder not in self._listed:
            self._listed[folder] = _names(self.root, folder)
        return last in self._listed[folder]


def _names(root: Path, folder: str) -> set[str]:
    try:
        return set(os.listdir(Path(root, folder)))  # noqa: PTH208 - names only, a million at once
    except (OSError, ValueError):
        return set()


def _candidates(name: str) -> Iterator[str]:
    """The name, then what may be meant by it, the longest first."""
    yield name
    plain = urllib.parse.unquote(name) if "%" in name else name
    for text in dict.fromkeys((name, plain)):
        parts = [part for part in text.split("/") if part and part != ".."]
        for start in range(len(parts)):
            if "/".join(parts[start:]) != name:
                yield "/".join(parts[start:])
