from __future__ import annotations

import json
from pathlib import Path

import pytest

from vlpart.errors import DataError
from vlpart.recipes.datasets import DATASETS
from vlpart.recipes.parser import ALIASES, BANKS, FINDS, get_bank_recipe, get_find_recipe
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


@pytest.mark.parametrize("published", ALIASES)
def test_published_settings(published: str, shared: Path) -> None:
    facts = {entry["name"]: entry for entry in json.loads((shared / "facts" / "recipes.json").read_text())}[published]
    if published.startswith("build"):
        bank = get_bank_recipe(published)
        assert (bank.short_side, bank.max_side) == (facts["min_size"], facts["max_size"])
        assert bank.features == facts["dino"]["MODEL_TYPE"]
        return
    find = get_find_recipe(published)
    assert (find.short_side, find.max_side) == (facts["min_size"], facts["max_size"])
    assert f"models/{find.model}.pth" == facts["detector_weights"]
    assert find.vocabulary == facts["vocabulary"]
    bank = get_bank_recipe(find.bank)
    assert f"datasets/{bank.annotations}" == facts["dino"]["BASEDATA_ANN_PATH"]
    assert f"datasets/{bank.images}/" == facts["dino"]["BASEDATA_IMS_PATH"]
    vocabulary = {"in_s11": "partimagenet_supercategories", "in_s20": "imagenet_s20"}.get(find.name, "golden_pascal")
    names = Vocabulary.load(vocabulary).names
    base = [name for i, name in enumerate(names) if i in facts["dino"]["BASE_OBJ_CAT"]]
    assert sorted(base) == sorted(names if find.base_objects is None else find.base_objects)


def test_unknown_recipes() -> None:
    with pytest.raises(DataError, match=r"no parser recipe .ins_11.: did you mean .*in_s11"):
        get_find_recipe("ins_11")
    with pytest.raises(DataError, match="no parser recipe 'in_s11'"):
        get_bank_recipe("in_s11")
