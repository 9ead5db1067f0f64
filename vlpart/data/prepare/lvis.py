"""COCO, LVIS and PACO-LVIS: files that are used as distributed, checked here (docs/method.md, 'Data preparation')."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from vlpart.data.prepare.common import PrepareReport, Task, Written, find, list_in, list_names, write_coco
from vlpart.data.readers.coco import image_name, load_json
from vlpart.errors import DataError
from vlpart.text.vocabulary import Vocabulary

MINIVAL = "lvis_v1_minival_inserted_image_name.json"
PACO_SPLITS = ("train", "val", "test")
COCO_SPLITS = ("train", "val")
COCO_PLACES = ("coco", "../coco", "images", ".", "../..", "../../coco")


def prepare_coco(task: Task) -> PrepareReport:
    """Check `annotations/instances_train2017.json` and `_val2017`; nothing is written, they are used as they are.

    Raises:
        DataError: neither file is there, or one is broken.
    """
    report = PrepareReport(dataset="coco")
    names = [f"instances_{split}2017.json" for split in COCO_SPLITS]
    layout = "annotations/instances_train2017.json and _val2017.json, beside train2017/ and val2017/"
    folder = find(task.root, [f"annotations/{name}" for name in names], "COCO annotations", layout).parent
    for split, name in zip(COCO_SPLITS, names, strict=True):
        if not (folder / name).is_file():
            report.problem(folder / name, "the annotation file is missing")
            continue
        content = load_json(folder / name)
        _check(task, report, folder / name, content, Vocabulary.load("coco"), folder_of_images=f"{split}2017")
    return report


def prepare_lvis(task: Task) -> PrepareReport:
    """Check `lvis_v1_train.json`; nothing is written, it is used as it is. (Val is what `lvis_minival` is made from.)

    Raises:
        DataError: it is not there, or broken.
    """
    report = PrepareReport(dataset="lvis")
    path = find(task.root, ("lvis_v1_train.json",), "LVIS v1", "lvis_v1_train.json (unpacked)")
    _check(task, report, path, load_json(path), Vocabulary.load("lvis_v1"))
    return report


def prepare_lvis_minival(task: Task) -> PrepareReport:
    """Check `lvis_v1_minival_inserted_image_name.json`, or make it from `lvis_v1_val.json`.

    Minival is the part of LVIS v1 val whose images are in COCO val2017. Read it with the reader "lvis", which takes
    file names from `coco_url`.

    Raises:
        DataError: neither file, or it is broken.
        OutputError: the output cannot be written.
    """
    layout = f"{MINIVAL}, or lvis_v1_val.json (lvis_v1_val.json.zip of LVIS)"
    places = (MINIVAL, f"annotations/{MINIVAL}", "lvis_v1_val.json", "annotations/lvis_v1_val.json")
    path = find(task.root, places, "LVIS minival", layout)
    report = PrepareReport(dataset="lvis_minival")
    content = load_json(path)
    images = list_in(content, "images", path)
    if path.name == MINIVAL:
        _check(task, report, path, content, Vocabulary.load("lvis_v1"))
        return report
    kept = [
        {**image, "file_name": name}
        for image in images
        if (name := image_name(image)) is not None and name.startswith("val2017/")
    ]
    if not kept:
        raise DataError(f"{path} lists no image of COCO val2017; is it lvis_v1_val.json?")
    ids = {image.get("id") for image in kept}
    annotations = [entry for entry in list_in(content, "annotations", path) if entry.get("image_id") in ids]
    made = {"images": kept, "annotations": annotations, "categories": list_in(content, "categories", path)}
    report.notes.append(f"made from {path}: the {len(kept)} of its {len(images)} images that are in COCO val2017")
    _check(task, report, path, made, Vocabulary.load("lvis_v1"))
    report.written.clear()
    write_coco(report, task.output / MINIVAL, description="LVIS v1 minival", **made)
    return report


def prepare_paco(task: Task) -> PrepareReport:
    """Check `paco_lvis_v1_train.json`, `_val` and `_test`; nothing is written, they are used as they are.

    Raises:
        DataError: none of the files is there, or one is broken.
    """
    report = PrepareReport(dataset="paco")
    vocabulary = Vocabulary.load("paco")
    names = [f"paco_lvis_v1_{split}.json" for split in PACO_SPLITS]
    layout = "annotations/paco_lvis_v1_train.json and so on (paco_annotations.zip)"
    folder = find(task.root, [f"annotations/{name}" for name in names] + names, "PACO annotations", layout).parent
    for name in names:
        path = folder / name
        if not path.is_file():
            report.problem(path, "the annotation file is missing")
            continue
        _check(task, report, path, load_json(path), vocabulary)
    return report


def _check(
    task: Task,
    report: PrepareReport,
    path: Path,
    content: Mapping[str, Any],
    vocabulary: Vocabulary,
    *,
    folder_of_images: str | None = None,
) -> None:
    """Compare classes, ids and file names with what is known and there; problems go to the report.

    `folder_of_images` is where the file names of a file in COCO's form are; None = the file is in LVIS form.
    """
    images, annotations = list_in(content, "images", path), list_in(content, "annotations", path)
    categories = list_in(content, "categories", path)
    if task.progress is not None:
        task.progress(f"{report.dataset} {path.name}", len(images), len(images))
    name_of = {category.get("id"): str(category.get("name")) for category in categories}
    known = {entry.id: entry.name for entry in vocabulary.entries}
    if name_of != known:
        odd = sorted(str(i) for i in set(name_of.items()) ^ set(known.items()))
        raise DataError(
            f"{path} has {len(name_of)} classes that are not the {len(known)} of {vocabulary.title}, "
            f"first differences {', '.join(odd[:3])}; is it the official file?"
        )
    ids = {image.get("id") for image in images}
    if len(ids) != len(images):
        report.problem(path.name, f"{len(images) - len(ids)} image ids occur twice")
    lost = sum(entry.get("image_id") not in ids for entry in annotations)
    if lost:
        report.problem(path.name, f"{lost} annotations belong to images that are not listed")
    strange = sum(entry.get("category_id") not in known for entry in annotations)
    if strange:
        report.problem(path.name, f"{strange} annotations are of classes that are not listed")
    missing_lists = sum("neg_category_ids" not in image for image in images)
    if missing_lists and folder_of_images is None:
        report.problem(path.name, f"{missing_lists} images have no neg_category_ids, which the LVIS evaluation needs")
    report.written.append(Written(path, len(images), len(annotations), is_new=False))
    if folder_of_images is None:
        names = [image_name(image) for image in images]
    else:
        names = [None if not (name := image.get("file_name")) else f"{folder_of_images}/{name}" for image in images]
    _check_images(task, report, path, names)


def _check_images(task: Task, report: PrepareReport, path: Path, names: Sequence[str | None]) -> None:
    nameless = sum(name is None for name in names)
    if nameless:
        report.problem(path.name, f"{nameless} images have neither coco_url nor file_name")
    folders: dict[str, set[str]] = {}
    for name in names:
        if name is not None:
            place = PurePosixPath(name)
            folders.setdefault(str(place.parent), set()).add(place.name)
    roots = [task.root / place for place in COCO_PLACES]
    root = next((root for root in roots if any((root / folder).is_dir() for folder in folders if folder != ".")), None)
    if root is None:
        tried = ", ".join(sorted(folders)[:3])
        report.notes.append(f"the images were not checked: no folder {tried} in {task.root} or in a coco beside it")
        return
    report.image_root = root
    for folder, wanted in sorted(folders.items()):
        absent = sorted(wanted - list_names(root / folder))
        for name in absent:
            report.problem(f"{path.name}: {folder}/{name}", f"the image is missing in {root}")
