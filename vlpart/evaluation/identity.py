"""Which image and which class a detection is of: by the ids of the annotation file, or by the names that it brings.

A file of detections with `images` and `categories` of its own (`vlpart predict --format coco`) numbers them as it
likes: its images are those of the same file name, its classes those of the same name. A plain list of detections has
the ids of the annotation file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from vlpart.data.readers import values
from vlpart.data.readers.coco import Raw
from vlpart.data.readers.values import Id, class_key, identifier
from vlpart.errors import EvaluationError


def file_id(entry: Mapping[str, Any]) -> Id:
    """The id that an image or a category of ground truth has in its file; of several, the first."""
    ids = entry.get("file_ids")
    return ids[0] if ids else entry.get("file_id", entry["id"])


def numbers(entries: Iterable[Mapping[str, Any]]) -> dict[Id, int]:
    """Ids of the file -> numbers of the ground truth, for its images or its categories."""
    number_of: dict[Id, int] = {}
    for entry in entries:
        for key in entry.get("file_ids") or (entry.get("file_id", entry["id"]),):
            number_of[key] = entry["id"]
    return number_of


def is_renumbered(truth: Mapping[str, Any]) -> bool:
    """Whether the file has other ids than the ground truth."""
    entries = (*truth["images"], *truth["categories"])
    return any("file_id" in entry or "file_ids" in entry for entry in entries)


def translated(rows: Sequence[Any], truth: Mapping[str, Any]) -> list[Any]:
    """Detections with the numbers of the ground truth instead of the ids of its file; unknown ids stay."""
    images, categories = numbers(truth["images"]), numbers(truth["categories"])

    def number(known: Mapping[Id, int], value: Any) -> Any:
        """The number of an id of the file; what is no such id stays as it is."""
        key = identifier(value)
        return value if key is None else known.get(key, _Unknown(value))

    found: list[Any] = []
    for row in rows:
        if isinstance(row, Mapping):
            ids = (("image_id", images), ("category_id", categories))
            row = {**row, **{field: number(known, row[field]) for field, known in ids if field in row}}
        found.append(row)
    return found


class _Unknown:
    """An id that the file does not have: it must not pass for a number of the ground truth."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        return repr(self.value)[:60]


def matched(
    content: Mapping[str, Any], truth: Mapping[str, Any], path: Path, left_out: Iterable[str] = ()
) -> tuple[list[Any], list[str]]:
    """The detections of a file that may bring its own images and categories, with the ids of the annotation file.

    Args:
        content: the parsed file, an object with `annotations`.
        truth: from `vlpart.evaluation.truth.check_form`.
        path: of the file, for messages.
        left_out: names of images that the annotation file has and `truth` leaves out on purpose.

    Returns:
        (detections, notes): of left-out images and of classes that nobody asked for there are none.

    Raises:
        EvaluationError: an image or a class that the annotation file does not have, or an image of another size.
    """
    rows = content.get("annotations")
    if not isinstance(rows, list):
        raise EvaluationError(f"{path} is neither a list of detections nor an object with annotations")
    notes: list[str] = []
    images = _Lookup("image_id", _image_ids(content, truth, path, set(left_out)))
    categories = _Lookup("category_id", _category_ids(content, truth, path, notes))
    found, unknown = [], 0
    for place, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise EvaluationError(f"{path}: detection {place} is no JSON object: {str(row)[:60]}")
        ids = {lookup.field: lookup(row, place, path) for lookup in (images, categories)}
        if ids["image_id"] is None:
            continue
        if ids["category_id"] is None:
            unknown += 1
            continue
        found.append({**row, **{field: value for field, value in ids.items() if value is not _KEEP}})
    if unknown:
        notes.append(f"{unknown} detections are of classes that the annotation file does not have; they do not count.")
    return found, notes


_KEEP: Any = object()


class _Lookup:
    """Ids of a file of detections -> ids of the annotation file, or None for what is left out."""

    def __init__(self, field: str, ids: Mapping[Id, Any] | None) -> None:
        self.field, self.ids = field, ids

    def __call__(self, row: Raw, place: int, path: Path) -> Any:
        """The id of the annotation file; `_KEEP` where the file has no list of its own."""
        if self.ids is None:
            return _KEEP
        key = identifier(row.get(self.field))
        if key is None or key not in self.ids:
            shown = repr(row.get(self.field))[:60]
            what = "images" if self.field == "image_id" else "categories"
            raise EvaluationError(f"{path}: detection {place}: {self.field} {shown} is not among its own {what}")
        value = self.ids[key]
        if isinstance(value, EvaluationError):
            raise value
        return value


def _image_ids(
    content: Mapping[str, Any], truth: Mapping[str, Any], path: Path, left_out: set[str]
) -> dict[Id, Any] | None:
    """By file name; where folders differ, by the name without folders if that is clear. None without a list."""
    images = content.get("images")
    if images is None or not any(image.get("file_name") for image in truth["images"]):
        return None
    entries = _listed(images, "images", path)
    known = {image["file_name"]: image for image in truth["images"] if image.get("file_name")}
    names = {key: values.file_path(image.get("file_name")) or "" for key, image in entries.items()}
    short, own = _unique_last(known), _unique_last(dict.fromkeys(names.values()))
    found: dict[Id, Any] = {}
    for key, name in names.items():
        last = PurePosixPath(name).name
        image = known.get(name) or (short.get(last) if last in own else None)
        if image is not None:
            found[key] = file_id(image)
            _check_size(entries[key], image, name, path)
        elif name in left_out or last in {PurePosixPath(each).name for each in left_out}:
            found[key] = None
        else:
            found[key] = EvaluationError(
                f"{path}: its image {key} is {name!r:.120}, which the annotation file does not have"
            )
    return found


def _unique_last(names: Mapping[str, Any]) -> dict[str, Any]:
    """By the name without folders, where only one has it."""
    found: dict[str, list[Any]] = {}
    for name, value in names.items():
        found.setdefault(PurePosixPath(name).name, []).append(value)
    return {name: same[0] for name, same in found.items() if len(same) == 1}


def _check_size(entry: Raw, image: Mapping[str, Any], name: str, path: Path) -> None:
    stated = (values.side(entry.get("width")), values.side(entry.get("height")))
    wanted = (image.get("width"), image.get("height"))
    if None not in stated and None not in wanted and stated != wanted:
        turned = " (was it turned by its EXIF orientation?)" if stated == wanted[::-1] else ""
        raise EvaluationError(
            f"{path}: {name!r:.120} is {stated[0]}x{stated[1]} there and {wanted[0]}x{wanted[1]} in the annotation "
            f"file{turned}"
        )


def _category_ids(
    content: Mapping[str, Any], truth: Mapping[str, Any], path: Path, notes: list[str]
) -> dict[Id, Any] | None:
    """By class name. Names that the annotation file does not have are left out, if all of its own are there."""
    categories = content.get("categories")
    if categories is None:
        return None
    entries = _listed(categories, "categories", path)
    category_of = {class_key(category["name"]): category for category in truth["categories"]}
    names = {key: entry.get("name") for key, entry in entries.items()}
    for key, name in names.items():
        if not isinstance(name, str) or not name.strip():
            raise EvaluationError(f"{path}: its category {key} has no name")
    found: dict[Id, Any] = {}
    unknown = []
    for key, name in names.items():
        category = category_of.get(class_key(str(name)))
        found[key] = None if category is None else file_id(category)
        if category is None:
            unknown.append(str(name))
    given = {class_key(str(name)) for name in names.values()}
    absent = [str(category["name"]) for name, category in category_of.items() if name not in given]
    if absent and unknown:
        raise EvaluationError(
            f"{path}: its class {unknown[0]!r:.80} is not in the annotation file, whose class {absent[0]!r:.80} it "
            "does not have: call them the same"
        )
    if absent:
        notes.append(f"The detections were made without {len(absent)} classes of the data, first {absent[0]!r:.80}.")
    return found


def _listed(entries: Any, what: str, path: Path) -> dict[Id, Raw]:
    """The entries of a list by id."""
    if not isinstance(entries, list):
        raise EvaluationError(f"{path}: its {what} are a {type(entries).__name__}, expected a list")
    entry_of: dict[Id, Raw] = {}
    for entry in entries:
        key = identifier(entry.get("id")) if isinstance(entry, Mapping) else None
        if key is None or key in entry_of:
            raise EvaluationError(f"{path}: its {what} need distinct ids; {str(entry)[:60]} has none of its own")
        entry_of[key] = entry
    return entry_of
