"""Arguments of Python callers: what is of another type than a signature says is refused by name, where it comes in."""

from __future__ import annotations

import math
import operator
import os
import types
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from functools import cache
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

_MOST = 1 << 63

_NAMES: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "True or False",
    Path: "a path",
    type(None): "None",
}


def in_range(name: str, value: Any, low: float, high: float) -> float:
    """A number between two others, the ends included; not True or False, no text, no NaN.

    Raises:
        ValueError: it is none.
    """
    number = _number(value)
    if not low <= number <= high:
        raise ValueError(f"{name} must be a number {_ends(low, high)}, got {_shown(value)}")
    return number


def whole(name: str, value: Any, low: int, high: int) -> int:
    """A whole number between two others, the ends included (2.0 is one).

    Raises:
        ValueError: it is none.
    """
    number = _number(value)
    if not low <= number <= high or number != int(number):
        raise ValueError(f"{name} must be a whole number {_ends(low, high)}, got {_shown(value)}")
    return int(number)


def _number(value: Any) -> float:
    """NaN for whatever is no number."""
    try:
        return math.nan if isinstance(value, bool | str | bytes) else float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _ends(low: float, high: float) -> str:
    return f"between {low} and {high}" if high < math.inf else f"of at least {low}"


def position(name: str, value: Any) -> int:
    """A whole number that counts something, as lists take it as an index.

    Raises:
        TypeError: it is none; True and False are none.
    """
    if isinstance(value, bool):
        raise TypeError(f"{name} must be a whole number, got {_shown(value)}")
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be a whole number, got {_shown(value)}") from None


def one_of(name: str, value: Any, *kinds: type) -> None:
    """An object of one of some types; `type(None)` is "None".

    Raises:
        TypeError: it is none.
    """
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        wanted = " or ".join(_NAMES.get(kind, f"a {kind.__name__}") for kind in kinds)
        raise TypeError(f"{name} must be {wanted}, got {_shown(value)}")


def called(name: str, value: Any) -> None:
    """A function, or None.

    Raises:
        TypeError: it is neither.
    """
    if value is not None and not callable(value):
        raise TypeError(f"{name} must be a function or None, got {_shown(value)}")


def predicts(predictor: Any) -> None:
    """Something that reads images and detects in them, as what `vlpart.load` gives, or stands for it.

    Raises:
        TypeError: it does not.
    """
    if not (callable(getattr(predictor, "read", None)) and callable(getattr(predictor, "detect", None))):
        raise TypeError(f"predictor must be what vlpart.load gives, got {_shown(predictor)}")


def check_fields(instance: Any) -> None:
    """Compare the fields of a dataclass with their annotations.

    Whole numbers pass as numbers, texts as paths; True, False and NaN are no numbers, and none has over 63 bits. Of a
    collection all items are looked at. What is annotated by a protocol or a function is left alone.

    Raises:
        TypeError: a field of another type; the message names it.
    """
    hints = _hints(type(instance))  # type: ignore[arg-type]  # classes are hashable
    for field in fields(instance):
        value, hint = getattr(instance, field.name), hints[field.name]
        if not _fits(value, hint):
            kind = type(instance).__name__
            raise TypeError(f"{kind}: {field.name} must be {_name(hint)}, got {_shown(value)}")


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _fits(value: Any, hint: Any) -> bool:
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any or isinstance(hint, TypeVar):
        return True
    if origin in (Union, types.UnionType):
        return any(_fits(value, each) for each in inner)
    if origin is Literal:
        return isinstance(value, str | int | None)  # which of them, the class itself says better
    if hint is None or hint is type(None):
        return value is None
    if hint is bool:
        return isinstance(value, bool)
    if hint in (int, float):
        number = isinstance(value, Integral if hint is int else Real) and not isinstance(value, bool)
        return number and value > -_MOST and (value == math.inf or value < _MOST)  # NaN is in no range
    if hint is Path:
        return isinstance(value, str | os.PathLike)
    if origin is None:
        return not isinstance(hint, type) or _isinstance(value, hint)
    return _fits_collection(value, origin, inner)


def _fits_collection(value: Any, origin: Any, inner: tuple[Any, ...]) -> bool:
    if not isinstance(origin, type) or not issubclass(origin, Collection):
        return True  # a function, a protocol
    if issubclass(origin, Mapping):
        return isinstance(value, Mapping) and all(_fits(k, inner[0]) and _fits(v, inner[1]) for k, v in value.items())
    if origin is tuple and inner[-1] is not Ellipsis:
        return isinstance(value, tuple | list) and len(value) == len(inner) and all(map(_fits, value, inner))
    accepted = (tuple, list, Sequence) if origin in (tuple, list, Sequence) else (origin,)
    return isinstance(value, accepted) and not isinstance(value, str) and all(_fits(each, inner[0]) for each in value)


def _isinstance(value: Any, kind: type) -> bool:
    try:
        return isinstance(value, kind)
    except TypeError:  # a protocol that is none at run time
        return True


def _name(hint: Any) -> str:
    """What a hint asks for, in words."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(map(_name, inner)))
    if origin is Literal:
        return f"one of {', '.join(map(repr, inner))}"
    if origin is tuple and inner[-1] is not Ellipsis:
        return f"({', '.join(map(_name, inner))})"
    if origin is not None and inner and isinstance(origin, type) and not issubclass(origin, Mapping):
        return f"a {origin.__name__.lower()} with {_name(inner[0])} each"
    return _NAMES.get(hint, f"a {getattr(hint, '__name__', hint)}")


def _shown(value: Any) -> str:
    """A value on one line, not too long."""
    return " ".join(repr(value).split())[:80]
