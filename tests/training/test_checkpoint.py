"""Checkpoints on disk: atomic, pruned, readable without pickled code; and the exported weights."""

import json
import random

import numpy as np
import pytest
import torch
from killable import make_recipe, make_trainer
from safetensors import safe_open
from safetensors.torch import load_file

from vlpart.errors import TrainingError
from vlpart.training.checkpoint import (
    atomic_write,
    export_weights,
    list_checkpoints,
    load_checkpoint,
    mark_best,
    rng_state,
    save_checkpoint,
    set_rng_state,
)


@pytest.fixture
def run(tmp_path):

    trainer = make_trainer(tmp_path, make_recipe(iterations=4))
    trainer.run()
    return trainer


def test_the_last_two_and_the_best_stay(tmp_path):
    for step in (1, 2, 3):
        path = save_checkpoint(tmp_path, step, {"value": torch.full((3,), float(step))})
        if step == 1:
            mark_best(path)
    assert [p.name for p in list_checkpoints(tmp_path)] == ["step_00000002.pt", "step_00000003.pt"]
    assert load_checkpoint(tmp_path / "best.pt")["step"] == 1
    (tmp_path / ".step_00000009.pt.part").write_bytes(b"killed while writing")
    assert len(list_checkpoints(tmp_path)) == 2
    save_checkpoint(tmp_path, 4, {})
    assert not list(tmp_path.glob(".*"))


def test_a_failed_write_keeps_what_was_there(tmp_path):
    path = tmp_path / "file"
    path.write_text("before")

    def fail():
        with atomic_write(path) as temporary:
            temporary.write_text("half")
            raise OSError(28, "No space left on device")

    with pytest.raises(TrainingError, match=r"No space left on device.*intact"):
        fail()
    assert path.read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_files_that_are_no_checkpoints_are_refused(tmp_path):
    with pytest.raises(TrainingError, match="no checkpoint"):
        load_checkpoint(tmp_path / "missing.pt")
    torch.save({"weights": torch.ones(2)}, tmp_path / "other.pt")
    with pytest.raises(TrainingError, match="not a training checkpoint"):
        load_checkpoint(tmp_path / "other.pt")
    torch.save({"format": Unsafe()}, tmp_path / "unsafe.pt")
    with pytest.raises(TrainingError, match="cannot read"):
        load_checkpoint(tmp_path / "unsafe.pt")


def test_checkpoints_from_before_several_processes_can_be_read(tmp_path):
    torch.save({"format": "vlpart-checkpoint-1", "step": 3, "loader": {"given": 3}, "rng": {}}, tmp_path / "old.pt")
    content = load_checkpoint(tmp_path / "old.pt")
    assert content["ranks"] == [{"loader": {"given": 3}, "rng": {}}] and "rng" not in content


class Unsafe:
    """Reading this would run code of this module."""


def test_every_generator_is_restored():
    own = torch.Generator().manual_seed(5)

    def draw():
        return (
            torch.rand(3).tolist(),
            np.random.rand(3).tolist(),
            random.random(),
            torch.rand(2, generator=own).tolist(),
        )

    state = rng_state(own)
    first = draw()
    assert draw() != first
    set_rng_state(state, own)
    assert draw() == first


def test_exported_weights(run, tmp_path):
    checkpoint = list_checkpoints(run.checkpoints)[-1]
    output = export_weights(checkpoint, tmp_path / "out" / "weights.safetensors")
    weights = load_file(output)
    assert set(weights) == set(run.model.state_dict())
    assert weights["conv.weight"].dtype == torch.float16
    assert weights["norm.running_var"].dtype == torch.float32
    assert torch.equal(weights["conv.weight"], run.average.shadow["conv.weight"].half())
    assert torch.equal(weights["norm.running_var"], run.model.norm.running_var)
    with safe_open(output, "pt") as file:
        metadata = file.metadata()
    assert {k: metadata[k] for k in ("recipe", "step", "seed", "ema")} == {
        "recipe": "small",
        "step": "4",
        "seed": "3",
        "ema": "true",
    }
    assert json.loads(metadata["recipe_json"])["iterations"] == 4
    plain = load_file(export_weights(checkpoint, tmp_path / "plain.safetensors", torch.float32, use_ema=False))
    assert torch.equal(plain["conv.weight"], run.model.conv.weight)


def test_weights_that_overflow_are_not_exported(run, tmp_path):
    content = load_checkpoint(list_checkpoints(run.checkpoints)[-1])
    content["ema"]["shadow"]["conv.weight"][0] = 1e6
    path = save_checkpoint(tmp_path / "big", 4, content)
    with pytest.raises(TrainingError, match=r"conv\.weight"):
        export_weights(path, tmp_path / "weights.safetensors")
    assert not (tmp_path / "weights.safetensors").exists()


def test_exported_weights_do_not_tell_where_the_data_lay(run, tmp_path):
    checkpoint = list_checkpoints(run.checkpoints)[-1]
    content = load_checkpoint(checkpoint)
    content["recipe"]["evaluate_on"] = [{"annotations": "/home/somebody/data/cars/val.json"}]
    torch.save(content, checkpoint)
    with safe_open(export_weights(checkpoint, tmp_path / "weights.safetensors"), "pt") as file:
        saved = file.metadata()["recipe_json"]
    assert "somebody" not in saved
    assert "cars/val.json" in saved
