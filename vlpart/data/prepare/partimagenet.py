"""PartImageNet: the official COCO-like files -> clean COCO JSON; and IN-S11, its train images as image labels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlpart.data.prepare.common import (
    MissingDownloadError,
    PrepareReport,
    Task,
    categories_of,
    list_in,
    list_names,
    write_coco,
)
from vlpart.data.readers.coco import load_json
from vlpart.errors import DataError
from vlpart.masks.rle import decode_runs
from vlpart.text.vocabulary import Vocabulary

LAYOUT = "train.json and val.json beside train/<wnid>/*.JPEG and val/<wnid>/*.JPEG, or annotations/ and images/"
MAX_SIDE = 100_000
SPLITS = ("train", "val", "test")
JSON_PLACES = ("{split}.json", "annotations/{split}.json", "annotations/{split}/{split}.json")
IMAGE_PLACES = ("{split}", "images/{split}", "images")


@dataclass(kw_only=True)
class SplitFiles:
    """One split in clean COCO form; file names are relative to `images`."""

    image_root: Path
    images: list[dict[str, Any]]
    annotations: list[dict[str, Any]]


def prepare_partimagenet(task: Task) -> PrepareReport:
    """Write `<split>_format.json` for train, val and test, where they are there.

    File names get the folder the images lie in, classes the ids of the list `partimagenet`, entries whole unique ids,
    and polygons of fewer than three points are closed (a point or a line: they have no area, but the count stays).

    Raises:
        DataError: neither train.json nor val.json, or a file that is broken or of another data set.
        OutputError: the output cannot be written.
    """
    report = PrepareReport(dataset="partimagenet")
    vocabulary = Vocabulary.load("partimagenet")
    done = 0
    for split in SPLITS:
        path = _find(task.root, split, JSON_PLACES)
        if path is None:
            if split != "test":
                report.problem(task.root / f"{split}.json", "the annotation file is missing")
            continue
        clean = read_split(task, report, split, path, vocabulary)
        report.notes.append(f"images of {split}: {clean.image_root}")
        write_coco(
            report,
            task.output / f"{split}_format.json",
            description=f"PartImageNet {split}, {vocabulary.about}",
            images=clean.images,
            annotations=clean.annotations,
            categories=categories_of(vocabulary),
        )
        done += 1
    if not done:
        raise MissingDownloadError(f"no train.json and no val.json in {task.root}; expected there: {LAYOUT}")
    return report


def prepare_in_s11(task: Task) -> PrepareReport:
    """Write `partimagenet_supercat_image_info.json`: every annotated train image, labelled with the super-category of
    its first annotation. Images come in the order of the annotations.

    Raises:
        DataError: no train.json, or it is broken.
        OutputError: the output cannot be written.
    """
    report = PrepareReport(dataset="in_s11")
    vocabulary, labels = Vocabulary.load("partimagenet"), Vocabulary.load("partimagenet_supercategories")
    path = _find(task.root, "train", JSON_PLACES)
    if path is None:
        raise MissingDownloadError(f"no train.json in {task.root}; expected there: {LAYOUT}")
    clean = read_split(task, report, "train", path, vocabulary)
    label_of = {
        entry.id: labels.entries[labels.index(vocabulary.object_name(i))].id
        for i, entry in enumerate(vocabulary.entries)
    }
    first: dict[int, int] = {}
    for annotation in clean.annotations:
        first.setdefault(annotation["image_id"], label_of[annotation["category_id"]])
    by_id = {image["id"]: image for image in clean.images}
    without = len(by_id) - len(first)
    if without:
        report.notes.append(f"{without} images have no annotation, hence no label, and are not in it")
    report.image_root = clean.image_root
    write_coco(
        report,
        task.output / "partimagenet_supercat_image_info.json",
        description="IN-S11: PartImageNet train, image labels",
        images=[{**by_id[i], "pos_category_ids": [label]} for i, label in first.items()],
        annotations=[],
        categories=categories_of(labels),
    )
    return report


def read_split(task: Task, report: PrepareReport, split: str, path: Path, vocabulary: Vocabulary) -> SplitFiles:
    """Read and clean one official file; what cannot be used goes to the problems.

    Raises:
        DataError: broken JSON, other classes, or not one usable image.
    """
    content = load_json(path)
    if task.progress is not None:
        task.progress(f"{report.dataset} {split}", 0, len(list_in(content, "annotations", path)))
    where = f"{split}: {path.name}"
    classes = class_ids(list_in(content, "categories", path), vocabulary, path)
    folder = _find(task.root, split, IMAGE_PLACES)
    if folder is None:
        report.notes.append(f"the images of {split} were not checked: there is no folder {split} or images/{split}")
    images, number_of = _images(list_in(content, "images", path), folder, where, report)
    if not images:
        first = report.problems[-1] if report.problems else f"{path} lists none"
        raise DataError(f"not one image of {path} can be used, first: {first}; expected: {LAYOUT}")
    annotations = _annotations(list_in(content, "annotations", path), number_of, classes, where, report)
    if task.progress is not None:
        total = len(list_in(content, "annotations", path))
        task.progress(f"{report.dataset} {split}", total, total)
    return SplitFiles(image_root=folder or task.root / split, images=images, annotations=annotations)


def _images(
    entries: list[dict[str, Any]], folder: Path | None, where: str, report: PrepareReport
) -> tuple[list[dict[str, Any]], dict[Any, int | None]]:
    """`(clean images, id in the file -> new id or None for an image that is left out)`."""
    numbering = Numbering([entry.get("id") for entry in entries], lowest=0)
    listed: dict[Path, set[str]] = {}
    images: list[dict[str, Any]] = []
    number_of: dict[Any, int | None] = {}
    for entry, number in zip(entries, numbering.ids, strict=True):
        identifier = entry.get("id")
        if not isinstance(identifier, int | str) or identifier in number_of:
            report.problem(where, f"image id {identifier!r} is missing, no number, or there twice")
            continue
        number_of[identifier] = None
        name, problem = _file_name(entry, folder, listed)
        if not problem and not all(
            type(entry.get(side)) is int and 0 < entry[side] <= MAX_SIDE for side in ("height", "width")
        ):
            problem = f"the size {entry.get('width')!r}x{entry.get('height')!r} is no size"
        if problem:
            report.problem(f"{where}: image {identifier}", problem)
            continue
        number_of[identifier] = number
        images.append({"id": number, "file_name": name, "height": entry["height"], "width": entry["width"]})
    if numbering.renumbered:
        report.notes.append(f"{where}: image ids were not whole and unique, and count from 1 now")
    return images, number_of


def _file_name(entry: Mapping[str, Any], folder: Path | None, listed: dict[Path, set[str]]) -> tuple[str, str]:
    """`(name relative to the folder of the images, "")`, or `("", what is wrong)`."""
    raw = entry.get("file_name")
    if not isinstance(raw, str) or not raw:
        return "", "it has no file_name"
    bare = raw.replace("\\", "/").rsplit("/", 1)[-1]
    wnid = bare.split("_")[0]
    if folder is None:
        return f"{wnid}/{bare}", ""
    for place, name in ((folder / wnid, f"{wnid}/{bare}"), (folder, bare)):
        if bare in listed.setdefault(place, list_names(place)):
            return name, ""
    return "", f"the image {wnid}/{bare} is missing in {folder}"


def _annotations(
    entries: list[dict[str, Any]],
    number_of: Mapping[Any, int | None],
    classes: Mapping[Any, int],
    where: str,
    report: PrepareReport,
) -> list[dict[str, Any]]:
    numbering = Numbering([entry.get("id") for entry in entries], lowest=1)
    annotations: list[dict[str, Any]] = []
    closed = without_image = 0
    for entry, number in zip(entries, numbering.ids, strict=True):
        image_id, category_id = entry.get("image_id"), entry.get("category_id")
        label = f"{where}: annotation {entry.get('id')}"
        if not isinstance(image_id, int | str) or image_id not in number_of:
            report.problem(label, f"its image {image_id!r} is not listed")
        elif not isinstance(category_id, int | str) or category_id not in classes:
            report.problem(label, f"its category {category_id!r} is not listed")
        elif number_of[image_id] is None:
            without_image += 1
        else:
            clean, changed, problem = check_annotation(entry)
            if problem:
                report.problem(label, problem)
                continue
            closed += changed
            image = number_of[image_id]
            annotations.append({"id": number, "image_id": image, "category_id": classes[category_id], **clean})
    if closed:
        report.notes.append(f"{where}: {closed} annotations have polygons of one or two points, which were closed")
    if without_image:
        report.notes.append(f"{where}: {without_image} annotations belong to images that are left out (see problems)")
    if numbering.renumbered:
        report.notes.append(f"{where}: annotation ids were not whole, unique and above 0, and count from 1 now")
    return annotations


def _find(root: Path, split: str, places: tuple[str, ...]) -> Path | None:
    candidates = (root / place.format(split=split) for place in places)
    return next((path for path in candidates if path.exists()), None)


class Numbering:
    """Ids to write: those of the file if all are unique whole numbers from `lowest` on, else running ones from 1."""

    def __init__(self, found: Sequence[Any], lowest: int) -> None:
        fine = all(type(number) is int and number >= lowest for number in found) and len(set(found)) == len(found)
        self.renumbered = not fine
        self.ids: list[int] = list(found) if fine else list(range(1, len(found) + 1))


def class_ids(categories: Sequence[Mapping[str, Any]], vocabulary: Vocabulary, path: Path) -> dict[Any, int]:
    """Category id in the file -> id in the list `partimagenet`, by name (case, `_` and `-` do not count).

    Raises:
        DataError: a name that the list does not have.
    """
    known = {_plain(entry.name): entry.id for entry in vocabulary.entries}
    number_of: dict[Any, int] = {}
    for category in categories:
        name, identifier = category.get("name"), category.get("id")
        if not isinstance(name, str) or _plain(name) not in known or not isinstance(identifier, int | str):
            raise DataError(
                f"{path}: the category {identifier!r} is called {name!r}, none of the 40 parts of PartImageNet "
                "(`vlpart vocabularies show partimagenet`); give the part annotations, not those of whole objects"
            )
        number_of[identifier] = known[_plain(name)]
    return number_of


def _plain(name: str) -> str:
    return " ".join(name.replace("_", " ").replace("-", " ").split()).casefold()


def check_annotation(entry: Mapping[str, Any]) -> tuple[dict[str, Any], bool, str]:
    """`(box, area, crowd flag, mask in COCO form; whether a polygon was closed; "")`. The last says what is wrong."""
    segmentation = entry.get("segmentation")
    closed = False
    if isinstance(segmentation, list):
        polygons = []
        for polygon in segmentation:
            if not _numbers(polygon) or not polygon or len(polygon) % 2:
                return {}, False, "its segmentation holds something that is no polygon"
            points = list(polygon)
            while len(points) < 6:  # one point three times; a line there and back
                points += points[:2]
                closed = True
            polygons.append(points)
        segmentation = polygons
    elif isinstance(segmentation, Mapping):
        try:
            decode_runs(segmentation)
        except (ValueError, OverflowError) as error:
            return {}, False, str(error)
    if not segmentation:
        return {}, False, "it has no segmentation"
    box = entry.get("bbox")
    if not isinstance(box, list) or not _numbers(box) or len(box) != 4:
        return {}, False, f"its box is {box!r}, expected four finite numbers"
    area = entry.get("area")
    if not _numbers([area]):
        area = box[2] * box[3]
    crowd = 1 if entry.get("iscrowd") in (1, True) else 0
    return {"bbox": list(box), "area": area, "iscrowd": crowd, "segmentation": segmentation}, closed, ""


def _numbers(values: Any) -> bool:
    try:
        return isinstance(values, list) and all(
            isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) for value in values
        )
    except OverflowError:  # a whole number beyond any float
        return False
