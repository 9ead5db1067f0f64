"""The embedded phrase encoder: word order, parts and their objects, and what it does not know."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest

from vlpart.errors import TextEncoderError
from vlpart.evaluation.absent import nouns, random_strings
from vlpart.text.encoders import get_text_encoder
from vlpart.text.phrase import FILE, PhraseTextEncoder
from vlpart.text.static import ASSETS, StaticTextEncoder


@pytest.fixture(scope="module")
def encoder() -> PhraseTextEncoder:
    return PhraseTextEncoder()


def cosine(encoder: PhraseTextEncoder | StaticTextEncoder, a: str, b: str) -> float:
    x, y = encoder.encode([a, b])
    return float(x @ y)


def test_shape_length_and_the_static_half(encoder: PhraseTextEncoder) -> None:
    phrases = ["car wheel", "dog head", "giraffe", "handle of a mug"]
    vectors = encoder.encode(phrases)
    assert vectors.shape == (4, 256) == (4, encoder.dim)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(vectors[:, :128] * 2**0.5, encoder.static.encode(phrases), atol=1e-5)
    np.testing.assert_allclose(encoder.encode(phrases[1:2])[0], vectors[1], atol=1e-6)
    assert encoder.encode([]).shape == (0, 256)
    assert isinstance(get_text_encoder("phrase"), PhraseTextEncoder)


def test_a_part_is_farther_from_its_object_than_in_the_bag_of_words(encoder: PhraseTextEncoder) -> None:
    for part, owner in (("car wheel", "car"), ("dog head", "dog"), ("chair leg", "chair")):
        assert cosine(encoder, part, owner) < cosine(encoder.static, part, owner) - 0.05


def test_word_order_counts(encoder: PhraseTextEncoder) -> None:
    assert cosine(encoder.static, "car seat", "seat car") > 0.999
    assert cosine(encoder, "car seat", "seat car") < 0.97
    assert cosine(encoder, "wheel of a car", "car wheel") > 0.9


def test_what_is_known(encoder: PhraseTextEncoder) -> None:
    for phrase in ("armchair", "windshield of a lorry", "skateboarder", "keyhole", "Bristlecone pine", "tv"):
        assert encoder.knows(phrase), phrase
    for phrase in ("xqzvk", "чашка", "椅子", "🙂", "123", "hjkwqe trzkf", "#@!", "car 椅子車輪猫"):
        assert not encoder.knows(phrase), phrase


def test_nonsense_has_no_direction_and_is_told(encoder: PhraseTextEncoder, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "vlpart.text"):
        vectors = encoder.encode(["чашка", "cup"])
    assert not vectors[0].any()
    assert vectors[1].any()
    assert len(caplog.records) == 1
    assert "чашка" in caplog.text


def test_nearly_all_nouns_are_known_and_hardly_any_nonsense(encoder: PhraseTextEncoder) -> None:
    assert np.mean([encoder.knows(name) for name in nouns()]) > 0.97
    assert np.mean([encoder.knows(text) for text in random_strings(300)]) < 0.02


def test_damage_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "text"
    shutil.copytree(ASSETS, folder)
    (folder / FILE).write_bytes(b"no")
    with pytest.raises(TextEncoderError, match="install the package again"):
        PhraseTextEncoder(folder)


@pytest.mark.parametrize("small", [1 << 10, 1 << 40])
def test_products_in_pieces_are_the_products(
    encoder: PhraseTextEncoder, small: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    phrases = ["car", "the left rear door handle of the old red car beside the house"]
    usual = encoder.encode(phrases)
    monkeypatch.setattr("vlpart.text.phrase.SMALL", small)
    np.testing.assert_allclose(encoder.encode(phrases), usual, atol=1e-6)
