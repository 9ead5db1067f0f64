"""What to look for: the names of objects and parts, in order, and which part belongs to which object."""

from __future__ import annotations

import difflib
import hashlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlpart.checks import one_of, position, typed
from vlpart.errors import VocabularyError
from vlpart.files import is_there
from vlpart.names import did_you_mean
from vlpart.text import naming
from vlpart.text import naming as vocabulary_files

if TYPE_CHECKING:
    import numpy as np

logger = logging.getLogger("vlpart.text")

PART_LISTS = ("pascal_part", "paco", "partimagenet")
"""The lists whose part names make "dog head" the head of "dog" (see `naming.recognise_parts`)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One category.

    Attributes:
        name: display name: "object:part" for parts, or the phrase as it was given.
        id: category id of the dataset, or index + 1.
        object, part: both set for a part, both None for anything else.
        image_count, frequency: of the training split ("f", "c", "r"), where the dataset states them.
        abbr: short name in the Pascal-Part files, where it differs.
        text: what text encoders read instead of the name, where the published vectors were made so.
        wnid, imagenet_id: WordNet id; ranges (first, last), counted from 1, of the sorted ImageNet-1k classes.
    """

    name: str
    id: int
    object: str | None = None
    part: str | None = None
    image_count: int | None = None
    frequency: str | None = None
    abbr: str | None = None
    text: str | None = None
    wnid: str | None = None
    imagenet_id: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """An ordered list of categories. Immutable; equal and hashed by content (`content_hash`); imports no torch.

    Attributes:
        entries: the categories, at least one; ids are unique.
        embeddings: (C, D) float32, rows of length 1, read-only; None = a text encoder makes them from the names.
        title: name of the list or "custom"; about: one line for people. Neither counts as content.

    Raises:
        VocabularyError: no entries, an id twice, or embeddings that do not fit.
    """

    entries: tuple[Entry, ...]
    embeddings: np.ndarray | None = None
    title: str = "custom"
    about: str = ""

    def __post_init__(self) -> None:
        one_of("title", self.title, str)
        one_of("about", self.about, str)
        if not isinstance(self.entries, tuple) or not all(map(_is_entry, self.entries)):
            raise VocabularyError("A vocabulary needs a tuple of Entry with a name and a whole number as id each.")
        if not self.entries:
            raise VocabularyError("The vocabulary is empty; name what to look for, as in 'car: wheel, door; person'.")
        if len(self.index_of_id) != len(self.entries):
            raise VocabularyError("A category id occurs twice in the vocabulary; ids must be unique.")
        if self.embeddings is not None:
            object.__setattr__(self, "embeddings", _check_embeddings(self.embeddings, len(self.entries)))

    # ---- making one

    @staticmethod
    def available() -> list[str]:
        """Names of the lists that come with the package."""
        return vocabulary_files.available()

    @classmethod
    def load(cls, name_or_path: str | Path) -> Vocabulary:
        """A list of the package by name ("pascal_part"), or a file.

        `.txt`: one phrase per line or the syntax of `parse`; empty lines and lines that start with '#' are skipped.
        `.json`: this package's form (`to_dict`), a COCO file or its category list, or a list of names.

        Examples:
            >>> len(Vocabulary.load("pascal_part"))
            93

        Raises:
            VocabularyError: neither a list nor a file, or a file that cannot be read.
        """
        if isinstance(name_or_path, str) and name_or_path in cls.available():
            return cls._from_document(vocabulary_files.read_list(name_or_path), name_or_path)
        path = Path(name_or_path)
        if not is_there(path):
            hint = did_you_mean(str(name_or_path), cls.available()) or f"lists: {', '.join(cls.available())}."
            raise VocabularyError(f"No vocabulary list and no file '{name_or_path}'; {hint}")
        document = vocabulary_files.read_document(path)
        if isinstance(document, str):
            return cls._custom(naming.parse_names(document), title=path.stem)
        return cls._from_document(document, path.stem)

    @classmethod
    def parse(cls, text: str) -> Vocabulary:
        """Read "car: wheel, door; dog head; person" (see `naming.parse_names`): entries car, car:wheel, car:door, dog
        head, person.

        "dog head" is also known as the part "head" of "dog" if "dog" is an entry too (`naming.recognise_parts`).

        Examples:
            >>> Vocabulary.parse("car: wheel, door; person").names
            ('car', 'car:wheel', 'car:door', 'person')
        """
        return cls._custom(naming.parse_names(text))

    @classmethod
    def from_names(cls, names: Sequence[str], objects: Sequence[str | None] | None = None) -> Vocabulary:
        """One entry per name, in order; "car:wheel" is a part of car (which is *not* added as an entry).

        Examples:
            >>> Vocabulary.from_names(["car", "wheel"], objects=[None, "car"]).names
            ('car', 'car:wheel')

        Args:
            names: display names, no two alike (case does not count).
            objects: for each name the object that it is a part of, or None: ("wheel", "car") gives "car:wheel".

        Raises:
            VocabularyError: no names, a name twice, or a name that `naming.clean_name` refuses.
        """
        if isinstance(names, str | Mapping):  # of a mapping only the keys would be taken
            kind = "one string" if isinstance(names, str) else "a mapping"
            raise VocabularyError(
                f"from_names takes a list of names, not {kind}; use Vocabulary.parse for 'car: wheel; dog'."
            )
        named = [naming.split_name(name, f"Name {i + 1}") for i, name in enumerate(names)]
        if objects is not None:
            if isinstance(objects, str | Mapping) or len(objects) != len(named):
                raise VocabularyError(
                    f"objects must be a list as long as names ({len(named)}), with None for names that are no part."
                )
            named = [_with_object(*item, owner, i) for i, (item, owner) in enumerate(zip(named, objects, strict=True))]
        naming.refuse_duplicates([name for name, *_ in named])
        return cls._custom(named)

    @classmethod
    @typed("title")
    def from_categories(cls, categories: Iterable[Mapping[str, Any]], title: str = "custom") -> Vocabulary:
        """COCO categories ({"id", "name", and optionally "object", "part", "image_count", "frequency"}), in the order
        given.

        Names may repeat (ids tell them apart); `index` then finds the first.
        """
        return cls(vocabulary_files.entries_from(categories, Entry), title=title)

    @classmethod
    def from_embeddings(
        cls, names: Sequence[str], embeddings: np.ndarray, objects: Sequence[str | None] | None = None
    ) -> Vocabulary:
        """`from_names` with a vector for each name, (C, D), for a model of that text space; rows are normalised.

        Raises:
            VocabularyError: as `from_names`; wrong shape, not finite, or a row of zeros.
        """
        return replace(cls.from_names(names, objects), embeddings=embeddings)

    @classmethod
    def of(cls, value: Vocabulary | str | Path | Sequence[str] | Mapping[str, Sequence[str]]) -> Vocabulary:
        """What users pass as `vocabulary=`: a Vocabulary, a list of names, a dictionary, a Path, or a string.

        A dictionary has objects and their parts: {"car": ["wheel", "door"], "person": []}.

        A string is the name of a list, else a file that exists, else the syntax of `parse`. A single phrase that is
        nearly the name of a list is taken as a phrase, with a warning in the log.
        """
        if isinstance(value, Vocabulary):
            return value
        if isinstance(value, Path):
            return cls.load(value)
        if isinstance(value, Mapping):
            return cls._of_objects(value)
        if not isinstance(value, str):
            if not isinstance(value, list | tuple):
                kind = type(value).__name__
                raise VocabularyError(f"A vocabulary is a string, a list of names, or a Path to a file, not a {kind}.")
            return cls.from_names(list(value))
        if value in cls.available() or vocabulary_files.looks_like_file(value):
            return cls.load(value)
        if "_" in value and difflib.get_close_matches(value, cls.available(), n=1, cutoff=0.85):
            return cls.load(value)  # a misspelt list: the error names the near ones
        near = _near_lists(value, cls.available())
        if near:
            logger.warning("'%s' is looked for as a word; there is also the list %s", value, " or ".join(near))
        return cls.parse(value)

    @classmethod
    def _of_objects(cls, parts_of: Mapping[str, Sequence[str]]) -> Vocabulary:
        names: list[str] = []
        for name, parts in parts_of.items():
            if not isinstance(name, str) or not isinstance(parts, list | tuple):
                raise VocabularyError(
                    f"In a dictionary, {name!r} needs a list of its parts, as in {{'car': ['wheel']}}."
                )
            names += [name, *(f"{name}:{part}" for part in parts)]
        return cls.from_names(names)

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Vocabulary:
        """The inverse of `to_dict` (embeddings are not kept)."""
        return cls._from_document(dict(document), "custom")

    # ---- asking it

    def __len__(self) -> int:
        return len(self.entries)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self.content_hash == other.content_hash

    def __hash__(self) -> int:
        return hash(self.content_hash)

    def __repr__(self) -> str:
        shown = ", ".join(self.names[:4]) + (", ..." if len(self) > 4 else "")
        return f"Vocabulary({self.title!r}, {len(self)} entries: {shown})"

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.casefold() in self._first_index

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Display names, parts as "object:part"."""
        return tuple(entry.name for entry in self.entries)

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """What text encoders make their prompts from: the names, but for a few entries of the published lists."""
        return tuple(entry.text or entry.name for entry in self.entries)

    @cached_property
    def ids(self) -> tuple[int, ...]:
        """Category ids, in order."""
        return tuple(entry.id for entry in self.entries)

    @cached_property
    def index_of_id(self) -> dict[int, int]:
        """From category id to index."""
        return {entry.id: i for i, entry in enumerate(self.entries)}

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 over the entries, in order, and the embeddings."""
        digest = hashlib.sha256(json.dumps(self.to_dict()["entries"], sort_keys=True).encode())
        if self.embeddings is not None:
            digest.update(str(self.embeddings.shape).encode() + self.embeddings.tobytes())
        return digest.hexdigest()

    def index(self, name: str) -> int:
        """Index of a name; upper and lower case do not matter unless two names differ in nothing else.

        Raises:
            VocabularyError: no such name; near ones are listed.
        """
        if name in self._exact_index:
            return self._exact_index[name]
        if isinstance(name, str) and name.casefold() in self._first_index:
            return self._first_index[name.casefold()]
        hint = did_you_mean(str(name), self.names, cutoff=0.6)
        missing = f"'{name}' is not in the vocabulary {self.title!r} ({len(self)} names)"
        raise VocabularyError(f"{missing}; {hint}" if hint else f"{missing}.")

    def is_part(self, i: int) -> bool:
        """Whether entry `i` is known as a part of an object."""
        return self._at(i).part is not None

    def object_name(self, i: int) -> str:
        """The object that entry `i` is a part of, or its own name if it is no part."""
        entry = self._at(i)
        return entry.name if entry.object is None else entry.object

    def part_name(self, i: int) -> str | None:
        """The part without its object ("wheel"), or None if entry `i` is no part."""
        return self._at(i).part

    def object_of(self, i: int) -> int | None:
        """For a part, the index of its object's own entry; None if that is not in the vocabulary, or `i` is no part."""
        owner = self._at(i).object
        return None if owner is None else self._object_index.get(owner.casefold())

    def parts_of(self, i: int) -> tuple[int, ...]:
        """Indices of the parts of object `i`, in order; empty for a part."""
        self._at(i)
        return self._parts.get(i % len(self), ())

    def subset(self, indices: Iterable[int]) -> Vocabulary:
        """The entries at `indices`, in that order, with their ids and embeddings.

        Raises:
            VocabularyError: no indices, one twice, or one that there is not.
            TypeError: an index that is no whole number.
        """
        chosen = [position("an index", i) for i in indices]
        if beyond := [i for i in chosen if not -len(self) <= i < len(self)]:
            raise VocabularyError(f"There is no entry {beyond[0]} in a vocabulary of {len(self)}.")
        rows = None if self.embeddings is None else self.embeddings[chosen]
        return Vocabulary(tuple(self.entries[i] for i in chosen), rows, title=f"{self.title} (part)", about=self.about)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON: {"name", "about", "entries": [{"id", "name", ...}]}; embeddings are left out."""
        return vocabulary_files.to_document(self.title, self.about, self.entries)

    # ---- inside

    def _at(self, i: int) -> Entry:
        """Raises `IndexError` for a place that there is not, `TypeError` for what is none."""
        return self.entries[position("the index of an entry", i)]

    @cached_property
    def _exact_index(self) -> dict[str, int]:
        return {entry.name: i for i, entry in reversed(list(enumerate(self.entries)))}

    @cached_property
    def _first_index(self) -> dict[str, int]:
        return {entry.name.casefold(): i for i, entry in reversed(list(enumerate(self.entries)))}

    @cached_property
    def _object_index(self) -> dict[str, int]:
        return {e.name.casefold(): i for i, e in reversed(list(enumerate(self.entries))) if e.part is None}

    @cached_property
    def _parts(self) -> dict[int, tuple[int, ...]]:
        parts_of: dict[int, list[int]] = {}
        for i in range(len(self)):
            owner = self.object_of(i)
            if owner is not None:
                parts_of.setdefault(owner, []).append(i)
        return {owner: tuple(parts) for owner, parts in parts_of.items()}

    @classmethod
    def _custom(cls, named: Sequence[naming.Named], title: str = "custom") -> Vocabulary:
        named = naming.recognise_parts(named, vocabulary_files.part_names(PART_LISTS))
        rows = enumerate(named)
        return cls(tuple(Entry(name=n, id=i + 1, object=o, part=p) for i, (n, o, p) in rows), title=title)

    @classmethod
    def _from_document(cls, document: Any, title: str) -> Vocabulary:
        if isinstance(document, list) and all(isinstance(name, str) for name in document):
            return replace(cls.from_names(document), title=title)
        entries = vocabulary_files.entries_from(vocabulary_files.categories_of(document), Entry)
        about = document.get("about", "") if isinstance(document, dict) else ""
        title = document.get("name", title) if isinstance(document, dict) and "entries" in document else title
        return cls(entries, title=str(title), about=str(about))


def _is_entry(entry: object) -> bool:
    return isinstance(entry, Entry) and isinstance(entry.name, str) and type(entry.id) is int


def _near_lists(word: str, lists: Sequence[str]) -> list[str]:
    """The lists that may be meant by a word that names none: "lvis" (lvis_v1), "tinyy" (tiny)."""
    folded = word.strip().casefold()
    begun = [name for name in lists if name.startswith(folded)] if len(folded) > 2 else []
    return begun or difflib.get_close_matches(folded, lists, n=1, cutoff=0.8)


def _with_object(name: str, owner: str | None, part: str | None, stated: str | None, i: int) -> naming.Named:
    """Apply the `objects` argument of `from_names` to one name."""
    if stated is None:
        return name, owner, part
    stated = naming.clean_name(stated, f"Object of name {i + 1}")
    if owner is not None and part is not None:
        if owner.casefold() != stated.casefold():
            raise VocabularyError(f"Name {i + 1} ('{name}') belongs to '{owner}', but objects says '{stated}'.")
        return name, owner, part
    if name.casefold().startswith(stated.casefold() + " "):
        return name, stated, name[len(stated) + 1 :]
    return f"{stated}:{name}", stated, name


def _check_embeddings(embeddings: Any, count: int) -> np.ndarray:
    """A read-only, normalised float32 copy."""
    import numpy as np

    try:
        array = np.array(embeddings, dtype=np.float32)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:  # the last: a tensor that requires gradients
        raise VocabularyError(f"Embeddings are not an array of numbers ({error}).") from error
    if array.ndim != 2 or len(array) != count or array.shape[1] == 0:
        raise VocabularyError(f"Embeddings have the shape {array.shape}; {count} names need ({count}, D).")
    lengths = np.linalg.norm(array.astype(np.float64), axis=1, keepdims=True)
    if not np.isfinite(array).all() or not (lengths > 0).all():
        raise VocabularyError("Embeddings must be finite, and no row may be all zeros.")
    array = (array / lengths).astype(np.float32)
    array.setflags(write=False)
    return array
