"""Makes `killable.py`, the small training run that tests import and start as a program, importable; the small data set
and the command in this process that several modules use.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.conftest import Command

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def small_architecture(monkeypatch: pytest.MonkeyPatch) -> None:
    """The small detector is known while a test of this folder runs."""
    import made_up

    from vlpart.models.config import ARCHITECTURES
    from vlpart.zoo.catalogue import TEXT_ENCODERS

    monkeypatch.setitem(ARCHITECTURES, made_up.ARCHITECTURE, made_up.narrow())
    monkeypatch.setitem(TEXT_ENCODERS, made_up.ARCHITECTURE, "static")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The folder of a small data set."""
    from made_up import write_dataset  # importable since the line above

    write_dataset(tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def command(command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """Run `vlpart` with arguments in this process, in a folder of the test."""
    monkeypatch.chdir(tmp_path)
    return command
