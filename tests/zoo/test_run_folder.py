"""Run folders as models, and the weighted mean of weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from vlpart.errors import WeightsError
from vlpart.zoo.run_folder import open_run
from vlpart.zoo.weights import interpolated, load_state_dict

RECIPE = {
    "name": "finetune",
    "architecture": "tiny",
    "text_encoder": "static",
    "score_threshold": 0.07,
    "detections_per_image": 40,
}


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A run that was stopped: two checkpoints, no exported weights, a quarter of the first weights wanted."""
    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "recipe.json").write_text(json.dumps(RECIPE | {"initial_share": 0.25}))
    (folder / "vocabulary.json").write_text(json.dumps({"entries": [{"id": 1, "name": "car"}]}))
    save_file({"w": torch.zeros(2, 2)}, folder / "initial.safetensors")
    for step in (1, 2):
        content = {
            "format": "vlpart-checkpoint-2",
            "model": {"w": torch.full((2, 2), 1.0)},
            "ema": {"updates": 1, "shadow": {"w": torch.full((2, 2), 4.0 * step)}},
        }
        torch.save(content, folder / "checkpoints" / f"step_{step:08d}.pt")
    return folder


def test_a_checkpoint_stands_in_with_its_average_and_its_share(run_folder: Path) -> None:
    run = open_run(run_folder)
    assert run.weights.name == "step_00000002.pt"
    assert run.state()["w"].tolist() == [[6.0, 6.0], [6.0, 6.0]]
    (run_folder / "checkpoints" / "best.pt").write_bytes((run_folder / "checkpoints/step_00000001.pt").read_bytes())
    assert open_run(run_folder).state()["w"][0, 0] == 3.0
    assert load_state_dict(run_folder / "checkpoints" / "best.pt")["w"][0, 0] == 4.0


def test_exported_weights_come_first_and_are_taken_as_they_are(run_folder: Path) -> None:
    save_file({"w": torch.full((2, 2), 9.0)}, run_folder / "weights.safetensors")
    run = open_run(run_folder)
    assert run.state()["w"][0, 0] == 9.0
    entry = run.entry
    assert (entry.name, entry.recipe, entry.architecture, entry.text_encoder) == ("run", "finetune", "tiny", "static")
    assert (entry.score_threshold, entry.detections_per_image) == (0.07, 40)
    assert Path(entry.vocabulary) == run_folder / "vocabulary.json"


def test_folders_that_are_no_runs(run_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"not the folder of a run.*recipe\.json.*vlpart train"):
        open_run(tmp_path)
    (tmp_path / "recipe.json").write_text("{}")
    with pytest.raises(WeightsError, match="damaged"):
        open_run(tmp_path)
    for path in (run_folder / "checkpoints").iterdir():
        path.unlink()
    with pytest.raises(WeightsError, match="neither weights.safetensors nor a checkpoint"):
        open_run(run_folder)
    (run_folder / "vocabulary.json").unlink()
    with pytest.raises(WeightsError, match=r"no vocabulary\.json"):
        open_run(run_folder)


def test_weight_interpolation() -> None:
    trained = {"w": torch.tensor([2.0, 4.0], dtype=torch.float16), "count": torch.tensor(3)}
    initial = {"w": torch.tensor([0.0, 8.0]), "count": torch.tensor(1)}
    for share, expected in ((0.0, [2.0, 4.0]), (0.25, [1.5, 5.0]), (1.0, [0.0, 8.0])):
        result = interpolated(trained, initial, share)
        assert (result["w"].tolist(), result["w"].dtype, result["count"].item()) == (expected, torch.float16, 3)
    with pytest.raises(WeightsError, match="another model"):
        interpolated(trained, {"w": initial["w"]}, 0.5)
    with pytest.raises(WeightsError, match="another model"):
        interpolated(trained, {"w": torch.zeros(3), "count": torch.tensor(1)}, 0.5)


def test_unknown_architectures_are_named(run_folder: Path) -> None:
    (run_folder / "recipe.json").write_text(json.dumps(RECIPE | {"architecture": "huge"}))
    with pytest.raises(WeightsError, match=r"'huge'.*known: .*tiny"):
        open_run(run_folder)
