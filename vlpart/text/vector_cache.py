"""Text vectors on disk, one file per list of phrases, named by the hash of what they were made from."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vlpart.errors import OutputError
from vlpart.files import write_file
from vlpart.zoo.folders import cache_folder

if TYPE_CHECKING:
    import numpy as np

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

    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="numpy") as file:
            metadata, vectors = file.metadata() or {}, file.get_tensor("vectors")
    except (SafetensorError, OSError) as error:
        logger.info("%s is damaged (%s) and is made again.", path, error)
        return None
    whole = metadata.get("sha256") == hashlib.sha256(vectors.tobytes()).hexdigest()
    if not whole or metadata.get("key") != key or vectors.shape != shape or vectors.dtype != np.float32:
        logger.info("%s is damaged and is made again.", path)
        return None
    return vectors


def _write(path: Path, key: str, vectors: np.ndarray) -> None:
    from safetensors.numpy import save

    write_file(path, save({"vectors": vectors}, {"key": key, "sha256": hashlib.sha256(vectors.tobytes()).hexdigest()}))
