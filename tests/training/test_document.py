"""Commands in docs/training.md: those that only read run, those that train have options that exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer

from vlpart.cli.main import application

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "training.md"
BLOCKS = re.findall(r"^```bash\n(.*?)^```", DOCUMENT.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
LINES = [shlex.split(line)[:] for block in BLOCKS for line in block.splitlines()]
RECIPES = [line[1:] for line in LINES if line[:2] == ["vlpart", "recipes"]]
TRAINING = [line[line.index("train") + 1 :] for line in LINES if "train" in line]


@pytest.mark.parametrize("arguments", RECIPES, ids=" ".join)
def test_commands_that_read(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        typer.main.get_command(application())(arguments, prog_name="vlpart")
    assert ended.value.code == 0 and capsys.readouterr().out


@pytest.mark.parametrize("arguments", TRAINING, ids=" ".join)
def test_commands_that_train(arguments):
    group = typer.main.get_command(application())
    context = group.make_context("vlpart", ["train", *arguments])
    command = group.get_command(context, "train")
    assert command.make_context("train", list(arguments), parent=context).params["recipe"] == arguments[0]


def test_there_are_both():
    assert len(RECIPES) >= 3 and len(TRAINING) >= 6
