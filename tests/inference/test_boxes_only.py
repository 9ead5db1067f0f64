"""Models without a mask head, as the published VOC checkpoints are: load, predict, draw, save, train."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import vlpart
from tests.training.made_up import small_recipe, write_dataset
from vlpart.errors import OutputError, TrainingError, WeightsError
from vlpart.inference.batch import predict_to_folder
from vlpart.inference.predictor import Predictor, load
from vlpart.models.build import build_detector
from vlpart.training.assemble import build_trainer, describe_run
from vlpart.training.logging import read_log
from vlpart.zoo.catalogue import list_models

WORDS = "car: wheel, door; person"


def save(path: Path, architecture: str, *, mask_on: bool) -> Path:
    """Random weights whose classifier says something above the threshold."""
    torch.manual_seed(0)
    detector = build_detector(architecture, mask_on=mask_on)
    for stage in detector.roi_heads.stages:
        if stage.classifier.bias is not None:
            stage.classifier.bias.data.fill_(-1.0)
    save_file({name: value.contiguous() for name, value in detector.state_dict().items()}, path)
    return path


@pytest.fixture
def boxes_only(tmp_path: Path) -> Predictor:
    return load(save(tmp_path / "boxes.safetensors", "tiny", mask_on=False), device="cpu")


def test_the_two_voc_models_have_none() -> None:
    assert {entry.name for entry in list_models() if not entry.mask_on} == {"r50_voc", "swinbase_cascade_voc"}


def test_the_file_of_a_voc_model_loads_and_says_what_it_lacks(
    tmp_path: Path, photo_array: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    path = save(tmp_path / "r50_voc.safetensors", "r50_mask_rcnn", mask_on=False)
    for model in (load(path), load("r50_voc", weights=path)):
        assert (model.name, model.mask_on, model.vocabulary.title) == ("r50_voc", False, "voc")
    assert caplog.messages == ["r50_voc has no mask head: it finds boxes, without masks"] * 2
    result = model.predict(photo_array, made_up_vectors(model), short_side=64)
    assert result.masks is None


def made_up_vectors(model: Predictor) -> vlpart.Vocabulary:
    """The model's names with made-up vectors, so that no text encoder is needed."""
    vectors = np.random.default_rng(0).normal(size=(3, 1024)).astype(np.float32)
    return vlpart.Vocabulary.from_embeddings(
        model.vocabulary.names[:3], vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    )


def test_boxes_are_drawn_and_saved(boxes_only: Predictor, photo: Path, tmp_path: Path) -> None:
    result = boxes_only(str(photo), WORDS, score_threshold=0.1, max_detections=8)
    assert len(result) > 0
    assert result.masks is None
    drawn = np.asarray(result.plot())
    assert (np.asarray(result[:0].plot()) != drawn).any()
    assert vlpart.Result.from_dict(json.loads(result.to_json())).masks is None
    assert all("segmentation" not in entry for entry in result.to_coco())
    assert {shape["shape_type"] for shape in result.to_labelme()["shapes"]} == {"rectangle"}
    assert {len(line.split()) for line in result.to_yolo().splitlines()} == {5}
    assert 0 < len(result.without_nested()) <= len(result)
    with pytest.raises(OutputError, match="boxes only"):
        result.label_map()
    formats = ["image", "json", "coco", "labelme", "yolo"]
    done = predict_to_folder(boxes_only, [photo], output=tmp_path / "out", formats=formats, vocabulary=WORDS)
    assert (done.finished, done.failed) == (1, 0)
    (entry, *_) = json.loads((tmp_path / "out" / "coco.json").read_text())["annotations"]
    assert entry["area"] == pytest.approx(entry["bbox"][2] * entry["bbox"][3], rel=1e-5)
    assert "segmentation" not in entry


def test_files_that_lack_a_head_they_should_have_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "tiny.safetensors", "tiny", mask_on=False)
    for load_it in (lambda: load(path), lambda: load("tiny", weights=path)):
        with pytest.raises(WeightsError, match="no mask head"):
            load_it()
    state = {k: v.contiguous() for k, v in build_detector("tiny").state_dict().items()}
    del state["roi_heads.mask_head.deconv.bias"]
    save_file(state, tmp_path / "part.safetensors")
    with pytest.raises(WeightsError, match=r"lacks 'roi_heads\.mask_head\.deconv\.bias'"):
        load(tmp_path / "part.safetensors")


def test_a_run_without_masks(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data")
    recipe = small_recipe(tmp_path / "data", architecture="tiny", mask_on=False, evaluate_every=2, iterations=2)
    trainer, parts = build_trainer(recipe, tmp_path / "run", workers=0)
    describe_run(recipe, parts, tmp_path / "run")
    trainer.run()
    assert not any("mask_head" in name for name in trainer.model.state_dict())
    for record in read_log(tmp_path / "run" / "log.jsonl"):
        if "losses" in record:
            assert set(record["losses"]) == {"rpn_objectness", "rpn_box", "classification", "box"}
    model = load(str(tmp_path / "run"))
    assert not model.mask_on
    scores = [r for r in read_log(tmp_path / "run" / "log.jsonl") if "evaluation" in r]
    assert all("boxes/box_AP50" in r["evaluation"] for r in scores)
    with_masks = small_recipe(tmp_path / "data", architecture="tiny", iterations=2)
    with pytest.raises(TrainingError, match="mask_on=False, this run has True"):
        build_trainer(with_masks, tmp_path / "run", workers=0)[0].resume()


def test_first_weights_with_and_without_a_mask_head(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data")
    without = save(tmp_path / "without.safetensors", "tiny", mask_on=False)
    full = save(tmp_path / "with.safetensors", "tiny", mask_on=True)
    recipe = small_recipe(tmp_path / "data", architecture="tiny", init=str(without))
    with pytest.raises(WeightsError, match="no mask head to go on from: set mask_on=False"):
        build_trainer(recipe, tmp_path / "run", workers=0)
    boxes = recipe.changed(mask_on=False, init=str(full))
    trainer, _ = build_trainer(boxes, tmp_path / "run", workers=0)
    expected = load(full).detector.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in trainer.model.state_dict().items())
