"""Vectors of the default vocabularies that come with the package: the text encoder need not even be loaded for them.

`scripts/ready_vectors.py` writes them. They hold for one encoder and one way of prompting, which the file names; for
any other the encoder is asked.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from vlpart.text.phrase import ASSETS, FILE
from vlpart.text.static import PARTS

if TYPE_CHECKING:
    import numpy as np

    from vlpart.text.vocabulary import Vocabulary

READY = ASSETS.parent / "vectors" / "default.safetensors"


def key_of(vocabulary: Vocabulary, encoder: str, prompt: str, folder: Path = ASSETS) -> str:
    """What vectors are kept under: a change of the list, of the encoder's files or of the prompt makes another key."""
    return hashlib.sha256(
        "\0".join((_fingerprint(folder), encoder, prompt, vocabulary.content_hash)).encode()
    ).hexdigest()


@lru_cache(maxsize=4)
def _fingerprint(folder: Path) -> str:
    digest = hashlib.sha256()
    for name in (*PARTS, FILE):
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()


def ready_vectors(vocabulary: Vocabulary, encoder: str, prompt: str) -> np.ndarray | None:
    """(C, D) float32 vectors of a vocabulary, or None where they are not among those of the package.

    Args:
        vocabulary: whose names.
        encoder: name of the text encoder.
        prompt: how names become phrases.
    """
    from safetensors import SafetensorError, safe_open

    try:
        key = key_of(vocabulary, encoder, prompt)
        with safe_open(READY, "numpy") as file:
            if key not in file.keys():  # noqa: SIM118 (it is no mapping)
                return None
            vectors: np.ndarray = file.get_tensor(key)
            return vectors
    except (OSError, SafetensorError):  # the encoder itself says what is missing or damaged
        return None
