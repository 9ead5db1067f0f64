"""Makes `killable.py`, the small training run that tests import and start as a program, importable; the small data set
and the command in this process that several modules use.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from vlpart.cli.main import main

Command = Callable[..., tuple[int, str, str]]

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The folder of a small data set."""
    from made_up import write_dataset  # importable since the line above

    write_dataset(tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    """Run `vlpart` with arguments in this process: (exit code, standard output, standard error)."""
    monkeypatch.setattr("signal.signal", lambda number, handler: None)
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "0")
    monkeypatch.setenv("GOMP_SPINCOUNT", "1000")
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["vlpart", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return run
