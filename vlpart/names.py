"""Names that somebody typed, held against the names that there are: a misspelt one must not pass for an absent one."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable

from vlpart.errors import DataError

_LISTED = 12  # names of a message


def plain(name: str) -> str:
    """A name for comparison: small letters, underscores as spaces."""
    return " ".join(name.replace("_", " ").casefold().split())


def printable(text: str, *, lines: bool = False) -> str:
    """Text of files, servers and devices as a terminal may have it: what is not printable is escaped (\\x1b, \\u202e).

    Control sequences could otherwise move the cursor, hide a warning or set the clipboard of whoever reads a message;
    marks of the writing direction could turn a name round.

    Args:
        lines: keep line breaks and tabs.
    """
    if text.isprintable():
        return text
    kept = "\n\t" if lines else ""
    return "".join(c if c.isprintable() or c in kept else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    spaces = unicodedata.category(character) == "Zs" or character in "\u200c\u200d"  # also of scripts and emoji
    return character if spaces else character.encode("unicode_escape").decode("ascii")


def did_you_mean(name: str, known: Iterable[str], *, cutoff: float = 0.5) -> str:
    """ "did you mean car or cart?" with the (at most three) known names near to `name`, case aside; "" without any.

    Args:
        cutoff: how near, as `difflib.get_close_matches` measures it.

    Raises:
        TypeError: the name is no text.
    """
    if not isinstance(name, str):
        raise TypeError(f"a name must be a text, got {name!r:.80}")
    folded = {each.casefold(): each for each in known}
    near = [folded[match] for match in difflib.get_close_matches(name.casefold(), folded, n=3, cutoff=cutoff)]
    return f"did you mean {' or '.join(near)}?" if near else ""


def config_name(name: str) -> str:
    """What stands for a recipe: "configs/joint/r50_lvis_paco.yaml" -> "r50_lvis_paco", other names as they are.

    The paths of the published configurations are names of recipes, too. Such a file is never read.
    """
    for ending in (".yaml", ".yml"):
        if name.endswith(ending):
            return name.replace("\\", "/").rsplit("/", 1)[-1].removesuffix(ending)
    return name


def check_names(typed: Iterable[str], known: Iterable[str], what: str) -> None:
    """Refuse names that are not among the known ones; case, spaces and underscores aside.

    Args:
        typed: the names to look for.
        known: the names that there are.
        what: begins the message, for example "train.json has no object".

    Raises:
        DataError: an unknown name; the message has the nearest known ones.
    """
    names = {plain(name): name for name in known}
    for name in typed:
        if plain(name) not in names:
            shown = sorted(names.values())
            more = f" and {len(shown) - _LISTED} more" if len(shown) > _LISTED else ""
            hint = did_you_mean(name, shown, cutoff=0.6) or f"it has {', '.join(shown[:_LISTED])}{more}"
            raise DataError(f"{what} {name!r}: {hint}")


_IRREGULAR = dict(
    pair.split("/")
    for pair in [
        "people/person",
        "persons/person",
        "men/man",
        "women/woman",
        "children/child",
        "feet/foot",
        "teeth/tooth",
        "geese/goose",
        "mice/mouse",
        "buses/bus",
        "lenses/lens",
        "gases/gas",
        "potatoes/potato",
        "tomatoes/tomato",
        "mangoes/mango",
        "knives/knife",
        "leaves/leaf",
        "shelves/shelf",
        "wolves/wolf",
        "hooves/hoof",
        "scarves/scarf",
        "loaves/loaf",
        "calves/calf",
        "halves/half",
    ]
)


def singular(word: str) -> str:
    """One of what an English plural names; a word that is none stays as it is.

    Examples:
        >>> [singular(word) for word in ("wheels", "buses", "people", "glasses", "bus")]
        ['wheel', 'bus', 'person', 'glass', 'bus']
    """
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("sses", "shes", "ches", "xes", "zes")):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith(("ss", "us", "is")) and len(word) > 3 else word
