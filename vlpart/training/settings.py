"""Any field of a recipe by its name and a text, as `--set learning_rate=2e-4` has it.

A field of the losses is `losses.roi_regions`, of every source `sources.flip`, of one source `sources.NAME.flip`, and
likewise `evaluate_on.max_images`. Texts are read by the type of the field; nothing is guessed.
"""

from __future__ import annotations

import math
import types
from collections.abc import Collection, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import fields, replace
from enum import Enum
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from vlpart.data.source import Source
from vlpart.errors import TrainingError, VlpartError
from vlpart.losses.options import LossOptions
from vlpart.names import did_you_mean
from vlpart.training.recipe import EvaluationSet, Recipe

#: Fields of a recipe that hold dataclasses: one, or several that have names.
_ONE: dict[str, type] = {"losses": LossOptions}
_SEVERAL: dict[str, type] = {"sources": Source, "evaluate_on": EvaluationSet}

_WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def with_settings(recipe: Recipe, settings: Iterable[str]) -> Recipe:
    """A copy with fields set, in their order.

    Args:
        recipe: the run.
        settings: `field=value` each, see above; `none` is None where a field may be None, commas separate values.

    Raises:
        TrainingError: no "=", no such field (near names are listed), a text that is no value of it, or a value that the
            recipe refuses.
    """
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals or not name.strip():
            raise TrainingError(f"a setting is FIELD=VALUE, for example learning_rate=2e-4, not {setting!r:.80}")
        try:
            recipe = _set(recipe, name.strip(), text.strip())
        except VlpartError as error:
            raise TrainingError(f"--set {setting:.80}: {error}") from None
    return recipe


def _set(recipe: Recipe, name: str, text: str) -> Recipe:
    head, dot, rest = name.partition(".")
    if dot and head in _ONE:
        return recipe.changed(**{head: _with_field(getattr(recipe, head), rest, text, name)})
    if dot and head in _SEVERAL:
        each: Sequence[Any] = getattr(recipe, head)
        wanted, inner, field = rest.rpartition(".")
        known = [one.name for one in each]
        if inner and wanted not in known:
            hint = did_you_mean(wanted, known) or f"it has {', '.join(known) or 'none'}"
            raise TrainingError(f"this recipe has no {wanted!r} among its {head}: {hint}")
        if not each:
            raise TrainingError(f"this recipe has no {head}")
        chosen = tuple(_with_field(one, field, text, name) if not inner or one.name == wanted else one for one in each)
        return recipe.changed(**{head: chosen})
    if name in _ONE or name in _SEVERAL:
        raise TrainingError(f"name one of its fields, for example {_example(name)}")
    return _with_field(recipe, name, text, name)


def _with_field(owner: Any, field: str, text: str, name: str) -> Any:
    """`owner` with one field read from a text; `name` is the whole name as it was typed."""
    hints = get_type_hints(type(owner))
    if field not in {each.name for each in fields(owner)}:
        raise TrainingError(f"there is no field {name!r}: {_suggestion(name)}")
    value = _read(text, hints[field])
    if value is _NONE_FITS:
        raise TrainingError(f"{text!r:.40} is no value of {name}: it takes {_described(hints[field])}")
    return replace(owner, **{field: value})


def setting_names() -> Iterator[str]:
    """Every name that `with_settings` takes, those of single sources aside."""
    yield from (each.name for each in fields(Recipe) if each.name not in _ONE and each.name not in _SEVERAL)
    for head, kind in {**_ONE, **_SEVERAL}.items():
        yield from (f"{head}.{each.name}" for each in fields(kind))


def _suggestion(name: str) -> str:
    known = list(setting_names())
    last = name.rpartition(".")[2]
    same = [each for each in known if each.rpartition(".")[2] == last]
    if same:
        return f"did you mean {' or '.join(same)}?"
    inside = [each for each in known if each.rpartition(".")[0] == name.rpartition(".")[0]]
    return did_you_mean(name, inside) or did_you_mean(name, known) or "`vlpart recipes show` prints them"


def _example(head: str) -> str:
    return {"losses": "losses.roi_regions=128", "sources": "sources.flip=0"}.get(head, "evaluate_on.max_images=50")


#: Stands for a text that is no value of its type.
_NONE_FITS: Any = object()


def _read(text: str, kind: Any) -> Any:
    """The value of a type that a text stands for, or `_NONE_FITS`."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        if types.NoneType in inner and text.casefold() in ("none", "null"):
            return None
        found = (_read(text, each) for each in inner if each is not types.NoneType)
        return next((value for value in found if value is not _NONE_FITS), _NONE_FITS)
    if origin is Literal:
        return text if text in inner else _NONE_FITS
    if origin in (tuple, Sequence, Collection, frozenset, AbstractSet):
        return _read_several(text, origin, inner)
    if isinstance(kind, type) and issubclass(kind, Enum):
        known = {str(each.value).casefold(): each for each in kind} | {each.name.casefold(): each for each in kind}
        return known.get(text.casefold(), _NONE_FITS)
    if kind is bool:
        return _WORDS.get(text.casefold(), _NONE_FITS)
    if kind in (int, float):
        return _read_number(text, kind)
    if kind is Path:
        return Path(text) if text else _NONE_FITS
    return text if kind is str else _NONE_FITS


def _read_several(text: str, origin: Any, inner: Sequence[Any]) -> Any:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    each = [inner[0]] * len(parts) if origin is not tuple or inner[-1] is ... else list(inner)
    if len(each) != len(parts):
        return _NONE_FITS
    values = [_read(part, kind) for part, kind in zip(parts, each, strict=True)]
    if any(value is _NONE_FITS for value in values):
        return _NONE_FITS
    return frozenset(values) if origin is frozenset else tuple(values)


def _read_number(text: str, kind: type) -> Any:
    try:
        number = float(text)
    except ValueError:
        return _NONE_FITS
    if not math.isfinite(number):
        return _NONE_FITS
    if kind is float:
        return number
    try:
        return int(text)
    except ValueError:  # 1e4 is as good as 10000
        return int(number) if number.is_integer() and abs(number) < 2**53 else _NONE_FITS


def _described(kind: Any) -> str:
    """A type in words."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return " or ".join("none" if each is types.NoneType else _described(each) for each in inner)
    if origin is Literal:
        return " or ".join(map(str, inner))
    if origin is tuple and inner[-1] is not ...:
        return f"{len(inner)} values with commas ({', '.join(map(_described, inner))})"
    if origin in (tuple, Sequence, Collection, frozenset, AbstractSet):
        return f"values with commas ({_described(inner[0])} each)"
    if isinstance(kind, type) and issubclass(kind, Enum):
        return " or ".join(str(each.value) for each in kind)
    words: dict[Any, str] = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
    return words.get(kind, "a path")


def with_image_size(recipe: Recipe, side: int) -> Recipe:
    """Images at another size: the shorter side is at most `side` pixels in training, and `side` afterwards.

    Where a source draws the side from several, or from a range, they keep their proportion; the longest side allowed
    grows or shrinks with it.
    """

    def scaled(source: Source) -> Source:
        """A source whose largest shorter side is `side`."""
        factor = side / max(source.short_sides)
        return replace(
            source,
            short_sides=tuple(max(1, round(each * factor)) for each in source.short_sides),
            max_side=max(side, round(source.max_side * factor)),
        )

    sources = tuple(scaled(source) for source in recipe.sources)
    return replace(recipe, sources=sources, image_size=(side, sources[0].max_side))


def frozen_modules(text: str) -> tuple[str, ...]:
    """What `--freeze backbone,rpn` means as `Recipe.frozen`: whole modules, not names that only begin so."""
    return tuple(f"{name.strip().rstrip('.')}." for name in text.split(",") if name.strip())
