"""A COCO JSON file that grows on disk, image by image."""

from __future__ import annotations

import errno
import json
import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from vlpart.errors import OutputError
from vlpart.files import is_folder, is_there


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


@dataclass(frozen=True)
class _Written:
    """What of the two streams belongs to complete images."""

    images: int
    annotations: int
    image_bytes: int
    annotation_bytes: int


class CocoFile:
    """A COCO JSON file (`info`, `annotations`, `images`, `categories`) written image by image, in constant memory.

    Annotations go to a temporary file beside the target and the short image entries to a second one; `complete` joins
    them and takes the final name. An interrupt at any moment leaves complete images only. Raises `OutputError`.

    Args:
        path: the file.
        info: its first line.
        categories: of the file; they may grow until it is complete.
        finish: makes the final entry of an image of the one that was added, once all categories are known.
    """

    def __init__(
        self,
        path: Path,
        info: Mapping[str, Any],
        categories: Callable[[], Sequence[Mapping[str, Any]]],
        finish: Callable[[dict[str, Any]], Mapping[str, Any]] | None = None,
    ) -> None:
        self.path = path
        self._categories, self._finish = categories, finish
        make_folder(path.parent)
        self._paths = (_temporary(path), _temporary(path))
        self._annotations: Any = None
        self._images: Any = None
        start = f'{{"info": {json.dumps(info)},\n"annotations": ['
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

    @property
    def next_id(self) -> int:
        """What the first annotation of the next image will have as its `id`."""
        return self._written.annotations + 1

    def add(self, image: Mapping[str, Any], annotations: Sequence[Mapping[str, Any]]) -> None:
        """Append one image, whose `id` is counted here if it has none, and its annotations, which get theirs here."""
        before = self._written
        image = {"id": before.images + 1, **image}
        lines = [
            json.dumps((head := {"id": number, "image_id": image["id"]}) | dict(annotation) | head)
            for number, annotation in enumerate(annotations, start=self.next_id)
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
            self._put(self._annotations, b'\n],\n"images": [')
            for line in self._images:
                if self._finish is not None and (entry := line.rstrip(b",\n")):
                    done = json.dumps(self._finish(json.loads(entry))).encode()
                    line = line.replace(entry, done)
                self._put(self._annotations, line)
            self._put(self._annotations, f'\n],\n"categories": {json.dumps(list(self._categories()))}}}\n'.encode())
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
