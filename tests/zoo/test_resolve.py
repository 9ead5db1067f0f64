"""What a user means by a model: names, weight files, run folders, and what is said of what is none of them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from vlpart.errors import ModelNotFoundError, WeightsError
from vlpart.zoo.resolve import architecture_of, resolve

RECIPE = {
    "name": "finetune",
    "architecture": "tiny",
    "text_encoder": "static",
    "score_threshold": 0.07,
    "detections_per_image": 40,
}
TINY = {"backbone.stages.0.0.depthwise.weight": torch.zeros(1)}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to stand in, with a run and a weight file."""
    run = tmp_path / "run"
    run.mkdir()
    (run / "recipe.json").write_text(json.dumps(RECIPE))
    (run / "vocabulary.json").write_text(json.dumps({"entries": [{"id": 1, "name": "car"}]}))
    save_file(TINY, run / "weights.safetensors")
    save_file(TINY, tmp_path / "mine.safetensors")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_name_comes_before_a_folder_of_that_name(here: Path) -> None:
    (here / "tiny").mkdir()
    for given in ("tiny", None):
        found = resolve(given)
        assert (found.entry and found.entry.name, found.file, found.run) == ("tiny", None, None)
        assert found.here is not None
        assert found.here.name == "tiny.safetensors"
    assert resolve("r50_coco").here is None


def test_a_run_folder_brings_its_own_weights_unless_others_are_given(here: Path) -> None:
    found = resolve("run")
    assert found.run is not None
    assert found.entry is not None
    assert (found.entry.name, found.file) == ("run", Path("run/weights.safetensors"))
    assert list(found.read()) == list(TINY)
    other = resolve("run", "mine.safetensors")
    assert (other.entry and other.entry.name, other.file, other.run) == ("run", Path("mine.safetensors"), None)


def test_a_weight_file_needs_no_suffix_and_is_described_by_what_is_in_it(here: Path) -> None:
    (here / "bare").write_bytes((here / "mine.safetensors").read_bytes())
    for given in (resolve("bare"), resolve("mine.safetensors"), resolve(None, here / "mine.safetensors")):
        assert (given.entry, given.architecture, given.run) == (None, None, None)
        entry, note = given.describe()
        assert (entry.architecture, entry.name) == ("tiny", given.fetch().stem)
        assert "does not say which names" in note


def test_what_a_weight_file_is(here: Path) -> None:
    def name_of(path: str, architecture: str) -> str | None:
        Path(path).parent.mkdir(exist_ok=True)
        Path(path).touch()
        entry, note = resolve(path).entry_of(architecture)
        return None if note else entry.name

    assert name_of("some/r50_coco.safetensors", "r50_mask_rcnn") == "r50_coco"
    assert name_of("r50_pascalpart.pth", "r50_mask_rcnn") == "r50_pascalpart"
    assert name_of("tiny.safetensors", "tiny2") == name_of("tiny.safetensors", "tiny") == "tiny"  # both editions
    assert name_of("r50_coco.safetensors", "swin_b_cascade") is None
    assert name_of("mine.pth", "r50_mask_rcnn") is None
    assert name_of("run/weights.safetensors", "tiny") == "run"
    assert name_of("run/weights.safetensors", "r50_mask_rcnn") is None
    assert name_of("run/initial.safetensors", "tiny") is None  # what the run began with, not what it made
    (here / "run" / "recipe.json").write_text("{")
    assert name_of("run/weights.safetensors", "tiny") is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("tinny", "No model 'tinny'; did you mean tiny?"),
        ("runn", "No model 'runn'; did you mean run?"),
        ("n" * 300, "vlpart models list"),
        ("runs/none", "no folder or weight file 'runs/none'"),
        ("run/weights.safetensor", "and no model of that name; did you mean weights.safetensors?"),
    ],
)
def test_names_of_nothing(here: Path, given: str, message: str) -> None:
    with pytest.raises(ModelNotFoundError, match=re.escape(message)):
        resolve(given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("mein.safetensors", "no weight file 'mein.safetensors'; did you mean mine.safetensors?"),
        ("none/x.pth", "no weight file 'none/x.pth'; give the path of a .pth"),
        ("n" * 300 + ".pth", "give the path of a .pth"),
    ],
)
def test_weight_files_that_are_not_there(here: Path, given: str, message: str) -> None:
    for arguments in ((given, None), ("tiny", given), (None, given)):
        with pytest.raises(WeightsError, match=re.escape(message)):
            resolve(*arguments)


def test_two_weight_files_are_one_too_many(here: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="two weight files"):
        resolve("mine.safetensors", "run/weights.safetensors")


def test_architectures_are_told_by_their_backbones() -> None:
    assert architecture_of(TINY, Path("x")) == "tiny"
    with pytest.raises(WeightsError, match="x is no checkpoint of this package.*'w'"):
        architecture_of({"w": torch.zeros(1)}, Path("x"))
