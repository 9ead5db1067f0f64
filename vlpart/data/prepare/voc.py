"""Pascal VOC boxes: XML -> COCO JSON, one file per year and split. (Training can also read the XML: reader "voc".)"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

from vlpart.data.prepare.common import MissingDownloadError, PrepareReport, Task, categories_of, list_names, write_coco
from vlpart.data.readers.voc import (
    VocImage,
    image_ids,
    list_voc,
    parse_voc,
    plain_name,
    swapped_corners,
    voc_category_ids,
)
from vlpart.errors import DataError
from vlpart.jobs import run_over
from vlpart.text.vocabulary import Vocabulary

LAYOUT = "VOCdevkit/VOC2007 with Annotations, ImageSets/Main and JPEGImages (VOCtrainval_06-Nov-2007.tar)"
SPLITS = ("train", "val", "trainval", "test")


def prepare_voc(task: Task) -> PrepareReport:
    """Write `voc_<year>_<split>.json` for every VOC20xx folder and every split list that is there.

    Difficult objects are annotations like others and carry `"difficult": 1`: training uses them, the evaluation of
    VOC leaves them out.

    Raises:
        DataError: no VOC folder, or none of its files can be used.
        OutputError: the output cannot be written.
    """
    years = _years(task.root)
    if not years:
        raise MissingDownloadError(
            f"no folder VOC2007 (or of another year) with ImageSets/Main in {task.root}; expected: {LAYOUT}"
        )
    report = PrepareReport(dataset="voc")
    for year, folder in years.items():
        lists = {split: folder / "ImageSets" / "Main" / f"{split}.txt" for split in SPLITS}
        present = {split: path for split, path in lists.items() if path.is_file()}
        if not present:
            report.problem(folder / "ImageSets" / "Main", "there is no split list (train.txt, val.txt)")
        report.image_root = folder / "JPEGImages"
        if len(years) > 1:
            report.notes.append(f"images of {year}: {folder / 'JPEGImages'}")
        for split, path in present.items():
            _write_split(task, report, year, split, path)
    if len(years) > 1:
        report.image_root = None
    return report


def _years(root: Path) -> dict[str, Path]:
    """Year -> folder, for every VOC20xx in the root, in its VOCdevkit, or the root itself."""
    path_of: dict[str, Path] = {}
    for parent in (root / "VOCdevkit", root, root.resolve().parent):
        names = [root.resolve().name] if parent == root.resolve().parent else sorted(list_names(parent))
        for name in names:
            if re.fullmatch(r"VOC20\d\d", name) and (parent / name / "ImageSets" / "Main").is_dir():
                path_of.setdefault(name.removeprefix("VOC"), parent / name)
    return path_of


def _write_split(task: Task, report: PrepareReport, year: str, split: str, path: Path) -> None:
    stems, xmls = list_voc(path)
    jpegs = list_names(xmls.parent / "JPEGImages")
    if not jpegs:
        report.notes.append(f"the images were not checked: there is no {xmls.parent / 'JPEGImages'}")
    known = voc_category_ids()
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    read = partial(read_checked, xmls=xmls)
    label = f"voc {year} {split}"
    answers = run_over(read, stems, processes=task.processes, label=label, progress=task.progress, chunk=64)
    for image_id, stem, (image, problem) in zip(image_ids(stems), stems, answers, strict=True):
        if image is not None and jpegs and image.file_name not in jpegs:
            problem = f"the image {image.file_name} is missing"
            image = None
        if image is None:
            report.problem(f"{year} {split}: {stem}", problem)
            continue
        height, width = image.height, image.width
        images.append({"id": image_id, "file_name": image.file_name, "height": height, "width": width})
        for item in image.objects:
            category_id = known.get(plain_name(item.name))
            if category_id is None:
                report.problem(f"{year} {split}: {stem}.xml", f"{item.name!r} is none of the 20 classes of VOC")
                continue
            if swapped := swapped_corners(item):
                report.problem(f"{year} {split}: {stem}.xml", swapped)
                continue
            x0, y0, x1, y1 = item.box_xyxy
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": category_id,
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": (x1 - x0) * (y1 - y0),
                    "iscrowd": 0,
                    "difficult": int(item.difficult),
                    "truncated": int(item.truncated),
                }
            )
    if not images:
        raise DataError(f"not one image of {path} can be used, first: {report.problems[-1]}; expected: {LAYOUT}")
    write_coco(
        report,
        task.output / f"voc_{year}_{split}.json",
        description=f"Pascal VOC {year} {split}, boxes of 20 objects",
        images=images,
        annotations=annotations,
        categories=categories_of(Vocabulary.load("voc")),
    )


def read_checked(stem: str, *, xmls: Path) -> tuple[VocImage | None, str]:
    """`(content, "")`, or `(None, why the file cannot be used)` (in a worker process)."""
    try:
        return parse_voc(xmls / f"{stem}.xml"), ""
    except DataError as error:
        return None, str(error)
