"""From category names to the phrases that text encoders read (docs/method.md, 'Text embeddings')."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from vlpart.errors import TextEncoderError

if TYPE_CHECKING:
    from vlpart.text.vocabulary import Vocabulary

#: How a name becomes a phrase: "name" = the encoder's usual prompt around it; "part_of_object" = "wheel of a car" for
#: a part, and the bare name for an object. A model is asked as it was trained.
Prompt = Literal["name", "part_of_object"]


def check_phrases(phrases: Sequence[str]) -> list[str]:
    """The phrases as a list.

    Raises:
        TextEncoderError: a single string instead of a sequence, something that is not a string, or an empty phrase.
    """
    if isinstance(phrases, str):
        raise TextEncoderError("Text encoders take a list of phrases, not one string; write [phrase].")
    texts = list(phrases)
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise TextEncoderError(f"Phrase {i} is a {type(text).__name__}, not a string.")
        if not text.strip():
            raise TextEncoderError(f"Phrase {i} is empty; name what to look for.")
    return texts


def clip_prompt(name: str) -> str:
    """The published prompt: small letters, ':' as a space, "a " before it.

    "Quadruped Head" -> "a quadruped head", "dog:head" -> "a dog head". Underscores and parentheses of LVIS and PACO
    names stay: the published vectors of "traffic light" (COCO) and "traffic_light" (LVIS) differ.
    """
    return "a " + name.lower().replace(":", " ")


def plain_prompt(name: str) -> str:
    """Plain words for the embedded encoder: "car_(automobile):door" -> "car automobile door"."""
    return " ".join(name.lower().translate(_SEPARATORS).split()) or name


_SEPARATORS = str.maketrans(dict.fromkeys(":_()", " "))


def prompts_for(encoder: str, names: Sequence[str]) -> list[str]:
    """The phrases that this encoder reads: the published prompt for "clip_rn50", plain words for any other."""
    prompt = clip_prompt if encoder == "clip_rn50" else plain_prompt
    return [prompt(name) for name in names]


MAX_TOKENS = 77
"""What CLIP's encoder reads of a phrase, its start and end included."""


def tokens_over(name: str) -> int:
    """How many tokens a name has at least, if that is more than `MAX_TOKENS`, else 0; the rest is not read.

    Counted without the tokenizer, hence too few: a word, and every sign that is no letter or digit, is at least one.
    Letters beyond ASCII are at least half a token each.
    """
    words = re.findall(r"[^\W\d_]+|\d|[^\w\s]|_", name)
    count = 3 + sum(max(1, len(word) // 2) if not word.isascii() else 1 for word in words)  # start, "a", end
    return count if count > MAX_TOKENS else 0


def part_of_object_phrases(vocabulary: Vocabulary) -> list[str]:
    """A phrase of small letters for every entry: "head of a dog" for "dog:head", the name itself for an object."""
    return [
        (f"{entry.part} of a {entry.object}" if entry.part else name).lower()
        for name, entry in zip(vocabulary.names, vocabulary.entries, strict=True)
    ]
