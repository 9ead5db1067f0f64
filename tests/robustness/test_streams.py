"""Standard streams that are closed, full or without a reader, and a working folder that is gone: every command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.robustness.streams import COMMANDS, sweep

pytestmark = [
    pytest.mark.skipif(os.name == "nt" or not Path("/dev/full").exists(), reason="needs /dev/full"),
    pytest.mark.timeout(1200),
]

QUICK = ("", "vocabularies show", "data convert")
"""In every run of the tests, in one process; the others take minutes."""


def commands_of(group: Any, name: str = "") -> list[str]:
    """Every command of the command line, by its words."""
    if not hasattr(group, "commands"):
        return [name]
    return [each for word, inner in group.commands.items() for each in commands_of(inner, f"{name} {word}".strip())]


def test_every_command_is_tried() -> None:
    import typer

    from vlpart.cli.main import application

    known = commands_of(typer.main.get_command(application()))
    tried = [" ".join(arguments) for arguments, _ in COMMANDS.values()]
    assert len(known) > 25
    assert [name for name in known if not any(line.startswith(name) for line in tried)] == []


def test_quick_commands_in_every_state() -> None:
    pytest.importorskip("hotcoco")
    assert sweep(*QUICK) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in QUICK])
def test_commands_in_every_state(name: str) -> None:
    for needed in {"bulk": ("pyarrow",), "serve": ("fastapi", "uvicorn")}.get(name, ()):
        pytest.importorskip(needed)
    assert sweep(name) == []


@pytest.mark.parametrize(
    ("redirection", "said"),
    [(">/dev/full", "No space left"), (">&-", ""), ("| head -c 1 >/dev/null", ""), ("<&- >&- 2>&-", "")],
)
def test_the_end_of_a_process(redirection: str, said: str, tmp_path: Path) -> None:
    """What Python does with the streams when it ends is the last thing that could be told badly."""
    line = f'"$0" -m vlpart vocabularies show lvis_v1 {redirection}'
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    done = subprocess.run(
        ["sh", "-c", line, sys.executable],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == bool(said), done.stderr
