"""Any mix of files, folders, patterns (`*`, `?`, `[...]`, `**`) and addresses to a stream of image files.

Trees whose links lead in circles are walked once. And where the images are that an annotation file names.
"""

from __future__ import annotations

import glob
import os
import re
import urllib.parse
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from vlpart.checks import typed
from vlpart.errors import ImageError
from vlpart.files import is_folder, is_there, local_path

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff"),
    *(".avif", ".heic", ".heif", ".jp2", ".j2k", ".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".mpo"),
)
"""File name endings (lower case) that are taken from folders and patterns; a file named explicitly may have any."""

#: File name endings of videos (small letters).
VIDEO_SUFFIXES = (
    ".mp4",
    ".mov",
    ".avi",
    ".mkv",
    ".webm",
    ".m4v",
    ".mpg",
    ".mpeg",
    ".wmv",
    ".flv",
    ".3gp",
    ".mts",
    ".ts",
)
CAMERA = re.compile(r"\d{1,2}")
_STREAMS = ("rtsp://", "rtsps://", "rtmp://", "udp://", "srt://")

STDIN = "-"
"""As a source: one image from standard input."""


@typed("recursive", "on_unlisted")
def list_images(
    sources: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    *,
    recursive: bool = False,
    on_unlisted: Callable[[ImageError], object] | None = None,
) -> Iterator[Path | str]:
    """Stream the images that `sources` name, in a fixed order: addresses as str, files as Path.

    A folder gives its images (`IMAGE_SUFFIXES`, hidden files left out) by name, with `recursive` those of its folders
    after them; a pattern (`*`, `?`, `[...]`, `**`) gives its matches by name; everything else passes through unread, so
    that a missing file is reported by `read_image` when its turn comes. Links to folders are followed by `**` only.
    What several sources, or the links in a pattern, lead to more than once comes once. Only the names of one folder or
    pattern are held at a time (and, to leave out repetitions, the names given out so far if there are several sources).

    Args:
        sources: files, folders, patterns, addresses.
        recursive: go into folders of folders.
        on_unlisted: told about a folder inside a source that cannot be listed, which is then left out; None = it is
            an error.

    Raises:
        ImageError: at the call, before anything is yielded: no source at all, one that is empty or no path, a folder
            without images or one that cannot be listed, a pattern that matches none.
    """
    named = named_sources(sources)
    for source in named:
        if next(_expand(source, recursive, _nobody if on_unlisted else None), None) is None:
            _refuse_empty(source, recursive)
    return _stream(named, recursive, on_unlisted)


_Told = Callable[[ImageError], object] | None


def _nobody(error: ImageError) -> None:
    """Not yet told: the look whether there is anything at all."""


def named_sources(sources: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> list[str]:
    """What `list_images` takes, as a list of paths and addresses.

    Raises:
        ImageError: nothing at all, an empty name, or something that is no path (an image in memory, None).
    """
    if isinstance(sources, (str, os.PathLike)):
        listed: list[Any] = [sources]
    else:
        listed = list(sources) if isinstance(sources, Iterable) else [sources]
    if not listed:
        raise ImageError("no images given: name files, folders, patterns or URLs")
    names = [os.fspath(source) if isinstance(source, (str, os.PathLike)) else source for source in listed]
    for name in names:
        if not isinstance(name, str):
            raise ImageError(
                f"a source is the name of a file or folder, a pattern or a URL, not {type(name).__name__}: "
                "give images in memory to predict()"
            )
        if not name:
            raise ImageError("an image source is empty (''): name a file, folder, pattern or URL; . is this folder")
    return names


def is_url(source: object) -> bool:
    """Whether `source` is a string with an http or https address."""
    return isinstance(source, str) and source.lower().startswith(("http://", "https://"))


def is_video(source: str) -> bool:
    """Whether a source is a video by its name: a file with the ending of one, `rtsp://...`, or the number of a webcam
    ("0") where there is no file of that name.
    """
    if source.lower().startswith(_STREAMS):
        return True
    if CAMERA.fullmatch(source):
        return not is_there(local_path(source))
    return source.lower().partition("?")[0].endswith(VIDEO_SUFFIXES)


def _stream(sources: list[str], recursive: bool, told: _Told) -> Iterator[Path | str]:
    if len(sources) == 1:  # nothing to remember: a folder or pattern does not repeat itself
        yield from _expand(sources[0], recursive, told)
        return
    seen: set[str] = set()
    for source in sources:
        for image in _expand(source, recursive, told):
            key = image if isinstance(image, str) else os.path.realpath(image)
            if key not in seen:
                seen.add(key)
                yield image


def _expand(source: str, recursive: bool, told: _Told) -> Iterator[Path | str]:
    if is_url(source):
        yield source
        return
    path = local_path(source)
    if is_folder(path):
        yield from _folder_images(path, recursive, told)
    elif has_pattern(path) and not is_there(path):
        yield from matching_files(path, IMAGE_SUFFIXES)
    else:
        yield path


def _folder_images(top: Path, recursive: bool, told: _Told) -> Iterator[Path]:
    folders = [top]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(folder) as entries:
                named = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
        except OSError as error:
            problem = ImageError(f"cannot list the folder {folder}: {error.strerror or error}")
            if told is None or folder is top:
                raise problem from error
            told(problem)
            continue
        visible = [(name, deeper) for name, deeper in named if not name.startswith(".")]
        for name, deeper in visible:
            if not deeper and Path(name).suffix.lower() in IMAGE_SUFFIXES:
                yield folder / name
        if recursive:
            folders += [folder / name for name, deeper in reversed(visible) if deeper]


def _refuse_empty(source: str, recursive: bool) -> None:
    suffixes = " ".join(IMAGE_SUFFIXES)
    if is_folder(local_path(source)):
        hint = "" if recursive else "; its own folders are searched only when asked (recursive)"
        raise ImageError(f"no images in the folder {source}{hint}; supported suffixes: {suffixes}")
    raise ImageError(f"no image matches {source}; supported suffixes: {suffixes}")


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
        deeper = []
        for path in (subfolder for folder in level for subfolder in _subfolders(folder)):
            real = os.path.realpath(path)
            if real not in seen:
                seen.add(real)
                deeper.append(path)
        level = deeper


def _subfolders(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return [folder / name for name in sorted(e.name for e in entries if e.is_dir() and e.name[0] != ".")]
    except OSError:  # as for glob: what cannot be listed matches nothing
        return []


# ---- where the images of an annotation file are


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
