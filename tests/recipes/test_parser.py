from __future__ import annotations

import copy
import inspect
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vlpart.annotation_parser.features.base import batches_of_one_size
from vlpart.annotation_parser.features.vit import DinoFeatures, VisionTransformer
from vlpart.annotation_parser.image_parser import ImageParser, ParserOptions
from vlpart.annotation_parser.rename import Renamer
from vlpart.annotation_parser.run import open_image_parser
from vlpart.cli.parse import find as find_command
from vlpart.errors import DataError
from vlpart.recipes.datasets import DATASETS
from vlpart.recipes.parser import ALIASES, BANKS, FINDS, BankRecipe, get_bank_recipe, get_find_recipe
from vlpart.text.vocabulary import Vocabulary
from vlpart.zoo.catalogue import get_model


@pytest.mark.parametrize("name", FINDS)
def test_everything_named_exists(name: str) -> None:
    find = get_find_recipe(name)
    labels = {
        "in_s11": "partimagenet_supercategories",
        "in_s20": "imagenet_s20",
    }.get(name, name.removesuffix("_swinbase"))
    known = Vocabulary.load(labels).names
    assert set(find.base_objects or ()) <= set(known)
    assert len(Vocabulary.load(find.vocabulary)) > 0
    assert find.bank in BANKS
    get_model(find.model)


def test_training_reads_what_is_found() -> None:
    written = {(f.output, f.images, f.names) for f in FINDS.values()}
    read = {
        (d.annotations, d.images, d.vocabulary)
        for name, d in DATASETS.items()
        if name.endswith(("_parsed", "_parsed_swinbase"))
    }
    assert written == read


LABELS = {  # the facts' names of what is read -> our file
    "pascal_part_train_one": "pascal_part/train_one.json",
    "pascal_part_base_train_one": "pascal_part/train_base_one.json",
    "partimagenet_supercat_random": "partimagenet/partimagenet_supercat_image_info.json",
    "imagenet_voc_random": "imagenet/imagenet_voc_image_info.json",
    "imagenet_golden_pascal": "imagenet/imagenet_pascal_image_info.json",
}
LABEL_LISTS = {"in_s11": "partimagenet_supercategories", "in_s20": "imagenet_s20"}


@pytest.fixture(scope="module")
def facts(shared: Path) -> dict[str, dict[str, Any]]:
    rows = json.loads((shared / "facts" / "recipes.json").read_text())
    return {row["name"]: row for row in rows if row["family"] == "annotation_parser"}


def dino_facts(bank: BankRecipe) -> dict[str, Any]:
    """How our features see an image, in the words of the facts; each from what computes it."""
    assert bank.features == DinoFeatures.name
    network = VisionTransformer()
    stride = network.patch_embed.proj.stride
    assert stride[0] == stride[1]
    black, white = (np.full((8, 8, 3), value, dtype=np.uint8) for value in (0, 255))
    ((_, pixels),) = batches_of_one_size([black, white], torch.device("cpu"))
    low, high = pixels[:, :, 0, 0].tolist()
    std = [1 / (bright - dark) for bright, dark in zip(high, low, strict=True)]
    return {
        "MODEL_TYPE": bank.features,
        "STRIDE": stride[0],
        "LAYER": len(network.blocks) - 1,  # `keys` and the saliency are those of the last block, counted from 0
        "PIXEL_NORM": (low, high) != ([0.0] * 3, [255.0] * 3),
        "PIXEL_MEAN": [pytest.approx(-dark * s, abs=1e-6) for dark, s in zip(low, std, strict=True)],
        "PIXEL_STD": [pytest.approx(s, abs=1e-6) for s in std],
    }


def test_all_six_are_here(facts: dict[str, dict[str, Any]]) -> None:
    assert sorted(facts) == sorted(ALIASES)
    assert len(facts) == 6


@pytest.mark.parametrize("published", [name for name in ALIASES if name.startswith("build")])
def test_banks_are_those_of_the_facts(published: str, facts: dict[str, dict[str, Any]]) -> None:
    fact, bank = facts[published], get_bank_recipe(published)
    dino = {**dino_facts(bank), "BUILD_BASEDATA": True, "BASEDATA_SAVE_DIR": save_dir(facts, bank)}
    assert fact == {
        "name": published,
        "family": "annotation_parser",
        "dino": dino,
        "dataset": next(name for name, path in LABELS.items() if path == bank.annotations),
        "min_size": bank.short_side,
        "max_size": bank.max_side,
        # a bank needs no detector
        **dict.fromkeys(("detector_weights", "score_threshold", "nms_threshold", "detector_proposals"), None),
        **dict.fromkeys(("vocabulary", "output"), None),
    }


def save_dir(facts: dict[str, dict[str, Any]], bank: BankRecipe) -> str:
    """The folder of the facts that belongs to a bank: that of the run that builds it."""
    published = next(name for name, ours in ALIASES.items() if ours == bank.name and name.startswith("build"))
    folder: str = facts[published]["dino"]["BASEDATA_SAVE_DIR"]
    return folder


@pytest.mark.parametrize("published", [name for name in ALIASES if name.startswith("find")])
def test_runs_are_those_of_the_facts(published: str, facts: dict[str, dict[str, Any]], tiny_weights: Path) -> None:
    fact, find = copy.deepcopy(facts[published]), get_find_recipe(published)
    bank = get_bank_recipe(find.bank)
    # the parser as `vlpart parse find` opens it, but for the weights of the detector
    threshold = inspect.signature(find_command).parameters["threshold"].default
    opened = open_image_parser(
        None, ParserOptions(base_objects=frozenset({"x"})), model="tiny", score_threshold=threshold
    )
    assert opened.detector is not None
    names = Vocabulary.load(LABEL_LISTS.get(find.name, "golden_pascal")).names
    listed = fact["dino"].pop("BASE_OBJ_CAT")  # places in the list of labels; the golden runs list more than there are
    base = {name for place, name in enumerate(names) if place in listed}
    assert base == set(names if find.base_objects is None else find.base_objects)
    dino = {
        **dino_facts(bank),
        "BUILD_BASEDATA": False,
        "BASEDATA_SAVE_DIR": save_dir(facts, bank),
        "BASEDATA_ANN_PATH": f"datasets/{bank.annotations}",
        "BASEDATA_IMS_PATH": f"datasets/{bank.images}/",
        "THRESH": DinoFeatures.foreground,
        "MIN_SIZE_TEST": find.short_side,
    }
    assert fact == {
        "name": published,
        "family": "annotation_parser",
        "dino": dino,
        "detector_weights": f"models/{find.model}.pth",
        "score_threshold": opened.detector.options.score_threshold,
        "nms_threshold": opened.detector.options.nms_iou,
        "detector_proposals": opened.detector.options.proposals,
        "vocabulary": find.vocabulary,
        "dataset": next(name for name, path in LABELS.items() if path == find.labels),
        "output": f"datasets/{find.output}",
        "min_size": find.short_side,
        "max_size": find.max_side,
    }
    assert (find.short_side, find.max_side) == (bank.short_side, bank.max_side)


def test_the_features_of_a_bank_decide_what_is_foreground(tiny_weights: Path) -> None:
    """The threshold of the facts is that of DINO's saliency; nothing else sets it."""
    parser = open_image_parser(None, ParserOptions(base_objects=frozenset({"x"})), model="tiny")
    features = DinoFeatures(VisionTransformer())
    opened = ImageParser(features, None, parser.detector, Renamer(None), ParserOptions(base_objects=frozenset({"x"})))
    assert opened.settings()["options"]["foreground"] == DinoFeatures.foreground


def test_unknown_recipes() -> None:
    with pytest.raises(DataError, match=r"no parser recipe .ins_11.: did you mean .*in_s11"):
        get_find_recipe("ins_11")
    with pytest.raises(DataError, match="no parser recipe 'in_s11'"):
        get_bank_recipe("in_s11")
