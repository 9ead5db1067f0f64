"""The embedded text encoder: a static token table. Any phrase has a vector, without a download and without torch.

The table (`vlpart/assets/text/`, built by `scripts/distill_text_table.py`) is read by `model2vec`: int8 rows with one
scale per row, 0.2 s to load, 5,000 phrases in about 0.1 s. The vector of a phrase is the mean of the rows of its word
pieces, so word order does not matter ("wheel of a car" is near "car wheel").
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlpart.errors import TextEncoderError
from vlpart.text.prompts import check_phrases

if TYPE_CHECKING:
    import numpy as np

ASSETS = Path(__file__).resolve().parents[1] / "assets" / "text"
logger = logging.getLogger("vlpart.text")

PARTS = ("table.safetensors", "tokenizer.json")  # the files it is made of
_NAMED = 5  # unknown phrases that a warning lists


class StaticTextEncoder:
    """Phrases to 128 numbers through the embedded table. Safe to use from several threads.

    Raises:
        TextEncoderError: the table is missing or damaged.
    """

    name = "static"

    def __init__(self, folder: Path = ASSETS) -> None:
        self._model, self.fingerprint = _load(folder)
        self._lock = threading.Lock()  # model2vec sets the tokenizer's truncation on every call
        self.dim: int = self._model.dim

    def encode(self, phrases: Sequence[str]) -> np.ndarray:
        """Embed phrases.

        A phrase without a single known word piece (another script, an emoji) gets a direction of its own, derived from
        its
        text and close to no other, and one warning is logged for all of them: nothing will be found by these names.

        Returns:
            (N, 128) float32, rows of length 1, the same for the same phrase in any batch.

        Raises:
            TextEncoderError: a phrase is empty or not a string.
        """
        import numpy as np

        texts = [" ".join(text.split()) for text in check_phrases(phrases)]
        if not texts:
            return np.zeros((0, self.dim), np.float32)
        with self._lock:
            vectors = self._model.encode(texts, use_multiprocessing=False, max_length=None)
        vectors = np.asarray(vectors, np.float32)
        unknown = [texts[i] for i in np.flatnonzero(np.linalg.norm(vectors, axis=1) < 0.5)]
        for i, text in enumerate(texts):
            if text in unknown:
                vectors[i] = _own_direction(text, self.dim)
        if unknown:
            logger.warning(
                "The embedded text encoder knows no word of %s and will not find %s; use English words.",
                _listed(list(dict.fromkeys(unknown))),
                "it" if len(unknown) == 1 else "them",
            )
        return vectors

    def pieces(self, word: str) -> list[str | None]:
        """The word pieces of a phrase, without the marks of continuation; None for one that the table does not know."""
        return [None if self._is_unknown(token) else token.removeprefix("##") for token in self._encoding(word).tokens]

    def rows(self, phrase: str) -> np.ndarray:
        """(T, dim) float32 rows of the word pieces of a phrase that the table knows, in order."""
        import numpy as np

        encoding = self._encoding(phrase)
        ids = [i for i, token in zip(encoding.ids, encoding.tokens, strict=True) if not self._is_unknown(token)]
        scale = np.asarray(self._model.weights[ids], np.float32)
        return np.asarray(self._model.embedding[ids], np.float32) * scale[:, None]

    def _encoding(self, phrase: str) -> Any:
        with self._lock:
            return self._model.tokenizer.encode(phrase, add_special_tokens=False)

    @staticmethod
    def _is_unknown(token: str) -> bool:
        return token in ("[UNK]", "[PAD]")


def _listed(texts: Sequence[str]) -> str:
    """The first few of some texts, and how many more."""
    more = f" and {len(texts) - _NAMED} more" if len(texts) > _NAMED else ""
    return ", ".join(map(repr, texts[:_NAMED])) + more


def _load(folder: Path) -> tuple[Any, str]:
    """The model2vec model of `folder`, and a hash of its files."""
    from model2vec import StaticModel
    from safetensors.numpy import load
    from tokenizers import Tokenizer

    try:
        table, tokenizer = ((folder / name).read_bytes() for name in PARTS)
        arrays = load(table)
        model = StaticModel(
            vectors=arrays["rows"],
            weights=arrays["scale"],
            tokenizer=Tokenizer.from_str(tokenizer.decode("utf-8")),
            normalize=True,
            max_length=None,
        )
    except Exception as error:  # safetensors and tokenizers raise their own types
        detail = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise TextEncoderError(
            f"The embedded text table in {folder} cannot be read ({detail}); install the package again."
        ) from error
    return model, hashlib.sha256(table + tokenizer).hexdigest()


def _own_direction(text: str, dim: int) -> np.ndarray:
    """A unit vector that depends on the text alone, (dim,) float32."""
    import numpy as np

    seed = int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "little")
    vector = np.random.default_rng(seed).standard_normal(dim)
    return (vector / np.linalg.norm(vector)).astype(np.float32)
