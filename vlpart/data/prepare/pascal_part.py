"""Pascal Part: VOC 2010 pictures with part masks in `.mat` files -> COCO JSON of 93 classes, and of the 77 base ones.

Source: Chen et al., CVPR 2014; class list and rules: SPEC.md section 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from vlpart.data.parallel import run_over
from vlpart.data.prepare.files import categories_of, find, list_names, write_coco
from vlpart.data.prepare.pascal_mat import MatPicture, read_mat
from vlpart.data.prepare.pictures import picture_size
from vlpart.data.prepare.report import PrepareReport, Task
from vlpart.data.readers.voc import list_voc, picture_ids
from vlpart.errors import DataError
from vlpart.text.vocabulary import Vocabulary

LAYOUT = "Annotations_Part/*.mat (trainval.tar.gz of Pascal Part) and VOCdevkit/VOC2010 (VOCtrainval_03-May-2010.tar)"
VOC_PLACES = ("VOCdevkit/VOC2010", "VOC2010", "../VOCdevkit/VOC2010", ".")
SPLITS = ("train", "val")


@dataclass(frozen=True, slots=True)
class MatAnswer:
    """What reading one file gave: its content, or why it cannot be used."""

    content: MatPicture | None
    problem: str = ""


def prepare_pascal_part(task: Task) -> PrepareReport:
    """Write `train.json`, `train_base.json` and `val.json`; `all.json` and `all_base.json` without split lists.

    The base files hold the parts of all objects but bus and dog. A picture is in a file if it has a part of one of its
    classes.

    Raises:
        DataError: no `.mat` files.
        OutputError: the output cannot be written.
    """
    mats = find(task.root, ("Annotations_Part", "trainval/Annotations_Part"), "folder Annotations_Part", LAYOUT)
    voc = find(task.root, VOC_PLACES, "VOC2010", LAYOUT)
    report = PrepareReport(dataset="pascal_part")
    splits = _splits(voc, mats, report)
    pictures: Path | None = voc / "JPEGImages"
    if pictures is not None and not pictures.is_dir():
        report.notes.append(f"the pictures were not checked: there is no {pictures}")
        pictures = None
    report.pictures = pictures
    classes = {"": Vocabulary.load("pascal_part"), "_base": Vocabulary.load("pascal_part_base")}
    for split, stems in splits.items():
        contents = _read_all(task, report, split, stems, mats, pictures)
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
        raise DataError(f"no .mat files in {mats}; expected there: {LAYOUT}")
    report.notes.append(f"no split lists in {voc / 'ImageSets' / 'Main'}: every .mat file is in one split 'all'")
    return {"all": stems}


def _read_all(
    task: Task, report: PrepareReport, split: str, stems: Sequence[str], mats: Path, pictures: Path | None
) -> list[MatPicture | None]:
    """The content of every file in order; None for those that cannot be used, which go to the problems."""
    read = partial(read_checked, mats=mats, pictures=pictures)
    contents: list[MatPicture | None] = []
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


def read_checked(stem: str, *, mats: Path, pictures: Path | None) -> MatAnswer:
    """Read `<stem>.mat` and compare its size with that of the picture (in a worker process)."""
    try:
        content = read_mat(mats / f"{stem}.mat")
        if pictures is not None:
            width, height = picture_size(pictures / f"{stem}.jpg")
            if content.height and (width, height) != (content.width, content.height):
                raise DataError(f"its masks are {content.width}x{content.height}, its picture is {width}x{height}")
    except DataError as error:
        return MatAnswer(None, str(error))
    return MatAnswer(content)


def _write(
    report: PrepareReport,
    path: Path,
    split: str,
    vocabulary: Vocabulary,
    stems: Sequence[str],
    contents: Sequence[MatPicture | None],
) -> None:
    id_of_name = {entry.name: entry.id for entry in vocabulary.entries}
    ids = {entry.id: id_of_name.get(entry.name) for entry in Vocabulary.load("pascal_part").entries}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    without = 0
    for stem, image_id, content in zip(stems, picture_ids(stems), contents, strict=True):
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
        report.notes.append(f"{path.name}: {without} pictures have no part of its classes and are not in it")
    description = f"Pascal Part {split}, {vocabulary.about}"
    categories = categories_of(vocabulary)
    write_coco(report, path, description=description, images=images, annotations=annotations, categories=categories)
