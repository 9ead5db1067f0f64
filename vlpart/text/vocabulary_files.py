"""Reading category lists: the package's own `vlpart/vocabularies/*.json`, text files, COCO files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from vlpart.errors import VocabularyError
from vlpart.text.naming import MAX_NAME_LENGTH

FOLDER = Path(__file__).resolve().parents[1] / "vocabularies"
OPTIONAL = ("image_count", "frequency", "abbr", "text", "wnid")
E = TypeVar("E")


@cache
def _available() -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in FOLDER.glob("*.json")))


def available() -> list[str]:
    """Names of the lists of the package, sorted."""
    return list(_available())


def read_list(name: str) -> dict[str, Any]:
    """The document of a list of the package."""
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


@cache
def part_names(lists: tuple[str, ...]) -> frozenset[str]:
    """Every part name of these lists of the package, in small letters."""
    entries = (entry for name in lists for entry in read_list(name)["entries"])
    return frozenset((e["part"] if "part" in e else e["name"].partition(":")[2]).casefold() for e in entries) - {""}


def looks_like_file(text: str) -> bool:
    """Whether a string means a file: a .txt or .json ending, or a file of that name."""
    if "\n" in text or "\0" in text or len(text) > 1000:
        return False
    try:
        return text.lower().endswith((".txt", ".json")) or Path(text).is_file()
    except OSError:
        return False


def read_document(path: Path) -> Any:
    """The text of a `.txt` file without comments, or the parsed content of a `.json` file.

    Raises:
        VocabularyError: not a file, not UTF-8, not JSON, or another file type.
    """
    if path.suffix.lower() not in (".txt", ".json"):
        raise VocabularyError(f"'{path}' is neither .txt nor .json; a vocabulary file is one of these.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise VocabularyError(f"The vocabulary file '{path}' cannot be read: {reason}.") from error
    if path.suffix.lower() == ".txt":
        lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
        if not lines:
            raise VocabularyError(f"The vocabulary file '{path}' names nothing; write one phrase per line.")
        return "\n".join(lines)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise VocabularyError(f"The vocabulary file '{path}' is not valid JSON ({error}).") from error


def categories_of(document: Any) -> Iterable[Mapping[str, Any]]:
    """The category dictionaries of our own form, a COCO file, or a plain list."""
    if isinstance(document, dict):
        document = document.get("entries", document.get("categories"))
    if not isinstance(document, list):
        raise VocabularyError("A JSON vocabulary needs a list under 'entries' or 'categories', or is a list of names.")
    return document


def entries_from(categories: Iterable[Mapping[str, Any]], make: Callable[..., E]) -> tuple[E, ...]:
    """Turn category dictionaries into entries; "object:part" is split where no "object" and "part" are given.

    Raises:
        VocabularyError: a category without a name, or with a field of the wrong type.
    """
    entries = []
    for i, category in enumerate(categories):
        where = f"Category {i + 1}"
        if not isinstance(category, Mapping):
            raise VocabularyError(f"{where} is a {type(category).__name__}, not an object with 'id' and 'name'.")
        name, number = category.get("name"), category.get("id", i + 1)
        if not isinstance(name, str) or not name.strip() or len(name) > MAX_NAME_LENGTH or not name.isprintable():
            raise VocabularyError(f"{where} needs a 'name' of 1 to {MAX_NAME_LENGTH} printable characters.")
        if not isinstance(number, int) or isinstance(number, bool):
            raise VocabularyError(f"{where} ('{name}') needs a whole number as 'id', not {number!r}.")
        owner, part = category.get("object"), category.get("part")
        if not (isinstance(owner, str) and isinstance(part, str) and owner and part):
            owner, _, part = name.partition(":")
            owner, part = (owner.strip(), part.strip()) if owner.strip() and part.strip() else (None, None)
        optional = {key: category[key] for key in OPTIONAL if category.get(key) is not None}
        _check_optional(optional, where)
        ranges = category.get("imagenet_id") or ()
        try:
            optional["imagenet_id"] = tuple((int(first), int(last)) for first, last in ranges)
        except (TypeError, ValueError) as error:
            raise VocabularyError(f"{where} ('{name}'): 'imagenet_id' is a list of [first, last] pairs.") from error
        entries.append(make(name=name, id=number, object=owner, part=part, **optional))
    return tuple(entries)


def _check_optional(fields: Mapping[str, Any], where: str) -> None:
    for key, value in fields.items():
        wanted = int if key == "image_count" else str
        if not isinstance(value, wanted) or isinstance(value, bool):
            raise VocabularyError(f"{where}: '{key}' must be a {wanted.__name__}, not {value!r}.")


def to_document(title: str, about: str, entries: Sequence[Any]) -> dict[str, Any]:
    """The package's own JSON form; object and part are written only where the name does not say them."""
    rows = []
    for entry in entries:
        row: dict[str, Any] = {"id": entry.id, "name": entry.name}
        if entry.part is not None and entry.name != f"{entry.object}:{entry.part}":
            row |= {"object": entry.object, "part": entry.part}
        row |= {key: getattr(entry, key) for key in OPTIONAL if getattr(entry, key) is not None}
        if entry.imagenet_id:
            row["imagenet_id"] = [list(pair) for pair in entry.imagenet_id]
        rows.append(row)
    return {"name": title, "about": about, "entries": rows}
