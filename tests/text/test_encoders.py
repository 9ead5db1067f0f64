"""From a vocabulary to vectors: prompts, embeddings of one's own, the cache on disk."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from vlpart.errors import TextEncoderError, VocabularyError
from vlpart.text.encoders import ClipTextEncoder, StaticTextEncoder, cached_vectors, encode_vocabulary, get_text_encoder
from vlpart.text.vocabulary import Vocabulary


class Counting:
    """An encoder that counts its calls."""

    name = "counting"
    dim = 4

    def __init__(self) -> None:
        self.seen: list[list[str]] = []

    def encode(self, phrases: Sequence[str]) -> np.ndarray:
        self.seen.append(list(phrases))
        rows = np.random.default_rng(len(phrases)).standard_normal((len(phrases), self.dim)).astype(np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_get_text_encoder() -> None:
    static = get_text_encoder("static")
    assert isinstance(static, StaticTextEncoder)
    assert get_text_encoder("static") is static
    assert isinstance(get_text_encoder("clip_rn50"), ClipTextEncoder)  # nothing is loaded yet
    with pytest.raises(TextEncoderError, match="clip_rn50, phrase, static"):
        get_text_encoder("bert")


def test_one_encoder_for_all_threads() -> None:
    found: list[object] = []
    threads = [threading.Thread(target=lambda: found.append(get_text_encoder("static"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(encoder) for encoder in found}) == 1


def test_static_vocabulary() -> None:
    encoder = get_text_encoder("static")
    vocabulary = Vocabulary.parse("car: wheel; dog head")
    vectors = encode_vocabulary(encoder, vocabulary)
    assert np.array_equal(vectors, encoder.encode(["car", "car wheel", "dog head"]))
    with pytest.raises(ValueError, match="read-only"):
        vectors[0] = 0
    assert encode_vocabulary(encoder, Vocabulary.load("lvis_v1")).shape == (1203, 128)


def test_names_with_another_text() -> None:
    encoder = Counting()
    encode_vocabulary(encoder, Vocabulary.load("voc"))
    assert "potted plant" in encoder.seen[0]
    assert "pottedplant" not in encoder.seen[0]


def test_embeddings_of_the_vocabulary_win() -> None:
    encoder = Counting()
    vocabulary = Vocabulary.from_embeddings(["a", "b"], np.eye(4)[:2])
    assert np.array_equal(encode_vocabulary(encoder, vocabulary), np.eye(4)[:2])
    assert not encoder.seen
    with pytest.raises(VocabularyError, match="4 long"):
        encode_vocabulary(get_text_encoder("static"), vocabulary)


def test_cache_reads_back_the_same() -> None:
    encoder = Counting()
    first = cached_vectors("one", ["a", "b"], 4, encoder.encode)
    again = cached_vectors("one", ["a", "b"], 4, encoder.encode)
    assert np.array_equal(first, again)
    assert len(encoder.seen) == 1


def test_cache_depends_on_weights_phrases_and_order() -> None:
    encoder = Counting()
    for fingerprint, phrases in (("one", ["a", "b"]), ("two", ["a", "b"]), ("one", ["b", "a"]), ("one", ["a b"])):
        cached_vectors(fingerprint, phrases, 4, encoder.encode)
    assert len(encoder.seen) == 4


@pytest.mark.parametrize("damage", ["cut", "empty", "flipped", "other"])
def test_damaged_cache_files_are_made_again(damage: str, private_cache: Path) -> None:
    encoder = Counting()
    first = cached_vectors("one", ["a", "b"], 4, encoder.encode)
    (path,) = private_cache.rglob("*.safetensors")
    data = path.read_bytes()
    if damage == "other":
        cached_vectors("one", ["c", "d"], 4, encoder.encode)
        (other,) = set(private_cache.rglob("*.safetensors")) - {path}
        path.write_bytes(other.read_bytes())
    else:
        path.write_bytes({"cut": data[:-7], "empty": b"", "flipped": data[:-1] + bytes([data[-1] ^ 1])}[damage])
    before = len(encoder.seen)
    assert np.array_equal(cached_vectors("one", ["a", "b"], 4, encoder.encode), first)
    assert len(encoder.seen) == before + 1
    assert np.array_equal(cached_vectors("one", ["a", "b"], 4, encoder.encode), first)
    assert len(encoder.seen) == before + 1


def test_a_cache_that_cannot_be_written_costs_only_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("VLPART_CACHE", str(tmp_path / "file"))
    assert cached_vectors("one", ["a"], 4, Counting().encode).shape == (1, 4)
    assert "not kept" in caplog.text


def test_no_half_file_is_left(private_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    assert cached_vectors("one", ["a"], 4, Counting().encode).shape == (1, 4)
    assert [path for path in private_cache.rglob("*") if path.is_file()] == []


@pytest.mark.skipif(os.name == "nt", reason="no umask there")
def test_kept_vectors_can_be_read_by_whom_the_umask_lets_read(private_cache: Path) -> None:
    before = os.umask(0o022)
    try:
        cached_vectors("encoder", ["a phrase"], 4, lambda phrases: np.ones((len(phrases), 4), dtype=np.float32))
    finally:
        os.umask(before)
    (file,) = private_cache.rglob("*.safetensors")
    assert file.stat().st_mode & 0o777 == 0o644
