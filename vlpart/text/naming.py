"""What a category name may be, the small syntax "car: wheel, door; dog head; person", and files with lists of names.

Lists come from the package's own `vlpart/vocabularies/*.json`, from text files, and from COCO files.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from vlpart.errors import VocabularyError
from vlpart.files import is_file, read_regular

MAX_NAME_LENGTH = 200
"""Characters in one name. CLIP reads 77 word pieces, so that anything longer would be cut anyway."""

MAX_NAMES = 200_000
MAX_TEXT_BYTES = 50_000_000
MAX_JSON_BYTES = 4_000_000_000
"""Of a vocabulary in JSON, which may be a COCO file with all its annotations."""

MAX_ID = 1 << 63
"""Ids are below it, in both directions: 64-bit numbers, as in COCO files. Larger ones can be chosen so that all of them
fall on one place of a dictionary."""

_DECOMPOSED = 4  # characters that become one at most

Named = tuple[str, str | None, str | None]
"""(display name, object, part); object and part are both None for a name that is no part."""


def clean_name(name: object, where: str) -> str:
    """One name with single spaces and in composed Unicode form; upper and lower case stay as they are.

    Raises:
        VocabularyError: not a string, empty, longer than `MAX_NAME_LENGTH`, or with control characters; `where` is
            named.
    """
    if not isinstance(name, str):
        raise VocabularyError(f"{where} is a {type(name).__name__}, not a string.")
    for character in name:
        if unicodedata.category(character) in ("Cc", "Cs"):  # some 50 ns each
            raise VocabularyError(f"{where} has a control character (U+{ord(character):04X}); remove it.")
    text = " ".join(name.split())
    if len(text) <= _DECOMPOSED * MAX_NAME_LENGTH:  # longer ones stay too long, and composing takes quadratic time
        text = unicodedata.normalize("NFC", text)
    if not text:
        raise VocabularyError(f"{where} is empty; name an object or a part.")
    if len(text) > MAX_NAME_LENGTH:
        raise VocabularyError(f"{where} has {len(text)} characters ('{text[:40]}...'); the limit is {MAX_NAME_LENGTH}.")
    return text


def split_name(name: object, where: str) -> Named:
    """ "car : wheel" -> ("car:wheel", "car", "wheel"); "dog head" -> ("dog head", None, None).

    Raises:
        VocabularyError: see `clean_name`; also a missing side of the colon, or more than one colon.
    """
    text = clean_name(name, where)
    if ":" not in text:
        return text, None, None
    owner, _, part = (side.strip() for side in text.partition(":"))
    if not owner or not part:
        raise VocabularyError(f"{where} ('{text}') needs an object before ':' and a part after it, as in 'car: wheel'.")
    if ":" in part:
        raise VocabularyError(f"{where} ('{text}') has more than one ':'; write 'object: part, part'.")
    return f"{owner}:{part}", owner, part


def parse_names(text: object) -> list[Named]:
    """Read the inline syntax.

    Pieces are separated by ';' or line breaks, names in a piece by ','. "object: part, part" names an object and its
    parts: an entry for the object (once, however many pieces mention it before a colon) and one per part. Names in a
    piece without a colon (or before one) are plain. Names keep their order.

    Raises:
        VocabularyError: not a string, nothing named, an empty piece, a name that `clean_name` refuses, or a name given
            twice.
    """
    if not isinstance(text, str):
        raise VocabularyError(
            f"A vocabulary to parse must be a string, not a {type(text).__name__}; use Vocabulary.from_names."
        )
    named: list[Named] = []
    seen: set[str] = set()
    number = 0
    for line in re.split(r"\r\n|\r|\n", text):
        pieces = line.split(";")
        if not pieces[-1].strip():
            pieces.pop()
        for piece in pieces:
            number += 1
            owner: str | None = None
            for token in piece.replace("\t", " ").split(","):
                where = f"Piece {number} of the vocabulary"
                if ":" in token:
                    _, owner, part = split_name(token, where)
                elif owner is not None:
                    part = clean_name(token, where)
                else:
                    named.append((clean_name(token, where), None, None))
                    seen.add(named[-1][0].casefold())
                    continue
                if owner is not None and owner.casefold() not in seen:
                    seen.add(owner.casefold())
                    named.append((owner, None, None))
                named.append((f"{owner}:{part}", owner, part))
                if len(named) > MAX_NAMES:
                    raise VocabularyError(f"The vocabulary has more than {MAX_NAMES} names.")
    if not named:
        raise VocabularyError("The vocabulary is empty; name what to look for, as in 'car: wheel, door; person'.")
    refuse_duplicates([name for name, *_ in named])
    return named


def refuse_duplicates(names: Sequence[str]) -> None:
    """Raise VocabularyError if a name occurs twice (upper and lower case count as the same)."""
    first: dict[str, int] = {}
    for i, name in enumerate(names):
        before = first.setdefault(name.casefold(), i)
        if before != i:
            raise VocabularyError(f"'{name}' is named twice (entries {before + 1} and {i + 1}); remove one.")


def recognise_parts(named: Sequence[Named], known_parts: Iterable[str]) -> list[Named]:
    """Plain names "<object> <part>" become parts: "dog head" is the head of "dog" if "dog" is an entry too.

    Only if the last words are a part name that the vocabulary itself or `known_parts` has ("table lamp" stays an
    object beside "table"). The longest object wins. The display name stays as it is.
    """
    objects = {name.casefold(): name for name, _, part in named if part is None}
    parts = {part.casefold() for part in known_parts} | {part.casefold() for *_, part in named if part is not None}
    result: list[Named] = []
    for name, owner, part in named:
        words = name.split(" ")
        if part is None:
            for cut in range(len(words) - 1, 0, -1):
                head, tail = " ".join(words[:cut]), " ".join(words[cut:])
                if head.casefold() in objects and tail.casefold() in parts:
                    owner, part = objects[head.casefold()], tail
                    break
        result.append((name, owner, part))
    return result


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
    """The document of a list of the package; a union has the entries of its lists, each name once, with ids from 1."""
    document = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    if "union" in document:
        entries: dict[str, dict[str, Any]] = {}
        for part in document.pop("union"):
            for entry in read_list(part)["entries"]:
                entries.setdefault(entry["name"].casefold(), entry)
        document["entries"] = [entry | {"id": i} for i, entry in enumerate(entries.values(), 1)]
    return document


@cache
def part_names(lists: tuple[str, ...]) -> frozenset[str]:
    """Every part name of these lists of the package, in small letters."""
    entries = (entry for name in lists for entry in read_list(name)["entries"])
    return frozenset((e["part"] if "part" in e else e["name"].partition(":")[2]).casefold() for e in entries) - {""}


def looks_like_file(text: str) -> bool:
    """Whether a string means a file: a .txt or .json ending, or a file of that name."""
    if "\n" in text or "\0" in text or len(text) > 1000:
        return False
    return text.lower().endswith((".txt", ".json")) or is_file(text)


def read_document(path: Path) -> Any:
    """The text of a `.txt` file without comments, or the parsed content of a `.json` file.

    Raises:
        VocabularyError: not a file, not UTF-8, not JSON, or another file type.
    """
    if path.suffix.lower() not in (".txt", ".json"):
        raise VocabularyError(f"'{path}' is neither .txt nor .json; a vocabulary file is one of these.")
    try:
        plain = path.suffix.lower() == ".txt"
        text = read_regular(path, MAX_TEXT_BYTES if plain else MAX_JSON_BYTES).decode("utf-8-sig")
    except (OSError, ValueError, MemoryError) as error:
        reason = "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else ""
        reason = reason or getattr(error, "strerror", None) or str(error) or "it is too large for the memory"
        raise VocabularyError(f"The vocabulary file '{path}' cannot be read: {reason}.") from error
    if path.suffix.lower() == ".txt":
        lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
        if not lines:
            raise VocabularyError(f"The vocabulary file '{path}' names nothing; write one phrase per line.")
        return "\n".join(lines)
    try:
        return json.loads(text)
    except (ValueError, RecursionError, MemoryError) as error:
        reason = str(error) or type(error).__name__
        raise VocabularyError(f"The vocabulary file '{path}' is not valid JSON ({reason}).") from error


def categories_of(document: Any) -> Iterable[Mapping[str, Any]]:
    """The category dictionaries of our own form, a COCO file, or a plain list."""
    if isinstance(document, dict):
        document = document.get("entries", document.get("categories"))
    if not isinstance(document, list):
        raise VocabularyError("A JSON vocabulary needs a list under 'entries' or 'categories', or is a list of names.")
    if len(document) > MAX_NAMES:
        raise VocabularyError(f"The vocabulary has {len(document)} categories; the limit is {MAX_NAMES}.")
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
            raise VocabularyError(f"{where} ('{name}') needs a whole number as 'id', not a {type(number).__name__}.")
        if not -MAX_ID < number < MAX_ID:
            raise VocabularyError(f"{where} ('{name}') has an 'id' of more than 64 bits.")
        owner, part = category.get("object"), category.get("part")
        if not all(isinstance(side, str) and side and len(side) <= MAX_NAME_LENGTH for side in (owner, part)):
            owner, _, part = name.partition(":")
            owner, part = (owner.strip(), part.strip()) if owner.strip() and part.strip() else (None, None)
        optional = {key: category[key] for key in OPTIONAL if category.get(key) is not None}
        _check_optional(optional, where)
        ranges = category.get("imagenet_id") or ()
        try:
            optional["imagenet_id"] = tuple((int(first), int(last)) for first, last in ranges)
        except (TypeError, ValueError, OverflowError) as error:
            raise VocabularyError(f"{where} ('{name}'): 'imagenet_id' is a list of [first, last] pairs.") from error
        entries.append(make(name=name, id=number, object=owner, part=part, **optional))
    return tuple(entries)


def _check_optional(fields: Mapping[str, Any], where: str) -> None:
    for key, value in fields.items():
        kind = int if key == "image_count" else str
        if not isinstance(value, kind) or isinstance(value, bool):
            raise VocabularyError(f"{where}: '{key}' must be a {kind.__name__}, not a {type(value).__name__}.")
        if isinstance(value, str) and len(value) > 5 * MAX_NAME_LENGTH:
            raise VocabularyError(f"{where}: '{key}' has {len(value)} characters; the limit is {5 * MAX_NAME_LENGTH}.")


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
