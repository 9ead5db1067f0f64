"""CSV, TensorBoard and W&B: what they get from a run, and from one that resumes."""

from __future__ import annotations

import csv
import sys
from types import SimpleNamespace

import pytest
from killable import make_recipe, make_trainer

from vlpart.errors import TrainingError
from vlpart.training.logging import CsvSink, check_sinks, flat, open_sinks


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_flat_names():
    step = {"step": 3, "event": "step", "loss": 1, "losses": {"box": 0.5}, "sources": ["a"], "skipped": False}
    assert flat(step) == {"loss": 1.0, "losses/box": 0.5, "skipped": 0.0}
    assert flat({"step": 3, "event": "evaluation", "score": 0.25}) == {"evaluation/score": 0.25}


def test_a_csv_of_a_resumed_run_is_that_of_a_whole_one(tmp_path):
    whole = make_trainer(tmp_path / "whole", make_recipe(iterations=4), log_to=["csv"])
    whole.run()
    for limit in (0.0, None):
        part = make_trainer(tmp_path / "parts", make_recipe(iterations=4), log_to=["csv"])
        part.resume()
        part.run(limit)
    rows, again = table(tmp_path / "whole" / "metrics.csv"), table(tmp_path / "parts" / "metrics.csv")
    assert [row["step"] for row in rows] == [row["step"] for row in again] == ["1", "2", "3", "4"]
    assert [row["losses/loss_class"] for row in rows] == [row["losses/loss_class"] for row in again]
    assert list(tmp_path.glob("*/.*")) == []


def test_csv_columns_come_when_they_are_needed(tmp_path):
    path = tmp_path / "metrics.csv"
    sink = CsvSink(path)
    sink.write(1, {"loss": 0.5})
    sink.write(2, {"loss": 0.25, "evaluation/score": 0.75})
    sink.write(3, {"loss": 0.125})
    with path.open("a") as file:
        file.write("4,0.1")  # cut off by a kill
    resumed = CsvSink(path, step=2)
    resumed.write(3, {"loss": 7.0})
    assert table(path) == [
        {"step": "1", "loss": "0.5", "evaluation/score": ""},
        {"step": "2", "loss": "0.25", "evaluation/score": "0.75"},
        {"step": "3", "loss": "7.0", "evaluation/score": ""},
    ]
    assert table(path) != [] and CsvSink(path).columns == ["step"]  # a new run starts anew
    assert table(path) == []


def test_unknown_and_missing_sinks(tmp_path, monkeypatch):
    with pytest.raises(TrainingError, match="csv, tensorboard, wandb"):
        open_sinks(["paper"], tmp_path, 0, {}, "run")
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(TrainingError, match="pip install wandb"):
        open_sinks(["wandb"], tmp_path, 0, {}, "run")
    with pytest.raises(TrainingError, match=r"vlpart\[train\]"):
        open_sinks(["tensorboard"], tmp_path, 0, {}, "run")
    assert open_sinks(["tensorboard?"], tmp_path, 0, {}, "run") == []
    assert check_sinks(["csv", "tensorboard?", "wandb?"]) == ["csv"]


def test_wandb_gets_the_figures_and_goes_on_with_its_run(tmp_path, monkeypatch):
    """The package is not needed: the four calls that are made of it are recorded."""
    calls = []

    def init(**options):
        calls.append(("init", options["id"], options["resume"], options["name"]))
        return SimpleNamespace(
            id="abc", log=lambda figures, step: calls.append(("log", step, figures)), finish=lambda: calls.append("end")
        )

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    for _ in range(2):
        (sink,) = open_sinks(["wandb"], tmp_path, 0, {"seed": 1}, "run")
        sink.write(5, {"loss": 1.0})
        sink.close()
    assert calls == [
        ("init", None, "allow", "run"),
        ("log", 5, {"loss": 1.0}),
        "end",
        ("init", "abc", "allow", "run"),
        ("log", 5, {"loss": 1.0}),
        "end",
    ]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_files_can_be_read(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trainer = make_trainer(tmp_path, make_recipe(iterations=3), log_to=["tensorboard"])
    trainer.run()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("losses/loss_class")] == [1, 2, 3]
