"""What `predict_to_folder` writes for an image and for a run, in every format."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from PIL import Image

from vlpart.batch_output import CocoFile, OutputNames, SourceProtectedError, output_errors
from vlpart.data.images import is_url
from vlpart.errors import OutputError
from vlpart.files import encode_picture, is_file, is_there, local_path, write_file
from vlpart.result_formats import yolo_data

if TYPE_CHECKING:
    from vlpart.results import Result
    from vlpart.text.vocabulary import Vocabulary

FORMATS = ("picture", "json", "coco", "labels", "labelme", "yolo")
"""What can be written. Per image: `picture` NAME_parts.jpg, `json` NAME_parts.json, `labels` NAME_labels.png (16 bit),
`labelme` labelme/NAME.json, `yolo` labels/NAME.txt; for all images together: `coco` coco.json, and with `yolo`
data.yaml."""

#: The files of an image; the name of its results goes into the braces.
_FILES = {
    "picture": "{}_parts.jpg",
    "json": "{}_parts.json",
    "labels": "{}_labels.png",
    "labelme": "labelme/{}.json",
    "yolo": "labels/{}.txt",
}


def check_formats(formats: Iterable[str], *, skip_existing: bool = False) -> tuple[str, ...]:
    """`formats` without repeats, in the order of `FORMATS`.

    Raises:
        OutputError: an unknown or empty choice, or `coco` with `skip_existing`.
    """
    chosen = [formats] if isinstance(formats, str) else list(formats)
    if not chosen:
        raise OutputError(f"no output format given: choose from {', '.join(FORMATS)}")
    for name in chosen:
        if name not in FORMATS:
            raise OutputError(f"unknown output format {name!r}: choose from {', '.join(FORMATS)}")
    if skip_existing and "coco" in chosen:
        raise OutputError(
            "coco.json would lack the images that --skip-existing (argument skip_existing) leaves out: "
            "leave out one of the two"
        )
    return tuple(name for name in FORMATS if name in chosen)


@dataclass(kw_only=True)
class ResultWriter:
    """Writes the chosen formats of one result after the other."""

    names: OutputNames
    formats: Sequence[str]
    coco: CocoFile | None = None
    yolo: Path | None = None
    finished: int = 0
    detections: int = 0
    stack: ExitStack = field(default_factory=ExitStack)

    def encode(self, stem: str, result: Result) -> dict[Path, bytes]:
        """The files of one result, in memory. Raises `OutputError` for what is wrong with this image alone."""
        return {path: _encode(kind, result, path) for kind, path in self._targets(stem).items()}

    def is_done(self, stem: str) -> bool:
        """Whether all files of an image are there. A source image that has the name of one is none of them."""
        try:
            return all(map(is_file, self._targets(stem).values()))
        except SourceProtectedError:
            return False

    def _targets(self, stem: str) -> dict[str, Path]:
        return {kind: self.names.target(_FILES[kind].format(stem)) for kind in self.formats if kind in _FILES}

    def write(self, image: str, result: Result, files: Mapping[Path, bytes]) -> None:
        """Write the files of one result and add it to the COCO file. Raises `OutputError` if the disk refuses."""
        if "yolo" in self.formats and self.yolo is None:
            self.yolo = _write_yolo_data(self.names.target("data.yaml"), result.vocabulary)
        for path, data in files.items():
            write_file(path, data)
        if "coco" in self.formats:
            if self.coco is None:
                self.coco = self.stack.enter_context(_open_coco(self.names.target("coco.json"), result))
            self.coco.add(self.names.relative(image), result.image_size, _annotations(result))
        self.finished += 1
        self.detections += len(result)

    def drop_earlier_coco(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """For the end of a run, interrupted or not: the COCO file of an earlier one goes if this one has none.

        A run that an error ended before its first image leaves it alone. Raises `OutputError` if it cannot be removed.
        """
        if "coco" not in self.formats or (self.coco and self.coco.images) or isinstance(error, Exception):
            return
        with suppress(SourceProtectedError if error is None else OutputError):
            path = self.names.target("coco.json")
            with output_errors(path):
                path.unlink(missing_ok=True)


def _encode(kind: str, result: Result, path: Path) -> bytes:
    if kind == "yolo":
        return result.to_yolo().encode()
    if kind in ("json", "labelme"):
        text = result.to_json(indent=1) if kind == "json" else _labelme(result, path)
        return (text + "\n").encode(errors="backslashreplace")  # a path that is no Unicode
    if kind == "picture":
        return encode_picture(result.plot(), "JPEG", path.name)
    return encode_picture(Image.fromarray(result.label_map()), "PNG", path.name)


def _labelme(result: Result, path: Path) -> str:
    """The LabelMe file at `path`: it finds the picture where that is now, seen from its own folder."""
    source = str(result.path)
    if not is_url(source):
        source = str(local_path(source).absolute())
        with suppress(ValueError):  # Windows: on another drive there is no way from here to there
            source = os.path.relpath(source, path.parent.resolve())
        source = Path(source).as_posix()
    return json.dumps(result.to_labelme(source), ensure_ascii=False)


def _write_yolo_data(path: Path, vocabulary: Vocabulary) -> Path:
    """The names of the classes of all label files in the folder, which must be the same ones.

    Raises:
        OutputError: the folder has labels of other classes, or the disk refuses.
    """
    data = yolo_data(vocabulary).encode()
    if is_there(path):
        with output_errors(path):
            earlier = path.read_bytes()
        if earlier != data:
            raise OutputError(
                f"{path} names other classes, so its labels would no longer fit: choose another folder with --output"
            )
    return write_file(path, data)


def _annotations(result: Result) -> list[dict[str, Any]]:
    """COCO annotations: result entries with the area and the crowd flag that readers of ground truth expect."""
    boxes = result.boxes_xyxy
    sizes = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) if result.masks is None else result.masks.areas()
    entries = zip(result.to_coco(image_id=0), sizes.tolist(), strict=True)
    return [{**entry, "area": area, "iscrowd": 0} for entry, area in entries]


def _open_coco(path: Path, result: Result) -> CocoFile:
    """The COCO file of a run, with the categories of the vocabulary of its first result."""
    from vlpart import __version__

    categories = [
        {"id": entry.id, "name": entry.name, "object": entry.object, "part": entry.part}
        for entry in result.vocabulary.entries
    ]
    return CocoFile(path, categories, {"description": f"predictions of vlpart {__version__}"})
