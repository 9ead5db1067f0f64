"""From category names to the phrases that text encoders read (docs/method.md, 'Text embeddings')."""

from __future__ import annotations

from collections.abc import Sequence

from vlpart.errors import TextEncoderError


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
