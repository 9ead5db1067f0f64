"""The text encoders behind one small protocol, the way from a vocabulary to its vectors, and vectors kept on disk.

A file of the cache holds the vectors of one list of phrases and is named by the hash of what they were made from.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from vlpart.errors import OutputError, TextEncoderError, VocabularyError
from vlpart.files import cache_folder, is_file, write_file
from vlpart.text.clip import ClipTextEncoder
from vlpart.text.phrase import PhraseTextEncoder
from vlpart.text.prompts import Prompt, part_of_object_phrases, prompts_for
from vlpart.text.static import StaticTextEncoder

if TYPE_CHECKING:
    import numpy as np

    from vlpart.text.vocabulary import Vocabulary


__all__ = [
    "ClipTextEncoder",
    "PhraseTextEncoder",
    "StaticTextEncoder",
    "TextEncoder",
    "encode_vocabulary",
    "get_text_encoder",
]


class TextEncoder(Protocol):
    """What turns phrases into vectors.

    Attributes:
        name: "clip_rn50", "static", or a name of your own (which gets the plain prompt, see `prompts_for`).
        dim: length of the vectors.
    """

    name: str
    dim: int

    def encode(self, phrases: Sequence[str]) -> np.ndarray:
        """(N, dim) float32, rows of length 1."""
        ...


def encode_vocabulary(
    encoder: TextEncoder, vocabulary: Vocabulary, cache: bool = True, *, prompt: Prompt = "name"
) -> np.ndarray:
    """The vector of every entry of a vocabulary.

    Embeddings that the vocabulary brings are used as they are. Otherwise the prompt of the encoder is put around each
    name; vectors of the CLIP tower are kept on disk (`cached_vectors`), so that the tower is not even loaded for a list
    seen before.

    Args:
        cache: whether vectors may be read from and kept in the cache folder.
        prompt: how names become phrases, as the model was trained.

    Returns:
        (C, encoder.dim) float32, rows of length 1, read-only.

    Raises:
        VocabularyError: the vocabulary's own embeddings are not `encoder.dim` long.
        TextEncoderError: the encoder cannot be loaded.
    """
    if vocabulary.embeddings is not None:
        length = vocabulary.embeddings.shape[1]
        if length != encoder.dim:
            raise VocabularyError(
                f"The embeddings of {vocabulary.title!r} are {length} long, the text encoder {encoder.name!r} makes "
                f"{encoder.dim}; use a model of that text space, or names without embeddings."
            )
        return vocabulary.embeddings
    of = prompt == "part_of_object"
    phrases = part_of_object_phrases(vocabulary) if of else prompts_for(encoder.name, vocabulary.texts)
    if cache and isinstance(encoder, ClipTextEncoder):
        vectors = cached_vectors(encoder.fingerprint, phrases, encoder.dim, encoder.encode)
    else:
        vectors = encoder.encode(phrases)
    vectors.setflags(write=False)
    return vectors


EmbeddedOrClip = StaticTextEncoder | PhraseTextEncoder | ClipTextEncoder
_encoders: dict[str, EmbeddedOrClip] = {}
_lock = threading.Lock()


ENCODERS: dict[str, type[EmbeddedOrClip]] = {
    each.name: each for each in (StaticTextEncoder, PhraseTextEncoder, ClipTextEncoder)
}
"""The text encoders by name."""


def get_text_encoder(name: str) -> EmbeddedOrClip:
    """The one text encoder of that name in this process: "static" and "phrase" (embedded), or "clip_rn50" (loads its
    weights when first used).

    Raises:
        TextEncoderError: no such encoder, or its files cannot be read.
    """
    if name not in ENCODERS:
        raise TextEncoderError(f"No text encoder {name!r}; choose one of {', '.join(sorted(ENCODERS))}.")
    with _lock:
        if name not in _encoders:
            _encoders[name] = ENCODERS[name]()
        return _encoders[name]


logger = logging.getLogger("vlpart.text")


def cached_vectors(
    fingerprint: str, phrases: Sequence[str], dim: int, encode: Callable[[Sequence[str]], np.ndarray]
) -> np.ndarray:
    """Vectors from the cache folder, or else from `encode`, which are then kept.

    A file that is damaged, or was written for something else, is made again. A cache folder that cannot be written to
    costs time, not the result.

    Args:
        fingerprint: names the encoder and its weights.
        dim: expected length of the vectors.

    Returns:
        (N, dim) float32.
    """
    key = hashlib.sha256(json.dumps([fingerprint, dim, list(phrases)]).encode()).hexdigest()
    path = cache_folder() / "text" / f"{key}.safetensors"
    vectors = _read(path, key, (len(phrases), dim))
    if vectors is None:
        vectors = encode(phrases)
        try:
            _write(path, key, vectors)
        except OutputError as error:
            logger.warning("Text vectors were not kept: %s.", error)
    return vectors


def _read(path: Path, key: str, shape: tuple[int, int]) -> np.ndarray | None:
    """The vectors of a file if it is whole and was written for this key."""
    import numpy as np
    from safetensors import SafetensorError, safe_open

    if not is_file(path):
        return None
    try:
        with safe_open(path, framework="numpy") as file:
            metadata, vectors = file.metadata() or {}, file.get_tensor("vectors")
    except (SafetensorError, OSError, ValueError, TypeError, MemoryError) as error:
        logger.info("%s is damaged (%s) and is made again.", path, error)
        return None
    whole = metadata.get("sha256") == hashlib.sha256(vectors.tobytes()).hexdigest()
    usable = vectors.dtype == np.float32 and bool(np.isfinite(vectors).all())
    if not whole or not usable or metadata.get("key") != key or vectors.shape != shape:
        logger.info("%s is damaged and is made again.", path)
        return None
    return vectors


def _write(path: Path, key: str, vectors: np.ndarray) -> None:
    from safetensors.numpy import save

    write_file(path, save({"vectors": vectors}, {"key": key, "sha256": hashlib.sha256(vectors.tobytes()).hexdigest()}))
