"""docs/reproduce.md: its tables are those of the recipes, its commands are understood."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
from pathlib import Path

import pytest

from tests.recipes.test_ladder_script import understood
from vlpart.names import config_name
from vlpart.recipes import get_recipe, list_recipes
from vlpart.recipes.parser import ALIASES, BANKS, FINDS, get_bank_recipe, get_find_recipe

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "reproduce.md").read_text(encoding="utf-8")


def commands() -> list[list[str]]:
    blocks = re.findall(r"^```bash\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
    return [shlex.split(line) for block in blocks for line in block.splitlines()]


def test_the_tables_are_those_of_the_recipes() -> None:
    spec = importlib.util.spec_from_file_location("reproduce_tables", ROOT / "scripts" / "reproduce_tables.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    lines = [line for line in module.lines() if line]
    assert len(lines) > 70
    assert [line for line in lines if line not in PAGE.splitlines()] == []


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_commands_are_understood(words: list[str]) -> None:
    start = words.index("vlpart")
    assert words[:start] in ([], ["torchrun", "--nproc-per-node", "8", "-m"])
    assert understood(words[start + 1 :])


def test_every_configuration_of_the_zoo_page_is_on_it_and_is_a_recipe(shared: Path) -> None:
    results = json.loads((shared / "facts" / "published_results.json").read_text())
    facts = json.loads((shared / "facts" / "recipes.json").read_text())
    paths = {row["config"] for row in results if "config" in row}
    paths |= {f"configs/{row['family']}/{row['name']}.yaml" for row in facts}
    assert [path for path in sorted(paths) if f"`{path}`" not in PAGE] == []
    for path in paths:
        if "annotation_parser" not in path:
            assert get_recipe(path, Path("d")).name == config_name(path)
        elif "build" in path:
            assert get_bank_recipe(path) in BANKS.values()
        else:
            assert get_find_recipe(path).name in FINDS
    assert set(ALIASES) == {config_name(path) for path in paths if "annotation_parser" in path}
    for row in results:
        if "checkpoint" in row and row.get("kind") == "parsed annotations":
            assert row["checkpoint"] in PAGE


def test_yaml_paths_give_the_same_recipe() -> None:
    for name in list_recipes():
        assert get_recipe(f"some/where/{name}.yaml", Path("d")) == get_recipe(name, Path("d"))
