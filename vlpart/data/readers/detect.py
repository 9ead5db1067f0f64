"""Any labelled data set, by what it holds and not by what it is called."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vlpart.data.readers.base import AnnotationEntry, AnnotationFile, ImageEntry
from vlpart.data.readers.coco import parse_json, read_content
from vlpart.data.readers.cvat import find_cvat, read_cvat
from vlpart.data.readers.dataset import LabelledPicture, LabelledSet, Region
from vlpart.data.readers.label_maps import find_label_maps, read_label_maps
from vlpart.data.readers.labelme import is_labelme, read_labelme
from vlpart.data.readers.labelstudio import is_labelstudio, read_labelstudio
from vlpart.data.readers.values import class_key
from vlpart.data.readers.voc import list_voc, parse_voc, swapped_corners
from vlpart.data.readers.yolo import find_yolo, read_yolo
from vlpart.errors import DataError
from vlpart.files import is_file, is_folder, read_text, why

_LOOKED_AT = 20
"""JSON files of a folder that are looked into."""


def read_any(source: Path) -> LabelledSet:
    """Read a data set of any of the known formats.

    Args:
        source: its folder, or its annotation file.

    Raises:
        DataError: none of the formats, or a broken file of one.
    """
    known_format = detect(source)
    if known_format is None:
        known = "COCO, YOLO, LabelMe, VOC XML, CVAT XML, Label Studio JSON or label maps"
        raise DataError(f"{source} holds no data set of a known format ({known})")
    return known_format[1]()


def detect(source: Path) -> tuple[str, Callable[[], LabelledSet]] | None:
    """(name of the format, what reads it), or None.

    Raises:
        DataError: there is no such path, or a JSON file named by the user is broken.
    """
    if is_file(source):
        return _detect_file(source)
    if not is_folder(source):
        raise DataError(f"{source} does not exist; give a folder or an annotation file")
    jsons = _json_files(source)
    if any(_is_coco(content) for _, content in jsons):
        files = [path for path, content in jsons if _is_coco(content)]
        return "coco", lambda: _read_coco(files, source)
    if (find_yolo(source)) is not None:
        return "yolo", lambda: read_yolo(source)
    if (cvat := find_cvat(source)) is not None:
        return "cvat", lambda: read_cvat(cvat)
    if exports := [(path, content) for path, content in jsons if is_labelstudio(content)]:
        return "labelstudio", lambda: _read_newest_export(exports)
    if any(is_labelme(content) for _, content in jsons):
        return "labelme", lambda: read_labelme(source)
    for folder in (source / "Annotations", source / "annotations", source):
        if is_folder(folder) and next(folder.glob("*.xml"), None) is not None:
            return "voc", lambda folder=folder: _read_voc(folder, source)
    if find_label_maps(source) is not None:
        return "label-maps", lambda: read_label_maps(source)
    return None


def _read_newest_export(files: list[tuple[Path, Any]]) -> LabelledSet:
    """Of the JSON files of a project of Label Studio the newest export, not the tasks that were imported.

    Exports are called "project-1-at-2026-11-28-18-40-1a2b.json".
    """
    exports = [path for path, tasks in files if any(isinstance(t, dict) and t.get("annotations") for t in tasks)]
    exports.sort(key=lambda path: path.name.partition("-at-")[2])
    labelled = read_labelstudio(exports[-1] if exports else files[0][0])
    if older := [path.name for path in exports[:-1]]:
        labelled.notes[f"exports beside {exports[-1].name}, first: {older[0]}"] += len(older)
    return labelled


def _detect_file(source: Path) -> tuple[str, Callable[[], LabelledSet]] | None:
    suffix = source.suffix.lower()
    if suffix in (".yaml", ".yml"):
        return "yolo", lambda: read_yolo(source)
    if suffix == ".xml":
        if find_cvat(source) is not None:
            return "cvat", lambda: read_cvat(source)
        return "voc", lambda: _read_voc(source, source.parent)
    if suffix != ".json":
        return None
    content = parse_json(source, "")
    if _is_coco(content):
        return "coco", lambda: _read_coco([source], source.parent)
    if is_labelme(content):
        return "labelme", lambda: read_labelme(source)
    if is_labelstudio(content):
        return "labelstudio", lambda: read_labelstudio(source)
    return None


def _json_files(folder: Path) -> list[tuple[Path, Any]]:
    """The first JSON files of a folder and of the folders in it, parsed; broken ones are passed over."""
    files = [*sorted(folder.glob("*.json"))[:_LOOKED_AT], *sorted(folder.glob("*/*.json"))[:_LOOKED_AT]]
    parsed = []
    for file in files:
        try:
            parsed.append((file, parse_json(file, "")))
        except DataError:
            continue
    return parsed


def _is_coco(content: Any) -> bool:
    return isinstance(content, dict) and all(isinstance(content.get(key), list) for key in ("images", "categories"))


def _read_coco(files: list[Path], root: Path) -> LabelledSet:
    """COCO files of one data set; where one is the train and another the val split, pictures say so."""
    from vlpart.data.check.findings import Findings
    from vlpart.data.check.images import find_images
    from vlpart.data.check.split import build_split, split_kind

    labelled = LabelledSet(format="coco")
    for path in files:
        content = parse_json(path, "")

        def problem(kind: str, text: str) -> None:
            labelled.notes[f"entries that cannot be used ({kind}), first: {text[:120]}"] += 1

        split = build_split(path, content, Findings(), root)
        find_images(split, root, None)
        file = read_content(content, path, problem)
        kind = split_kind(path, root) if len(files) > 1 else None
        _add_file(labelled, file, split.image_path, kind if kind in ("train", "val", "test") else None)
    return labelled


def _add_file(
    labelled: LabelledSet, file: AnnotationFile, path_of: Callable[[ImageEntry], Path | None], kind: str | None
) -> None:
    names = {category.id: category.name or f"category {category.file_id}" for category in file.categories}
    for category in file.categories:
        labelled.index(names[category.id])
    for image in file.images:
        picture = LabelledPicture(
            file_name=image.file_name.lstrip("/"),
            path=path_of(image),
            width=image.width,
            height=image.height,
            split=kind,
        )
        labelled.pictures.append(picture)
        places: dict[Any, int] = {}
        owners: list[tuple[Region, AnnotationEntry]] = []
        for entry in image.annotations:
            if entry.unusable is not None or entry.box_xyxy is None:
                labelled.notes[f"annotations left out: {entry.unusable}"] += 1
                continue
            region = Region(
                name=labelled.names[labelled.index(names[entry.category_id])],
                box_xyxy=entry.box_xyxy,
                mask=entry.mask,
                crowd=entry.crowd,
                difficult=entry.difficult,
            )
            places[entry.id] = len(picture.regions)
            picture.regions.append(region)
            owners.append((region, entry))
        for region, entry in owners:
            owner = places.get(entry.owner_id) if entry.owner_id is not None else None
            region.owner = owner if owner is not None and picture.regions[owner] is not region else None


def _read_voc(source: Path, root: Path) -> LabelledSet:
    """A folder of VOC XML files, or one of them; splits from `ImageSets/Main`."""
    from vlpart.data.image_files import ImageFinder

    if source.is_dir():
        stems, folder = list_voc(source)
    else:
        stems, folder = [source.stem], source.parent
    kinds = _voc_splits(root)
    finders = [
        ImageFinder(place)
        for place in (root / "JPEGImages", root / "images", root, folder, folder.parent / "JPEGImages")
    ]
    labelled = LabelledSet(format="voc")
    for stem in stems:
        image = parse_voc(folder / f"{stem}.xml")
        options = [image.file_name, *(stem + suffix for suffix in (".jpg", ".png", ".jpeg", ".JPG"))]
        places = [(f.root, name) for f in finders for option in options if (name := f.find(option)) is not None]
        path = places[0][0] / places[0][1] if places else None
        picture = LabelledPicture(
            file_name=places[0][1] if places else image.file_name,
            path=path,
            width=image.width,
            height=image.height,
            split=kinds.get(stem),
        )
        labelled.pictures.append(picture)
        for item in image.objects:
            if swapped := swapped_corners(item):
                labelled.notes[f"boxes with swapped corners, first: {stem}.xml: {swapped}"] += 1
                continue
            labelled.add_region(picture, item.name, box=item.box_xyxy, difficult=item.difficult)
            for part in item.parts:
                owner = len(picture.regions) - 1
                name = part.name if ":" in part.name else f"{item.name}:{part.name}"
                labelled.add_region(picture, name, box=part.box_xyxy, owner=owner)
    return labelled


def _voc_splits(root: Path) -> dict[str, str]:
    kinds: dict[str, str] = {}
    for kind in ("train", "val", "test"):
        file = root / "ImageSets" / "Main" / f"{kind}.txt"
        if is_file(file):
            try:
                lines = read_text(file).splitlines()
            except OSError as error:
                raise DataError(f"cannot read {file}: {why(error)}") from None
            for line in (line for line in lines if line.strip()):  # a name may have spaces, and a flag may follow it
                kinds.setdefault(line.split()[0], kind)
                kinds[line.strip()] = kind
    return kinds


def from_supervision(dataset: Any) -> LabelledSet:
    """A `supervision.DetectionDataset` in memory: anything that has `classes` and gives (path, image, detections)."""
    classes = getattr(dataset, "classes", None)
    if not isinstance(classes, Sequence) or not hasattr(dataset, "__iter__"):
        raise TypeError(f"dataset must be a supervision.DetectionDataset, got a {type(dataset).__name__}")
    labelled = LabelledSet(format="supervision")
    for name in classes:
        labelled.index(name)
    for path, image, detections in dataset:
        height, width = image.shape[:2]
        picture = LabelledPicture(file_name=Path(path).name, path=Path(path), width=width, height=height)
        labelled.pictures.append(picture)
        for place in range(len(detections)):
            mask = None if detections.mask is None else detections.mask[place]
            name = classes[int(detections.class_id[place])]
            labelled.add_region(picture, name, box=detections.xyxy[place].tolist(), segmentation=mask)
    return labelled


def hint(names: list[str]) -> str | None:
    """What to call flat names that look like parts: "car_wheel" beside "car" is probably "car:wheel"."""
    keys = {class_key(name): name for name in names if ":" not in name}
    for key, name in keys.items():
        words = key.split()
        for cut in range(len(words) - 1, 0, -1):
            owner = keys.get(" ".join(words[:cut]))
            if owner is not None:
                part = " ".join(words[cut:])
                return f"{name!r} looks like a part of {owner!r}: --rename '{name}={owner}:{part}' makes it one"
    return None
