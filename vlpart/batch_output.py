"""Where the results of a batch go: names that never clash or hit a source, and a COCO file that grows on disk."""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote, urlsplit

from vlpart.data.images import IMAGE_SUFFIXES, is_url
from vlpart.errors import OutputError
from vlpart.files import is_folder, is_there, local_path


class SourceProtectedError(OutputError):
    """A result would take the name of a source image. Only this image is skipped; the run goes on."""


_WILDCARD = re.compile(r"[*?\[]")
_STEM_CHARACTERS = 120  # of a name made from an address
_STEM_BYTES = 230  # of any name: file systems allow 255, and "-2_parts.json" follows


@contextmanager
def output_errors(path: Path) -> Iterator[None]:
    """Turn an operating system's refusal (full disk, no permission, not a folder ...) into `OutputError`."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
        advice = ("free some space or " if full else "") + "choose another folder with --output"
        raise OutputError(f"cannot write {path}: {error.strerror or error}; {advice}") from error


def make_folder(path: Path) -> None:
    """Create a folder and its parents. Raises `OutputError`."""
    if is_there(path) and not is_folder(path):
        raise OutputError(f"cannot write into {path}: it is a file; choose a folder with --output")
    with output_errors(path):
        path.mkdir(parents=True, exist_ok=True)


def _temporary(path: Path) -> Path:
    """A name for a file that is to become `path`: hidden, in the same folder, with the same suffix."""
    return path.with_name(f".{path.stem}.{secrets.token_hex(4)}.part{path.suffix}")


def _entry(path: str | Path) -> Path:
    """The place of a name in the file system: links among its folders are followed, a link of that name is not."""
    path = local_path(path)
    return path.parent.resolve() / path.name


def _shortened(stem: str) -> str:
    data = os.fsencode(stem)
    return stem if len(data) <= _STEM_BYTES else data[:_STEM_BYTES].decode(errors="ignore")


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

    def is_result(self, image: str) -> bool:
        """Whether `image`, found in a source folder, lies in an output folder inside it: a result, not a source."""
        if is_url(image) or _entry(image) in self._files:
            return False
        return _entry(image).is_relative_to(self._output) and any(map(self._output_inside, self._folders))

    def relative(self, image: str) -> str:
        """`image` relative to the folder that all local sources share, with `/`; an address stays as it is."""
        if is_url(image):
            return image
        entry = _entry(image)
        if self._root is not None and entry.is_relative_to(self._root):
            return entry.relative_to(self._root).as_posix()
        return entry.name

    def stem(self, image: str) -> str:
        """A name for the results of `image`, relative to the output folder, without suffix, given out once."""
        if is_url(image):
            name = Path(unquote(urlsplit(image).path)).stem or urlsplit(image).netloc
            wanted = _shortened(re.sub(r"[^\w.-]+", "_", name).strip("._")[:_STEM_CHARACTERS]) or "image"
        else:
            path = Path(self.relative(image))
            wanted = path.with_name(_shortened(path.stem)).as_posix()
        stem, number = wanted, 1
        while stem.casefold() in self._taken:
            number += 1
            stem = f"{wanted}-{number}"
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


@dataclass(frozen=True)
class _Written:
    """What of the two streams belongs to complete images."""

    images: int
    annotations: int
    image_bytes: int
    annotation_bytes: int


class CocoFile:
    """A COCO JSON file (`info`, `categories`, `annotations`, `images`) written image by image, in constant memory.

    Annotations go to a temporary file beside the target and the short image entries to a second one; `complete` joins
    them and takes the final name. An interrupt at any moment leaves complete images only. Raises `OutputError`.
    """

    def __init__(self, path: Path, categories: Sequence[Mapping[str, Any]], info: Mapping[str, Any]) -> None:
        self.path = path
        make_folder(path.parent)
        self._paths = (_temporary(path), _temporary(path))
        self._annotations: Any = None
        self._images: Any = None
        head = {"info": dict(info), "categories": [dict(category) for category in categories]}
        start = json.dumps(head).removesuffix("}") + ', "annotations": ['
        try:
            with output_errors(path):
                self._annotations = self._paths[0].open("x+b", buffering=0)
                self._images = self._paths[1].open("x+b", buffering=0)
            self._written = _Written(0, 0, 0, self._put(self._annotations, start.encode()))
        except BaseException:  # an interrupt too: nothing may stay that nobody will remove
            self.discard()
            raise

    def _put(self, stream: Any, data: bytes) -> int:
        """Write all of `data` at the end of an unbuffered stream; returns the new length of the stream."""
        view = memoryview(data)
        with output_errors(self.path):
            while view:
                view = view[stream.write(view) :]
            return int(stream.tell())

    @property
    def images(self) -> int:
        """Number of complete images so far."""
        return self._written.images

    def add(self, file_name: str, size_hw: tuple[int, int], annotations: Sequence[Mapping[str, Any]]) -> None:
        """Append one image. `annotations` are COCO annotations; their `id` and `image_id` are given here."""
        before = self._written
        image = {"id": before.images + 1, "file_name": file_name, "height": size_hw[0], "width": size_hw[1]}
        lines = [
            json.dumps({**annotation, "id": before.annotations + number, "image_id": image["id"]})
            for number, annotation in enumerate(annotations, start=1)
        ]
        annotation_bytes = before.annotation_bytes
        if lines:
            text = ("\n" if before.annotations == 0 else ",\n") + ",\n".join(lines)
            annotation_bytes = self._put(self._annotations, text.encode())
        text = ("\n" if before.images == 0 else ",\n") + json.dumps(image)
        image_bytes = self._put(self._images, text.encode())
        self._written = _Written(before.images + 1, before.annotations + len(lines), image_bytes, annotation_bytes)

    def complete(self) -> Path:
        """Join the parts, drop what an interrupt left half written, take the final name."""
        with output_errors(self.path):
            self._annotations.truncate(self._written.annotation_bytes)
            self._annotations.seek(0, os.SEEK_END)
            self._images.truncate(self._written.image_bytes)
            self._images.seek(0)
            self._put(self._annotations, b'\n], "images": [')
            while block := self._images.read(1 << 20):
                self._put(self._annotations, block)
            self._put(self._annotations, b"\n]}\n")
            self._annotations.close()
            self._paths[0].replace(self.path)
        self.discard()
        return self.path

    def discard(self) -> None:
        """Close and remove the temporary files. Harmless after `complete`."""
        for stream in (self._annotations, self._images):
            with suppress(OSError):
                if stream is not None:
                    stream.close()
        for path in self._paths:
            with suppress(OSError):
                path.unlink()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """However the block ends: the images finished so far make a complete file; without any there is none."""
        try:
            if self.images:
                with suppress(*(() if error is None else (OutputError,))):  # the first error is the one to report
                    self.complete()
        finally:
            self.discard()
