"""The published recipes against the facts, field by field."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from tests.training.miniature import write_miniature
from vlpart.data.indexing import load_source
from vlpart.data.sampling import BatchSampler
from vlpart.data.source import Source
from vlpart.errors import TrainingError
from vlpart.models.config import get_architecture
from vlpart.recipes import describe_recipe, get_recipe
from vlpart.recipes.datasets import DATASETS
from vlpart.recipes.published import PUBLISHED
from vlpart.text.vocabulary import Vocabulary
from vlpart.training.optimizer import make_optimizer
from vlpart.training.recipe import Recipe
from vlpart.zoo.catalogue import list_models

ROOT = Path("datasets")
VOCABULARIES = {  # the facts' names of lists that are called otherwise here
    "imagenet_golden": "golden",
    "partimagenet_supercat": "partimagenet_supercategories",
    "partimagenet_object_of_part_prompt": "partimagenet",
    "pascal_part_object_of_part_prompt": "pascal_part",
}
INITS = {
    "resnet50 (ImageNet-1k, timm a1_in1k of timm 0.5.4)": ("r50_mask_rcnn", "imagenet"),
    "swin_base_patch4_window7_224_22k.pkl": ("swin_b_cascade", "imagenet"),
}
ABLATIONS = {"r50_pascalpart_ins11_ins11maxscore", "r50_pascalpart_ins11_ins11maxsize"}


@pytest.fixture(scope="module")
def facts(shared: Path) -> dict[str, dict[str, Any]]:
    rows = json.loads((shared / "facts" / "recipes.json").read_text())
    return {row["name"]: row for row in rows if row["family"] != "annotation_parser"}


def source_facts(source: Source, resize_sampling: str) -> dict[str, Any]:
    """A source in the words of the facts."""
    assert source.short_side_sampling == resize_sampling
    return {
        "dataset": source.name,
        "kind": source.kind.value,
        "federated_loss": source.federated,
        "repeat_factor_sampling": source.repeat_threshold is not None,
        "ratio": source.ratio,
        "batch_per_gpu": source.batch_size,
        "min_size": list(source.short_sides),
        "max_size": source.max_side,
    }


def test_all_35_are_here(facts: dict[str, dict[str, Any]]) -> None:
    assert sorted(PUBLISHED) == sorted(facts)
    assert len(facts) == 35


@pytest.fixture(scope="module")
def grouped(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bool]:
    """Whether the batches of a way of sampling hold images of one orientation only; looked at, not asked."""
    root = tmp_path_factory.mktemp("grouped")
    write_miniature(root, "coco_2017_train", images=9)
    (source,) = get_recipe("r50_coco", root).sources
    loaded = (load_source(source),)
    store = loaded[0].store
    upright = (store.heights > store.widths).tolist()
    assert 0 < sum(upright) < len(upright)
    found: dict[str, bool] = {}
    for sampling in ("epochs", "weighted"):
        sampler = BatchSampler(loaded, seed=0, sampling=sampling)
        batches = [sampler.next_batch() for _ in range(50)]
        kinds = [{upright[draw.image] for draw in batch} for batch in batches]
        assert {len(batch) for batch in batches} == {2}
        found[sampling] = all(len(kind) == 1 for kind in kinds) and set().union(*kinds) == {True, False}
    return found


@pytest.mark.parametrize("name", PUBLISHED)
def test_equal_to_the_facts(facts: dict[str, dict[str, Any]], name: str, grouped: dict[str, bool]) -> None:
    fact, recipe = dict(facts[name]), get_recipe(name, ROOT)
    sources, resize_sampling = fact.pop("sources"), fact.pop("resize_sampling")
    for wanted, source in zip(sources, recipe.sources, strict=True):
        vocabulary = wanted.pop("vocabulary")
        assert source_facts(source, resize_sampling) == {"ratio": 1, **wanted}
        assert source.vocabulary == VOCABULARIES.get(vocabulary, vocabulary)
        assert source.filter_empty == fact["filter_empty"]
        assert source.repeat_threshold == (fact["repeat_threshold"] if wanted["repeat_factor_sampling"] else None)
        assert source.strong_augmentation == (fact["strong_augmentation_on_parsed"] and wanted["kind"] == "ppart")
        prompt = "part_of_object" if "object_of_part" in vocabulary else "name"
        assert recipe.prompt == prompt
    for key in ("filter_empty", "repeat_threshold", "strong_augmentation_on_parsed"):
        fact.pop(key)
    init, assignment = fact.pop("init"), fact.pop("part_loss_type")
    assert (recipe.architecture, recipe.init) == INITS.get(init, (recipe.architecture, init.removesuffix(".pth")))
    single_stage = len(get_architecture(recipe.architecture).stage_delta_weights) == 1
    plain = single_stage and name not in ABLATIONS  # docs/method.md, 'Losses of parsed parts'
    assert recipe.losses.parsed_part_assignment == ("matched" if plain else assignment)
    assert fact == {**fact_fields(recipe, fact), "aspect_ratio_grouping": grouped[recipe.sampling]}


def fact_fields(recipe: Recipe, fact: dict[str, Any]) -> dict[str, Any]:
    """The remaining fields of the facts, from the recipe."""
    inference = fact["inference_vocabulary"]
    assert VOCABULARIES.get(inference, inference) == recipe.inference_vocabulary
    repeats = any(source.repeat_threshold for source in recipe.sources)
    epochs = "RepeatFactorTrainingSampler" if repeats else "TrainingSampler"
    return {
        "name": recipe.name,
        "mask_on": recipe.mask_on,
        "sampler": epochs if recipe.sampling == "epochs" else "MultiDatasetSampler",
        "family": recipe.family,
        "architecture": recipe.architecture,
        "inference_vocabulary": inference,
        "evaluate_on": [each.name for each in recipe.evaluate_on],
        "optimizer": type(make_optimizer(recipe, nn.Linear(2, 2))).__name__,
        "learning_rate": recipe.learning_rate,
        "steps": list(recipe.steps),
        "iterations": recipe.iterations,
        "checkpoint_every": recipe.checkpoint_every,
        "detections_per_image": recipe.detections_per_image,
        "score_threshold": recipe.score_threshold,
        "num_classes": recipe.model_classes,
        "image_label_loss_weight": recipe.losses.image_label_weight,
        "parsed_part_loss_weight": recipe.losses.parsed_part_weight,
        "image_label_proposals": recipe.losses.image_label_proposals,
        "rpn_post_nms_topk_train": recipe.losses.proposals,
        "rpn_post_nms_topk_test": get_architecture(recipe.architecture).test_proposals,
        "mixed_precision": recipe.precision == "fp16",
    }


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_all_share(name: str) -> None:
    recipe = get_recipe(name, ROOT)
    shared_values = (recipe.text_encoder, recipe.weight_decay, recipe.warmup_iterations, recipe.warmup_factor)
    assert shared_values == ("clip_rn50", 1e-4, 1000, 1e-3)
    assert (recipe.clip_norm, recipe.ema_decay, recipe.schedule, recipe.accumulate) == (None, None, "multi_step", 1)
    assert (recipe.reference_batch, recipe.losses.rpn_anchors, recipe.losses.roi_regions) == (16, 256, 512)
    assert recipe.sources[0].batch_size * 8 == recipe.reference_batch
    assert recipe.inference_vocabulary in Vocabulary.available()
    for source in recipe.sources:
        assert source.vocabulary in Vocabulary.available()
        assert not source.boxes_from_masks and not source.flip_swaps_left_right and source.flip == 0.5
        assert Path(source.annotations).is_relative_to(ROOT) and Path(source.images).is_relative_to(ROOT)
    if recipe.init != "imagenet":
        assert recipe.init in {model.name for model in list_models()}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_description_has_command_hours_and_figures(shared: Path, name: str) -> None:
    text = describe_recipe(name)
    assert f"Command: `vlpart train {name}`" in text
    rows = [
        row
        for row in json.loads((shared / "facts" / "published_results.json").read_text())
        if row["name"] == name and "metrics" in row
    ]
    assert ("No published checkpoint" in text) == (not rows)
    for row in rows:
        assert f"{row['training_time_8xV100']} on 8 V100" in text
        for value in row["metrics"].values():
            for figure in value.split("/"):
                assert re.search(rf"(?<![\d.]){re.escape(figure)}(?!\d)", text), (name, figure)


def test_descriptions_of_the_others() -> None:
    assert describe_recipe("tiny").startswith("`tiny` on `car_parts`")
    assert describe_recipe("configs/coco/r50_coco.yaml") == describe_recipe("r50_coco")
    with pytest.raises(TrainingError, match="did you mean r50_coco"):
        describe_recipe("r50_coko")


def test_the_table_has_no_data_set_that_no_recipe_uses() -> None:
    recipes = [get_recipe(name, ROOT) for name in PUBLISHED]
    used = {source.name for recipe in recipes for source in recipe.sources}
    used |= {each.name for recipe in recipes for each in recipe.evaluate_on}
    assert used == set(DATASETS)
