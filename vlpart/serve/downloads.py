"""Results that clients send back, perhaps corrected, as the files that `vlpart predict` writes."""

from __future__ import annotations

import io
import json
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vlpart.data.images import read_image
from vlpart.errors import DataError, OutputError, VlpartError
from vlpart.files import write_file
from vlpart.inference.output import ResultWriter
from vlpart.inference.output_names import OutputNames
from vlpart.results.result import Result
from vlpart.text.vocabulary import Entry, Vocabulary


@dataclass(frozen=True)
class Wanted:
    """The files to make.

    Attributes:
        images: names and bytes of image files.
        results: a saved result for each.
        formats: of `vlpart.inference.output.FORMATS`.
        max_pixels: of one image.
        max_detections: of one result.
    """

    images: Sequence[tuple[str, bytes]]
    results: Sequence[Mapping[str, Any]]
    formats: Sequence[str]
    max_pixels: int
    max_detections: int


def files_of(wanted: Sequence[Wanted]) -> list[tuple[str, bytes] | Exception]:
    """For each that is wanted, a file's name and bytes: the one that was made, or a ZIP of all.

    An answer is an exception where a result does not fit its image. COCO files and YOLO labels have the names of all
    results, numbered anew where two give one number to different names.
    """
    return [_files(each) for each in wanted]


def _files(wanted: Wanted) -> tuple[str, bytes] | Exception:
    with tempfile.TemporaryDirectory(prefix="vlpart-") as folder:
        source, output = Path(folder, "source"), Path(folder, "output")
        source.mkdir()
        output.mkdir()
        try:
            paths = _stored(wanted.images, source)
            results = [_result(data, path, wanted) for data, path in zip(wanted.results, paths, strict=True)]
            _write(paths, _of_one_vocabulary(results), wanted.formats, output)
            return _packed(output)
        except VlpartError as error:
            return error


def _write(paths: Sequence[Path], results: Sequence[Result], formats: Sequence[str], output: Path) -> None:
    """The files of all results, below the folder `output`."""
    names = OutputNames([str(path) for path in paths], output)
    writer = ResultWriter(names=names, formats=[each for each in formats if each != "labelme"])
    with writer.stack:
        for path, result in zip(paths, results, strict=True):
            stem = names.stem(str(path)) or path.stem
            writer.write(str(path), stem, result, writer.encode(stem, result))
            if "labelme" in formats:  # it looks for the image beside itself, wherever the client puts both
                text = json.dumps(result.to_labelme(), ensure_ascii=False) + "\n"
                write_file(output / "labelme" / f"{stem}.json", text.encode(errors="backslashreplace"))


def _of_one_vocabulary(results: Sequence[Result]) -> list[Result]:
    """The same results, all with the names of all: files for several images have one list of classes."""
    entries: dict[str, Entry] = {}
    for result in results:
        for entry in result.vocabulary.entries:
            entries.setdefault(entry.name, entry)
    numbers = [entry.id for entry in entries.values()]
    alike = len(set(numbers)) == len(numbers) and all(
        entries[entry.name].id == entry.id for result in results for entry in result.vocabulary.entries
    )
    if not alike:
        entries = {name: replace(entry, id=i) for i, (name, entry) in enumerate(entries.items(), start=1)}
    vocabulary = Vocabulary(tuple(entries.values()), title=results[0].vocabulary.title)
    places = {name: i for i, name in enumerate(entries)}
    return [
        Result(
            image_size=result.image_size,
            boxes_xyxy=result.boxes_xyxy,
            scores=result.scores,
            class_ids=[places[name] for name in result.names],
            masks=result.masks,
            vocabulary=vocabulary,
            owners=result.given_owners,
            image=result.image,
            path=result.path,
        )
        for result in results
    ]


def _stored(images: Sequence[tuple[str, bytes]], folder: Path) -> list[Path]:
    """The images as files in a folder, under plain names of their own."""
    paths: list[Path] = []
    taken: set[str] = set()
    for name, data in images:
        given = Path(name.replace("\\", "/")).name
        stem = "".join(c if c.isalnum() or c in "-_ ." else "_" for c in Path(given).stem).strip(". ")
        stem = stem.encode()[:120].decode(errors="ignore") or "image"
        suffix = Path(given).suffix.lower()
        suffix = suffix if suffix[1:].isalnum() and len(suffix) < 7 else ".jpg"
        number, plain = 1, stem
        while stem.casefold() in taken:
            number += 1
            stem = f"{plain}-{number}"
        taken.add(stem.casefold())
        paths.append(folder / f"{stem}{suffix}")
        paths[-1].write_bytes(data)
    return paths


def _result(data: Mapping[str, Any], path: Path, wanted: Wanted) -> Result:
    found = data.get("detections")
    if isinstance(found, list) and len(found) > wanted.max_detections:
        raise DataError(f"the result of {path.name} has {len(found)} detections, more than {wanted.max_detections}")
    pixels = read_image(path, max_pixels=wanted.max_pixels)
    size = data.get("image_size")
    if list(pixels.shape[:2]) != size:
        raise DataError(f"the result is for an image of {size}, but {path.name} is {list(pixels.shape[:2])}")
    return Result.from_dict({**data, "path": path.name}, pixels)


def _packed(folder: Path) -> tuple[str, bytes]:
    """All files below a folder: the only one as it is, else a ZIP. Links are followed: they lead to the images."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    if not files:
        raise OutputError("there is nothing to write: no detection is left")
    if len(files) == 1:
        return files[0].name, files[0].read_bytes()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in files:
            packed = zipfile.ZIP_DEFLATED if path.suffix in (".json", ".txt", ".yaml") else zipfile.ZIP_STORED
            archive.write(path, path.relative_to(folder).as_posix(), packed)
    return "vlpart.zip", buffer.getvalue()
