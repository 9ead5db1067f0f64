"""A look at a pickle before anything builds it: its operations are followed with sizes in the place of values.

Restricting the names that a pickle may call keeps it from running code, but not from taking for ever: nine bytes can
claim gigabytes of memo, and a few hundred describe a nested tuple of 2^60 leaves whose hash is never computed to the
end. Here every value is followed as a size, so that what an unpickler will do afterwards is bounded by the file.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

MAX_OPERATIONS = 500_000
"""Operations of a file. The published checkpoints have under 50,000, with their optimizer's state."""

MAX_MEMO = 1_000_000
MAX_DEPTH = 200
MAX_REPEATED = 5_000_000
"""Sum of the sizes of values that are used again: what copies of them would add to the file's own size."""

_TEXT_UNIT = 64  # characters or bytes that count as one value
_NUMBERS = ("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4")
_TEXTS = ("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "BINUNICODE8", "SHORT_BINUNICODE")
_BYTES = ("BINBYTES", "BINBYTES8", "SHORT_BINBYTES", "BYTEARRAY8")
_KEYED = ("OrderedDict", "Counter", "dict")
_SETS = ("set", "frozenset")
_LATIN = ("latin1", "latin-1")


class PickleRefusedError(ValueError):
    """The pickle would take more time or memory than its size warrants; the message says why."""


@dataclass(slots=True, eq=False)
class _Value:
    """What is known of a value: its kind, its size with all that it holds, and its parts where there are few."""

    kind: str
    size: int = 1
    depth: int = 0
    text: str | int | None = None
    parts: list[_Value] = field(default_factory=list)
    shared: bool = False
    keyed: bool = True  # every part is a pair whose first is a text or a number, or is one itself


_MARK = _Value("mark")
_PLAIN = _Value("plain")


def check_pickle(file: IO[bytes], *, pickles: int = 1, limit: int | None = None) -> None:
    """Follow the pickles at the file's position.

    Time grows with the number of operations (`MAX_OPERATIONS` at most, about 2 microseconds each), memory with the
    largest single value.

    Args:
        pickles: how many follow one another (the torch format from before 2020 has five).
        limit: bytes that the storages of a torch file can have at most, None = not checked.

    Raises:
        PickleRefusedError: a key that is neither text nor number, a value used again after which it grows (a circle),
            or more operations, memo, depth or repetition than the limits of this module.
        ValueError: not a pickle.
    """
    left = MAX_OPERATIONS
    for _ in range(pickles):
        walk = _Walk(limit)
        for operation, argument, _ in pickletools.genops(file):
            left -= 1
            if left < 0:
                raise PickleRefusedError(f"it has over {MAX_OPERATIONS} operations")
            walk.step(operation.name, argument)


class _Walk:
    """The stack and the memo of an unpickler, with `_Value` for values."""

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self.stack: list[_Value] = []
        self.memo: dict[int, _Value] = {}
        self.repeated = 0

    def step(self, name: str, argument: Any) -> None:
        """Follow one operation."""
        if name in _NUMBERS:
            self._number(argument)
        elif name in _TEXTS:
            text = argument if isinstance(argument, str) else ""
            self.stack.append(_Value("text", 1 + len(argument) // _TEXT_UNIT, text=text[:200]))
        elif name in _BYTES:
            self.stack.append(_Value("bytes", 1 + len(argument) // _TEXT_UNIT))
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            if argument not in self.memo:
                raise ValueError(f"nothing is remembered under {argument}")
            self._again(self.memo[argument])
        elif name in ("BINPUT", "LONG_BINPUT", "PUT", "MEMOIZE"):
            self._remember(len(self.memo) if name == "MEMOIZE" else argument)
        elif name in ("GLOBAL", "INST"):
            called = _Value("global", text=str(argument).replace(" ", "."))
            self.stack.append(called if name == "GLOBAL" else self._call(called, self._until_mark()))
        elif name == "BINPERSID":
            self._storage(self._pop())
        else:
            self._other(name)

    # ---- values

    def _number(self, value: int) -> None:
        if value.bit_length() > 80:  # torch's own mark of its old format has 77
            raise PickleRefusedError("it holds an integer of more than 80 bits")
        kind = "number" if value.bit_length() <= 60 else "plain"  # hashes of longer ones can be made to meet
        self.stack.append(_Value(kind, text=value))

    def _again(self, value: _Value) -> None:
        self.repeated += value.size
        if self.repeated > MAX_REPEATED:
            raise PickleRefusedError(f"it repeats its own values to more than {MAX_REPEATED} of them")
        value.shared = True
        self.stack.append(value)

    def _remember(self, index: int) -> None:
        if not 0 <= index <= MAX_MEMO:
            raise PickleRefusedError(f"it asks for a memo of {index} places")
        self.memo[index] = self._top()

    def _made(self, kind: str, parts: Sequence[_Value]) -> _Value:
        value = _Value(kind)
        self._hold(value, parts)
        return value

    def _hold(self, value: _Value, parts: Sequence[_Value]) -> None:
        """Let `value` hold more."""
        if value.shared and parts:
            raise PickleRefusedError("a value grows after it was used elsewhere, or holds itself")
        value.size += sum(part.size for part in parts)
        value.depth = max([value.depth, *(part.depth + 1 for part in parts)])
        if value.depth > MAX_DEPTH:
            raise PickleRefusedError(f"it is nested over {MAX_DEPTH} levels deep")
        if len(value.parts) < 9:  # enough to know a pair or the place of a storage
            value.parts.extend(parts[: 9 - len(value.parts)])
        value.keyed = value.keyed and all(map(_is_pair_or_key, parts))

    def _keys(self, keys: Sequence[_Value]) -> None:
        for key in keys:
            if key.kind not in ("text", "number"):
                raise PickleRefusedError("it has a dictionary key that is neither text nor a number")

    def _call(self, called: _Value, arguments: Sequence[_Value]) -> _Value:
        """What a call gives; the calls that could take long are refused, the others are the unpickler's affair."""
        name = str(called.text or "") if called.kind == "global" else ""
        last = name.rpartition(".")[2]
        if last in _KEYED and any(not argument.keyed or argument.kind not in _LISTS for argument in arguments):
            raise PickleRefusedError("it has a dictionary key that is neither text nor a number")
        if last in _SETS and any(argument.parts for argument in arguments):
            raise PickleRefusedError("it holds a set, which weight files do not")
        if last == "bytearray" and any(argument.kind not in ("bytes", "text") for argument in arguments):
            raise PickleRefusedError("it asks for a bytearray of a given length")
        if last == "encode" and len(arguments) > 1 and arguments[1].text not in _LATIN:
            raise PickleRefusedError("a byte string is malformed")
        if name.startswith("torch.") and last.endswith(("Tensor", "Storage")):
            raise PickleRefusedError(f"it calls {name}, which torch does not write")
        return self._made("object", [called, *arguments])

    def _storage(self, place: _Value) -> None:
        """torch: ("storage", type, key, device, number of values, ...)."""
        count = place.parts[4].text if len(place.parts) > 4 else None
        if self.limit is not None and isinstance(count, int) and count > self.limit:
            raise PickleRefusedError(f"a tensor claims {count} values, more than the file has bytes")
        self.stack.append(self._made("object", [place]))

    # ---- the stack

    def _pop(self) -> _Value:
        value = self._top()
        self.stack.pop()
        return value

    def _top(self) -> _Value:
        if not self.stack or self.stack[-1] is _MARK:
            raise ValueError("a value is missing")
        return self.stack[-1]

    def _until_mark(self) -> list[_Value]:
        values: list[_Value] = []
        while self.stack:
            value = self.stack.pop()
            if value is _MARK:
                return values[::-1]
            values.append(value)
        raise ValueError("a mark is missing")

    def _arguments(self, value: _Value) -> list[_Value]:
        """The parts of a tuple of arguments; a long one is itself enough to say that no call of ours has it."""
        return value.parts if value.kind == "tuple" else [value]

    def _other(self, name: str) -> None:
        if name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name]())
        elif name in ("PROTO", "FRAME", "STOP"):
            pass
        elif name in _ACTIONS:
            _ACTIONS[name](self)
        else:  # extension codes, buffers outside the file, persistent text ids
            raise PickleRefusedError(f"it uses the operation {name}, which weight files do not")


_LISTS = ("list", "tuple", "dict")


def _is_pair_or_key(value: _Value) -> bool:
    if value.kind in ("text", "number"):
        return True
    return value.kind in ("tuple", "list") and len(value.parts) == 2 and value.parts[0].kind in ("text", "number")


def _tuple_of(count: int) -> Callable[[_Walk], None]:
    def action(walk: _Walk) -> None:
        """Put what was made since the mark onto the stack."""
        walk.stack.append(walk._made("tuple", [walk._pop() for _ in range(count)][::-1]))

    return action


def _of_mark(kind: str) -> Callable[[_Walk], None]:
    def action(walk: _Walk) -> None:
        """Put what was made since the mark onto the stack."""
        parts = walk._until_mark()
        if kind in ("dict", "set"):
            walk._keys(parts[::2] if kind == "dict" else parts)
        made = walk._made(kind, parts)
        made.keyed = made.keyed or kind == "dict"
        walk.stack.append(made)

    return action


def _append(walk: _Walk) -> None:
    value = walk._pop()
    walk._hold(walk._top(), [value])


def _appends(walk: _Walk) -> None:
    values = walk._until_mark()
    walk._hold(walk._top(), values)


def _set_items(walk: _Walk, values: Sequence[_Value]) -> None:
    walk._keys(values[::2])
    target = walk._top()
    walk._hold(target, values)
    target.keyed = True


def _set_item(walk: _Walk) -> None:
    value, key = walk._pop(), walk._pop()
    _set_items(walk, [key, value])


def _add_items(walk: _Walk) -> None:
    values = walk._until_mark()
    walk._keys(values)
    walk._hold(walk._top(), values)


def _stack_global(walk: _Walk) -> None:
    name, module = walk._pop(), walk._pop()
    walk.stack.append(_Value("global", text=f"{module.text}.{name.text}"))


def _reduce(walk: _Walk) -> None:
    arguments, called = walk._pop(), walk._pop()
    walk.stack.append(walk._call(called, walk._arguments(arguments)))


def _new_with_keywords(walk: _Walk) -> None:
    keywords, arguments, called = walk._pop(), walk._pop(), walk._pop()
    walk.stack.append(walk._call(called, [*walk._arguments(arguments), keywords]))


def _object(walk: _Walk) -> None:
    called, *arguments = walk._until_mark() or [_PLAIN]
    walk.stack.append(walk._call(called, arguments))


def _build(walk: _Walk) -> None:
    state = walk._pop()
    walk._hold(walk._top(), [state])


def _pop(walk: _Walk) -> None:
    if not walk.stack:
        raise ValueError("a value is missing")
    walk.stack.pop()


_CONSTANTS: dict[str, Callable[[], _Value]] = {
    "MARK": lambda: _MARK,
    "NONE": lambda: _PLAIN,
    "NEWTRUE": lambda: _PLAIN,
    "NEWFALSE": lambda: _PLAIN,
    "FLOAT": lambda: _PLAIN,
    "BINFLOAT": lambda: _PLAIN,
    "EMPTY_TUPLE": lambda: _Value("tuple"),
    "EMPTY_LIST": lambda: _Value("list"),
    "EMPTY_DICT": lambda: _Value("dict"),
    "EMPTY_SET": lambda: _Value("list"),
}

_ACTIONS: dict[str, Callable[[_Walk], None]] = {
    "TUPLE": _of_mark("tuple"),
    "TUPLE1": _tuple_of(1),
    "TUPLE2": _tuple_of(2),
    "TUPLE3": _tuple_of(3),
    "LIST": _of_mark("list"),
    "DICT": _of_mark("dict"),
    "FROZENSET": _of_mark("set"),
    "APPEND": _append,
    "APPENDS": _appends,
    "SETITEM": _set_item,
    "SETITEMS": lambda walk: _set_items(walk, walk._until_mark()),
    "ADDITEMS": _add_items,
    "REDUCE": _reduce,
    "NEWOBJ": _reduce,
    "NEWOBJ_EX": _new_with_keywords,
    "OBJ": _object,
    "BUILD": _build,
    "STACK_GLOBAL": _stack_global,
    "POP": _pop,
    "POP_MARK": lambda walk: walk._until_mark().clear(),
    "DUP": lambda walk: walk._again(walk._top()),
}
