"""Vectors that come with the package are those that the encoder makes."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from vlpart.text import ready
from vlpart.text.encoders import encode_vocabulary, get_text_encoder
from vlpart.text.ready import key_of, ready_vectors
from vlpart.text.vocabulary import Vocabulary
from vlpart.zoo.catalogue import get_model


def test_vectors_of_the_default_list_are_the_encoders() -> None:
    """Where this fails, the encoder or the list has changed: run scripts/ready_vectors.py."""
    entry = get_model("tiny")
    vocabulary = Vocabulary.load(entry.vocabulary)
    found = ready_vectors(vocabulary, entry.text_encoder, entry.prompt)
    assert found is not None
    expected = encode_vocabulary(get_text_encoder(entry.text_encoder), vocabulary, prompt=entry.prompt)
    assert np.abs(found - expected).max() < 1e-5


def test_other_lists_encoders_and_prompts_are_not_there() -> None:
    entry = get_model("tiny")
    vocabulary = Vocabulary.load(entry.vocabulary)
    assert ready_vectors(Vocabulary.parse("car: wheel"), entry.text_encoder, entry.prompt) is None
    assert ready_vectors(vocabulary, "clip_rn50", entry.prompt) is None
    assert ready_vectors(vocabulary, entry.text_encoder, "another") is None


def test_a_changed_encoder_file_makes_another_key(tmp_path: Path) -> None:
    vocabulary = Vocabulary.parse("car")
    folder = shutil.copytree(ready.ASSETS, tmp_path / "text")
    assert key_of(vocabulary, "phrase", "name", folder) == key_of(vocabulary, "phrase", "name")
    other = shutil.copytree(ready.ASSETS, tmp_path / "other")
    with (other / "phrase.safetensors").open("ab") as file:
        file.write(b" ")
    assert key_of(vocabulary, "phrase", "name", other) != key_of(vocabulary, "phrase", "name")


def test_without_the_file_the_encoder_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ready, "READY", tmp_path / "ready.safetensors")
    assert ready_vectors(Vocabulary.load(get_model("tiny").vocabulary), "phrase", "name") is None
    (tmp_path / "ready.safetensors").write_bytes(b"broken")
    assert ready_vectors(Vocabulary.load(get_model("tiny").vocabulary), "phrase", "name") is None
