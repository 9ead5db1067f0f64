"""The embedded text encoder: meaning, any phrase, threads, damage."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from vlpart.errors import TextEncoderError
from vlpart.text.static import ASSETS, StaticTextEncoder


@pytest.fixture(scope="module")
def encoder() -> StaticTextEncoder:
    return StaticTextEncoder()


def cosine(encoder: StaticTextEncoder, a: str, b: str) -> float:
    x, y = encoder.encode([a, b])
    return float(x @ y)


def test_shape_and_length(encoder: StaticTextEncoder) -> None:
    vectors = encoder.encode(["car wheel", "dog head", "x"])
    assert vectors.shape == (3, 128) == (3, encoder.dim)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert encoder.encode([]).shape == (0, 128)


@pytest.mark.parametrize(
    ("a", "b", "at_least"),
    [
        ("wheel of a truck", "truck wheel", 0.9),
        ("car wheel", "automobile tyre", 0.6),
        ("couch", "sofa", 0.75),
        ("glasses", "spectacles", 0.7),
        ("puppy", "dog", 0.65),
        ("headlight", "front light", 0.45),
        ("Car  WHEEL", "car wheel", 0.9999),
    ],
)
def test_kin_are_near(a: str, b: str, at_least: float, encoder: StaticTextEncoder) -> None:
    assert cosine(encoder, a, b) > at_least


@pytest.mark.parametrize(
    ("a", "b"), [("banana", "car"), ("nose", "door"), ("dog head", "car wheel"), ("lamp", "chair"), ("hair", "hood")]
)
def test_strangers_are_near_zero(a: str, b: str, encoder: StaticTextEncoder) -> None:
    assert abs(cosine(encoder, a, b)) < 0.15


def test_left_is_not_right(encoder: StaticTextEncoder) -> None:
    assert 0.5 < cosine(encoder, "back left door", "back right door") < 0.85
    assert 0.4 < cosine(encoder, "front bumper", "back bumper") < 0.85


def test_nearest_of_a_list(encoder: StaticTextEncoder) -> None:
    names = ["car wheel", "car door", "dog head", "chair leg", "person hair", "airplane wing", "tv screen"]
    asked = ["tyre of a vehicle", "puppy head", "leg of a seat", "television display", "plane wing"]
    nearest = (encoder.encode(asked) @ encoder.encode(names).T).argmax(1)
    assert [names[i] for i in nearest] == ["car wheel", "dog head", "chair leg", "tv screen", "airplane wing"]


def test_same_phrase_same_vector_in_any_batch(encoder: StaticTextEncoder) -> None:
    alone = encoder.encode(["tail lamp"])[0]
    crowd = encoder.encode([f"thing {i}" for i in range(50)] + ["tail lamp"])[-1]
    assert np.array_equal(alone, crowd)


@pytest.mark.parametrize("phrase", ["汽车", "🚗", "\u0000x", "колесо", "!!!", "a" * 5000, "zzqx", "1234567"])
def test_any_phrase_has_a_direction(phrase: str, encoder: StaticTextEncoder) -> None:
    vector = encoder.encode([phrase, phrase])
    assert np.array_equal(vector[0], vector[1])
    assert abs(np.linalg.norm(vector[0]) - 1) < 1e-5


def test_unknown_words_warn_and_are_apart(encoder: StaticTextEncoder, caplog: pytest.LogCaptureFixture) -> None:
    vectors = encoder.encode(["汽车", "дверь", "car", "door", "person"])
    cosines = vectors @ vectors.T - np.eye(5)
    assert np.abs(cosines[:2]).max() < 0.45
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "дверь" in caplog.text
    assert "汽车" in caplog.text


def test_refuses_what_is_no_text(encoder: StaticTextEncoder) -> None:
    for wrong in ([""], ["car", " \n"], [None], "car", [3]):
        with pytest.raises(TextEncoderError):
            encoder.encode(wrong)  # type: ignore[arg-type]


@pytest.mark.timeout(10)  # 0.07 s alone
def test_thousands_of_phrases(encoder: StaticTextEncoder) -> None:
    assert encoder.encode([f"part {i} of a big car" for i in range(20_000)]).shape == (20_000, 128)


def test_threads(encoder: StaticTextEncoder) -> None:
    phrases = [[f"{word} {i}" for i in range(300)] for word in ("car", "dog", "lamp", "door")]
    expected = [encoder.encode(part) for part in phrases]
    results: dict[int, np.ndarray] = {}

    def work(i: int) -> None:
        for _ in range(5):
            results[i] = encoder.encode(phrases[i])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(phrases))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(results[i], expected[i]) for i in range(len(phrases)))


def test_damaged_or_missing_table(tmp_path: Path) -> None:
    with pytest.raises(TextEncoderError, match="install the package again"):
        StaticTextEncoder(tmp_path)
    for name in ("table.safetensors", "tokenizer.json"):
        folder = tmp_path / name.split(".")[0]
        shutil.copytree(ASSETS, folder)
        (folder / name).write_bytes((folder / name).read_bytes()[:1000])
        with pytest.raises(TextEncoderError) as caught:
            StaticTextEncoder(folder)
        assert "\n" not in str(caught.value)


def test_size_budget_and_no_torch() -> None:
    assert sum(path.stat().st_size for path in ASSETS.iterdir()) < 4.5 * 2**20
    code = (
        "import sys; from vlpart.text.encoders import get_text_encoder; get_text_encoder('static').encode(['car']); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_many_unknown_words_are_one_line(encoder: StaticTextEncoder, caplog: pytest.LogCaptureFixture) -> None:
    encoder.encode([chr(0x1F600 + i) for i in range(40)])
    assert len(caplog.messages) == 1
    assert "and 35 more and will not find them" in caplog.messages[0]
