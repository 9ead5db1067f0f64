"""The two text encoders behind one small protocol, and the way from a vocabulary to its vectors."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from vlpart.errors import TextEncoderError, VocabularyError
from vlpart.text.clip import ClipTextEncoder
from vlpart.text.prompts import prompts_for
from vlpart.text.static import StaticTextEncoder
from vlpart.text.vector_cache import cached_vectors

if TYPE_CHECKING:
    import numpy as np

    from vlpart.text.vocabulary import Vocabulary

__all__ = ["ClipTextEncoder", "StaticTextEncoder", "TextEncoder", "encode_vocabulary", "get_text_encoder"]


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


def encode_vocabulary(encoder: TextEncoder, vocabulary: Vocabulary, cache: bool = True) -> np.ndarray:
    """The vector of every entry of a vocabulary.

    Embeddings that the vocabulary brings are used as they are. Otherwise the prompt of the encoder is put around each
    name; vectors of the CLIP tower are kept on disk (`vector_cache`), so that the tower is not even loaded for a list
    seen before.

    Args:
        cache: whether vectors may be read from and kept in the cache folder.

    Returns:
        (C, encoder.dim) float32, rows of length 1, read-only.

    Raises:
        VocabularyError: the vocabulary's own embeddings are not `encoder.dim` long.
        TextEncoderError: the encoder cannot be loaded.
    """
    if vocabulary.embeddings is not None:
        found = vocabulary.embeddings.shape[1]
        if found != encoder.dim:
            raise VocabularyError(
                f"The embeddings of {vocabulary.title!r} are {found} long, but the text encoder {encoder.name!r} makes "
                f"{encoder.dim}; use a model of that text space, or names without embeddings."
            )
        return vocabulary.embeddings
    phrases = prompts_for(encoder.name, vocabulary.texts)
    if cache and isinstance(encoder, ClipTextEncoder):
        vectors = cached_vectors(encoder.fingerprint, phrases, encoder.dim, encoder.encode)
    else:
        vectors = encoder.encode(phrases)
    vectors.setflags(write=False)
    return vectors


_encoders: dict[str, StaticTextEncoder | ClipTextEncoder] = {}
_lock = threading.Lock()


def get_text_encoder(name: str) -> StaticTextEncoder | ClipTextEncoder:
    """The one text encoder of that name in this process: "static" (embedded) or "clip_rn50" (loads its weights when
    first used).

    Raises:
        TextEncoderError: no such encoder, or its files cannot be read.
    """
    makers: dict[str, type[StaticTextEncoder] | type[ClipTextEncoder]] = {
        StaticTextEncoder.name: StaticTextEncoder,
        ClipTextEncoder.name: ClipTextEncoder,
    }
    if name not in makers:
        raise TextEncoderError(f"No text encoder {name!r}; choose one of {', '.join(sorted(makers))}.")
    with _lock:
        if name not in _encoders:
            _encoders[name] = makers[name]()
        return _encoders[name]
