"""COCO JSON with the additions of LVIS (`pos_category_ids` and kin, `coco_url`) and of crops (`source_image`); and LVIS
JSON (LVIS itself and PACO), whose file names come from `coco_url`.

This and `vlpart.data.readers.regions` are the only places that say what a valid file is: training, the check,
evaluation and conversion all read through `read_header` and `read_regions`, and differ only in what they do with a
problem (`vlpart.data.readers.base`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlpart.data.readers import values
from vlpart.data.readers.base import AnnotationFile, CategoryEntry, ImageEntry, Problem, refuse
from vlpart.data.readers.regions import Raw, read_regions
from vlpart.data.readers.values import Id, identifier
from vlpart.errors import DataError
from vlpart.files import read_json, why
from vlpart.text.naming import MAX_NAME_LENGTH

#: Fields of an image with ids of categories -> those of `ImageEntry`.
_ID_LISTS = {
    "pos_category_ids": "positive_ids",
    "neg_category_ids": "negative_ids",
    "not_exhaustive_category_ids": "not_exhaustive_ids",
}


@dataclass(kw_only=True)
class Header:
    """A file without the regions of its annotations.

    Attributes:
        path: of the file, for messages.
        images, categories: by the id in the file, in the order of the file; categories in ascending id.
        annotations: raw entries of listed images, by the id of the image in the file.
        total_annotations: of the file, usable or not.
    """

    path: Path
    images: dict[Id, ImageEntry]
    categories: dict[Id, CategoryEntry]
    annotations: dict[Id, list[Raw]]
    total_annotations: int


def read_coco(path: Path, problem: Problem | None = None, *, masks: bool = True) -> AnnotationFile:
    """Read a COCO-style JSON file.

    Args:
        path: a file with `images` and `categories`, and `annotations` unless the images carry `pos_category_ids` only.
        problem: what to do about entries that cannot be used; default: raise.
        masks: parse and check segmentations; without, only where a box is missing.

    Returns:
        Categories sorted by id and images in file order. `bbox` [x, y, w, h] becomes (x, y, x + w, y + h).

    Raises:
        DataError: missing file, broken JSON, or (unless `problem` collects them) missing fields, ids that are none or
            occur twice, annotations of images that are not listed, boxes and masks that are not what they should be.
    """
    return read_content(load_json(path), path, problem, masks=masks)


def read_content(
    content: dict[str, Any], path: Path, problem: Problem | None = None, *, masks: bool = True
) -> AnnotationFile:
    """What `read_coco` does with the parsed content of `path`."""
    report = problem or refuse(path)
    header = read_header(content, path, report)
    has_masks = any(
        a.get("segmentation") and not values.flag(a.get("iscrowd"))
        for group in header.annotations.values()
        for a in group
    )
    images = _images(header, report, masks=masks)
    return AnnotationFile(categories=list(header.categories.values()), images=images, has_masks=has_masks)


def read_lvis(path: Path, problem: Problem | None = None, *, masks: bool = True) -> AnnotationFile:
    """Read an LVIS-style JSON file; like `read_coco`, but with the file names of LVIS.

    Args:
        path: LVIS v1 (`lvis_v1_train.json`, minival) or PACO (`paco_lvis_v1_train.json`).
        problem, masks: as for `read_coco`.

    Returns:
        As `read_coco`. A file name is the last two parts of `coco_url` ("train2017/000000000009.jpg"), or `file_name`
        where there is no `coco_url`.

    Raises:
        DataError: as `read_coco`, or images without `neg_category_ids`: then it is no LVIS file.
    """
    content = load_json(path)
    images = content.get("images")
    if isinstance(images, list):
        plain = sum(isinstance(image, dict) and "neg_category_ids" not in image for image in images)
        if plain:
            raise DataError(
                f"{path}: {plain} images have no neg_category_ids, so this is no LVIS file; use reader='coco'"
            )
        content["images"] = [_renamed(image) for image in images]
    return read_content(content, path, problem, masks=masks)


def _images(header: Header, problem: Problem, *, masks: bool) -> Iterator[ImageEntry]:
    for image, entries in read_regions(
        header.images.values(), header.annotations, header.categories, problem, masks=masks
    ):
        image.annotations = [entry for _, entry in entries]
        yield image


def load_json(path: Path) -> dict[str, Any]:
    """The parsed content of a COCO-style JSON file, in UTF-8 (with or without a byte order mark), UTF-16 or UTF-32.

    Raises:
        DataError: missing file, no regular file, broken JSON, or something else than an object.
    """
    content = parse_json(path, "the annotations ")
    if not isinstance(content, dict):
        raise DataError(
            f"{path} is not a COCO file: the outermost value is a {type(content).__name__}, expected an object"
        )
    return content


def parse_json(path: Path, what: str) -> Any:
    """Any JSON file; see `load_json`. `what`: "" or what it is with a space, for the message."""
    try:
        return read_json(path)
    except OSError as error:
        raise DataError(f"cannot read {what}{path}: {why(error)}") from None
    except ValueError as error:
        raise DataError(f"{path} is not valid JSON ({why(error)}); is the download complete?") from None


def read_header(
    content: Mapping[str, Any], path: Path, problem: Problem | None = None, *, with_files: bool = True
) -> Header:
    """Images and categories of the parsed content of a file, and its annotations by image.

    Args:
        content: the parsed file.
        path: of the file, for messages.
        problem: what to do about entries that cannot be used; default: raise.
        with_files: images need a file name and a size. Scoring detections needs neither.

    Raises:
        DataError: the lists are missing; with the default `problem` any entry that cannot be used.
    """
    report = problem or refuse(path)
    if content.get("info") is not None and not isinstance(content["info"], Mapping):
        report("broken-entry", f"'info' is a {type(content['info']).__name__}, expected an object")
    listed = _list_of(content, "images", path)
    categories = _categories(_list_of(content, "categories", path), report)
    images = _image_entries(listed, categories, report, with_files=with_files)
    raw = content.get("annotations")
    if raw is not None and not isinstance(raw, list):
        report("broken-entry", f"annotations are a {type(raw).__name__}, expected a list")
        raw = None
    by_image = _by_image(raw or [], images, report)
    return Header(
        path=path, images=images, categories=categories, annotations=by_image, total_annotations=len(raw or ())
    )


def _list_of(content: Mapping[str, Any], key: str, path: Path) -> list[Any]:
    value = content.get(key)
    if not isinstance(value, list):
        raise DataError(f"{path} is not a COCO file: it has no list {key!r}")
    return value


def _identified(entries: Sequence[Any], what: str, problem: Problem) -> dict[Id, Raw]:
    """Entries by id; those without one, or with that of another, are reported."""
    entry_of: dict[Id, Raw] = {}
    repeated: list[Id] = []
    article = "an" if what[0] in "aeiou" else "a"
    for entry in entries:
        if not isinstance(entry, Mapping) or entry.get("id") is None:
            problem("broken-entry", f"{article} {what} has no 'id': {str(entry)[:60]}")
        elif (key := identifier(entry["id"])) is None:
            shown = str(entry["id"])[:60]
            problem("broken-entry", f"{article} {what} has the id {shown}, expected a whole number or a string")
        elif key in entry_of:
            repeated.append(key)
        else:
            entry_of[key] = entry
    if repeated:
        shown = ", ".join(str(key)[:40] for key in repeated[:3])
        text = f"{len(repeated)} {what} ids occur twice, first [{shown}]; ids must be unique"
        problem(f"duplicate-{what}-id", text)
    return entry_of


def _numbers(ids: Sequence[Id]) -> dict[Id, int]:
    """Ids as numbers from 0 on: themselves where all of them are such numbers, else 1, 2, ... in this order."""
    if all(isinstance(key, int) and key >= 0 for key in ids):
        return {key: int(key) for key in ids}
    return {key: place for place, key in enumerate(ids, start=1)}


def _categories(entries: Sequence[Any], problem: Problem) -> dict[Id, CategoryEntry]:
    raw = _identified(entries, "category", problem)
    ids = sorted(raw, key=values.order)
    return {key: _category(raw[key], key, number, problem) for key, number in _numbers(ids).items()}


def _category(entry: Raw, key: Id, number: int, problem: Problem) -> CategoryEntry:
    texts = {field: entry.get(field) for field in ("name", "object", "part", "frequency")}
    for field, value in texts.items():
        if value is None:
            continue
        if not isinstance(value, str):
            problem("broken-entry", f"category {key} has a name, object, part or frequency that is not a string")
        elif len(value) > MAX_NAME_LENGTH:
            said = f"a {field} of {len(value)} characters, {MAX_NAME_LENGTH} are the limit"
            problem("broken-entry", f"category {key} has {said}: {value[:40]!a}...")
        elif not (shown := " ".join(value.split())).isprintable():
            problem("broken-entry", f"category {key} has a {field} with a character that nothing shows: {value!a:.80}")
        else:
            texts[field] = shown
            continue
        texts[field] = None
    name, object_name, part_name = texts["name"], texts["object"], texts["part"]
    if name and object_name is None and ":" in name:
        object_name, part_name = (text.strip() for text in name.split(":", 1))
    count = values.number(entry.get("image_count"))
    if entry.get("image_count") is not None and (count is None or not count.is_integer() or count < 0):
        problem("broken-entry", f"category {key} has the image_count {str(entry['image_count'])[:40]}")
        count = None
    return CategoryEntry(
        id=number,
        name=name,
        object=object_name,
        part=part_name,
        image_count=None if count is None else int(count),
        frequency=texts["frequency"],
        file_id=key,
        written=entry["name"] if name is not None and name != entry["name"] else None,
    )


def _image_entries(
    entries: Sequence[Any], categories: Mapping[Id, CategoryEntry], problem: Problem, *, with_files: bool
) -> dict[Id, ImageEntry]:
    raw = _identified(entries, "image", problem)
    images: dict[Id, ImageEntry] = {}
    for key, number in _numbers(list(raw)).items():
        image = _image(raw[key], key, number, problem, with_files=with_files)
        if image is None:
            continue
        for field, attribute in (
            ("pos", "positive_ids"),
            ("neg", "negative_ids"),
            ("not_exhaustive", "not_exhaustive_ids"),
        ):
            setattr(image, attribute, _known_ids(raw[key], f"{field}_category_ids", key, categories, problem))
        images[key] = image
    return images


def _image(entry: Raw, key: Id, number: int, problem: Problem, *, with_files: bool) -> ImageEntry | None:
    name = entry.get("file_name") or _address_name(entry.get("coco_url"))
    path = values.file_path(name)
    if path is None and (with_files or name is not None):
        said = (
            "has neither file_name nor coco_url; add one" if name is None else f"has no usable file_name: {name!a:.80}"
        )
        problem("broken-entry", f"image {key} {said}")
        return None
    height, width = (values.side(entry.get(side)) for side in ("height", "width"))
    if height is None or width is None:
        sides = {side: entry.get(side) for side in ("height", "width")}
        if with_files or any(value is not None for value in sides.values()):
            missing = next((side for side, value in sides.items() if value is None), None)
            size = f"{sides['width']!r:.40}x{sides['height']!r:.40}"
            said = f"has no {missing!r}" if missing else f"has the size {size}, expected whole pixels"
            problem("broken-entry", f"image {key} {said}")
            return None
        height = width = 0
    if height * width > values.MAX_PIXELS:
        problem("broken-entry", f"image {key} has the size {width}x{height}, more than {values.MAX_PIXELS:,} pixels")
        return None
    source = entry.get("source_image")
    if source is not None and not isinstance(source, str | int | float):
        problem("broken-entry", f"image {key} has the source_image {str(source)[:40]}, expected a name")
        source = None
    return ImageEntry(
        id=number,
        file_name=path or "",
        width=width,
        height=height,
        source_image=None if source in (None, "") else str(source)[: values.LONGEST_NAME],
        file_id=key,
    )


def _known_ids(
    entry: Raw, field: str, image: Id, categories: Mapping[Id, CategoryEntry], problem: Problem
) -> list[int]:
    """A list of category ids of an image."""
    listed = entry.get(field)
    if listed is None:
        return []
    if not isinstance(listed, list):
        problem("broken-entry", f"image {image}: {field} {str(listed)[:60]}, expected a list")
        return []
    known = []
    for value in listed:
        key = identifier(value)
        if key is None or key not in categories:
            problem("unknown-category", f"image {image} has the unknown category {str(value)[:60]} in {field}")
        else:
            known.append(categories[key].id)
    return known


def _by_image(entries: Sequence[Any], images: Mapping[Id, ImageEntry], problem: Problem) -> dict[Id, list[Raw]]:
    """Annotations by image; those of images that are not listed are reported."""
    by_image: dict[Id, list[Raw]] = defaultdict(list)
    for entry in entries:
        if not isinstance(entry, Mapping):
            problem("broken-entry", f"an annotation is no object: {str(entry)[:60]}")
            continue
        image_id = entry.get("image_id")
        key = identifier(image_id)
        if key is not None and key in images:
            by_image[key].append(entry)
        elif image_id is None:
            problem("annotation-without-image", f"annotation {str(entry.get('id'))[:40]} has no 'image_id'")
        else:
            shown = str(image_id)[:40]
            text = (
                f"annotation {str(entry.get('id'))[:40]} is of image {shown}: annotations of images that are not listed"
            )
            problem("annotation-without-image", text)
    return dict(by_image)


def _address_name(address: Any) -> str | None:
    """File name of an address of LVIS: its last two parts, `train2017/000000000009.jpg`."""
    return "/".join(address.split("/")[-2:]) if isinstance(address, str) and address else None


def image_name(image: Mapping[str, Any]) -> str | None:
    """File name of an LVIS image relative to the COCO folder, or None if the entry has neither address nor name."""
    address, name = image.get("coco_url"), image.get("file_name")
    if isinstance(address, str) and "/" in address:
        return _address_name(address)
    return name if isinstance(name, str) and name else None


def _renamed(image: Any) -> Any:
    if not isinstance(image, dict):
        return image
    name = image_name(image)
    return image if name is None else {**image, "file_name": name}
