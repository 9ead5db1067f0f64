"""The parts of a base object under the name of a novel one (docs/method.md, 'Names of parsed parts')."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from vlpart.names import plain
from vlpart.text.vocabulary import Vocabulary

SYNONYMS: tuple[frozenset[str], ...] = (
    frozenset({"body", "torso"}),
    frozenset({"paw", "hand", "foot"}),
    frozenset({"cap", "mouth"}),
)
"""Part names that stand for one another, as published."""


class Renamer:
    """Finds the class of a part on another object: "dog:paw" on a "Quadruped" is the "Quadruped Foot" of PartImageNet.

    Args:
        vocabulary: the classes to write; entries that are no part are never chosen. None takes every name as it comes:
            "object:part".
        synonyms: groups of part names that stand for one another.
    """

    def __init__(self, vocabulary: Vocabulary | None, synonyms: Sequence[frozenset[str]] = SYNONYMS) -> None:
        self.vocabulary = vocabulary
        self.synonyms = tuple(frozenset(plain(name) for name in group) for group in synonyms)

    def __call__(self, object_name: str, part_name: str) -> str | None:
        """The name to write, or None where the vocabulary has no such part of this object.

        Args:
            object_name: the label of the image.
            part_name: of the part found, without its own object ("paw").
        """
        if self.vocabulary is None:
            return f"{object_name}:{part_name}"
        part = plain(part_name)
        group = next((g for g in self.synonyms if part in g), frozenset())
        for candidate in (part, *sorted(group - {part})):
            found = self._names.get((plain(object_name), candidate))
            if found is not None:
                return found
        return None

    def settings(self) -> dict[str, Any]:
        """What the names depend on, as JSON data."""
        return {
            "names": None if self.vocabulary is None else self.vocabulary.content_hash,
            "synonyms": sorted(sorted(group) for group in self.synonyms),
        }

    @cached_property
    def _names(self) -> dict[tuple[str, str], str]:
        entries = () if self.vocabulary is None else self.vocabulary.entries
        return {
            (plain(e.object), plain(e.part)): e.name
            for e in reversed(entries)
            if e.object is not None and e.part is not None
        }
