"""Words into a `Term`: "left rear wheel of the second car", understood with the names of a vocabulary.

A phrase is a name of the vocabulary with words before it: where (left, right, top, bottom, middle, front, rear), how
large (largest, tallest, ...), how near to the viewer (nearest, farthest), which in a row (second, last, second to
last), how many (two). Without a name it means the objects: "the largest". Where may also be said behind the name, "on
the right", "third from the left". It may be followed by "of" and the object of a part, or by "left of", "above",
"behind", "next to" and another phrase. Phrases with "and" mean both, with "or" what there is of them.

`vlpart.results.select` says what the words mean in an image.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from vlpart.checks import one_of
from vlpart.errors import SelectionError
from vlpart.names import did_you_mean, singular
from vlpart.text.vocabulary import Vocabulary

_IGNORED = frozenset(
    [
        "the",
        "a",
        "an",
        "all",
        "every",
        "each",
        "both",
        "any",
        "this",
        "that",
        "these",
        "those",
        "one",
        "ones",
        "most",
        "side",
        "end",
        "only",
        "there",
        "is",
        "are",
        "his",
        "her",
        "its",
        "their",
        "my",
        "your",
    ]
)
_AXES = {
    word: axis
    for axis, words in {
        "left": "left leftmost lefthand",
        "right": "right rightmost righthand",
        "top": "top topmost upper uppermost highest",
        "bottom": "bottom bottommost lower lowest",
        "middle": "middle centre center central",
        "front": "front frontmost",
        "near": "nearest closest nearer closer",
        "rear": "rear back hind rearmost",
        "far": "farthest furthest farther further",
        "largest": "largest biggest large big larger bigger",
        "smallest": "smallest small smaller",
        "tallest": "tallest tall taller",
        "shortest": "shortest short shorter",
        "widest": "widest wide wider",
        "narrowest": "narrowest narrow narrower",
    }.items()
    for word in words.split()
}
_OF_TWO = {word for word in _AXES if word.endswith("er") and word not in ("upper", "lower", "center")}
"""Comparatives, which choose one of two."""
_OPPOSITE = (
    ("left", "right"),
    ("top", "bottom"),
    ("front", "rear"),
    ("near", "far"),
    ("largest", "smallest"),
    ("tallest", "shortest"),
    ("widest", "narrowest"),
)
_PLACES = ("left", "right", "top", "bottom", "middle", "front", "rear")
_NUMBERS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
_ORDINALS = ["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"]
_PREPOSITIONS = ("on", "at", "in", "to", "towards")
_STRONGER = ("far", "very", "extreme")
_ANY = {
    "object": "objects",
    "thing": "objects",
    "item": "objects",
    "part": "parts",
    "everything": "all",
    "anything": "all",
}
"""Words that mean every name of a kind, where the vocabulary has no such name."""

_LINKS: list[tuple[list[str], str]] = sorted(
    (
        *((f"{word} {to}".split(), "nearest") for word in ("nearest", "closest") for to in ("to", "the", "a")),
        *((text.split(), "nearest") for text in ("next to", "beside", "near", "near to", "close to", "by")),
        *((f"{way}{side} of".split(), side) for way in ("to the ", "") for side in ("left", "right")),
        *((text.split(), "top") for text in ("above", "over")),
        *((text.split(), "bottom") for text in ("below", "under", "beneath", "underneath")),
        *((text.split(), "near") for text in ("in front of", "before")),
        *((text.split(), "far") for text in ("behind", "in back of")),
        *(  # "on the left of": of a part, where in its object; else beside it
            (f"{way} the {word}{more} of".split(), f"at {_AXES[word]}")
            for way in ("on", "at", "in")
            for word in ("left", "right", "top", "bottom", "middle", "centre", "center", "front", "rear", "back")
            for more in ("", " side", " end")
        ),
        (["of"], "of"),
    ),
    key=lambda link: -len(link[0]),
)
_SPELLING = {
    "licence": "license",
    "tyre": "tire",
    "grey": "gray",
    "aeroplane": "airplane",
    "moustache": "mustache",
    "colour": "color",
    "jewellery": "jewelry",
    "doughnut": "donut",
}
"""Two spellings of a word; names and phrases may have either."""

_VIEWER = "camera|viewer|observer|photographer"
_REWRITTEN = (
    (r"\b(left|right|top|bottom|upper|lower|front|rear|back)[- ]most\b", r"\1"),
    (r"\b(left|right)(?:-hand| hand(?= side\b))", r"\1"),
    (r"\b(last but one|penultimate|next to last)\b", "second last"),
    (r"\b(\w+)[- ]to[- ]last\b", r"\1 last"),
    (r"\b(?:pair|couple) of\b", "two"),
    (r"\bin the foreground\b", "nearest"),
    (r"\bin the background\b", "farthest"),
    (r"\b(farthest|furthest) away\b", r"\1"),
    (r"\bin (?:the )?front(?! of\b)", "on the front"),
    (r"(?:#|\bno\.) ?(\d+)\b", r"\1th"),
    (rf"\bnumber (\d+|{'|'.join(_NUMBERS)})\b", r"\1"),
)
_SEPARATOR = re.compile(r"\s*(?:,\s*(?:and|or)?|;|&|\band\b|\bor\b|\bas well as\b|\bplus\b)\s*(?=\s|\w|$)")


@dataclass(frozen=True, kw_only=True)
class Term:
    """A phrase that was understood.

    Attributes:
        phrase: as it was typed.
        class_ids: the classes that it may mean.
        plural: whether it asks for several.
        axes: where and how large, the word before the others first: "left", "rear", "largest", ...
        rank: which in a row along the first axis, from 1; -1 for the last; None without.
        count: how many along the first axis, from the end that `rank` says; None = as many as there are.
        two: "chosen" where there must be two of what is meant ("both wheels"), "there" where it is one of two ("the
            larger wheel").
        link: "of", "nearest", "left", "right", "top", "bottom", "near" or "far", or None: how it is tied to `other`.
        other: what it is tied to.
        also: further phrases, whose detections are meant, too; their own `also` is empty.
        every: whether each of these must be there ("and"), not just one ("or").
    """

    phrase: str
    class_ids: frozenset[int]
    plural: bool = False
    axes: tuple[str, ...] = ()
    rank: int | None = None
    count: int | None = None
    two: str | None = None
    link: str | None = None
    other: Term | None = None
    also: tuple[Term, ...] = ()
    every: bool = True


def parse(phrase: str, vocabulary: Vocabulary) -> Term:
    """Understand a phrase.

    Examples:
        >>> term = parse("left rear wheel of the second car", Vocabulary.parse("car: wheel, door"))
        >>> term.axes, term.link, term.other.rank
        (('left', 'rear'), 'of', 2)
        >>> [each.phrase for each in parse("wheels and doors", Vocabulary.parse("car: wheel, door")).also]
        ['doors']

    Raises:
        SelectionError: a word that is neither a name of the vocabulary nor one of those above, words that contradict
            each other, or a part of an object that has no such part.
        TypeError: an argument of a wrong type.
    """
    one_of("phrase", phrase, str)
    one_of("vocabulary", vocabulary, Vocabulary)
    text = " ".join(phrase.casefold().replace("’", "'").split())
    for pattern, instead in _REWRITTEN:
        text = re.sub(pattern, instead, text)
    if not re.search(rf"\b({_VIEWER})\b", " ".join(vocabulary.names).casefold()):
        text = re.sub(rf"\b(nearest|closest|farthest|furthest)(?: to| from)?(?: the)? (?:{_VIEWER})\b", r"\1", text)
    inside_names = any(re.search(r"\band\b|\bor\b|[,;&]", name) for name in vocabulary.names)
    pieces = [text] if inside_names else _SEPARATOR.split(text)
    if len(pieces) > 1 and re.search(r"'s? ", text):
        _refuse_borrowed_owner(pieces, vocabulary)
    words = [_words(piece) for piece in pieces if piece]
    if not any(words):
        raise SelectionError("an empty phrase selects nothing: say what, as in 'left wheel of the second car'")
    every = not re.search(r"\bor\b", text) or inside_names
    term = _together(_completed(words, vocabulary), vocabulary, every)
    tied = len(pieces) > 1 and re.search(r"\b(and|or|plus|as well as)\b|&", text)
    if term.also and not tied and any(each.axes or each.rank or each.count or each.link for each in (term, *term.also)):
        raise SelectionError(f"'{text}': a comma does not say how they belong together; say 'and', or 'of'")
    return term


def _words(text: str) -> list[str]:
    while owned := re.match(r"(.+?)(?:'s|(?<=s)') (.+)", text):
        text = f"{owned[2]} of {owned[1]}"
    return re.findall(r"[^\W_]+(?:-[^\W_]+)*", text)


def _refuse_borrowed_owner(pieces: Sequence[str], vocabulary: Vocabulary) -> None:
    """Whose the wheels are in "the first and second car's wheels" is not said by where the words stand."""
    for piece, following in pairwise(pieces):
        if "'" in following and _is_nameless(_words(piece), vocabulary):
            raise SelectionError(
                f"'{piece} and {following}': say it with 'of', as in 'wheels of the first and second car'"
            )


# ---- several phrases


def _is_nameless(words: Sequence[str], vocabulary: Vocabulary) -> bool:
    return all(_is_qualifier(word) for word in words) and not _named([_plain(w) for w in words], vocabulary)[0]


def _is_qualifier(word: str) -> bool:
    return (
        word in _IGNORED
        or word in _AXES
        or word in _ORDINALS
        or word in _NUMBERS
        or word == "last"
        or re.fullmatch(r"\d+(st|nd|rd|th)?", word) is not None
    )


def _completed(phrases: list[list[str]], vocabulary: Vocabulary) -> list[list[str]]:
    """The name that the first piece of "left and right wheel" lacks is that of the next."""
    done = [words for words in phrases if words]
    for i in reversed(range(len(done) - 1)):
        own = done[i]
        last = next((k for k in reversed(range(len(own))) if not _is_qualifier(own[k])), -1)
        if _is_nameless(own[last + 1 :], vocabulary) and own[last + 1 :]:
            if last >= 0 and own[last] not in ("of", "to", "the"):
                continue  # "wheel two"
            following = done[i + 1]
            first = next((k for k, word in enumerate(following) if not _is_qualifier(word)), len(following))
            done[i] = own + following[first:]
    return done


def _together(phrases: list[list[str]], vocabulary: Vocabulary, every: bool) -> Term:
    """One term for phrases, of which those without "of" share that of another, if it can be theirs.

    "Wheels and doors of the car": of the same car; "wheels of the first car and the second car": of both.
    """
    terms = [_term(words, vocabulary) for words in phrases]
    done: list[Term] = []
    for i, term in enumerate(terms):
        before = done[-1] if done else None
        if term.link is None and before is not None and before.link == "of":
            others = all(not vocabulary.is_part(c) for c in term.class_ids)
            if others and all(vocabulary.is_part(c) for c in before.class_ids):
                term = _tied(replace(before, link=None, other=None), term, vocabulary)
        later = next((each for each in terms[i + 1 :] if each.link == "of"), None)
        if term.link is None and later is not None and later.other is not None:
            shared = _parts_in(term.class_ids, later.other, vocabulary)
            if shared:
                term = replace(term, class_ids=shared, link="of", other=later.other)
        done.append(term)
    if len(done) == 1:
        return done[0]
    first = replace(done[0], two=None) if done[0].two == "chosen" else done[0]  # "both the car and the bus"
    return replace(first, also=tuple(done[1:]), every=every)


# ---- one phrase


def _term(words: list[str], vocabulary: Vocabulary) -> Term:
    at, length, link = _first_link(words)
    whole = " ".join(words)
    if link is None:
        return _simple(words, vocabulary, whole)
    if not at and link == "of":
        raise SelectionError(f"'{whole}' begins with 'of': say what of it")
    own = _simple(words[:at], vocabulary, whole) if at else _everything("objects", whole, vocabulary)
    if at + length >= len(words):
        raise SelectionError(f"'{whole}' ends too early: say what it is '{' '.join(words[at:])}'")
    other = _term(words[at + length :], vocabulary)
    kind, _, place = link.rpartition(" ")
    if kind == "at":
        if _parts_in(own.class_ids, other, vocabulary):
            own, link = replace(own, axes=(place, *own.axes)), "of"
        else:
            link = {"front": "near", "rear": "far"}.get(place, place)
    if link == "of":
        return replace(_tied(own, other, vocabulary), phrase=whole)
    if link == "middle":
        raise SelectionError(f"'{whole}': '{own.phrase}' is no part of '{other.phrase}', so it has no middle for it")
    return replace(own, phrase=whole, link=link, other=other)


def _tied(own: Term, other: Term, vocabulary: Vocabulary) -> Term:
    """A part of an object."""
    kept = _parts_in(own.class_ids, other, vocabulary)
    if not kept:
        owners = ", ".join(sorted({vocabulary.names[c] for c in other.class_ids}))
        raise SelectionError(f"'{own.phrase}' is no part of '{other.phrase}'; {_parts_of(other, vocabulary, owners)}")
    return replace(own, class_ids=kept, link="of", other=other, phrase=f"{own.phrase} of {other.phrase}")


def _first_link(words: list[str]) -> tuple[int, int, str | None]:
    """(place, number of words, kind) of the first link, else (len(words), 0, None)."""
    for at, word in enumerate(words):
        if word in _AXES and "from" in words[max(0, at - 2) : at]:
            continue  # "third from the left of ..."
        for text, kind in _LINKS:
            if words[at : at + len(text)] == text and (at or kind not in ("nearest", "left", "right") or len(text) > 1):
                return at, len(text), kind
    return len(words), 0, None


def _parts_in(class_ids: frozenset[int], other: Term, vocabulary: Vocabulary) -> frozenset[int]:
    """Which of the classes are parts of an object that the other term may mean."""
    return frozenset(c for c in class_ids if _belongs(c, other.class_ids, vocabulary))


def _belongs(part: int, owners: frozenset[int], vocabulary: Vocabulary) -> bool:
    names = {vocabulary.names[c].casefold() for c in owners}
    return vocabulary.is_part(part) and vocabulary.object_name(part).casefold() in names


def _parts_of(term: Term, vocabulary: Vocabulary, owners: str) -> str:
    names = {
        n for c in range(len(vocabulary)) if _belongs(c, term.class_ids, vocabulary) and (n := _last(vocabulary, c))
    }
    if not names:
        return f"{owners} {'have' if ', ' in owners else 'has'} no parts"
    return f"the parts of {owners} are {', '.join(sorted(names))}"


def _last(vocabulary: Vocabulary, c: int) -> str:
    return vocabulary.part_name(c) or vocabulary.names[c]


# ---- a name and the words around it


def _plain(word: str) -> str:
    """A word for comparison: one number, one spelling, one word for a place."""
    word = singular(word)
    return _AXES.get(word, _SPELLING.get(word, word))


def name_words(name: str) -> list[str]:
    """Words of a name for comparison; what is in brackets ("crane_(machine)") only tells two names apart."""
    bare = re.sub(r"\([^)]*\)", " ", name.casefold()).strip(" _") or name.casefold()
    return [_plain(word) for word in re.findall(r"[^\W_]+(?:-[^\W_]+)*", bare)]


def _simple(words: list[str], vocabulary: Vocabulary, whole: str) -> Term:
    """A name and the words before it and behind it."""
    words, tail = _places_behind(words, whole)
    begins = next((i for i, word in enumerate(words) if word not in _IGNORED or word == "one"), len(words))
    ones = (begins, len(words) - 1)  # "one wheel" counts, and so does "wheel one"; "the left one" does not
    counted = [word for i, word in enumerate(words) if word not in _IGNORED or (word == "one" and i in ones)]
    number = None
    if len(counted) > 1 and (counted[-1].isdecimal() or counted[-1] in _NUMBERS):  # "car 2": the second
        last = counted.pop()
        number = f"{last if last.isdecimal() else _NUMBERS.index(last) + 1}th"
    known = [_plain(word) for word in counted]
    class_ids, used = _named(known, vocabulary)
    generic = [word for word in known if word in _ANY]
    if not class_ids and (generic or all(map(_is_qualifier, words))) and (counted or tail or "all" in words):
        kind = _ANY[generic[-1]] if generic else "objects" if counted or tail else "all"
        term, used = _everything(kind, " ".join(words), vocabulary), generic[-1:]
        class_ids, plural = term.class_ids, bool(generic) and counted[known.index(generic[-1])] != generic[-1]
        plural = plural or kind == "all"
    elif not class_ids:
        raise SelectionError(_unknown(counted or words, vocabulary, whole))
    else:
        head = next(i for i in reversed(range(len(known))) if known[i] in used)
        typed = {word for c in class_ids for word in re.findall(r"[^\W_]+", vocabulary.names[c].casefold())}
        plural = counted[head] not in typed and singular(counted[head]) != counted[head]
    rest = [*known, *([number] if number else [])]
    for word in used:
        rest.remove(word)
    axes, rank, count = _qualifiers(rest, tail, vocabulary, whole)
    if rank is not None and count is None and {"every", "each"} & set(words) and words[-1] in counted and rank != 1:
        raise SelectionError(f"'{whole}': say 'of every ...' or 'of each ...' behind what is counted")
    two = "chosen" if "both" in words else "there" if _OF_TWO & set(words) else None
    return Term(phrase=" ".join(words), class_ids=class_ids, plural=plural, axes=axes, rank=rank, count=count, two=two)


def _everything(kind: str, phrase: str, vocabulary: Vocabulary) -> Term:
    """Every object or part; every name where the vocabulary has none of that kind."""
    chosen = {c for c in range(len(vocabulary)) if kind == "all" or vocabulary.is_part(c) == (kind == "parts")}
    return Term(phrase=phrase, class_ids=frozenset(chosen or range(len(vocabulary))), plural=False)


def _places_behind(words: list[str], whole: str) -> tuple[list[str], list[str]]:
    """The words without "on the right", "from the left", and the places that these name."""
    rest, tail, i = [], list[str](), 0
    while i < len(words):
        if words[i] not in (*_PREPOSITIONS, "from") or (words[i] != "from" and not i):
            rest.append(words[i])
            i += 1
            continue
        preposition, i = words[i], i + 1
        while i < len(words) and (words[i] in _IGNORED or words[i] in _STRONGER):
            i += 1
        places: list[str] = []
        while i < len(words) and _AXES.get(words[i]) in _PLACES and len(places) < (1 if preposition == "from" else 2):
            places.append(_AXES[words[i]])
            i += 1
        if not places:
            raise SelectionError(f"'{whole}': '{preposition}' is followed by left, right, top, bottom, front or rear")
        while i < len(words) and words[i] in ("side", "end", "corner", "half", "edge"):
            i += 1
        tail += places
    return rest, tail


def _named(words: list[str], vocabulary: Vocabulary) -> tuple[frozenset[int], list[str]]:
    """The classes whose whole name is in the words, as much of it as possible; else those whose last word is the last
    of the words. With the words that were used for it."""
    best, found, used = (False, 0), set[int](), list[str]()
    if not words:
        return frozenset(), []
    for c in range(len(vocabulary)):
        for name in filter(None, (vocabulary.names[c], vocabulary.part_name(c))):
            parts = list(dict.fromkeys(name_words(name)))
            shared = [word for word in parts if word in words]
            whole = len(shared) == len(parts)
            if not shared or not (whole or parts[-1] == words[-1]) or (whole, len(shared)) < best:
                continue
            if (whole, len(shared)) > best:
                best, found, used = (whole, len(shared)), set(), shared
            found.add(c)
    return frozenset(found), used


def _qualifiers(
    words: list[str], tail: list[str], vocabulary: Vocabulary, whole: str
) -> tuple[tuple[str, ...], int | None, int | None]:
    axes, ranks, counts, unknown = list(tail), list[int](), list[int](), list[str]()
    last = False
    for word in words:
        digits = re.fullmatch(r"(\d+)(st|nd|rd|th)?", word)
        if word == "last":
            last = True
        elif word in _ORDINALS:
            ranks.append(_ORDINALS.index(word) + 1)
        elif digits and digits[2]:
            ranks.append(int(digits[1]))
        elif digits or word in _NUMBERS:
            counts.append(int(digits[1]) if digits else _NUMBERS.index(word) + 1)
        elif word in _AXES.values():
            axes.append(word)
        else:
            unknown.append(word)
    if unknown:
        raise SelectionError(_unknown(unknown, vocabulary, whole))
    if 0 in ranks or 0 in counts:
        raise SelectionError(f"'{whole}': what is counted begins with 1")
    if len(ranks) > 1 or len(counts) > 1:
        raise SelectionError(f"'{whole}': only one of its numbers can count")
    if both := next((pair for pair in _OPPOSITE if set(pair) <= set(axes)), None):
        raise SelectionError(f"'{whole}': it cannot be {both[0]} and {both[1]}")
    rank = ranks[0] if ranks else 1 if last else None
    if counts and rank not in (None, 1):
        raise SelectionError(f"'{whole}': only one of its numbers can count")
    axes = list(dict.fromkeys(axes))
    return tuple(axes), -rank if last and rank else rank, counts[0] if counts else None


def _unknown(words: Sequence[str], vocabulary: Vocabulary, whole: str) -> str:
    named = [word for word in words if any(word in name_words(name) for name in vocabulary.names)]
    odd = [word for word in words if word not in named and not _is_qualifier(word)]
    if named and not odd:
        return f"'{whole}' has more than one name: tie '{named[-1]}' with 'and', 'of', 'left of', 'next to' or the like"
    names = sorted({_last(vocabulary, c) for c in range(len(vocabulary))} | set(vocabulary.names))
    word = odd[-1] if odd else words[-1] if words else whole
    hint = did_you_mean(word, names, cutoff=0.6)
    listed = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    return f"'{whole}': '{word}' is no name of the vocabulary and no word of place, size or order; " + (
        hint or f"names are {listed}"
    )
