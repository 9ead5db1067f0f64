from __future__ import annotations

import json

import pytest

from tests.cli.conftest import Run
from vlpart.cli import benchmark
from vlpart.cli.benchmark import Row


def test_every_row_is_measured(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "_PHOTOS", ((64, 48),))
    monkeypatch.setattr(benchmark, "_SHARES", (0.25,))
    monkeypatch.setattr(benchmark, "_NAMES", (1, 3))
    monkeypatch.setattr(benchmark, "_BATCH", 1)
    monkeypatch.setattr(benchmark, "_cold", lambda model, device: Row("vlpart predict, cold", 1.0, 1.0, 100.0))
    outcome = run("benchmark", "--runs", "1", "--device", "cpu", "--json")
    assert outcome.code == 0, outcome.err
    report = json.loads(outcome.out)
    assert set(report["machine"]) == {"processor", "threads", "bf16 instructions", "device", "torch"}
    what = [row["what"] for row in report["rows"]]
    assert [name.split(", ")[0] for name in what[:2]] == ["vlpart predict", "photo of 64x48"]
    assert {"photo, 1 names", "photo, 3 names", "photo, float32", "training step, 1 images, float32"} <= set(what)
    assert all(row["seconds"] > 0 and row["cpu_seconds"] > 0 for row in report["rows"])


def test_an_unknown_model_is_one_line(run: Run) -> None:
    outcome = run("benchmark", "no_such_model")
    assert outcome.code == 1
    assert "no_such_model" in outcome.err


def test_the_fastest_precision_is_named() -> None:
    rows = [Row("photo, float32", 3.0, 3.0), Row("photo, bf16", 1.0, 1.0), Row("photo, 10 names", 0.1, 0.1)]
    assert benchmark._fastest("photo", rows) == "photo: bf16 is fastest, 3.00 times as fast as the other precision"
    assert benchmark._fastest("photo", rows[:1]).startswith("photo: float32 (no instructions for bf16")
