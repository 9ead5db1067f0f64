"""A labelled data set in the form of other tools. What a form cannot hold is counted in the notes."""

from __future__ import annotations

import colorsys
import json
import shutil
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree.ElementTree import Element, ElementTree, SubElement, indent

import numpy as np
from PIL import Image

from vlpart.data.readers.dataset import LabelledPicture, LabelledSet, Region
from vlpart.data.readers.labelstudio import encode_brush
from vlpart.errors import DataError, OutputError
from vlpart.files import copy_file, encode_image, is_there, why, write_file
from vlpart.masks.polygons import FAITHFUL, Polygon, deviation, joined
from vlpart.masks.shapes import LABELME_VERSION, labelme_shapes, yolo_names
from vlpart.masks.stack import MaskStack
from vlpart.text.vocabulary import Vocabulary

Notes = Counter[str]


def require_empty(output: Path) -> None:
    """Whether a data set can be written there, as far as can be told beforehand.

    Raises:
        OutputError: the folder has something in it, or is none.
    """
    try:
        if is_there(output) and any(output.iterdir()):
            raise OutputError(f"{output} is not empty: choose another folder with --output")
    except OSError as error:
        raise OutputError(f"cannot write {output}: {why(error)}") from error


def write(data: LabelledSet, output: Path, form: str, more: Mapping[str, bytes] | None = None) -> Notes:
    """Write a data set, all of it or nothing.

    Args:
        data: what to write.
        output: an empty or new folder.
        form: one of `FORMS`.
        more: name -> content of other files of the folder.

    Returns:
        What the form cannot hold, with counts.

    Raises:
        DataError: an unknown form, or names that the form cannot have.
        OutputError: the folder has something in it, or cannot be written.
    """
    if form not in FORMS:
        raise DataError(f"unknown format {form!r}: choose from {', '.join(FORMS)}")
    require_empty(output)
    try:
        place = output.resolve()
        made = place.with_name(f".{place.name[:50]}.{uuid.uuid4().hex[:8]}.tmp")
        made.mkdir(parents=True)
    except OSError as error:
        raise OutputError(f"cannot write {output}: {why(error)}") from error
    notes: Notes = Counter()
    try:
        FORMS[form](data, made, notes)
        for name, content in (more or {}).items():
            write_file(made / name, content)
        _move(made, place)
    except OutputError as error:
        raise OutputError(str(error).replace(str(made), str(output))) from error
    except OSError as error:
        raise OutputError(f"cannot write {output}: {why(error)}") from error
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return notes


def _move(made: Path, place: Path) -> None:
    """Put a finished folder where there is none, or an empty one."""
    try:
        made.rename(place)  # also in place of an empty folder, on POSIX
    except OSError:
        if not place.is_dir() or any(place.iterdir()):  # somebody else wrote it meanwhile, or it cannot be made
            raise
        for child in sorted(made.iterdir(), key=lambda child: child.is_file()):  # a mounted folder stays where it is
            child.rename(place / child.name)


def _safe(picture: LabelledPicture) -> PurePosixPath:
    """The file name of a picture without ways out of its folder."""
    parts = [part for part in picture.file_name.split("/") if part not in ("", ".", "..")]
    return PurePosixPath(*parts)


def _link(picture: LabelledPicture, place: Path, notes: Notes) -> None:
    """Put the image at `place`: a link, else a copy."""
    if picture.path is None:
        notes["images that were not found"] += 1
        return
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            place.symlink_to(picture.path.resolve())
        except FileExistsError:
            raise OutputError(f"two images would be called {place}: rename one") from None
        except OSError:  # no links on this file system
            copy_file(picture.path, place)
    except OSError as error:
        raise OutputError(f"cannot write {place}: {error.strerror or error}") from error


def _stack(picture: LabelledPicture) -> MaskStack:
    """The masks of all regions; of boxes the filled box."""
    return MaskStack.from_rles([picture.rle(region) for region in picture.regions], (picture.height, picture.width))


def _count_losses(data: LabelledSet, notes: Notes, *, crowds: bool = False, owners: bool = False) -> None:
    if not crowds:
        notes["crowd flags"] += sum(region.crowd for region in data.regions())
    if not owners:
        notes["which object a part belongs to"] += sum(region.owner is not None for region in data.regions())


def _write_coco(data: LabelledSet, output: Path, notes: Notes) -> None:
    """`train.json` and `val.json` (or `annotations.json`) beside `images/`."""
    vocabulary = Vocabulary.from_categories([{"id": i, "name": name} for i, name in enumerate(data.names, start=1)])
    categories = [
        {"id": entry.id, "name": entry.name, "object": entry.object or entry.name, "part": entry.part}
        for entry in vocabulary.entries
    ]
    number_of = {entry.name: entry.id for entry in vocabulary.entries}
    for kind in dict.fromkeys(picture.split for picture in data.pictures):
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for picture in (picture for picture in data.pictures if picture.split == kind):
            name = _safe(picture)
            _link(picture, output / "images" / name, notes)
            images.append(
                {"id": len(images) + 1, "file_name": str(name), "width": picture.width, "height": picture.height}
            )
            first = len(annotations) + 1
            for region in picture.regions:
                entry = _coco_entry(picture, region, number_of[region.name])
                entry |= {"id": len(annotations) + 1, "image_id": len(images)}
                if region.owner is not None:
                    entry["object_annotation_id"] = first + region.owner
                annotations.append(entry)
        content = {"images": images, "categories": categories, "annotations": annotations}
        file = output / f"{kind or 'annotations'}.json"
        write_file(file, json.dumps(content, separators=(",", ":")).encode())


def _coco_entry(picture: LabelledPicture, region: Region, category_id: int) -> dict[str, Any]:
    x0, y0, x1, y1 = region.box_xyxy
    entry: dict[str, Any] = {
        "category_id": category_id,
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "area": (x1 - x0) * (y1 - y0),
        "iscrowd": int(region.crowd),
    }
    if region.difficult:
        entry["difficult"] = 1
    if region.score is not None:
        entry["score"] = round(region.score, 4)
    if region.mask is not None:
        from pycocotools import mask as coco_mask

        rle = picture.rle(region)
        entry["area"] = int(coco_mask.area({**rle, "counts": rle["counts"].encode()}))
        polygons = None if isinstance(region.mask, bytes) or region.crowd else region.mask
        entry["segmentation"] = rle if polygons is None else [polygon.ravel().tolist() for polygon in polygons]
    return entry


def _write_yolo(data: LabelledSet, output: Path, notes: Notes) -> None:
    """`images/` and `labels/` (with a folder for each split), and `data.yaml`."""
    _count_losses(data, notes)
    notes["difficult flags"] += sum(region.difficult for region in data.regions())
    splits = [kind for kind in ("train", "val", "test") if any(p.split == kind for p in data.pictures)]
    segments = any(region.mask is not None for region in data.regions())
    for picture in data.pictures:
        name = _safe(picture) if picture.split is None else PurePosixPath(picture.split) / _safe(picture)
        _link(picture, output / "images" / name, notes)
        stack = _stack(picture) if segments else None
        lines = []
        for i, region in enumerate(picture.regions):
            if region.crowd:
                continue  # counted above
            lines.append(f"{data.index(region.name)} {_yolo_numbers(picture, region, stack, i)}\n")
        write_file((output / "labels" / name).with_suffix(".txt"), "".join(lines).encode())
    text = yolo_names(data.names)
    for kind, other in (("train", "val"), ("val", "train")):
        folder = kind if kind in splits else other if other in splits else ""
        text = text.replace(f"{kind}: images\n", f"{kind}: {'/'.join(filter(None, ('images', folder)))}\n")
    if "test" in splits:
        text = text.replace("names:\n", "test: images/test\nnames:\n", 1)
    write_file(output / "data.yaml", text.encode())


def _yolo_numbers(picture: LabelledPicture, region: Region, stack: MaskStack | None, i: int) -> str:
    scale = np.array([picture.width, picture.height], dtype=np.float64)
    if stack is None:
        low, high = np.array(region.box_xyxy[:2]), np.array(region.box_xyxy[2:])
        low, high = np.clip(low, 0, scale), np.clip(high, 0, scale)
        numbers = np.concatenate([(low + high) / 2 / scale, (high - low) / scale])
    else:
        rings = _rings(stack, region, i)
        numbers = (joined(rings) / scale).reshape(-1).clip(0, 1)
    return " ".join(f"{number:.7g}" for number in numbers)


def _rings(stack: MaskStack, region: Region, i: int) -> list[Polygon]:
    """The polygon of the source where it is one, and lies in the image; else rings of the mask."""
    height, width = stack.image_size
    if region.mask is not None and not isinstance(region.mask, bytes) and len(region.mask) == 1:
        polygon = region.mask[0]
        if polygon.min() >= 0 and (polygon.max(axis=0) <= (width, height)).all():
            return [polygon]
    x0, y0, x1, y1 = region.box_xyxy
    return stack.rings(i) or [np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])]


def _write_labelme(data: LabelledSet, output: Path, notes: Notes) -> None:
    """One JSON file beside every image, in a folder for each split."""
    notes["crowd flags"] += sum(region.crowd for region in data.regions())
    notes["difficult flags"] += sum(region.difficult for region in data.regions())
    for picture in data.pictures:
        name = _safe(picture) if picture.split is None else PurePosixPath(picture.split) / _safe(picture)
        _link(picture, output / name, notes)
        stack, shapes = _stack(picture), []
        for i, region in enumerate(picture.regions):
            owner = None if region.owner is None else f"{picture.regions[region.owner].name} {region.owner + 1}"
            made = labelme_shapes(region.name, None if region.mask is None else stack, i, np.array(region.box_xyxy))
            more: dict[str, Any] = {"group_id": i + 1, "description": "" if owner is None else f"part of {owner}"}
            if region.score is not None:
                more["score"] = round(region.score, 4)
            shapes += [{**shape, **more} for shape in made]
        content: dict[str, Any] = {
            "version": LABELME_VERSION,
            "flags": {},
            "shapes": shapes,
            "imagePath": name.name,
            "imageData": None,
            "imageHeight": picture.height,
            "imageWidth": picture.width,
        }
        file = (output / name).with_suffix(".json")
        write_file(file, (json.dumps(content, ensure_ascii=False, indent=1) + "\n").encode(errors="backslashreplace"))


def _write_voc(data: LabelledSet, output: Path, notes: Notes) -> None:
    """`JPEGImages/`, `Annotations/` and the lists of `ImageSets/Main`: boxes only."""
    _count_losses(data, notes)
    notes["masks (VOC XML has boxes only)"] += sum(region.mask is not None for region in data.regions())
    stems: dict[str, str | None] = {}
    for picture in data.pictures:
        name = "_".join(_safe(picture).parts)
        stem = Path(name).stem
        if stem in stems:
            raise DataError(f"two images would be called {stem} in a VOC data set: rename one")
        stems[stem] = picture.split
        _link(picture, output / "JPEGImages" / name, notes)
        root = Element("annotation")
        SubElement(root, "folder").text = "JPEGImages"
        SubElement(root, "filename").text = name
        size = SubElement(root, "size")
        for tag, value in (("width", picture.width), ("height", picture.height), ("depth", 3)):
            SubElement(size, tag).text = str(value)
        for region in picture.regions:
            item = SubElement(root, "object")
            SubElement(item, "name").text = region.name
            for tag, value in (("truncated", 0), ("difficult", int(region.difficult))):
                SubElement(item, tag).text = str(value)
            box = SubElement(item, "bndbox")
            x0, y0, x1, y1 = region.box_xyxy  # the first pixel of VOC is 1
            for tag, side in (("xmin", x0 + 1), ("ymin", y0 + 1), ("xmax", x1), ("ymax", y1)):
                SubElement(box, tag).text = f"{round(side, 3):g}" if side != round(side) else str(round(side))
        write_file(output / "Annotations" / f"{stem}.xml", _xml(root))
    for kind in dict.fromkeys(stems.values()):
        lines = "".join(f"{stem}\n" for stem, split in stems.items() if split == kind)
        write_file(output / "ImageSets" / "Main" / f"{kind or 'trainval'}.txt", lines.encode())


def _xml(root: Element, *, declaration: bool = True) -> bytes:
    from io import BytesIO

    indent(root)
    buffer = BytesIO()
    ElementTree(root).write(buffer, encoding="utf-8", xml_declaration=declaration)
    return buffer.getvalue() + b"\n"


def _write_cvat(data: LabelledSet, output: Path, notes: Notes) -> None:
    """`annotations.xml` (CVAT for images 1.1) beside `images/`."""
    _count_losses(data, notes)
    notes["difficult flags"] += sum(region.difficult for region in data.regions())
    root = Element("annotations")
    SubElement(root, "version").text = "1.1"
    labels = SubElement(SubElement(SubElement(root, "meta"), "task"), "labels")
    for text in data.names:
        label = SubElement(labels, "label")
        SubElement(label, "name").text = text
        SubElement(label, "attributes")
    for number, picture in enumerate(data.pictures):
        name = _safe(picture)
        _link(picture, output / "images" / name, notes)
        sides = {"width": str(picture.width), "height": str(picture.height)}
        image = SubElement(root, "image", {"id": str(number), "name": str(name), **sides})
        if picture.split is not None:
            image.set("subset", {"train": "Train", "val": "Validation", "test": "Test"}[picture.split])
        stack = _stack(picture)
        for i, region in enumerate(picture.regions):
            _cvat_shape(image, region, stack, i)
    write_file(output / "annotations.xml", _xml(root))


def _cvat_shape(image: Element, region: Region, stack: MaskStack, i: int) -> None:
    source = "manual" if region.score is None else "auto"
    common = {"label": region.name, "source": source, "occluded": "0", "z_order": "0"}
    if region.mask is None:
        sides = dict(zip(("xtl", "ytl", "xbr", "ybr"), (f"{side:.2f}" for side in region.box_xyxy), strict=True))
        SubElement(image, "box", {**common, **sides})
        return
    rings, crop = _rings(stack, region, i), stack.crop(i)
    if len(rings) == 1 and deviation(crop.bitmap, crop.x0, crop.y0, [rings[0].round(2)]) <= FAITHFUL:
        points = ";".join(f"{x:.2f},{y:.2f}" for x, y in rings[0].tolist())
        SubElement(image, "polygon", {**common, "points": points})
        return
    flat = crop.bitmap.reshape(-1)
    edges = np.concatenate([[0], np.flatnonzero(np.diff(flat)) + 1, [len(flat)]])
    counts = np.diff(edges).tolist()
    counts = [0, *counts] if flat[0] else counts
    height, width = crop.bitmap.shape
    place = {"left": str(crop.x0), "top": str(crop.y0), "width": str(width), "height": str(height)}
    SubElement(image, "mask", {**common, "rle": ", ".join(map(str, counts)), **place})


def _write_labelstudio(data: LabelledSet, output: Path, notes: Notes) -> None:
    """`tasks.json` (to be imported), `labels.xml` (the labelling interface) and `images/`."""
    _count_losses(data, notes)
    notes["difficult flags"] += sum(region.difficult for region in data.regions())
    notes["splits (train, val)"] += sum(picture.split is not None for picture in data.pictures)
    tasks = []
    predicted = any(region.score is not None for region in data.regions())
    for number, picture in enumerate(data.pictures, start=1):
        name = _safe(picture)
        _link(picture, output / "images" / name, notes)
        stack = _stack(picture)
        results = [labelstudio_result(picture, region, stack, i) for i, region in enumerate(picture.regions)]
        data_field = {"image": f"/data/local-files/?d=images/{name}"}
        task: dict[str, Any] = {"id": number, "data": data_field, "annotations": [], "predictions": []}
        scores = [region.score for region in picture.regions if region.score is not None]
        if scores or (predicted and not picture.regions):
            task["predictions"].append(
                {"model_version": data.format, "score": min(scores, default=0.0), "result": results}
            )
        else:
            task["annotations"].append({"id": number, "result": results, "was_cancelled": False})
        tasks.append(task)
    write_file(output / "tasks.json", json.dumps(tasks, ensure_ascii=False).encode(errors="backslashreplace"))
    write_file(output / "labels.xml", labelstudio_config(data.names))


def labelstudio_config(names: Sequence[str]) -> bytes:
    """The labelling interface (XML) of Label Studio for classes: polygons, rectangles and brush masks."""
    view = Element("View")
    SubElement(view, "Image", {"name": "image", "value": "$image", "zoom": "true"})
    for tag in ("PolygonLabels", "RectangleLabels", "BrushLabels"):
        labels = SubElement(view, tag, {"name": tag.casefold().removesuffix("labels"), "toName": "image"})
        for i, text in enumerate(names):
            SubElement(labels, "Label", {"value": text, "background": _colour(i)})
    return _xml(view, declaration=False)  # Label Studio takes it as text and refuses one


def _colour(i: int) -> str:
    """The colour of a class, far from those before it; the tool itself gives the names of one object nearly one."""
    red, green, blue = colorsys.hls_to_rgb((0.48 + i * 0.618034) % 1, 0.5, 0.75)
    return f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}"


def labelstudio_result(picture: LabelledPicture, region: Region, stack: MaskStack, i: int) -> dict[str, Any]:
    """Region `i` of a picture, whose masks are `stack`, as Label Studio has it: polygon, rectangle or brush."""
    scale = np.array([picture.width, picture.height]) / 100
    common: dict[str, Any] = {
        "id": f"r{i + 1}",
        "to_name": "image",
        "original_width": picture.width,
        "original_height": picture.height,
        "image_rotation": 0,
    }
    if region.mask is None:
        low, high = np.array(region.box_xyxy[:2]) / scale, np.array(region.box_xyxy[2:]) / scale
        sides = {"x": low[0], "y": low[1], "width": high[0] - low[0], "height": high[1] - low[1]}
        value: dict[str, Any] = {name: float(number) for name, number in sides.items()} | {"rotation": 0}
        kind = "rectangle"
    else:
        rings, crop = _rings(stack, region, i), stack.crop(i)
        value, kind = {}, "polygon"
        if len(rings) == 1 and deviation(crop.bitmap, crop.x0, crop.y0, rings) <= FAITHFUL:
            value["points"] = (rings[0] / scale).tolist()
        else:
            value, kind = {"format": "rle", "rle": encode_brush(stack[i])}, "brush"
    labelled = {**value, f"{kind}labels": [region.name]}
    if region.score is not None:
        common["score"] = round(region.score, 4)
    return {**common, "from_name": kind, "type": f"{kind}labels", "value": labelled}


def _write_label_maps(data: LabelledSet, output: Path, notes: Notes) -> None:
    """`images/`, `masks/` (PNG, 16 bit where there are over 255 classes) and `classes.txt`; parts cover objects."""
    _count_losses(data, notes)
    notes["difficult flags"] += sum(region.difficult for region in data.regions())
    notes["instances (a label map has classes only)"] += sum(
        len(picture.regions) - len({region.name for region in picture.regions}) for picture in data.pictures
    )
    notes["splits (train, val)"] += sum(picture.split is not None for picture in data.pictures)
    kind: type[np.unsignedinteger[Any]] = np.uint8 if len(data.names) < 255 else np.uint16
    stems: set[str] = set()
    for picture in data.pictures:
        name = _safe(picture)
        stem = str(name.with_suffix(""))
        if stem in stems:
            raise DataError(f"two images are called {stem}, with different endings: rename one")
        stems.add(stem)
        _link(picture, output / "images" / name, notes)
        labels = np.zeros((picture.height, picture.width), dtype=kind)
        stack = _stack(picture)
        areas = stack.areas()
        order = sorted(range(len(stack)), key=lambda i: (":" in picture.regions[i].name, -areas[i]))
        for i in order:
            if picture.regions[i].crowd:
                continue
            crop = stack.crop(i)
            window = labels[crop.y0 : crop.y1, crop.x0 : crop.x1]
            notes["pixels of regions under others"] += int(np.count_nonzero(window[crop.bitmap]))
            window[crop.bitmap] = data.index(picture.regions[i].name) + 1
        file = (output / "masks" / name).with_suffix(".png")
        write_file(file, encode_image(Image.fromarray(labels), "PNG", file.name))
    lines = "".join(f"{value} {name}\n" for value, name in enumerate(["background", *data.names]))
    write_file(output / "classes.txt", lines.encode())


FORMS: dict[str, Callable[[LabelledSet, Path, Notes], None]] = {
    "coco": _write_coco,
    "yolo": _write_yolo,
    "labelme": _write_labelme,
    "voc": _write_voc,
    "cvat": _write_cvat,
    "labelstudio": _write_labelstudio,
    "label-maps": _write_label_maps,
}
"""What can be written, by name."""
