"""ImageNet-1k images with image labels: IN-S20 and the golden set (docs/method.md, 'Data preparation').

A class of these sets is a list of ranges into the 1000 WordNet ids in sorted order; every image of those folders gets
the label. An image under two labels is listed twice, with an id each, as published.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from vlpart.data.image_files import IMAGE_SUFFIXES
from vlpart.data.prepare.common import (
    MissingDownloadError,
    PrepareReport,
    Task,
    categories_of,
    image_size,
    list_names,
    write_coco,
)
from vlpart.errors import DataError
from vlpart.jobs import run_over
from vlpart.text.vocabulary import Vocabulary

MAX_SIDE = 1000
"""Images with a longer side are left out."""
GOLDEN_PER_FOLDER = 500
LAYOUT = (
    "train/n01440764/*.JPEG and so on (ILSVRC2012_img_train.tar, with the tar of every class unpacked into a folder)"
)
PLACES = ("train", "ILSVRC/Data/CLS-LOC/train", "Data/CLS-LOC/train", "ILSVRC2012_img_train", ".")
GOLDEN_FILES = {
    "golden": "imagenet_golden_image_info.json",
    "golden_pascal": "imagenet_pascal_image_info.json",
    "golden_partimagenet": "imagenet_partimagenet_image_info.json",
    "golden_paco": "imagenet_paco_image_info.json",
    "golden_addition": "imagenet_addition_image_info.json",
}


@dataclass(frozen=True, slots=True)
class Folder:
    """One class folder: images by name with (width, height), None for those that cannot be read, and why."""

    images: tuple[tuple[str, tuple[int, int] | None, str], ...]


def prepare_in_s20(task: Task) -> PrepareReport:
    """Write `imagenet_voc_image_info.json`.

    Raises:
        DataError: no class folders.
        OutputError: the output cannot be written.
    """
    return _prepare(task, "in_s20", {"imagenet_s20": "imagenet_voc_image_info.json"}, None)


def prepare_golden(task: Task) -> PrepareReport:
    """Write `imagenet_golden_image_info.json` and the four sets it is made of, which the annotation parser reads.

    Of every class folder the first 500 images by name count.

    Raises:
        DataError: no class folders.
        OutputError: the output cannot be written.
    """
    return _prepare(task, "golden", GOLDEN_FILES, GOLDEN_PER_FOLDER)


def _prepare(task: Task, dataset: str, files: dict[str, str], per_folder: int | None) -> PrepareReport:
    report = PrepareReport(dataset=dataset)
    wnids = [str(entry.wnid) for entry in Vocabulary.load("imagenet_1k").entries]
    lists = {name: Vocabulary.load(name) for name in files}
    wnids_needed = sorted({wnid for vocabulary in lists.values() for _, wnid in class_folders(vocabulary, wnids)})
    root = _find_train(task.root, wnids_needed)
    report.image_root = root
    present = list_names(root)
    for wnid in wnids_needed:
        if wnid not in present:
            report.problem(root / wnid, "the class folder is missing")
    folders = [wnid for wnid in wnids_needed if wnid in present]
    read = partial(read_folder, root=root, limit=per_folder)
    answers = run_over(read, folders, processes=task.processes, label=dataset, progress=task.progress, chunk=2)
    content = dict(zip(folders, answers, strict=True))
    for wnid, folder in content.items():
        if not folder.images:
            report.problem(root / wnid, "the class folder holds no images")
        for name, size, why in folder.images:
            if size is None:
                report.problem(f"{wnid}/{name}", why)
    for name, vocabulary in lists.items():
        _write(task, report, files[name], vocabulary, wnids, content)
    return report


def class_folders(vocabulary: Vocabulary, wnids: Sequence[str]) -> Iterator[tuple[int, str]]:
    """(category id, WordNet id) in the order of the list; ranges count from 1 and include their ends."""
    for entry in vocabulary.entries:
        for first, last in entry.imagenet_id:
            for number in range(first, last + 1):
                yield entry.id, wnids[number - 1]


def _find_train(root: Path, wnids: Sequence[str]) -> Path:
    best = max((root / place for place in PLACES), key=lambda path: len(list_names(path).intersection(wnids)))
    names = list_names(best)
    if names.intersection(wnids):
        return best
    packed = [place for place in PLACES if any(re.fullmatch(r"n\d{8}\.tar", name) for name in list_names(root / place))]
    if packed or "ILSVRC2012_img_train.tar" in list_names(root):
        raise DataError(f"the images in {root} are still packed: unpack every class tar into a folder of its name")
    raise MissingDownloadError(f"no class folders like {wnids[0]} in {root} or its train; expected there: {LAYOUT}")


def read_folder(wnid: str, *, root: Path, limit: int | None) -> Folder:
    """Sizes of the first `limit` images of a class, by name (in a worker process)."""
    rows: list[tuple[str, tuple[int, int] | None, str]] = []
    for name in sorted(name for name in list_names(root / wnid) if Path(name).suffix.lower() in IMAGE_SUFFIXES)[:limit]:
        try:
            rows.append((name, image_size(root / wnid / name), ""))
        except DataError as error:
            rows.append((name, None, str(error)))
    return Folder(tuple(rows))


def _write(
    task: Task,
    report: PrepareReport,
    file_name: str,
    vocabulary: Vocabulary,
    wnids: Sequence[str],
    content: dict[str, Folder],
) -> None:
    images: list[dict[str, Any]] = []
    number = large = 0
    for category_id, wnid in class_folders(vocabulary, wnids):
        for name, size, _ in content[wnid].images if wnid in content else ():
            number += 1  # ids count the images left out too, as published
            if size is None:
                continue
            width, height = size
            if max(size) > MAX_SIDE:
                large += 1
                continue
            file = f"{wnid}/{name}"
            images.append(
                {"id": number, "file_name": file, "height": height, "width": width, "pos_category_ids": [category_id]}
            )
    report.notes.append(f"{file_name}: {large} images with a side over {MAX_SIDE} pixels are not in it")
    write_coco(
        report,
        task.output / file_name,
        description=vocabulary.about,
        images=images,
        annotations=[],
        categories=categories_of(vocabulary),
    )
