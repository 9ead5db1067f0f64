"""Write the vectors that come with the package (`vlpart/text/ready.py`): of the list that the embedded model looks for.

    python scripts/ready_vectors.py

To be run again whenever the text encoder or one of these lists changes; a test says so.
"""

from __future__ import annotations

import numpy as np
from safetensors.numpy import save_file

from vlpart.text.encoders import encode_vocabulary, get_text_encoder
from vlpart.text.ready import READY, key_of
from vlpart.text.vocabulary import Vocabulary
from vlpart.zoo.catalogue import get_model


def main() -> None:
    """Ask the encoder, write the file."""
    tensors = {}
    for name in ("tiny",):
        entry = get_model(name)
        vocabulary = Vocabulary.load(entry.vocabulary)
        vectors = encode_vocabulary(get_text_encoder(entry.text_encoder), vocabulary, prompt=entry.prompt)
        tensors[key_of(vocabulary, entry.text_encoder, entry.prompt)] = np.ascontiguousarray(vectors, dtype=np.float32)
    save_file(tensors, READY)
    print(f"{READY}: {READY.stat().st_size} bytes")


if __name__ == "__main__":
    main()
