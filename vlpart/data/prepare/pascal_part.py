"""Pascal Part: VOC 2010 images with part masks in `.mat` files -> COCO JSON of 93 classes, of the 77 base classes, and
of the images with exactly one object, the reference bank of the annotation parser (docs/method.md, 'Data preparation').
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vlpart.data.prepare.common import (
    MissingDownloadError,
    PrepareReport,
    Task,
    categories_of,
    find,
    image_size,
    list_in,
    list_names,
    write_coco,
)
from vlpart.data.readers.coco import load_json
from vlpart.data.readers.voc import image_ids, list_voc, parse_voc
from vlpart.errors import DataError
from vlpart.files import read_regular, why
from vlpart.jobs import run_over
from vlpart.masks.rle import encode_runs, runs_of_bitmap
from vlpart.text.vocabulary import Vocabulary

MAX_SIDE = 20_000
MAX_BYTES = 50_000_000
"""Bytes of a .mat file; those of Pascal Part have 100,000 at most."""
MAX_UNPACKED = 1_000_000_000
_COMPRESSED = 15  # miCOMPRESSED of the MATLAB 5 format


@dataclass(frozen=True, slots=True)
class MatPart:
    """One part that has a class.

    Attributes:
        category_id: in the list `pascal_part`.
        box_xywh: [x, y, w, h] of the mask pixels, with w = last - first column and h = last - first row (without + 1).
        rle: compressed COCO RLE.
        area: number of mask pixels.
    """

    category_id: int
    box_xywh: list[float]
    rle: dict[str, Any]
    area: int


@dataclass(frozen=True, slots=True)
class MatImage:
    """What a `.mat` file says; `empty` names parts with a class whose mask has no pixel, `unnamed` counts the rest.

    `height` and `width` are 0 where the file has no mask at all.
    """

    height: int
    width: int
    parts: tuple[MatPart, ...]
    empty: tuple[str, ...]
    unnamed: int


@cache
def part_names() -> dict[str, tuple[tuple[str, int], ...]]:
    """For every object as the .mat files spell it: `(text to look for, category id)` in id order."""
    found: dict[str, list[tuple[str, int]]] = {}
    for entry in sorted(Vocabulary.load("pascal_part").entries, key=lambda entry: entry.id):
        object_name, text = (entry.abbr or entry.name).split(":", 1)
        found.setdefault(object_name.replace(" ", ""), []).append((text, entry.id))
    return {name: tuple(rows) for name, rows in found.items()}


def category_of(object_name: str, part_name: str) -> int | None:
    """The class of a part: the first of its object whose short name occurs in the part's name ("lear" has "ear")."""
    for text, category_id in part_names().get(object_name.replace(" ", ""), ()):
        if text in part_name:
            return category_id
    return None


def read_mat(path: Path) -> MatImage:
    """Read a file of `Annotations_Part`.

    Raises:
        DataError: missing or damaged, not of the Pascal Part form, or with masks of different sizes.
        DataError: scipy is not installed.
    """
    parts: list[MatPart] = []
    empty: list[str] = []
    unnamed = 0
    size: tuple[int, int] | None = None
    for object_name, part_name, mask in _masks(path):
        if part_name is None:
            size = _same_size(size, mask, path)
            continue
        category_id = category_of(object_name, part_name)
        size = _same_size(size, mask, path)
        if category_id is None:
            unnamed += 1
        elif not mask.any():
            empty.append(f"{object_name}:{part_name}")
        else:
            parts.append(encode_part(category_id, mask))
    height, width = size or (0, 0)
    return MatImage(height, width, tuple(parts), tuple(empty), unnamed)


def encode_part(category_id: int, mask: NDArray[np.bool_]) -> MatPart:
    """A part from its (H, W) bool mask, which has at least one pixel."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    y0, y1, x0, x1 = int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])
    runs = runs_of_bitmap(mask[y0 : y1 + 1, x0 : x1 + 1], x0, y0, mask.shape[0])
    rle = encode_runs(runs, (mask.shape[0], mask.shape[1]))
    return MatPart(category_id, [float(x0), float(y0), float(x1 - x0), float(y1 - y0)], rle, int(mask.sum()))


def _masks(path: Path) -> Iterator[tuple[str, str | None, NDArray[np.bool_]]]:
    """`(object, part or None for the object itself, (H, W) bool mask)` in the order of the file."""
    annotation = _load(path)
    try:
        for item in np.asarray(annotation["objects"]).reshape(-1):
            object_name = _text(item["class"])
            yield object_name, None, _bitmap(item["mask"])
            for part in np.asarray(item["parts"]).reshape(-1):
                yield object_name, _text(part["part_name"]), _bitmap(part["mask"])
    except (KeyError, IndexError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path} is not of the Pascal Part form ({reason}); is it from Annotations_Part?") from None


def check_scipy() -> None:
    """Raises `DataError` if scipy is not installed: before the first file, not once for each."""
    try:
        import scipy.io  # noqa: F401
    except ImportError:
        raise DataError('reading .mat files needs scipy: pip install "vlpart[train]"') from None


def _check_unpacked(data: bytes) -> None:
    """Refuse a file whose compressed variables unpack to more than `MAX_UNPACKED` bytes.

    Raises:
        ValueError: they do.
        zlib.error: they are damaged.
    """
    at, left = 128, MAX_UNPACKED  # a header of 128 bytes, then variables: kind, length, content
    while at + 8 <= len(data):
        order: Literal["little", "big"] = "big" if data[126:128] == b"MI" else "little"
        kind, length = (int.from_bytes(data[i : i + 4], order) for i in (at, at + 4))
        if kind == _COMPRESSED:
            left -= len(zlib.decompressobj().decompress(data[at + 8 : at + 8 + length], left))
            if left <= 0:
                raise ValueError(f"it unpacks to more than {MAX_UNPACKED:,} bytes")
        at += 8 + length


def _load(path: Path) -> Any:
    check_scipy()
    from scipy.io import loadmat

    try:
        data = read_regular(path, MAX_BYTES)
    except OSError as error:
        raise DataError(f"cannot read {path}: {why(error)}") from None
    try:
        _check_unpacked(data)
        content = loadmat(BytesIO(data))
    except MemoryError:
        raise DataError(f"{path} is damaged: it asks for more memory than there is") from None
    except Exception as error:  # noqa: BLE001 - a damaged file ends in whatever its bytes lead the decoder to
        raise DataError(f"{path} is damaged or no MATLAB file: {' '.join(str(error).split())[:200]}") from None
    try:
        return content["anno"][0, 0]
    except (KeyError, IndexError, TypeError):
        raise DataError(f"{path} has no variable 'anno'; is it from Annotations_Part?") from None


def _text(cell: Any) -> str:
    values = np.asarray(cell).reshape(-1)
    if len(values) != 1 or not isinstance(values[0], str):
        raise ValueError("a name is not a text")
    return str(values[0])


def _bitmap(cell: Any) -> NDArray[np.bool_]:
    array = np.asarray(cell)
    if array.ndim != 2 or array.dtype.kind not in "biu" or not (0 < min(array.shape) <= max(array.shape) <= MAX_SIDE):
        raise ValueError(f"a mask has the shape {array.shape} and type {array.dtype}")
    bitmap: NDArray[np.bool_] = array > 0
    return bitmap


def _same_size(size: tuple[int, int] | None, mask: NDArray[np.bool_], path: Path) -> tuple[int, int]:
    own = (int(mask.shape[0]), int(mask.shape[1]))
    if size is not None and own != size:
        raise DataError(f"{path} has masks of {size[1]}x{size[0]} and of {own[1]}x{own[0]} pixels")
    return own


LAYOUT = "Annotations_Part/*.mat (trainval.tar.gz of Pascal Part) and VOCdevkit/VOC2010 (VOCtrainval_03-May-2010.tar)"
VOC_PLACES = ("VOCdevkit/VOC2010", "VOC2010", "../VOCdevkit/VOC2010", ".")
SPLITS = ("train", "val")


@dataclass(frozen=True, slots=True)
class MatAnswer:
    """What reading one file gave: its content, or why it cannot be used."""

    content: MatImage | None
    problem: str = ""


def prepare_pascal_part(task: Task) -> PrepareReport:
    """Write `train.json`, `train_base.json` and `val.json`; `all.json` and `all_base.json` without split lists.

    The base files hold the parts of all objects but bus and dog. An image is in a file if it has a part of one of its
    classes.

    Raises:
        DataError: no `.mat` files, or no scipy to read them.
        OutputError: the output cannot be written.
    """
    check_scipy()
    mats = find(task.root, ("Annotations_Part", "trainval/Annotations_Part"), "folder Annotations_Part", LAYOUT)
    voc = find(task.root, VOC_PLACES, "VOC2010", LAYOUT)
    report = PrepareReport(dataset="pascal_part")
    splits = _splits(voc, mats, report)
    images: Path | None = voc / "JPEGImages"
    if images is not None and not images.is_dir():
        report.notes.append(f"the images were not checked: there is no {images}")
        images = None
    report.image_root = images
    classes = {"": Vocabulary.load("pascal_part"), "_base": Vocabulary.load("pascal_part_base")}
    for split, stems in splits.items():
        contents = _read_all(task, report, split, stems, mats, images)
        for ending, vocabulary in classes.items():
            if (ending or not task.base_only) and not (ending and split == "val"):
                path = task.output / f"{split}{ending}.json"
                _write(report, path, split, vocabulary, stems, contents)
    return report


def _splits(voc: Path, mats: Path, report: PrepareReport) -> dict[str, list[str]]:
    lists = {split: voc / "ImageSets" / "Main" / f"{split}.txt" for split in SPLITS}
    found = {split: list_voc(path)[0] for split, path in lists.items() if path.is_file()}
    if found:
        for split in SPLITS:
            if split not in found:
                report.problem(lists[split], "the split list is missing")
        return found
    stems = sorted(name.removesuffix(".mat") for name in list_names(mats) if name.endswith(".mat"))
    if not stems:
        raise MissingDownloadError(f"no .mat files in {mats}; expected there: {LAYOUT}")
    report.notes.append(f"no split lists in {voc / 'ImageSets' / 'Main'}: every .mat file is in one split 'all'")
    return {"all": stems}


def _read_all(
    task: Task, report: PrepareReport, split: str, stems: Sequence[str], mats: Path, images: Path | None
) -> list[MatImage | None]:
    """The content of every file in order; None for those that cannot be used, which go to the problems."""
    read = partial(read_checked, mats=mats, images=images)
    contents: list[MatImage | None] = []
    unnamed = 0
    label = f"pascal_part {split}"
    answers = run_over(read, stems, processes=task.processes, label=label, progress=task.progress)
    for stem, answer in zip(stems, answers, strict=True):
        contents.append(answer.content)
        if answer.content is None:
            report.problem(f"{split}: {stem}", answer.problem)
            continue
        unnamed += answer.content.unnamed
        for name in answer.content.empty:
            report.problem(f"{split}: {stem}.mat", f"the mask of {name} has no pixel")
    if all(content is None for content in contents):
        first = report.problems[0]
        raise DataError(f"not one of the {len(stems)} files of {split} can be used, first: {first}; expected: {LAYOUT}")
    report.notes.append(f"{split}: {unnamed} parts are of no class of the list (hooves, engines, car sides and so on)")
    return contents


def read_checked(stem: str, *, mats: Path, images: Path | None) -> MatAnswer:
    """Read `<stem>.mat` and compare its size with that of the image (in a worker process)."""
    try:
        content = read_mat(mats / f"{stem}.mat")
        if images is not None:
            width, height = image_size(images / f"{stem}.jpg")
            if content.height and (width, height) != (content.width, content.height):
                raise DataError(f"its masks are {content.width}x{content.height}, its image is {width}x{height}")
    except DataError as error:
        return MatAnswer(None, str(error))
    return MatAnswer(content)


def _write(
    report: PrepareReport,
    path: Path,
    split: str,
    vocabulary: Vocabulary,
    stems: Sequence[str],
    contents: Sequence[MatImage | None],
) -> None:
    id_of_name = {entry.name: entry.id for entry in vocabulary.entries}
    ids = {entry.id: id_of_name.get(entry.name) for entry in Vocabulary.load("pascal_part").entries}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    without = 0
    for stem, image_id, content in zip(stems, image_ids(stems), contents, strict=True):
        if content is None:
            continue
        parts = [(ids[part.category_id], part) for part in content.parts]
        rows = [
            {
                "id": len(annotations) + i,
                "image_id": image_id,
                "category_id": category_id,
                "bbox": part.box_xywh,
                "area": part.area,
                "iscrowd": 0,
                "segmentation": part.rle,
            }
            for i, (category_id, part) in enumerate(((c, p) for c, p in parts if c is not None), start=1)
        ]
        if not rows:
            without += 1
            continue
        annotations += rows
        images.append({"id": image_id, "file_name": f"{stem}.jpg", "height": content.height, "width": content.width})
    if without:
        report.notes.append(f"{path.name}: {without} images have no part of its classes and are not in it")
    description = f"Pascal Part {split}, {vocabulary.about}"
    categories = categories_of(vocabulary)
    write_coco(report, path, description=description, images=images, annotations=annotations, categories=categories)


NOVEL = frozenset({"bus", "dog"})
ONE_OBJECT_LAYOUT = "VOCdevkit/VOC2010/Annotations (VOCtrainval_03-May-2010.tar) beside train.json and train_base.json"


def prepare_pascal_part_one(task: Task) -> PrepareReport:
    """Write `train_one.json` and `train_base_one.json` from what `pascal_part` wrote.

    An image is kept if its VOC XML has exactly one object, whatever it is; in the base file no bus and no dog. All
    part annotations of a kept image are kept, with their ids.

    Raises:
        DataError: no VOC annotations, or pascal_part was not prepared.
        OutputError: the output cannot be written.
    """
    places = tuple(f"{place}/Annotations" for place in VOC_PLACES)
    xmls = find(task.root, places, "VOC2010/Annotations", ONE_OBJECT_LAYOUT)
    report = PrepareReport(dataset="pascal_part_one", image_root=xmls.parent / "JPEGImages")
    counts: dict[str, tuple[str, ...] | None] = {}
    for stem, novel in (("train", frozenset[str]()), ("train_base", NOVEL)):
        if novel or not task.base_only:
            _write_one(task, report, stem, novel, xmls, counts)
    return report


def _write_one(
    task: Task,
    report: PrepareReport,
    name: str,
    novel: frozenset[str],
    xmls: Path,
    objects_of: dict[str, tuple[str, ...] | None],
) -> None:
    folder = task.output if (task.output / f"{name}.json").is_file() else task.root
    source = folder / f"{name}.json"
    if not source.is_file():
        raise DataError(f"{source} is missing; run `vlpart data prepare pascal_part {task.root}` first")
    content = load_json(source)
    images = list_in(content, "images", source)
    stems = [str(image.get("file_name", "")).rsplit(".", 1)[0] for image in images]
    unread = [stem for stem in stems if stem not in objects_of]
    read = partial(object_names, xmls=xmls)
    label = f"pascal_part_one {name}"
    answers = run_over(read, unread, processes=task.processes, label=label, progress=task.progress, chunk=64)
    for stem, (names, problem) in zip(unread, answers, strict=True):
        objects_of[stem] = names
        if names is None:
            report.problem(stem, problem)
    if images and all(objects_of[stem] is None for stem in stems):
        raise DataError(
            f"not one VOC file of {source} can be read, first: {report.problems[0]}; expected: {ONE_OBJECT_LAYOUT}"
        )
    kept = [image for image, stem in zip(images, stems, strict=True) if _single(objects_of[stem], novel)]
    ids = {image.get("id") for image in kept}
    annotations = [entry for entry in list_in(content, "annotations", source) if entry.get("image_id") in ids]
    write_coco(
        report,
        task.output / f"{name}_one.json",
        description=f"{content.get('info', {}).get('description', name)}; images with exactly one VOC object",
        images=kept,
        annotations=annotations,
        categories=list_in(content, "categories", source),
    )


def _single(names: tuple[str, ...] | None, novel: frozenset[str]) -> bool:
    return names is not None and len(names) == 1 and names[0] not in novel


def object_names(stem: str, *, xmls: Path) -> tuple[tuple[str, ...] | None, str]:
    """`(names of all objects, "")`, or `(None, why the file cannot be used)` (in a worker process)."""
    try:
        return tuple(item.name for item in parse_voc(xmls / f"{stem}.xml").objects), ""
    except DataError as error:
        return None, str(error)
