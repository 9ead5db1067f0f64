"""What the parser finds, under the name of the novel object: one ordered table, read in one direction
(docs/method.md, 'Names of parsed parts').
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from vlpart.names import plain
from vlpart.text.vocabulary import Vocabulary

RENAMES: Mapping[str, Sequence[str]] = {
    "body": ("body", "torso"),
    "torso": ("body", "torso"),
    "paw": ("hand", "foot", "paw"),
    "cap": ("mouth", "cap"),
}
"""Part that is found -> parts that may be written, the first that the vocabulary has; any other part only as itself.

As published: a paw may become a foot, but a foot never a paw.
"""


class Renamer:
    """Finds the class of a part on another object: "dog:paw" on a "Quadruped" is the "Quadruped Foot" of PartImageNet.

    Names are compared in small letters, underscores as spaces; object and part are joined by ":" or a space.

    Args:
        vocabulary: the classes to write. None takes every name as it comes: "object:part".
        renames: part that is found -> parts to try, in order; parts that are not in it are tried as they are.
    """

    def __init__(self, vocabulary: Vocabulary | None, renames: Mapping[str, Sequence[str]] = RENAMES) -> None:
        self.vocabulary = vocabulary
        self.renames = {plain(part): tuple(map(plain, tried)) for part, tried in renames.items()}

    def __call__(self, object_name: str, part_name: str) -> str | None:
        """The name to write for a part, or None where the vocabulary has no such part of this object.

        Args:
            object_name: the label of the image.
            part_name: of the part found, without its own object ("paw").
        """
        if self.vocabulary is None:
            return f"{object_name}:{part_name}"
        part = plain(part_name)
        for candidate in self.renames.get(part, (part,)):
            class_name = self._parts.get((plain(object_name), candidate))
            if class_name is not None:
                return class_name
        return None

    def whole(self, name: str) -> str | None:
        """The name to write for a whole object that is found: its own, if the vocabulary has it, whatever the label."""
        return name if self.vocabulary is None else self._wholes.get(plain(name))

    def found(self, label: str, vocabulary: Vocabulary, index: int) -> str | None:
        """The name to write for class `index` of the base parts, in an image with this label; None = dropped."""
        part = vocabulary.part_name(index)
        return self.whole(vocabulary.names[index]) if part is None else self(label, part)

    def settings(self) -> dict[str, Any]:
        """What the names depend on, as JSON data."""
        return {
            "names": None if self.vocabulary is None else self.vocabulary.content_hash,
            "renames": {part: list(tried) for part, tried in sorted(self.renames.items())},
        }

    @cached_property
    def _parts(self) -> dict[tuple[str, str], str]:
        entries = () if self.vocabulary is None else self.vocabulary.entries
        return {
            (plain(e.object), plain(e.part)): e.name
            for e in reversed(entries)
            if e.object is not None and e.part is not None
        }

    @cached_property
    def _wholes(self) -> dict[str, str]:
        entries = () if self.vocabulary is None else self.vocabulary.entries
        return {plain(e.name): e.name for e in reversed(entries) if e.part is None}
