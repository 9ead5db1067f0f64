"""Single values of annotation files: what counts as an id, a flag, a size or a file name, and what does not.

Every function gives the one meaning of a value, or None where it has none; the caller says where that was.
"""

from __future__ import annotations

import math
import re
import unicodedata
from typing import Any

#: An id in its one form, see `identifier`.
Id = int | str

#: Whole numbers below this are exact as float64, and are their own hash.
LARGEST_NUMBER = 2**53
LONGEST_NAME = 1000
"""Characters of a name. Bringing longer ones to their normal form takes time that grows with the square."""
MAX_SIDE = 1_000_000
MAX_PIXELS = 200_000_000
"""Pixels that an annotated image may have: what claims more is no image that could be read, and its masks take GBs."""

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://[^/]*")
_DRIVE = re.compile(r"[A-Za-z]:(?=/)")
_FLAGS = {"0": False, "1": True, "false": False, "true": True}


def identifier(value: Any) -> Id | None:
    """An id of a file: a whole number or a string.

    Numbers and strings of their digits are the same id, as files come that write the one here and the other there. What
    is beyond 2^53, up or down, is kept as text: no float can hold it. None for anything else (bool, 1.5, null, lists).
    """
    kind = type(value)
    if kind is int:
        return value if -LARGEST_NUMBER < value < LARGEST_NUMBER else _digits(value)
    if kind is float:
        return int(value) if value.is_integer() and abs(value) < LARGEST_NUMBER else None
    if kind is str and value and len(value) <= LONGEST_NAME and is_text(value):
        return int(value) if _is_plain_number(value) else value
    return None


def _digits(value: int) -> str | None:
    try:
        return str(value)
    except ValueError:  # more digits than Python turns into text
        return None


def _is_plain_number(text: str) -> bool:
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 16) or (digits[0] == "0" and text != "0"):
        return False
    return int(digits) < LARGEST_NUMBER


def order(identifier: Id) -> tuple[int, int, str]:
    """Sorts ids: numbers by value, then texts."""
    return (0, identifier, "") if isinstance(identifier, int) else (1, 0, identifier)


def flag(value: Any) -> bool | None:
    """`iscrowd` and its kin: 0, 1, false, true, as numbers or text; nothing (null, "") is 0. None = no flag."""
    if value is None or value == "":
        return False
    if isinstance(value, bool | int | float):
        return bool(value) if value in (0, 1) else None
    return _FLAGS.get(value.strip().casefold()) if isinstance(value, str) and len(value) < 10 else None


def number(value: Any) -> float | None:
    """A finite number as float; None for anything else (NaN and what is beyond float64 included)."""
    if type(value) is not int and type(value) is not float:
        return None
    try:
        as_float = float(value)
    except OverflowError:
        return None
    return as_float if math.isfinite(as_float) else None


def side(value: Any) -> int | None:
    """A height or width in pixels: whole (640 or 640.0), from 1 to `MAX_SIDE`."""
    pixels = number(value)
    return int(pixels) if pixels is not None and pixels.is_integer() and 1 <= pixels <= MAX_SIDE else None


def is_text(value: str) -> bool:
    """Whether a string can be written as UTF-8: no halves of surrogate pairs."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def has_control(name: str) -> bool:
    """Whether a name holds line breaks or other control characters."""
    return any(unicodedata.category(character) == "Cc" for character in name)


def class_key(name: str) -> str:
    """What names of one class share: case, spaces and underscores aside. Their text vectors are the same."""
    return " ".join(unicodedata.normalize("NFC", name[:LONGEST_NAME]).casefold().replace("_", " ").split())


def file_path(name: Any) -> str | None:
    """A `file_name` as a path with "/": of addresses the path, of Windows names the folders, without "./".

    None for what no file can be called: no text, empty, with a null character, or with half a surrogate pair that
    stands for no byte.
    """
    if not isinstance(name, str) or not name.strip() or "\0" in name:
        return None
    try:
        name.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        return None
    if _SCHEME.match(name):
        name = _SCHEME.sub("", name, count=1).split("?", 1)[0].split("#", 1)[0]
    name = name.replace("\\", "/")
    name = _DRIVE.sub("", name, count=1)
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if not parts:
        return None
    return ("/" if name.startswith("/") else "") + "/".join(parts)
