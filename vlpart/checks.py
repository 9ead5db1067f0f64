"""Arguments of Python callers: what is of another type than a signature says is refused by name, where it comes in."""

from __future__ import annotations

import builtins
import inspect
import math
import operator
import os
import sys
import types
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache, wraps
from numbers import Integral, Real
from pathlib import Path
from typing import IO, Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

_MOST = 1 << 63
_DIGITS = 18
_Function = TypeVar("_Function", bound=Callable[..., Any])

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
    except (TypeError, ValueError, OverflowError, RuntimeError):  # the last one of tensors of several values
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


def natural(text: str) -> int | None:
    """The whole number that a text is, in plain digits and below 10^18; None for any other text."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _DIGITS else None


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


def typed(*names: str) -> Callable[[_Function], _Function]:
    """Make a function refuse arguments of another type than its annotations say, by name, before it begins.

    Numbers may be of any kind here; their range, and whether they are whole, is the function's own affair.

    Args:
        names: the parameters that are looked at; without any, all of them.

    Raises:
        TypeError: from the function, for an argument that does not fit (see `check_fields`).
    """

    def decorate(function: _Function) -> _Function:
        """The function, checked."""
        signature = inspect.signature(function)

        @wraps(function)
        def checked(*given: Any, **named: Any) -> Any:
            arguments = signature.bind(*given, **named).arguments
            for name, hint in hints_of(function).items():
                if name in arguments and (not names or name in names) and not fits(arguments[name], hint, strict=False):
                    raise TypeError(f"{name} must be {_name(hint)}, got {_shown(arguments[name])}")
            return function(*given, **named)

        return cast(_Function, checked)

    return decorate


def check_fields(instance: Any) -> None:
    """Compare the fields of a dataclass with their annotations.

    Whole numbers pass as numbers, texts as paths; True, False and NaN are no numbers, and none has over 63 bits. Of a
    collection all items are looked at. What is annotated by a protocol or a function is left alone.

    Raises:
        TypeError: a field of another type; the message names it.
    """
    hints = hints_of(type(instance))  # type: ignore[arg-type]  # classes are hashable
    for field in fields(instance):
        value, hint = getattr(instance, field.name), hints[field.name]
        if not fits(value, hint):
            kind = type(instance).__name__
            raise TypeError(f"{kind}: {field.name} must be {_name(hint)}, got {_shown(value)}")


@cache
def hints_of(thing: Any) -> dict[str, Any]:
    """The annotations of a class or a function; of a class without fields, those of its constructor.

    Names that only a type checker imports stand for anything.
    """
    if isinstance(thing, type) and not is_dataclass(thing):
        thing = thing.__init__  # type: ignore[misc]
    try:
        return get_type_hints(thing)
    except NameError:
        return get_type_hints(thing, localns=_Names(thing.__module__))


class _Unknown(type):
    """Of a class that stands for what is not imported, and for whatever is in it."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return cls

    def __getitem__(cls, key: Any) -> Any:
        return cls


class _Anything(metaclass=_Unknown):
    pass


class _Names(dict[str, Any]):
    """What names mean in a module."""

    def __init__(self, module: str) -> None:
        super().__init__(vars(builtins) | vars(sys.modules[module]))

    def __missing__(self, name: str) -> Any:
        """What the package exports under a name, if that is loaded: other objects cannot be of it."""
        home = sys.modules.get(sys.modules["vlpart"]._HOME.get(name, ""))
        return _Anything if home is None else getattr(home, name)


def fits(value: Any, hint: Any, *, strict: bool = True) -> bool:
    """Whether a value is of the type that an annotation says; see `check_fields`.

    Args:
        strict: numbers are Python's or numpy's, and whole where the annotation says `int`. False takes everything that
            is one number, a float for a whole number too, and arrays as sequences.
    """
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any or hint is _Anything or isinstance(hint, TypeVar):
        return True
    if origin in (Union, types.UnionType):
        return any(fits(value, each, strict=strict) for each in inner)
    if origin is Literal:
        return isinstance(value, str | int | None)  # which of them, the class itself says better
    if hint is None or hint is type(None):
        return value is None
    if hint is bool:
        return isinstance(value, bool)
    if hint in (int, float):
        if not strict:
            return -_MOST < (found := _number(value)) < _MOST or found == math.inf
        number = isinstance(value, Integral if hint is int else Real) and not isinstance(value, bool)
        return number and value > -_MOST and (value == math.inf or value < _MOST)  # NaN is in no range
    if hint is Path:
        return isinstance(value, str | os.PathLike)
    if origin is None:
        return not isinstance(hint, type) or _isinstance(value, hint)
    return _fits_collection(value, origin, inner, strict)


def _fits_collection(value: Any, origin: Any, inner: tuple[Any, ...], strict: bool) -> bool:
    if origin is Callable:
        return callable(value)
    if getattr(origin, "__module__", "") == "numpy":
        return isinstance(value, origin)
    if origin is IO:
        return callable(getattr(value, "write", None)) or callable(getattr(value, "read", None))
    if not isinstance(origin, type) or not issubclass(origin, Iterable):
        return True  # a protocol
    if issubclass(origin, Mapping):
        return isinstance(value, Mapping) and all(
            fits(key, inner[0], strict=strict) and fits(each, inner[1], strict=strict) for key, each in value.items()
        )
    if not issubclass(origin, Collection):  # what can be gone through once is not looked into
        return isinstance(value, origin) and not isinstance(value, str | bytes)
    if origin is tuple and inner[-1] is not Ellipsis:
        if not isinstance(value, tuple | list) or len(value) != len(inner):
            return False
        return all(fits(each, wanted, strict=strict) for each, wanted in zip(value, inner, strict=True))
    accepted = (tuple, list, Sequence) if origin in (tuple, list, Sequence) else (origin,)
    if not strict and Sequence in accepted and getattr(value, "ndim", 0) == 1:
        value = value.tolist()
    one_by_one = isinstance(value, accepted) and not isinstance(value, str | bytes)
    return one_by_one and all(fits(each, inner[0], strict=strict) for each in value)


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
