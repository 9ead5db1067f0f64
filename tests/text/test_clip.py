"""The CLIP text path without its weights: token ids, architecture against open_clip's model, weight files, offline."""

from __future__ import annotations

import logging
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from vlpart.errors import DownloadError, TextEncoderError
from vlpart.text import clip
from vlpart.text.clip import ClipTextEncoder
from vlpart.text.encoders import encode_vocabulary
from vlpart.text.prompts import clip_prompt
from vlpart.text.vocabulary import Vocabulary

open_clip = pytest.importorskip("open_clip")
PHRASES = ["a dog head", "a car_(automobile) door", "a quadruped head", "x", "a " + "very long " * 60 + "name"]


@pytest.fixture(scope="module")
def whole_model() -> Any:
    """open_clip's own model, both halves, with random weights."""
    torch.manual_seed(0)
    logging.disable(logging.WARNING)  # open_clip warns that nothing was loaded
    model = open_clip.create_model("RN50-quickgelu", pretrained=None, load_weights=False).eval()
    logging.disable(logging.NOTSET)
    return model


@pytest.fixture(scope="module")
def weights(whole_model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That model as a weight file, half precision as OpenAI's."""
    path = tmp_path_factory.mktemp("clip") / "open_clip_model.safetensors"
    save_file({name: value.half().contiguous() for name, value in whole_model.state_dict().items()}, path)
    return path


@pytest.fixture(scope="module")
def encoder(weights: Path) -> ClipTextEncoder:
    return ClipTextEncoder(weights)


def no_network(*_: object, **__: object) -> Path:
    raise DownloadError("https://example.org: no network.")


def test_token_ids() -> None:
    """Known ids of CLIP's byte-pair vocabulary: start 49406, "a" 320, "dog" 1929, "head" 1375, end 49407."""
    encoder = ClipTextEncoder()
    tokens = encoder.tokenize([clip_prompt("dog:head"), clip_prompt("Dog Head"), "a photo of a dog"])
    assert tokens.shape == (3, 77)
    assert tokens[0, :6].tolist() == [49406, 320, 1929, 1375, 49407, 0]
    assert torch.equal(tokens[0], tokens[1])
    assert tokens[2, :8].tolist() == [49406, 320, 1125, 539, 320, 1929, 49407, 0]


def test_long_phrases_are_cut_with_an_end_mark() -> None:
    tokens = ClipTextEncoder().tokenize(["word " * 200])
    assert tokens.shape == (1, 77)
    assert tokens[0, -1] == 49407


def test_architecture() -> None:
    config = open_clip.get_model_config(clip.ARCHITECTURE)
    assert config["quick_gelu"] is True
    assert config["embed_dim"] == 1024 == ClipTextEncoder.dim
    assert {key: config["text_cfg"][key] for key in ("width", "heads", "layers", "context_length", "vocab_size")} == {
        "width": 512,
        "heads": 8,
        "layers": 12,
        "context_length": 77,
        "vocab_size": 49408,
    }


def test_equals_open_clips_own_encoding(encoder: ClipTextEncoder, whole_model: Any) -> None:
    found = encoder.encode(PHRASES)
    whole = open_clip.get_tokenizer("RN50-quickgelu")(PHRASES)
    half = {name: value.half().float() for name, value in whole_model.state_dict().items()}
    whole_model.load_state_dict(half)
    with torch.inference_mode():
        expected = whole_model.encode_text(whole, normalize=True).numpy()
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=2e-6)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


def test_only_the_text_half_is_kept(encoder: ClipTextEncoder) -> None:
    encoder.encode(["a dog"])
    names = [name for name, _ in encoder._tower.named_parameters()]
    assert not [name for name in names if "visual" in name]
    assert sum(p.numel() for p in encoder._tower.parameters()) < 70e6
    assert not any(p.requires_grad for p in encoder._tower.parameters())


def test_chunks_do_not_matter_and_repeat_exactly(encoder: ClipTextEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    phrases = [f"a {'big ' * (i % 4)}thing {i}" for i in range(10)]
    whole = encoder.encode(phrases)
    assert np.array_equal(whole, encoder.encode(phrases))
    monkeypatch.setattr(clip, "CHUNK", 3)
    np.testing.assert_allclose(encoder.encode(phrases), whole, atol=2e-6)
    assert encoder.encode([]).shape == (0, 1024)


def test_vocabulary_is_encoded_with_prompts_and_cached(
    encoder: ClipTextEncoder, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vocabulary = Vocabulary.parse("dog: head; Traffic Light")
    first = encode_vocabulary(encoder, vocabulary)
    np.testing.assert_allclose(first, encoder.encode(["a dog", "a dog head", "a traffic light"]), atol=2e-6)
    fresh = ClipTextEncoder(weights)
    monkeypatch.setattr(fresh, "_load", lambda: pytest.fail("the tower was loaded"))
    assert np.array_equal(encode_vocabulary(fresh, vocabulary), first)
    with pytest.raises(pytest.fail.Exception):
        encode_vocabulary(fresh, vocabulary, cache=False)


def test_threads_load_once(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[Path] = []
    read = clip.read_text_weights
    monkeypatch.setattr(clip, "read_text_weights", lambda path: loads.append(path) or read(path))
    encoder = ClipTextEncoder(weights)
    results: list[np.ndarray] = []
    threads = [threading.Thread(target=lambda: results.append(encoder.encode(["a dog"]))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loads) == 1
    assert all(np.array_equal(results[0], other) for other in results)


def test_weights_are_found(weights: Path, private_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = ClipTextEncoder(weights).encode(["a dog"])
    monkeypatch.setenv(clip.WEIGHTS_VARIABLE, str(weights))
    assert np.array_equal(ClipTextEncoder().encode(["a dog"]), expected)
    monkeypatch.delenv(clip.WEIGHTS_VARIABLE)
    monkeypatch.setattr("vlpart.zoo.download.download_file", no_network)
    (private_cache / "clip").mkdir()
    (private_cache / "clip" / clip.HUB_FILE).symlink_to(weights)
    assert np.array_equal(ClipTextEncoder().encode(["a dog"]), expected)


def test_torchscript_only_by_its_hash(
    whole_model: Any, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenAI's own file is a TorchScript archive: opened if it is exactly that file, refused otherwise."""

    class Shell(torch.nn.Module):
        def __init__(self, state: dict[str, torch.Tensor]) -> None:
            super().__init__()
            for name in ("positional_embedding", "text_projection", "logit_scale"):
                self.register_buffer(name, state[name].half())
            self.ln_final = whole_model.ln_final
            self.token_embedding = whole_model.token_embedding
            self.transformer = whole_model.transformer

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.token_embedding(x)

    path = tmp_path / "RN50.pt"
    logging.disable(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer versions of torch call it deprecated
        torch.jit.trace(Shell(whole_model.state_dict()), torch.zeros((1, 3), dtype=torch.int64)).save(str(path))
    logging.disable(logging.NOTSET)
    with pytest.raises(TextEncoderError, match="TorchScript"):
        ClipTextEncoder(path).encode(["a dog"])
    monkeypatch.setattr("vlpart.zoo.download.sha256_of", lambda _: clip.OPENAI_SHA256)
    cosine = ClipTextEncoder(path).encode(["a dog head"]) @ ClipTextEncoder(weights).encode(["a dog head"]).T
    assert cosine[0, 0] > 0.9999


def test_offline_says_what_to_do(private_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vlpart.zoo.download.download_file", no_network)
    with pytest.raises(TextEncoderError) as caught:
        ClipTextEncoder().encode(["a dog"])
    message = str(caught.value)
    for needed in (clip.OPENAI_URL, clip.HUB_URL, str(private_cache / "clip"), clip.WEIGHTS_VARIABLE, "no network"):
        assert needed in message
    assert "\n" not in message


def test_second_address_is_tried(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def download(url: str, target: Path, **_: object) -> Path:
        asked.append(url)
        if url == clip.OPENAI_URL:
            raise DownloadError("404")
        return weights

    monkeypatch.setattr("vlpart.zoo.download.download_file", download)
    assert ClipTextEncoder().encode(["a dog"]).shape == (1, 1024)
    assert asked == [clip.OPENAI_URL, clip.HUB_URL]


@pytest.mark.parametrize("content", [b"", b"<html>no</html>", b"PK\x03\x04broken", None])
def test_wrong_weight_files(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    if content is not None:
        path.write_bytes(content)
    encoder = ClipTextEncoder(path)
    with pytest.raises(TextEncoderError) as caught:
        encode_vocabulary(encoder, Vocabulary.parse("dog"))
    assert "\n" not in str(caught.value)


def test_weights_of_another_model(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"text_projection": torch.zeros(3, 4)}, path)
    with pytest.raises(TextEncoderError, match="does not hold the text tower"):
        ClipTextEncoder(path).encode(["a dog"])


def test_refuses_what_is_no_text() -> None:
    for wrong in ([""], "dog", [None]):
        with pytest.raises(TextEncoderError):
            ClipTextEncoder().encode(wrong)  # type: ignore[arg-type]


@pytest.mark.network
def test_published_vectors(shared: Path) -> None:
    """With the real weights (a download of 256 MB): the published vectors, as cosines. Takes a minute or more."""
    encoder = ClipTextEncoder()
    for name in ("pascal_part", "coco", "voc", "partimagenet"):
        published = np.load(shared / "clip_rn50" / f"{name}_clip_RN50_a+cname.npy").astype(np.float32)
        published /= np.linalg.norm(published, axis=1, keepdims=True)
        found = encode_vocabulary(encoder, Vocabulary.load(name))
        assert (found * published).sum(1).min() > 0.999
