"""The recipe that is made from a folder of the user's and the weights to start from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from vlpart.cli import recipes as command
from vlpart.data.indexing import load_source
from vlpart.errors import DataError, ModelNotFoundError, TrainingError, VlpartError, WeightsError
from vlpart.recipes import get_recipe
from vlpart.recipes.files import load_recipe_file, to_python
from vlpart.recipes.finetune import finetune, steps_for

NAMES = ("car", "car:left mirror", "car:right mirror")
SQUARE = [[2, 2, 12, 2, 12, 12, 2, 12]]


def write(folder: Path, name: str, images: range, *, masks: bool = True) -> None:
    """An annotation file with one annotation an image."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    content: dict[str, Any] = {"images": [], "annotations": []}
    content["categories"] = [{"id": i, "name": each} for i, each in enumerate(NAMES, 1)]
    for i in images:
        Image.new("RGB", (24, 20), (i, 80, 90)).save(folder / "images" / f"{i}.png")
        content["images"].append({"id": i + 1, "file_name": f"{i}.png", "width": 24, "height": 20})
        entry = {"id": i + 1, "image_id": i + 1, "category_id": 1 + i % 3, "bbox": [2, 2, 10, 10], "area": 100}
        content["annotations"].append(entry | {"iscrowd": 0, "segmentation": SQUARE if masks else []})
    (folder / name).write_text(json.dumps(content))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "cars", "parts.json", range(30))
    return tmp_path / "cars"


def test_one_file_is_split(folder: Path) -> None:
    recipe = finetune(folder)
    (source,), (scored,) = recipe.sources, recipe.evaluate_on
    assert (recipe.architecture, recipe.text_encoder, recipe.init) == ("tiny2", "phrase", "tiny")
    assert (recipe.teacher_vocabulary, recipe.remembers) == ("tiny", True)
    assert (source.name, source.annotations, source.images) == ("cars", folder / "parts.json", folder / "images")
    assert (source.validation_split, scored.validation_split, source.masks) == (0.1, 0.1, True)
    loaded = load_source(source)
    assert len(loaded) == 27
    assert loaded.vocabulary.names == NAMES
    assert loaded.flip_labels.tolist() == [0, 2, 1]
    assert finetune(folder, validation_split=0.5).sources[0].validation_split == 0.5
    without = finetune(folder, validation_split=0)
    assert (without.evaluate_on, len(load_source(without.sources[0]))) == ((), 30)


def test_a_val_split_is_scored(folder: Path) -> None:
    (folder / "parts.json").rename(folder / "train.json")
    write(folder, "val.json", range(30, 34))
    recipe = finetune(folder)
    assert (recipe.sources[0].validation_split, recipe.evaluate_on[0].validation_split) == (0, 0)
    assert recipe.evaluate_on[0].annotations == folder / "val.json"
    with pytest.raises(TrainingError, match=r"val\.json is evaluated on: leave --validation-split away"):
        finetune(folder, validation_split=0.2)


def test_boxes_only(folder: Path) -> None:
    write(folder, "parts.json", range(30), masks=False)
    source = finetune(folder).sources[0]
    assert not source.masks
    assert not load_source(source).store.has_masks


@pytest.mark.parametrize(
    ("init", "architecture", "encoder", "vocabulary"),
    [
        ("r50_pascalpart", "r50_mask_rcnn", "clip_rn50", "pascal_part"),
        ("swinbase_cascade_paco", "swin_b_cascade", "clip_rn50", "paco"),
    ],
)
def test_models_of_the_zoo(folder: Path, init: str, architecture: str, encoder: str, vocabulary: str) -> None:
    recipe = finetune(folder, init)
    assert (recipe.architecture, recipe.text_encoder, recipe.teacher_vocabulary) == (architecture, encoder, vocabulary)
    assert (recipe.sources[0].short_sides, recipe.sources[0].max_side) == ((640, 800), 1333)


def test_the_embedded_model_learns_order_and_keeps_a_share_of_what_it_was(folder: Path) -> None:
    recipe, published = finetune(folder), finetune(folder, "r50_pascalpart")
    assert (recipe.losses.ranking_weight, recipe.initial_share) == (0.25, 0.3)
    assert "backbone.trunk" in recipe.frozen
    assert (published.losses.ranking_weight, published.initial_share, published.frozen) == (0.0, 0.0, ())


def test_a_weight_file(folder: Path, tiny_weights: Path) -> None:
    assert finetune(folder, str(tiny_weights)).architecture == "tiny2"


def test_the_length_follows_the_number_of_images() -> None:
    assert [steps_for(n, 4) for n in (1, 120, 400, 10_000)] == [300, 300, 1000, 5000]


@pytest.mark.parametrize(
    ("init", "error", "message"),
    [
        ("imagenet", TrainingError, "goes on from a detector"),
        ("tinny", ModelNotFoundError, "did you mean tiny"),
        ("none.pth", WeightsError, "no weight file"),
        (".", WeightsError, "not the folder of a run"),
    ],
)
def test_first_weights_that_cannot_be_used(folder: Path, init: str, error: type[VlpartError], message: str) -> None:
    with pytest.raises(error, match=message):
        finetune(folder, init)


def test_by_name(folder: Path, tmp_path: Path) -> None:
    assert get_recipe("finetune", folder, init="r50_voc", validation_split=0.3).sources[0].validation_split == 0.3
    assert get_recipe("tiny", tmp_path, init="none").init == "none"
    with pytest.raises(TrainingError, match="--validation-split is for finetune"):
        get_recipe("tiny", tmp_path, validation_split=0.1)
    with pytest.raises(TrainingError, match="did you mean finetune"):
        get_recipe("finetun", tmp_path)
    with pytest.raises(DataError, match="there is no folder"):
        get_recipe("finetune", tmp_path / "none")


def test_show_and_export(folder: Path, tmp_path: Path) -> None:
    app = typer.Typer()
    command.register(app)

    def call(*arguments: str | Path) -> str:
        return CliRunner().invoke(app, ["recipes", *map(str, arguments)], catch_exceptions=False).stdout

    shown = call("show", "finetune", "--data", folder, "--init", "r50_paco")
    for part in ("ten passes", "source cars: part", "r50_mask_rcnn", "teacher_vocabulary         paco"):
        assert part in shown
    path = tmp_path / "mine.py"
    call("export", "finetune", "--data", folder, "--output", path)
    assert load_recipe_file(path, folder) == finetune(folder)
    assert 'data_root / "parts.json"' in to_python(finetune(folder), folder)


def test_an_exported_recipe_does_not_take_any_other_first_weights(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(to_python(finetune(folder), folder))
    run = tmp_path / "run"
    run.mkdir()
    recipe = {"name": "a", "architecture": "tiny2", "text_encoder": "phrase", "score_threshold": 0.05}
    (run / "recipe.json").write_text(json.dumps(recipe | {"detections_per_image": 100}))
    (run / "weights.safetensors").touch()
    for name in ("vocabulary.json", "known_vocabulary.json"):
        (run / name).write_text('["dog"]')
    assert get_recipe(str(path), folder, init="tiny") == finetune(folder)
    with pytest.raises(TrainingError, match=r"made for tiny2 .*r50_voc is r50_mask_rcnn .*again with --init r50_voc"):
        get_recipe(str(path), folder, init="r50_voc")
    with pytest.raises(TrainingError, match=r"names of tiny, .*known_vocabulary\.json: export it again with --init"):
        get_recipe(str(path), folder, init=str(run))
    with pytest.raises(TrainingError, match="not from 'none'"):
        get_recipe(str(path), folder, init="none")
    held = get_recipe(str(path), folder, init=str(run), teacher_loss_weight=0.0)
    assert (held.init, held.teacher_loss_weight) == (str(run), 0)  # nothing is held
    path.write_text(path.read_text().replace("teacher_loss_weight=0.1", "teacher_loss_weight=0.0"))
    assert get_recipe(str(path), folder, init=str(run)).init == str(run)  # holds no names
