"""The predictor on a small network with random weights: inputs, options, batches, threads, errors."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import vlpart
from vlpart.errors import ImageError, ModelNotFoundError, VlpartError, VocabularyError, WeightsError
from vlpart.inference.predictor import Predictor, load
from vlpart.models.build import build_detector
from vlpart.zoo.weights import load_state_dict

WORDS = "car: wheel, door; person"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A `tiny` with random weights whose classifier says something above the threshold."""
    torch.manual_seed(0)
    detector = build_detector("tiny")
    for stage in detector.roi_heads.stages:
        stage.classifier.bias.data.fill_(-1.0)
    path = tmp_path_factory.mktemp("weights") / "random.safetensors"
    save_file({name: value.contiguous() for name, value in detector.state_dict().items()}, path)
    return path


@pytest.fixture(scope="module")
def predictor(weights: Path) -> Predictor:
    return load("tiny", weights=weights, device="cpu")


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)


def same(a: vlpart.Result, b: vlpart.Result) -> None:
    assert a.names == b.names
    np.testing.assert_allclose(a.boxes_xyxy, b.boxes_xyxy, atol=1e-2)
    np.testing.assert_allclose(a.scores, b.scores, atol=1e-5)


def test_one_image_gives_one_result(predictor: Predictor, image: np.ndarray) -> None:
    result = predictor.predict(image, vocabulary=WORDS, score_threshold=0.1, max_detections=20)
    assert isinstance(result, vlpart.Result)
    assert 0 < len(result) <= 20
    assert result.image_size == (90, 120)
    assert set(result.names) <= {"car", "car:wheel", "car:door", "person"}
    assert (result.scores > 0.1).all()
    assert result.masks is not None
    assert np.asarray(result.masks).shape == (len(result), 90, 120)
    assert (result.boxes_xyxy[:, 2] <= 120).all()


def test_a_list_gives_a_list_in_order_equal_to_single_calls(predictor: Predictor, image: np.ndarray) -> None:
    images = [image, image[:, ::-1].copy(), image[:60], image[::-1].copy()]
    many = predictor.predict(images, vocabulary=WORDS, score_threshold=0.2)
    assert isinstance(many, list)
    for one, source in zip(many, images, strict=True):
        same(one, predictor.predict(source, vocabulary=WORDS, score_threshold=0.2))
    assert predictor.predict([], vocabulary=WORDS) == []


def test_a_long_list_runs_in_batches_that_fit(
    weights: Path, image: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load("tiny", weights=weights, device="cpu")
    forward, seen = model._forward, []
    monkeypatch.setattr(
        model, "_forward", lambda images, *rest: seen.append(len(images.sizes_hw)) or forward(images, *rest)
    )
    wide = np.zeros((40, 160, 3), dtype=np.uint8)
    results = model.predict([image, wide] + [image] * 4, WORDS, short_side=500, max_side=1200)  # 500 x 667 pixels
    assert seen == [2, 2, 1, 1]
    same(results[-1], results[0])


def test_every_kind_of_input_gives_the_same(predictor: Predictor, image: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    Image.fromarray(image).save(path)
    expected = predictor(image, WORDS)
    for source in (path, str(path), path.read_bytes(), Image.fromarray(image), torch.from_numpy(image)):
        same(predictor(source, WORDS), expected)
    assert predictor(path, WORDS).path == str(path)


def test_vocabularies_of_every_form(predictor: Predictor, image: np.ndarray) -> None:
    names = vlpart.Vocabulary.from_names(["car", "person"])
    same(predictor(image, names), predictor(image, ["car", "person"]))
    assert predictor(image, "pascal_part").vocabulary == vlpart.Vocabulary.load("pascal_part")
    with pytest.raises(VocabularyError):
        predictor(image, [])
    with pytest.raises(VocabularyError, match="128"):
        predictor(image, vlpart.Vocabulary.from_embeddings(["a", "b"], np.eye(2, 64, dtype=np.float32)))


def test_more_than_five_thousand_names(predictor: Predictor, image: np.ndarray) -> None:
    names = [f"thing number {i}" for i in range(5200)]
    result = predictor(image, names, score_threshold=0.2, max_detections=50)
    assert len(result.vocabulary) == 5200


def test_threads_with_two_vocabularies_do_not_disturb_each_other(predictor: Predictor, image: np.ndarray) -> None:
    words = ["car; person", "dog: head, tail", "a; b; c; d"]
    expected = [predictor(image, w) for w in words]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda i: predictor(image, words[i % 3]), range(12)))
    for i, result in enumerate(found):
        same(result, expected[i % 3])


def test_bf16_is_close(weights: Path, predictor: Predictor, image: np.ndarray) -> None:
    half = load("tiny", weights=weights, device="cpu", precision="bf16")
    assert half.precision == "bf16"
    a, b = half(image, WORDS, max_detections=5), predictor(image, WORDS, max_detections=5)
    assert abs(float(a.scores[0]) - float(b.scores[0])) < 0.05


def test_a_weight_file_is_a_model_of_its_own(
    weights: Path, image: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    for model in (load(str(weights), device="cpu"), load(weights=weights, device="cpu")):
        assert (model.name, model.architecture, model.vocabulary.title) == ("random", "tiny", "tiny")
        model(image, WORDS)
        assert caplog.messages == []  # nothing was assumed yet
        for _ in range(2):
            model(image, max_detections=1)
        (message,) = caplog.messages
        assert "random.safetensors does not say" in message
        assert "the list 'tiny'" in message
        assert "--vocabulary" in message
        caplog.clear()


def test_a_weight_file_with_the_name_of_a_model_is_that_model(
    weights: Path, image: np.ndarray, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    torch.manual_seed(0)
    state = build_detector("r50_mask_rcnn").state_dict()
    save_file({name: value.contiguous() for name, value in state.items()}, tmp_path / "r50_coco.safetensors")
    for model in (load(tmp_path / "r50_coco.safetensors"), load(weights=tmp_path / "r50_coco.safetensors")):
        assert (model.name, model.architecture, model.vocabulary.title) == ("r50_coco", "r50_mask_rcnn", "coco")
    (tmp_path / "tiny.safetensors").write_bytes(weights.read_bytes())
    model = load(weights=tmp_path / "tiny.safetensors")
    model(image, max_detections=1)
    assert (model.name, caplog.messages) == ("tiny", [])
    with pytest.raises(WeightsError, match="holds r50_mask_rcnn weights"):
        load("tiny", weights=tmp_path / "r50_coco.safetensors")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"score_threshold": 1.5}, "score_threshold"),
        ({"score_threshold": float("nan")}, "score_threshold"),
        ({"short_side": 0}, "short_side"),
        ({"max_detections": 0}, "max_detections"),
        ({"max_detections": 1.5}, "max_detections must be a whole number"),
        ({"short_side": 32.5}, "short_side must be a whole number"),
        ({"score_threshold": "high"}, "score_threshold must be a number"),
    ],
)
def test_options_out_of_range(predictor: Predictor, image: np.ndarray, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        predictor.predict(image, WORDS, **options)


def test_an_input_too_large_to_compute_is_refused(predictor: Predictor, image: np.ndarray) -> None:
    with pytest.raises(ImageError, match="100000x75000.*--short-side"):
        predictor.predict(image, WORDS, short_side=100_000)


@pytest.mark.parametrize("copy_of", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_work_like_the_original(
    predictor: Predictor, image: np.ndarray, copy_of: Callable[[Predictor], Predictor]
) -> None:
    same(copy_of(predictor).predict(image, WORDS), predictor.predict(image, WORDS))


def test_errors_are_typed(predictor: Predictor, weights: Path, image: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="max_pixels"):
        predictor.predict(image, WORDS, max_pixels=100)
    with pytest.raises(ImageError):
        predictor.predict(tmp_path / "nothing.jpg")
    with pytest.raises(ModelNotFoundError, match="tiny"):
        load("tinny")
    with pytest.raises(WeightsError, match="tiny weights"):
        load("r50_pascalpart", weights=weights)
    with pytest.raises(WeightsError):
        load("tiny", weights=tmp_path / "nothing.safetensors")
    with pytest.raises(VlpartError, match="device"):
        load("tiny", weights=weights, device="nonsense")
    with pytest.raises(VlpartError, match="precision"):
        load("tiny", weights=weights, precision="fp8")


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    state = build_detector("tiny").state_dict()
    lacking = {k: v.contiguous() for k, v in state.items() if k != "rpn.conv.bias"}
    save_file(lacking, tmp_path / "lacking.safetensors")
    with pytest.raises(WeightsError, match=r"rpn\.conv\.bias"):
        load("tiny", weights=tmp_path / "lacking.safetensors")
    state["rpn.conv.bias"] = torch.full_like(state["rpn.conv.bias"], float("nan"))
    save_file({k: v.contiguous() for k, v in state.items()}, tmp_path / "nan.safetensors")
    with pytest.raises(WeightsError, match="NaN"):
        load("tiny", weights=tmp_path / "nan.safetensors")


def test_nothing_found_is_an_empty_result(predictor: Predictor) -> None:
    result = predictor(np.zeros((40, 40, 3), dtype=np.uint8), WORDS, score_threshold=1.0)
    assert len(result) == 0
    assert np.asarray(result.masks).shape == (0, 40, 40)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1)])
def test_extreme_shapes(predictor: Predictor, size: tuple[int, int]) -> None:
    result = predictor(np.full((*size, 3), 128, dtype=np.uint8), WORDS)
    assert result.image_size == size


@pytest.mark.parametrize(
    ("options", "size"), [({}, (352, 469)), ({"short_side": 704}, (704, 939)), ({"short_side": 64}, (64, 85))]
)
def test_the_longer_side_keeps_up_with_the_shorter(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch, options: dict[str, int], size: tuple[int, int]
) -> None:
    seen: list[tuple[int, int]] = []
    forward = predictor._forward
    monkeypatch.setattr(
        predictor, "_forward", lambda images, *rest: seen.extend(images.sizes_hw) or forward(images, *rest)
    )
    predictor(np.zeros((300, 400, 3), dtype=np.uint8), WORDS, max_detections=1, **options)
    assert seen == [size]


def test_an_unfinished_run_is_remarked_on(weights: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    recipe = {"architecture": "tiny", "text_encoder": "static", "name": "mine", "score_threshold": 0.05}
    (run / "recipe.json").write_text(json.dumps({**recipe, "detections_per_image": 100}))
    (run / "vocabulary.json").write_text(json.dumps(["car", "car:wheel"]))
    checkpoint = {"format": "vlpart-checkpoint-2", "model": load_state_dict(weights), "ema": None}
    torch.save(checkpoint, run / "checkpoints" / "step_00000005.pt")
    load(str(run), device="cpu")
    assert caplog.messages == [f"the training in {run} is not finished: its checkpoint step_00000005.pt is used"]
    caplog.clear()
    (run / "weights.safetensors").write_bytes(weights.read_bytes())
    load(str(run), device="cpu")
    assert caplog.messages == []
