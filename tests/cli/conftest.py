"""Running the command, in this process or in its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.conftest import Command, Outcome
from tests.fakes import FakePredictor

Run = Command


@pytest.fixture
def run(command: Command) -> Run:
    """Run `vlpart` with arguments in this process."""
    return command


@pytest.fixture
def run_process(tmp_path: Path) -> Run:
    """Run `python -m vlpart` with arguments in a process of its own, outside the checkout."""

    def command(*arguments: str | Path) -> Outcome:
        done = subprocess.run(
            [sys.executable, "-m", "vlpart", *map(str, arguments)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    return command


@pytest.fixture
def fake_predictor(monkeypatch: pytest.MonkeyPatch) -> FakePredictor:
    """What `vlpart.load` gives in this test; `loaded` holds the arguments, `fetched` what was downloaded."""
    predictor = FakePredictor()
    module = ModuleType("vlpart.inference.predictor")

    def load(*arguments: object, **options: object) -> FakePredictor:
        predictor.loaded = (arguments, options)
        return predictor

    module.load = load  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vlpart.inference.predictor", module)
    monkeypatch.setattr("vlpart.zoo.resolve.download_model", lambda name, progress: predictor.fetched.append(name))
    return predictor
