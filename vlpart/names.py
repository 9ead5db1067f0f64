"""Names that somebody typed, held against the names that there are: a misspelt one must not pass for an absent one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from vlpart.errors import DataError

_LISTED = 12  # names of a message


def plain(name: str) -> str:
    """A name for comparison: small letters, underscores as spaces."""
    return " ".join(name.replace("_", " ").casefold().split())


def check_names(given: Iterable[str], known: Iterable[str], what: str) -> None:
    """Refuse names that are not among the known ones; case, spaces and underscores aside.

    Args:
        given: the names that were typed.
        known: the names that there are.
        what: begins the message, for example "train.json has no object".

    Raises:
        DataError: an unknown name; the message has the nearest known ones.
    """
    names = {plain(name): name for name in known}
    for name in given:
        if plain(name) not in names:
            near = [names[match] for match in difflib.get_close_matches(plain(name), names, n=3)]
            shown = sorted(names.values())
            more = f" and {len(shown) - _LISTED} more" if len(shown) > _LISTED else ""
            hint = f"did you mean {' or '.join(near)}?" if near else f"it has {', '.join(shown[:_LISTED])}{more}"
            raise DataError(f"{what} {name!r}: {hint}")
