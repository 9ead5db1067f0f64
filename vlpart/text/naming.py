"""What a category name may be, and the small syntax "car: wheel, door; dog head; person"."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

from vlpart.errors import VocabularyError

MAX_NAME_LENGTH = 200
"""Characters in one name. CLIP reads 77 word pieces, so that anything longer would be cut anyway."""

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
        if unicodedata.category(character) in ("Cc", "Cs"):
            raise VocabularyError(f"{where} has a control character (U+{ord(character):04X}); remove it.")
    text = " ".join(unicodedata.normalize("NFC", name).split())
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
    found: list[Named] = []
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
                    found.append((clean_name(token, where), None, None))
                    seen.add(found[-1][0].casefold())
                    continue
                if owner is not None and owner.casefold() not in seen:
                    seen.add(owner.casefold())
                    found.append((owner, None, None))
                found.append((f"{owner}:{part}", owner, part))
    if not found:
        raise VocabularyError("The vocabulary is empty; name what to look for, as in 'car: wheel, door; person'.")
    refuse_duplicates([name for name, *_ in found])
    return found


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
