"""What a batch writes: one writer per format."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

from PIL import Image

from vlpart.data.image_files import STDIN, is_url
from vlpart.errors import OutputError
from vlpart.files import (
    MAX_TEXT_BYTES,
    copy_file,
    encode_image,
    is_file,
    is_folder,
    is_there,
    local_path,
    open_regular,
    read_regular,
    write_file,
)
from vlpart.inference.coco_file import CocoFile, make_folder, output_errors
from vlpart.inference.output_names import OutputNames, SourceProtectedError
from vlpart.results.formats import yolo_data

if TYPE_CHECKING:
    from vlpart.results.result import Result
    from vlpart.text.vocabulary import Vocabulary


FORMATS = ("image", "json", "jsonl", "coco", "labels", "labelme", "yolo", "crops", "cutouts")
"""What can be written. Per image: `image` NAME_parts.jpg, `json` NAME_parts.json, `labels` NAME_labels.png (16 bit),
`labelme` labelme/NAME.json, `yolo` labels/NAME.txt; for all images together: `coco` coco.json, `jsonl` results.jsonl
(what `json` holds, a line per image), and with `yolo` data.yaml; a file per detection: `crops`
crops/NAME/001_car_wheel.jpg, `cutouts` cutouts/NAME/001_car_wheel.png."""

#: The files of an image; the name of its results goes into the braces.
_FILES = {
    "image": "{}_parts.jpg",
    "json": "{}_parts.json",
    "labels": "{}_labels.png",
    "labelme": "labelme/{}.json",
    "yolo": "labels/{}.txt",
}

#: The files of all images.
OF_ALL = {"coco": "coco.json", "jsonl": "results.jsonl"}

#: The folder of an image and the suffix of what has a file per detection.
_PIECES = {"crops": ("crops/{}", ".jpg"), "cutouts": ("cutouts/{}", ".png")}
_NOT_OF_NAMES = re.compile(r"[^\w-]+")
_PIECE = re.compile(r"\d{3,}_.*\.(jpg|png)")


def check_formats(formats: Iterable[str], *, skip_existing: bool = False) -> tuple[str, ...]:
    """`formats` without repeats, in the order of `FORMATS`; "picture" is the former name of "image".

    Raises:
        OutputError: an unknown or empty choice, or `coco`, `crops` or `cutouts` with `skip_existing`.
    """
    chosen = ["image" if name == "picture" else name for name in ([formats] if isinstance(formats, str) else formats)]
    if not chosen:
        raise OutputError(f"no output format given: choose from {', '.join(FORMATS)}")
    for name in chosen:
        if name not in FORMATS:
            raise OutputError(f"unknown output format {name!r}: choose from {', '.join(FORMATS)}")
    for name in ("coco", "jsonl"):
        if skip_existing and name in chosen:
            raise OutputError(
                f"{OF_ALL[name]} would lack the images that --skip-existing (argument skip_existing) leaves out: "
                "leave out one of the two"
            )
    pieces = [name for name in chosen if name in _PIECES]
    if skip_existing and pieces:
        raise OutputError(
            f"nobody can tell whether all {pieces[0]} of an image are there, so --skip-existing (argument "
            "skip_existing) does not go with them: leave out one of the two"
        )
    return tuple(name for name in FORMATS if name in chosen)


@dataclass(kw_only=True)
class ResultWriter:
    """Writes the chosen formats of one result after the other."""

    names: OutputNames
    formats: Sequence[str]
    drawing: Mapping[str, Any] = field(default_factory=dict)
    coco: CocoFile | None = None
    yolo: Path | None = None
    finished: int = 0
    detections: int = 0
    shard: tuple[int, int] = (1, 1)
    stack: ExitStack = field(default_factory=ExitStack)
    _lines: IO[bytes] | None = None

    def start(self) -> None:
        """Make the folder; what is open ends with the stack. Raises `OutputError`."""
        make_folder(self.names.output)
        self.stack.push(self._drop_earlier)

    @property
    def output(self) -> Path:
        """The folder."""
        return self.names.output

    def stem(self, image: str) -> str | None:
        """The name of the results of an image, see `OutputNames.stem`."""
        return self.names.stem("stdin" if image == STDIN else image)

    def of_all(self, kind: str) -> str:
        """The name of a file about all images; each of several shards has its own."""
        path, (number, count) = Path(OF_ALL[kind]), self.shard
        return path.name if count == 1 else f"{path.stem}_{number:0{len(str(count))}}_of_{count}{path.suffix}"

    def encode(self, stem: str, result: Result) -> dict[Path, bytes]:
        """The files of one result, in memory. Raises `OutputError` for what is wrong with this image alone."""
        files = {path: _encode(kind, result, path, self.drawing) for kind, path in self._targets(stem).items()}
        for kind in filter(_PIECES.__contains__, self.formats):
            folder, suffix = _PIECES[kind]
            for i, name in enumerate(result.names):
                short = _NOT_OF_NAMES.sub("_", name)[:80]
                path = self.names.target(f"{folder.format(stem)}/{i + 1:03}_{short}{suffix}")
                piece = result.crop(i) if kind == "crops" else result.cutout(i)
                files[path] = encode_image(piece, "JPEG" if kind == "crops" else "PNG", path.name)
        return files

    def is_done(self, stem: str) -> bool:
        """Whether all files of an image are there. A source image that has the name of one is none of them."""
        try:
            return all(map(is_file, self._targets(stem).values()))
        except SourceProtectedError:
            return False

    def _targets(self, stem: str) -> dict[str, Path]:
        return {kind: self.names.target(_FILES[kind].format(stem)) for kind in self.formats if kind in _FILES}

    def write(self, image: str, stem: str, result: Result, files: Mapping[Path, bytes]) -> None:
        """Write the files of one result and add it to the COCO file. Raises `OutputError` if the disk refuses."""
        if "yolo" in self.formats and self.yolo is None:
            self.yolo = _write_yolo_data(self.names.target("data.yaml"), result.vocabulary)
        for kind in filter(_PIECES.__contains__, self.formats):
            self._drop_earlier_pieces(self.names.output / _PIECES[kind][0].format(stem), files)
        for path, data in files.items():
            write_file(path, data)
        if "yolo" in self.formats:
            _link_images(self.names.output, image, result, files)
        if "coco" in self.formats:
            if self.coco is None:
                self.coco = self.stack.enter_context(_open_coco(self.names.target(self.of_all("coco")), result))
            height, width = result.image_size
            entry = {"file_name": self.names.relative(image), "height": height, "width": width}
            self.coco.add(entry, _annotations(result))
        if "jsonl" in self.formats:
            self._add_line(result)
        self.finished += 1
        self.detections += len(result)

    def _add_line(self, result: Result) -> None:
        path = self.names.target(self.of_all("jsonl"))
        with output_errors(path):
            if self._lines is None:
                self._lines = self.stack.enter_context(path.open("wb"))
            self._lines.write(json_line(result))
            self._lines.flush()

    def _drop_earlier_pieces(self, folder: Path, files: Mapping[Path, bytes]) -> None:
        """Pieces of an earlier run that found more must not stay among those of this one."""
        if is_folder(folder):
            with output_errors(folder):
                for path in sorted(folder.iterdir()):
                    if _PIECE.fullmatch(path.name) and path not in files:
                        self.names.target(path.relative_to(self.names.output).as_posix()).unlink()

    def _drop_earlier(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """For the end of a run, interrupted or not: files about all images of an earlier one go if this one has none.

        A run that an error ended before its first image leaves them alone. Raises `OutputError` if one cannot be
        removed.
        """
        if self.finished or isinstance(error, Exception):
            return
        for name in (self.of_all(each) for each in self.formats if each in OF_ALL):
            with suppress(SourceProtectedError if error is None else OutputError):
                path = self.names.target(name)
                with output_errors(path):
                    path.unlink(missing_ok=True)


@dataclass(kw_only=True)
class PipeWriter:
    """Writes results into an open binary file, standard output for one: `jsonl` of any number, `json` or the annotated
    picture (`image`, JPEG) of one.
    """

    pipe: IO[bytes]
    kind: str = "jsonl"
    drawing: Mapping[str, Any] = field(default_factory=dict)
    output: Path = Path(STDIN)
    coco: None = None
    yolo: None = None
    finished: int = 0
    detections: int = 0
    stack: ExitStack = field(default_factory=ExitStack)

    def start(self) -> None:
        """Nothing to prepare."""

    def stem(self, image: str) -> str:
        """Images need no names here."""
        return ""

    def is_done(self, stem: str) -> bool:
        """Nothing that went into a pipe is there."""
        return False

    def encode(self, stem: str, result: Result) -> dict[Path, bytes]:
        """What goes into the pipe, in memory. Raises `OutputError` for a second image where one only can be written."""
        if self.kind == "jsonl":
            return {self.output: json_line(result)}
        if self.finished:
            raise OutputError(f"the format {self.kind} holds one image only: use --format jsonl, or a folder")
        return {self.output: _encode(self.kind, result, Path("picture.jpg"), self.drawing)}

    def write(self, image: str, stem: str, result: Result, files: Mapping[Path, bytes]) -> None:
        """Write it at once, so that the next program sees it."""
        for data in files.values():
            self.pipe.write(data)
        self.pipe.flush()
        self.finished += 1
        self.detections += len(result)


def writer_for(
    sources: Sequence[str],
    output: str | Path | IO[bytes],
    formats: Iterable[str],
    drawing: Mapping[str, Any],
    *,
    skip_existing: bool = False,
    shard: tuple[int, int] = (1, 1),
) -> ResultWriter | PipeWriter:
    """The writer of a folder or of an open binary file.

    Raises:
        OutputError: see `check_formats`; for a file, another format than jsonl, json or image, or several.
    """
    chosen = check_formats(formats, skip_existing=skip_existing)
    if isinstance(output, str | Path):
        names = OutputNames([source for source in sources if source != STDIN], local_path(output))
        return ResultWriter(names=names, formats=chosen, drawing=drawing, shard=shard)
    if len(chosen) != 1 or chosen[0] not in ("jsonl", "json", "image"):
        raise OutputError(f"a pipe takes one of the formats jsonl, json, image, not {', '.join(chosen)}")
    return PipeWriter(pipe=output, kind=chosen[0], drawing=drawing)


def json_line(result: Result) -> bytes:
    """All of a result, except its image, in one line of JSON."""
    return (result.to_json() + "\n").encode(errors="backslashreplace")  # a path may be no Unicode


def _encode(kind: str, result: Result, path: Path, drawing: Mapping[str, Any]) -> bytes:
    if kind == "yolo":
        return result.to_yolo().encode()
    if kind in ("json", "labelme"):
        text = result.to_json(indent=1) if kind == "json" else _labelme(result, path)
        return (text + "\n").encode(errors="backslashreplace")  # a path that is no Unicode
    if kind == "image":
        return encode_image(result.plot(**drawing), "JPEG", path.name)
    return encode_image(Image.fromarray(result.label_map()), "PNG", path.name)


def _labelme(result: Result, path: Path) -> str:
    """The LabelMe file at `path`: it finds the image where that is now, seen from its own folder."""
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
    content = yolo_data(vocabulary).encode()
    if is_there(path):
        with output_errors(path):
            earlier = read_regular(path, MAX_TEXT_BYTES)
        if earlier != content:
            raise OutputError(
                f"{path} names other classes, so its labels would no longer fit: choose another folder with --output"
            )
    return write_file(path, content)


def _link_images(output: Path, image: str, result: Result, files: Iterable[Path]) -> None:
    """Put the image of each label file `labels/NAME.txt` into `images/`, where readers of YOLO data look for it.

    A link where the file system has links, else a copy; of an address, its pixels. Raises `OutputError`.
    """
    for label in files:
        if label.suffix != ".txt" or not label.is_relative_to(output / "labels"):
            continue
        name = output / "images" / label.relative_to(output / "labels")
        if is_url(image) or image == STDIN:
            if result.image is not None:
                write_file(name.with_suffix(".png"), encode_image(Image.fromarray(result.image), "PNG", name.name))
            continue
        source = local_path(image).resolve()
        link = name.with_name(name.stem + source.suffix)
        with output_errors(link):
            link.parent.mkdir(parents=True, exist_ok=True)
            if link.is_symlink():
                link.unlink()
            elif link.exists():
                if not link.samefile(source) and not _same_content(link, source):
                    raise OutputError(f"{link} is another image: choose another folder with --output")
                continue
            try:
                link.symlink_to(source)
            except OSError:  # no links on this file system, or none allowed
                copy_file(source, link)


def _same_content(one: Path, other: Path) -> bool:
    with open_regular(one) as first, open_regular(other) as second:
        digests = [hashlib.file_digest(file, "sha256").digest() for file in (first, second)]
    return digests[0] == digests[1]


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
    return CocoFile(path, {"description": f"predictions of vlpart {__version__}"}, lambda: categories)
