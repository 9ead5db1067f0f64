"""The embedded phrase encoder: the static table beside a small transformer over the same rows, which knows word order.

A bag of words cannot tell "car seat" from "seat car", and puts "car wheel" next to "car". So the vector of a phrase has
two halves of equal weight: the 128 numbers of `StaticTextEncoder`, and 128 from a transformer of two layers over the
rows of its word pieces (`scripts/distill_phrase_encoder.py`, from all-MiniLM-L6-v2). Numpy only, about 1 ms a phrase.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vlpart.errors import TextEncoderError
from vlpart.text.prompts import check_phrases
from vlpart.text.static import ASSETS, StaticTextEncoder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

logger = logging.getLogger("vlpart.text")

FILE = "phrase.safetensors"
HEADS, EPS = 4, 1e-5

#: Multiplications of a product up to which OpenBLAS stays in this thread. Above, it wakes a pool whose threads spin:
#: once, beside another program, eight word pieces took 5.9 ms of CPU time instead of 0.05.
SMALL = 1 << 17

#: Letters per word piece below which a word is taken as broken to bits: no word that the table knows.
SHORTEST_PIECES = 2.5


class PhraseTextEncoder:
    """Phrases to 256 numbers. Safe to use from several threads.

    Raises:
        TextEncoderError: the table or the transformer is missing or damaged.
    """

    name = "phrase"
    dim = 256

    def __init__(self, folder: Path = ASSETS) -> None:
        self.static = StaticTextEncoder(folder)
        self._weights, digest = _read(folder / FILE)
        self.fingerprint = hashlib.sha256((self.static.fingerprint + digest).encode()).hexdigest()

    def encode(self, phrases: Sequence[str]) -> NDArray[np.float32]:
        """Embed phrases.

        A phrase of words that the table does not know (another script, random letters) gets a vector of zeros, and a
        warning is logged: its logit is the bias of the classifier, so nothing is found by that name.

        Returns:
            (N, 256) float32, rows of length 1 or 0, the same for the same phrase in any batch.

        Raises:
            TextEncoderError: a phrase is empty or not a string.
        """
        import numpy as np

        texts = [" ".join(text.split()) for text in check_phrases(phrases)]
        vectors = np.zeros((len(texts), self.dim), np.float32)
        known = [i for i, text in enumerate(texts) if self.knows(text)]
        if strange := [texts[i] for i in sorted(set(range(len(texts))) - set(known))]:
            shown = ", ".join(map(repr, strange[:3])) + (f" and {len(strange) - 3} more" if len(strange) > 3 else "")
            logger.warning(
                "The embedded text encoder does not know %s and will not find such names; use English words.", shown
            )
        if known:
            vectors[known, :128] = self.static.encode([texts[i] for i in known])
        for i in known:
            vectors[i, 128:] = self._in_context(self.static.rows(texts[i]))
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        return (vectors / np.maximum(norms, 1e-12)).astype(np.float32)

    def knows(self, phrase: str) -> bool:
        """Whether at least half of the letters of a phrase are in words that the table knows.

        A word is known if its word pieces are long enough on average; compounds ("doorknob") are, random letters are
        cut into pieces of one or two. Signs and digits are no words.
        """
        words = re.findall(r"[^\W\d_]+", phrase.lower())
        lengths = [(len(word), self._knows_word(word)) for word in words]
        return 2 * sum(n for n, known in lengths if known) >= sum(n for n, _ in lengths) > 0

    def _knows_word(self, word: str) -> bool:
        pieces = self.static.pieces(word)
        return bool(pieces) and None not in pieces and (len(pieces) == 1 or len(word) / len(pieces) >= SHORTEST_PIECES)

    def _in_context(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """(T, 128) rows of the table -> (128,) of length 1; zeros without a row."""
        import numpy as np

        w = self._weights
        rows = rows[: len(w["first"])]
        if not len(rows):
            return np.zeros(128, np.float32)
        count = len(rows)
        x = _linear(rows, w, "enter") + w["first"][:count] + w["last"][:count][::-1]
        for layer in range(len([name for name in w if name.endswith(".query.weight")])):
            x = x + _attention(_norm(x, w, f"{layer}.before"), w, str(layer))
            hidden = np.maximum(_linear(_norm(x, w, f"{layer}.between"), w, f"{layer}.widen"), 0)
            x = x + _linear(hidden, w, f"{layer}.narrow")
        vector = _linear(_norm(x, w, "final").mean(0), w, "leave")
        return (vector / np.maximum(np.linalg.norm(vector), 1e-12)).astype(np.float32)


def _linear(x: NDArray[np.float32], w: dict[str, NDArray[np.float32]], name: str) -> NDArray[np.float32]:
    """A product in pieces so small that numpy's BLAS computes each in this thread (see `SMALL`)."""
    import numpy as np

    weight, step = w[f"{name}.weight"], max(1, SMALL // x.size)
    pieces = [x @ weight[start : start + step].T for start in range(0, len(weight), step)]
    return np.concatenate(pieces, axis=-1) + w[f"{name}.bias"]


def _norm(x: NDArray[np.float32], w: dict[str, NDArray[np.float32]], name: str) -> NDArray[np.float32]:
    import numpy as np

    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + EPS)
    return np.asarray(scaled * w[f"{name}.weight"] + w[f"{name}.bias"])


def _attention(x: NDArray[np.float32], w: dict[str, NDArray[np.float32]], layer: str) -> NDArray[np.float32]:
    """Self-attention over the T word pieces of one phrase, (T, 128)."""
    import numpy as np

    def heads(name: str) -> NDArray[np.float32]:
        return _linear(x, w, f"{layer}.{name}").reshape(len(x), HEADS, -1).transpose(1, 0, 2)

    query, key, value = heads("query"), heads("key"), heads("value")
    scores = query @ key.transpose(0, 2, 1) / np.sqrt(query.shape[-1])
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    mixed = (weights / weights.sum(-1, keepdims=True)) @ value
    return _linear(mixed.transpose(1, 0, 2).reshape(len(x), -1), w, f"{layer}.join")


def _read(path: Path) -> tuple[dict[str, NDArray[np.float32]], str]:
    """The weights in float32, and a hash of the file."""
    import numpy as np
    from safetensors.numpy import load

    try:
        raw = path.read_bytes()
        arrays = load(raw)
    except Exception as error:  # safetensors raises its own types
        detail = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise TextEncoderError(
            f"The phrase encoder {path} cannot be read ({detail}); install the package again."
        ) from error
    return {name: array.astype(np.float32) for name, array in arrays.items()}, hashlib.sha256(raw).hexdigest()
