"""The catalogue: complete, equal to the published facts, and helpful about misspelt names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vlpart.errors import ModelNotFoundError
from vlpart.models.config import ARCHITECTURES
from vlpart.text.vocabulary import Vocabulary
from vlpart.zoo.catalogue import TEXT_ENCODERS, get_model, list_models, model_like


def test_thirty_published_and_tiny() -> None:
    models = list_models()
    assert models[0].name == "tiny"
    assert models[0].embedded
    assert (models[0].architecture, models[0].text_encoder) == ("tiny2", "phrase")
    assert models[0].file_name == "tiny.safetensors"
    published = models[1:]
    assert len(published) == 30 == len({model.name for model in published})
    assert {model.architecture for model in published} == {"r50_mask_rcnn", "swin_b_cascade"}
    for model in published:
        assert not model.embedded
        assert model.url is not None
        assert model.url.startswith("https://")
        assert model.file_name == f"{model.name}.pth"
        assert model.text_encoder == "clip_rn50"
        assert model.published
        assert model.training_time


def test_a_model_like_those_of_an_architecture() -> None:
    assert set(TEXT_ENCODERS) == set(ARCHITECTURES)
    assert model_like("tiny2") == get_model("tiny")
    assert model_like("r50_mask_rcnn") == next(m for m in list_models() if m.architecture == "r50_mask_rcnn")
    first = model_like("tiny")  # the first edition, which no model has any more
    assert (first.architecture, first.text_encoder, first.sha256) == ("tiny", "static", None)
    with pytest.raises(ModelNotFoundError, match="no architecture 'vgg'"):
        model_like("vgg")


def test_defaults_are_usable() -> None:
    for model in list_models():
        assert model.vocabulary in Vocabulary.available()
        assert 0 < model.score_threshold < 1
        assert model.detections_per_image in (100, 300)


def test_equals_the_published_facts(shared: Path) -> None:
    rows = [r for r in json.loads((shared / "facts" / "published_results.json").read_text()) if "section" in r]
    recipes = {r["name"]: r for r in json.loads((shared / "facts" / "recipes.json").read_text())}
    assert {row["name"] for row in rows} == {model.name for model in list_models()[1:]}
    for row in rows:
        model, recipe = get_model(row["name"]), recipes[row["name"]]
        assert (model.url, model.architecture) == (row["checkpoint"], row["architecture"])
        assert model.vocabulary == recipe["inference_vocabulary"]
        assert model.score_threshold == recipe["score_threshold"]
        assert model.detections_per_image == recipe["detections_per_image"]
        assert model.training_time.startswith(row["training_time_8xV100"])
        expected = sorted(tuple(float(x) for x in value.split("/")) for value in row["metrics"].values())
        ours = [
            sorted(value if isinstance(value, tuple) else (value,) for value in result.metrics.values())
            for result in model.published
            if result.row == row["row"]
        ]
        assert expected in ours


@pytest.mark.parametrize(
    ("name", "near"),
    [("r50_pascalparts", "r50_pascalpart"), ("TINY", "tiny"), ("swinbase_coco", "swinbase_cascade_coco")],
)
def test_near_names(name: str, near: str) -> None:
    with pytest.raises(ModelNotFoundError, match=near):
        get_model(name)


def test_far_names() -> None:
    for name in ("", "xyz", "../../etc/passwd"):
        with pytest.raises(ModelNotFoundError, match="vlpart models list"):
            get_model(name)
