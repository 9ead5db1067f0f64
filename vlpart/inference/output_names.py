"""Names of what a batch writes, which never clash and never hit a source."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from vlpart.data.image_files import IMAGE_SUFFIXES, is_url
from vlpart.errors import OutputError
from vlpart.files import is_folder, is_there, local_path
from vlpart.web import shown


class SourceProtectedError(OutputError):
    """A result would take the name of a source image. Only this image is skipped; the run goes on."""


_WILDCARD = re.compile(r"[*?\[]")
_STEM_CHARACTERS = 120  # of a name made from an address
_STEM_BYTES = 230  # of any name: file systems allow 255, and "-2_parts.json" follows


def _entry(path: str | Path) -> Path:
    """The place of a name in the file system: links among its folders are followed, a link of that name is not."""
    path = local_path(path)
    return path.parent.resolve() / path.name


def _name_in(url: str) -> str:
    """The last part of an address, else its host; empty if it is malformed, as its reading will say."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return Path(unquote(parts.path)).stem or parts.netloc.rpartition("@")[2]


def _shortened(stem: str) -> str:
    encoded = os.fsencode(stem)
    return stem if len(encoded) <= _STEM_BYTES else encoded[:_STEM_BYTES].decode(errors="ignore")


class OutputNames:
    """Gives every image its own place below the output folder, and says what must not be written.

    Results keep the folder structure below the folder that all local sources share, so `a/x.jpg` and `b/x.jpg` give
    `a/x` and `b/x`. Images that differ in their suffix only, and addresses that end alike, are numbered: `x`, `x-2`.
    Needs one short string per image. Raises `OutputError` if the output folder is one of the source folders.
    """

    def __init__(self, sources: Sequence[str], output: Path) -> None:
        self.output = output
        self._output = output.resolve()
        self._taken: set[str] = set()
        self._files: set[Path] = set()
        self._folders: list[Path] = []
        roots = [self._register(source) for source in sources if not is_url(source)]
        try:
            self._root = Path(os.path.commonpath(roots)) if roots else None
        except ValueError:  # Windows: several drives have nothing in common
            self._root = None
        self._inside_a_source = any(map(self._output_inside, self._folders))

    def _register(self, source: str) -> Path:
        """Note what a local source covers; returns the folder that its images are named relative to."""
        path = local_path(source)
        if is_folder(path):
            folder = path.resolve()
            if folder == self._output:
                raise OutputError(f"the output folder {self.output} is also a source: choose another with --output")
            self._folders.append(folder)
            return folder
        wildcard = _WILDCARD.search(str(path))
        if wildcard and not is_there(path):
            folder = Path(str(path)[: wildcard.start()] + "_").parent.resolve()
            self._folders.append(folder)
            return folder
        self._files |= {_entry(path), path.resolve()}
        return _entry(path).parent

    def _output_inside(self, folder: Path) -> bool:
        """Whether the output folder is a subfolder of a source folder; what lies in it is then no source."""
        return self._output != folder and self._output.is_relative_to(folder)

    def relative(self, image: str) -> str:
        """`image` relative to the folder that all local sources share, with `/`; an address without credentials."""
        return shown(image) if is_url(image) else self._below_root(_entry(image))

    def _below_root(self, entry: Path) -> str:
        if self._root is not None and entry.is_relative_to(self._root):
            return entry.relative_to(self._root).as_posix()
        return entry.name

    def stem(self, image: str) -> str | None:
        """A name for the results of `image`, relative to the output folder, without suffix, given out once.

        None if `image`, found in a source folder, lies in an output folder inside it: a result, not a source.
        """
        if is_url(image):
            name = _name_in(image)
            base = _shortened(re.sub(r"[^\w.-]+", "_", name).strip("._")[:_STEM_CHARACTERS]) or "image"
        else:
            entry = _entry(image)
            if entry not in self._files and entry.is_relative_to(self._output) and self._inside_a_source:
                return None
            path = Path(self._below_root(entry))
            name = path.stem if path.stem.strip(".") else path.name  # of "..jpg" the stem is "."
            base = path.with_name(_shortened(name)).as_posix()
        stem, number = base, 1
        while stem.casefold() in self._taken:
            number += 1
            stem = f"{base}-{number}"
        self._taken.add(stem.casefold())
        return stem

    def target(self, name: str) -> Path:
        """The path of a result file. Raises `SourceProtectedError` if a source image has that name."""
        path = self.output / name
        if os.path.lexists(path):
            entry = _entry(path)
            folders = [folder for folder in self._folders if not self._output_inside(folder)]
            in_source = path.suffix.lower() in IMAGE_SUFFIXES and any(map(entry.is_relative_to, folders))
            if in_source or entry in self._files or path.resolve() in self._files:
                raise SourceProtectedError(
                    f"its result {path} would overwrite a source image; choose another folder with --output"
                )
        return path
