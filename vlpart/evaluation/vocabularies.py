"""Which names a model is asked about, and which category each of its answers is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from vlpart.errors import DataError, EvaluationError
from vlpart.evaluation.truth import ordered_categories
from vlpart.text.prompts import plain_prompt
from vlpart.text.vocabulary import Entry, Vocabulary


def dataset_vocabulary(truth: Mapping[str, Any], known: str | None = None) -> Vocabulary:
    """The categories of a COCO file as a vocabulary, in ascending id.

    Args:
        truth: content of the file.
        known: a list of the package that the file belongs to: its entries are taken, with what encoders read for them.

    Raises:
        DataError: the file has a category that the list does not have, or has under another name.
    """
    ordered = ordered_categories(truth)
    if known is None:
        return Vocabulary.from_categories(ordered)
    listed = Vocabulary.load(known)
    for category in ordered:
        place = listed.index_of_id.get(category["id"])
        if place is None or plain_prompt(listed.names[place]) != plain_prompt(category["name"]):
            there = "no such id" if place is None else repr(listed.names[place])
            stated = f"{category['id']} is {category['name']!r}"
            raise DataError(f"the file is not of {known}: its category {stated}, in the list it is {there}")
    if [category["id"] for category in ordered] == list(listed.ids):
        return listed
    return listed.subset([listed.index_of_id[category["id"]] for category in ordered])


def categories_of_classes(truth: Mapping[str, Any], vocabulary: Vocabulary) -> list[int | None]:
    """For every entry of a vocabulary the category that it stands for; None = none, a distractor.

    By id and name where the vocabulary is that of the file, else by name where it has every category (and maybe more),
    else by position in ascending id where it has as many entries: other wordings of the same classes. No name of a
    category ever stands for another category.

    Raises:
        DataError: none of these fits.
    """
    ordered = ordered_categories(truth)
    ids = [category["id"] for category in ordered]
    by_id = {category["id"]: plain_prompt(category["name"]) for category in ordered}
    own = {entry.id: plain_prompt(entry.name) for entry in vocabulary.entries}
    if all(own.get(i) == name for i, name in by_id.items()):
        return [entry.id if entry.id in by_id else None for entry in vocabulary.entries]
    by_name = {name: i for i, name in by_id.items()}
    names = [plain_prompt(name) for name in vocabulary.names]
    if len(by_name) == len(ids) and set(by_name) <= set(names) and len(set(names)) == len(names):
        return [by_name.get(name) for name in names]
    if len(vocabulary) == len(ids):
        for place, name in enumerate(names):
            if name in by_name and by_id[ids[place]] != name:
                raise DataError(
                    f"the vocabulary has {vocabulary.names[place]!r} at place {place + 1}, where the data has "
                    f"{by_id[ids[place]]!r}: name all categories as the data does, or give other words for them in the "
                    "order of their ids"
                )
        return list(ids)
    missing = next((category["name"] for category in ordered if plain_prompt(category["name"]) not in names), "")
    raise DataError(
        f"the vocabulary has {len(vocabulary)} names, the data has {len(ids)} categories, of which {missing!r} is not "
        "among the names: name them all, or give as many names in ascending category id"
    )


def paraphrased(vocabulary: Vocabulary, wordings: Mapping[str, str]) -> Vocabulary:
    """The same classes in other words: whole names, names of parts and names of objects are looked up.

    Args:
        vocabulary: of a data set.
        wordings: from a name ("wheel", "car", "car:wheel") to what to say instead; upper and lower case do not matter.

    Raises:
        EvaluationError: no name of the vocabulary is changed.
    """
    said = {plain_prompt(key): value for key, value in wordings.items()}

    def word(text: str) -> str:
        return said.get(plain_prompt(text), text)

    entries: list[Entry] = []
    changed = 0
    for entry in vocabulary.entries:
        whole = word(entry.name)
        if whole == entry.name and entry.object is not None and entry.part is not None:
            owner, part = word(entry.object), word(entry.part)
            if (owner, part) != (entry.object, entry.part):
                between = ":" if ":" in entry.name else " "
                entries.append(replace(entry, name=f"{owner}{between}{part}", object=owner, part=part, text=None))
                changed += 1
                continue
        if whole == entry.name:
            entries.append(entry)
            continue
        owner, _, part = whole.partition(":")
        entries.append(replace(entry, name=whole, object=owner if part else None, part=part or None, text=None))
        changed += 1
    if not changed:
        raise EvaluationError(f"the wordings ({', '.join(list(wordings)[:3])}, ...) change no name of this vocabulary")
    return Vocabulary(tuple(entries), title=f"{vocabulary.title} in other words")


def with_distractors(vocabulary: Vocabulary, names: Sequence[str]) -> Vocabulary:
    """The vocabulary with names added that are not in the data; those that it has already are left out.

    Raises:
        EvaluationError: nothing is left to add.
    """
    have = {plain_prompt(name) for name in vocabulary.names}
    new = [name for name in dict.fromkeys(names) if plain_prompt(name) not in have]
    if not new:
        raise EvaluationError("every distractor is a name of the vocabulary already: give other names")
    first = max(vocabulary.ids) + 1
    extra = Vocabulary.from_names(new).entries
    added = tuple(replace(entry, id=first + i) for i, entry in enumerate(extra))
    return Vocabulary(vocabulary.entries + added, title=f"{vocabulary.title} with {len(new)} distractors")
