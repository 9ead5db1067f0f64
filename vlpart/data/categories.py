"""The classes of a source: which vocabulary, which category id is which class, what a flip makes of a class."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vlpart.data.readers import CategoryEntry
from vlpart.errors import DataError
from vlpart.text.vocabulary import Vocabulary

if TYPE_CHECKING:
    from vlpart.data.source import LoadReport, Source

EXCLUDED = -1
"""Class of the categories that `only_objects`, `exclude_objects` and `take` leave out."""


def map_categories(
    source: Source, categories: Sequence[CategoryEntry], report: LoadReport
) -> tuple[Vocabulary, dict[int, int]]:
    """The vocabulary of a source, and category id -> index in it, or `EXCLUDED`.

    With "dataset" the classes are the file's categories in the order given (readers sort by id); names that differ in
    case only become one class, since they give one text embedding. With a list, a category is the entry of the same
    name (of the same id where the file has no names); categories that are not in the list stay unmapped, an error once
    something is annotated with one.

    Raises:
        DataError: unnamed categories with "dataset", a filter that names an unknown object, or one that leaves nothing.
        VocabularyError: no list or file of that name.
    """
    if source.vocabulary != "dataset":
        return _map_to_list(source, categories)
    unnamed = [category.id for category in categories if not category.name]
    if unnamed or not categories:
        raise DataError(
            f"{source.annotations}: vocabulary='dataset' needs named categories; ids without: {unnamed[:5]}"
        )
    _refuse_unknown_filters(source, {category.object_name for category in categories})
    first: dict[str, CategoryEntry] = {}
    for category in categories:
        if _wanted(source, category.object_name, category.part is not None):
            first.setdefault(str(category.name).casefold(), category)
    merged = sum(_wanted(source, c.object_name, c.part is not None) for c in categories) - len(first)
    if merged:
        report.notes.append(f"{merged} categories share their name with another one and were merged into it")
    if not first:
        raise DataError(f"source {source.name!r}: only_objects / exclude_objects / take leave no category")
    vocabulary = Vocabulary.from_categories(
        (
            {
                "id": category.id,
                "name": category.name,
                "object": category.object,
                "part": category.part,
                "image_count": category.image_count,
                "frequency": category.frequency,
            }
            for category in first.values()
        ),
        title=source.name,
    )
    place = {folded: index for index, folded in enumerate(first)}
    return vocabulary, {category.id: place.get(str(category.name).casefold(), EXCLUDED) for category in categories}


def _map_to_list(source: Source, categories: Sequence[CategoryEntry]) -> tuple[Vocabulary, dict[int, int]]:
    full = Vocabulary.load(source.vocabulary)
    objects = [full.object_name(i) for i in range(len(full))]
    _refuse_unknown_filters(source, set(objects))
    kept = [i for i, name in enumerate(objects) if _wanted(source, name, full.is_part(i))]
    if not kept:
        raise DataError(f"source {source.name!r}: only_objects / exclude_objects / take leave no category")
    vocabulary = full if len(kept) == len(full) else full.subset(kept)
    index = {old: new for new, old in enumerate(kept)}
    if not any(category.name for category in categories):
        return vocabulary, {entry.id: index.get(i, EXCLUDED) for i, entry in enumerate(full.entries)}
    by_name: dict[str, list[int]] = {}
    for i, name in enumerate(full.names):
        by_name.setdefault(_plain(name), []).append(i)
    mapping = {}
    for category in categories:
        same_name = by_name.get(_plain(category.name or ""), [])
        if same_name:  # some lists have a name twice: the id tells which
            same_id = [i for i in same_name if full.entries[i].id == category.id]
            mapping[category.id] = index.get((same_id or same_name)[0], EXCLUDED)
    return vocabulary, mapping


def _plain(name: str) -> str:
    """Spelling variants of one category name: case, underscores for spaces."""
    return name.casefold().replace("_", " ").strip()


def _wanted(source: Source, object_name: str, is_part: bool) -> bool:
    if object_name in source.exclude_objects or source.take == ("objects" if is_part else "parts"):
        return False
    return source.only_objects is None or object_name in source.only_objects


def _refuse_unknown_filters(source: Source, known: set[str]) -> None:
    unknown = sorted(((source.only_objects or frozenset()) | source.exclude_objects) - known)
    if unknown:
        raise DataError(
            f"source {source.name!r}: only_objects / exclude_objects name unknown objects: {', '.join(unknown[:5])}"
        )


def flip_labels(source: Source, names: Sequence[str], report: LoadReport) -> NDArray[np.int64]:
    """(C,) int64: the class that a class becomes in a mirrored picture ("left mirror": "right mirror"), if any."""
    place = {name: index for index, name in enumerate(names)}
    target = np.arange(len(names), dtype=np.int64)
    if not source.flip_swaps_left_right:
        return target
    other = {"left": "right", "right": "left"}
    alone = []
    for index, name in enumerate(names):
        mirrored = re.sub(r"(?<![a-z])(left|right)(?![a-z])", lambda match: other[match.group()], name)
        if mirrored in place:
            target[index] = place[mirrored]
        else:
            alone.append(name)
    if alone:
        report.notes.append(
            f"{len(alone)} names with left or right have no counterpart and keep their label: {alone[:3]}"
        )
    return target
