"""Files by pattern (`*`, `?`, `[...]`, `**`), also in trees whose links lead in circles."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from pathlib import Path


def has_pattern(name: str | os.PathLike[str]) -> bool:
    """Whether a name holds a character that makes it a pattern."""
    return glob.has_magic(os.fspath(name))


def matching_files(pattern: str | os.PathLike[str], suffixes: tuple[str, ...]) -> list[Path]:
    """The files that match and have one of the suffixes (small letters), by name; hidden ones are left out.

    `**` is any number of folders; links are followed. Of several names of one file, the one with the fewest folders
    is taken.
    """
    matches = sorted(_matches(Path(pattern)), key=lambda path: (len(path.parts), str(path)))
    names: dict[str, Path] = {}
    for path in matches:
        if path.suffix.lower() in suffixes and path.is_file():
            names.setdefault(os.path.realpath(path), path)
    return sorted(names.values(), key=str)


def _matches(pattern: Path) -> Iterator[Path]:
    """What `glob` gives, but `**` enters a folder once, however many links lead to it.

    With two links that lead upwards, glob itself has more paths to try than it ever can.
    """
    if "**" not in pattern.parts:
        yield from map(Path, glob.iglob(str(pattern)))  # noqa: PTH207  Path.glob takes no absolute patterns
        return
    at = pattern.parts.index("**")
    below = pattern.parts[at + 1 :] or ("*",)
    for top in _matches(Path(*pattern.parts[:at])):
        for folder in _folders(top):
            yield from _matches(Path(glob.escape(str(folder)), *below))


def _folders(top: Path) -> Iterator[Path]:
    """`top` and the folders below it, level by level, without hidden ones, each once by its real path."""
    level, seen = [top], {os.path.realpath(top)}
    while level:
        yield from level
        found = []
        for path in (subfolder for folder in level for subfolder in _subfolders(folder)):
            real = os.path.realpath(path)
            if real not in seen:
                seen.add(real)
                found.append(path)
        level = found


def _subfolders(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return [folder / name for name in sorted(e.name for e in entries if e.is_dir() and e.name[0] != ".")]
    except OSError:  # as for glob: what cannot be listed matches nothing
        return []
