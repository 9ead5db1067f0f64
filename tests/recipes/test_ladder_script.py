"""`scripts/ladder.py`: every command that it would run is one that `vlpart` understands; its table and its image."""

from __future__ import annotations

import importlib.util
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import pytest
import typer

from vlpart.cli.main import application
from vlpart.recipes import list_recipes

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def understood(arguments: list[str]) -> str:
    """The subcommand, after its options have been parsed."""
    command: Any = typer.main.get_command(application())
    context = command.make_context("vlpart", list(arguments))
    names, rest = [], list(arguments)
    while hasattr(command, "resolve_command"):  # a group
        name, found, rest = command.resolve_command(context, rest)
        assert name is not None and found is not None
        command, context = found, found.make_context(name, list(rest), parent=context)
        names.append(name)
    return " ".join(names)


def test_every_command_is_understood(tmp_path: Path) -> None:
    for folder in ("ade_parts/images", "imagenet_samples/images"):
        (tmp_path / folder).mkdir(parents=True)
    for file in ("ade_parts/train.json", "ade_parts/val.json", "imagenet_samples/image_labels.json"):
        (tmp_path / file).write_text("{}")
    printed = subprocess.run(
        [sys.executable, str(SCRIPTS / "ladder.py"), str(tmp_path), "--dry-run", "--seed", "1", "--rounds", "2"],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    ).stdout.splitlines()
    commands = [shlex.split(line)[1:] for line in printed]
    kinds = [understood(command) for command in commands]
    assert {"train", "parse build", "parse find", "parse find-objects", "evaluate"} == set(kinds)
    trained = {command[1] for command, kind in zip(commands, kinds, strict=True) if kind == "train"}
    assert trained == {name for name in list_recipes() if name.startswith("ladder_")}
    again = [command for command in commands if command[0] == "train" and command[1] == "ladder_parsed"]
    assert [command[command.index("--output") + 1] for command in again] == [
        "runs/ladder_parsed_seed1",
        "runs/ladder_parsed_seed1_round2",
    ]
    assert "--init" not in again[0]
    assert again[1][again[1].index("--init") + 1] == "runs/ladder_parsed_seed1/weights.safetensors"
    assert not (tmp_path / "runs").exists()


@pytest.fixture
def report() -> ModuleType:
    return load("ladder_results")


def test_table_and_chart(report: ModuleType) -> None:
    def scores(*novel: float) -> dict[str, list[tuple[float, float]]]:
        return {"all": [(3.0, 6.0)], "base": [(4.0, 8.0)], "novel": [(value / 2, value) for value in novel]}

    arms = {"(a) base parts": scores(2.0), "(d) <ours>": scores(4.0, 5.0)}
    found = dict.fromkeys(report.RULES, arms)
    rows = [line for line in report.table(found).splitlines() if line.startswith("| (d)")]
    assert rows == ["| (d) <ours> | 3.0 / 6.0 | 4.0 / 8.0 | 2.2 ± 0.4 / 4.5 ± 0.7 |"] * 2
    image = ElementTree.fromstring(report.chart(found))
    texts = [element.text for element in image.iter("{http://www.w3.org/2000/svg}text")]
    assert texts.count("4.5") == 2
    assert texts.count("(d) <ours>") == 1
    bars = [e for e in image.iter("{http://www.w3.org/2000/svg}rect") if e.get("fill") == "#D55E00"]
    assert [float(str(bar.get("width"))) for bar in bars[1:]] == pytest.approx([57.5, 129.4] * 2, abs=0.1)
    lines = {e.get("x2") for e in image.iter("{http://www.w3.org/2000/svg}line") if e.get("stroke") == "#333"}
    assert len(lines) == 2 * 3  # of 4.0 to 5.0 in both panels, and of single seeds


def test_several_seeds_are_compared_with_those_of_the_first_arm(report: ModuleType) -> None:
    def seeds(*values: float) -> dict[str, list[tuple[float, float]]]:
        return {group: [(value, 2 * value) for value in values] for group in ("all", "base", "novel")}

    arms = {"the common start": seeds(1.0), "(a) base parts": seeds(1.0, 3.0), "(b) + objects": seeds(4.0)}
    found = dict.fromkeys(report.RULES, arms)
    assert "change from (a)" not in report.table(found)
    arms["(d) + parsed parts, ours"] = seeds(5.0, 6.0, 7.0)
    lines = report.table(found).splitlines()
    start = lines.index("| all classes: change from (a), ± standard error | all | base | novel |")
    # variances 2 of two and 1 of three seeds: sqrt(2 / 2 + 1 / 3)
    assert lines[start + 2 :] == ["| (d) + parsed parts, ours | " + " | ".join(["+4.0 ± 1.2 / +8.0 ± 2.3"] * 3) + " |"]
