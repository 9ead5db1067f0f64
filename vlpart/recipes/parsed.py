"""The parsed part annotations that the authors offer: fetched, unpacked and checked before they get their place below
the data root, where the recipes read them. `vlpart parse` makes the same files from images.
"""

from __future__ import annotations

import shutil
import uuid
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from vlpart.data.indexing import map_categories
from vlpart.data.readers import get_reader
from vlpart.data.readers.base import Collected
from vlpart.data.source import LoadReport, Source
from vlpart.errors import DataError, OutputError
from vlpart.files import MAX_JSON_BYTES, cache_folder, is_there
from vlpart.jobs import Progress
from vlpart.names import did_you_mean
from vlpart.recipes.datasets import DATASETS
from vlpart.types import AnnotationKind
from vlpart.zoo.download import download_file

_RELEASE = "https://github.com/PeizeSun/VLPart/releases/download/v0.1"
_GOLDEN = tuple(f"imagenet_golden_{kind}_parsed" for kind in ("pascal", "partimagenet", "paco"))
_ADDITION = "imagenet_golden_addition_parsed"


@dataclass(frozen=True, kw_only=True)
class ParsedFile:
    """One download.

    Attributes:
        name: what a user calls it: the name of the file at its address, without the ending.
        url: the address.
        datasets: names in `vlpart.recipes.datasets.DATASETS` of the annotation files that it must hold.
        may_hold: such names that it may hold besides; they are taken where they are not there yet.
    """

    name: str
    url: str
    datasets: tuple[str, ...]
    may_hold: tuple[str, ...] = ()


PARSED = {
    each.name: each
    for each in (
        ParsedFile(
            name="partimagenet_parsed",
            url=f"{_RELEASE}/partimagenet_parsed.json",
            datasets=("partimagenet_parsed",),
        ),
        ParsedFile(
            name="imagenet_voc_image_parsed",
            url=f"{_RELEASE}/imagenet_voc_image_parsed.json",
            datasets=("imagenet_voc_parsed",),
        ),
        ParsedFile(
            name="golden_image_parsed",
            url=f"{_RELEASE}/golden_image_parsed.zip",
            datasets=(*_GOLDEN, _ADDITION),
        ),
        ParsedFile(
            name="golden_image_parsed_swinbase",
            url=f"{_RELEASE}/golden_image_parsed_swinbase.zip",
            datasets=tuple(f"{name}_swinbase" for name in _GOLDEN),
            may_hold=(_ADDITION,),
        ),
    )
}


@dataclass(frozen=True, kw_only=True)
class Arrived:
    """A file that got its place: where, and how many images and parts it lists."""

    path: Path
    images: int
    parts: int


def get_parsed(name: str) -> ParsedFile:
    """A download by its name, with or without the ending `.json` or `.zip`.

    Raises:
        DataError: there is none of that name.
    """
    plain = name.removesuffix(".json").removesuffix(".zip")
    if plain not in PARSED:
        hint = did_you_mean(plain, PARSED) or f"use one of {', '.join(PARSED)}"
        raise DataError(f"there are no parsed annotations {name!r} to download: {hint}")
    return PARSED[plain]


def parsed_with(dataset: str) -> str:
    """Name of the download that holds the annotations of a data set.

    Raises:
        DataError: none does.
    """
    for each in PARSED.values():
        if dataset in each.datasets:
            return each.name
    raise DataError(f"the annotations of {dataset!r} are not offered for download")


def annotations_command(dataset: str, root: Path) -> str:
    """The command that brings the annotations of a published data set, or says what to download."""
    entry = DATASETS[dataset]
    if entry.kind is not AnnotationKind.PARSED_PARTS:
        return entry.prepare_command(root)
    return f"vlpart data download parsed {parsed_with(dataset)} --data {root}"


def download_parsed(
    name: str, root: Path, *, overwrite: bool = False, progress: Progress | None = None, url: str | None = None
) -> list[Arrived]:
    """Fetch parsed annotations, check them, and put them where the recipes read them.

    The download is kept in the cache (`cache_folder() / "parsed"`); interrupted, it goes on in the next call. Nothing
    is put into place before all of it is read and found whole.

    Args:
        name: see `PARSED`.
        root: the data root.
        overwrite: replace files that are there.
        progress: told about the bytes as they arrive.
        url: another address of the same file.

    Raises:
        DataError: no such download, or what came is no such annotation file, or not in the archive.
        DownloadError: it cannot be fetched.
        OutputError: a file is there already, or cannot be written.
    """
    parsed = get_parsed(name)
    there = [path for path in (root / DATASETS[each].annotations for each in parsed.datasets) if is_there(path)]
    if there and not overwrite:
        raise OutputError(f"{there[0]} is there already: keep it, or replace it with --overwrite")
    address = url or parsed.url
    file = download_file(address, cache_folder() / "parsed" / parsed.url.rsplit("/", 1)[-1], progress=progress)
    try:
        with _Arrivals(file) as arrivals:
            if file.suffix == ".zip":
                _unpack(parsed, file, root, overwrite, arrivals)
            else:
                with file.open("rb") as stream:
                    arrivals.add(stream, parsed.datasets[0], root)
            return arrivals.put_into_place()
    except DataError as error:
        raise DataError(f"{error}; {file} is not what it should be: delete it to fetch it again") from error


def check_parsed(path: Path, dataset: str) -> tuple[int, int]:
    """Read parsed annotations as training does; (images, parts).

    Raises:
        DataError: not such a file: not JSON, no parts, boxes that are none, or categories of another vocabulary.
    """
    problems = Collected()
    file = get_reader("coco")(path, problems, masks=False)
    problems.refuse(path)
    source = Source(
        name=dataset, annotations=path, images="", vocabulary=DATASETS[dataset].vocabulary, kind=DATASETS[dataset].kind
    )
    _, class_of = map_categories(source, file.categories, LoadReport(source=dataset))
    images = parts = 0
    for image in file.images:
        images += 1
        parts += len(image.annotations)
        strange = next((a for a in image.annotations if a.category_id not in class_of), None)
        if strange is not None:
            raise DataError(
                f"{path}: annotation {strange.id} has the category id {strange.category_id}, which is none of the list "
                f"{source.vocabulary}"
            )
    problems.refuse(path)
    if not parts:
        raise DataError(f"{path}: it lists no part")
    return images, parts


# ---- inside


def _unpack(parsed: ParsedFile, archive: Path, root: Path, overwrite: bool, arrivals: _Arrivals) -> None:
    """Take the files that are known by name out of an archive, wherever in it they are; nothing else is unpacked."""
    with _opened(archive) as packed:
        members = _members(packed)
        members_of = {each: _member_of(each, members) for each in (*parsed.datasets, *parsed.may_hold)}
        lacking = [Path(DATASETS[each].annotations).name for each in parsed.datasets if members_of[each] is None]
        if lacking:
            held = ", ".join(sorted(members)[:8]) or "nothing"
            raise DataError(f"{archive} has no {lacking[0]}; it holds {held}")
        for dataset, member in members_of.items():
            optional = dataset in parsed.may_hold and is_there(root / DATASETS[dataset].annotations)
            if member is None or (optional and not overwrite):
                continue
            with packed.open(member) as stream:
                arrivals.add(stream, dataset, root)


@contextmanager
def _opened(archive: Path) -> Iterator[zipfile.ZipFile]:
    """An archive; what is wrong with it, also while it is read, is a `DataError`."""
    try:
        with zipfile.ZipFile(archive) as packed:
            yield packed
    except (zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, NotImplementedError, EOFError) as error:
        raise DataError(f"{archive} is a damaged zip archive ({error})") from error
    except RuntimeError as error:  # encrypted
        raise DataError(f"{archive} cannot be unpacked ({error})") from error


def _members(packed: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The JSON files by name, without their folders: where a member wants to lie does not matter.

    Raises:
        DataError: two files have the same name.
    """
    found: dict[str, zipfile.ZipInfo] = {}
    for info in packed.infolist():
        path = PurePosixPath(info.filename.replace("\\", "/"))
        if info.is_dir() or path.suffix != ".json" or "__MACOSX" in path.parts:
            continue
        if path.name in found:
            raise DataError(f"{packed.filename} holds two files {path.name}")
        found[path.name] = info
    return found


def _member_of(dataset: str, members: dict[str, zipfile.ZipInfo]) -> zipfile.ZipInfo | None:
    """The member with the annotations of a data set; in the archive of a detector they may lack its name at the end."""
    name = Path(DATASETS[dataset].annotations).name
    return members.get(name) or members.get(name.replace("_swinbase", ""))


class _Arrivals:
    """Files that are written beside their places and checked there; all of them are moved into place, or none.

    As a context it removes what was not moved.

    Args:
        where: the download, for messages.
    """

    def __init__(self, where: Path) -> None:
        self.where = where
        self._files: list[tuple[Path, Arrived]] = []
        self._temporary: list[Path] = []

    def __enter__(self) -> _Arrivals:
        return self

    def __exit__(self, *_: object) -> None:
        for path in self._temporary:
            path.unlink(missing_ok=True)

    def add(self, stream: IO[bytes], dataset: str, root: Path) -> None:
        """Write and check a file.

        Raises:
            DataError: it is not what it should be, or unpacks to more than `MAX_JSON_BYTES`.
            OutputError: it cannot be written.
        """
        target = root / DATASETS[dataset].annotations
        temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp")
        self._temporary.append(temporary)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                shutil.copyfileobj(_Limited(stream, MAX_JSON_BYTES, self.where), file, 1 << 20)
            images, parts = check_parsed(temporary, dataset)
        except DataError as error:
            raise DataError(str(error).replace(str(temporary), target.name)) from error
        except OSError as error:
            raise OutputError(f"cannot write {target}: {error.strerror or error}") from error
        self._files.append((temporary, Arrived(path=target, images=images, parts=parts)))

    def put_into_place(self) -> list[Arrived]:
        """Move all files.

        Raises:
            OutputError: a file cannot be moved.
        """
        for temporary, arrived in self._files:
            try:
                temporary.replace(arrived.path)
            except OSError as error:
                raise OutputError(f"cannot write {arrived.path}: {error.strerror or error}") from error
        return [arrived for _, arrived in self._files]


class _Limited:
    """A stream that refuses to give more than so many bytes, whatever the archive says of its size."""

    def __init__(self, stream: IO[bytes], limit: int, where: Path) -> None:
        self.stream, self.left, self.where = stream, limit, where

    def read(self, size: int = -1) -> bytes:
        """The next bytes."""
        block = self.stream.read(size)
        self.left -= len(block)
        if self.left < 0:
            raise DataError(f"{self.where} holds a file of more than {MAX_JSON_BYTES:,} bytes")
        return block
