"""Recipes as Python files, and the `recipes` commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from vlpart.cli import recipes
from vlpart.errors import OutputError, TrainingError
from vlpart.recipes import get_recipe, list_recipes
from vlpart.recipes.files import to_python

ROOT = Path("datasets")


@pytest.fixture
def call():
    app = typer.Typer()
    app.callback()(lambda: None)
    recipes.register(app)

    def run(*arguments):
        return CliRunner().invoke(app, ["recipes", *map(str, arguments)], catch_exceptions=False).output

    return run


@pytest.mark.parametrize("name", list_recipes())
def test_an_exported_recipe_is_the_same(tmp_path: Path, name: str) -> None:
    recipe = get_recipe(name, ROOT)
    path = tmp_path / "mine.py"
    path.write_text(to_python(recipe, ROOT))
    assert get_recipe(str(path), ROOT) == recipe
    elsewhere = get_recipe(str(path), Path("/data"))
    assert Path(elsewhere.sources[0].annotations).is_relative_to("/data")


def test_changed_by_hand(tmp_path: Path, call) -> None:
    path = tmp_path / "mine.py"
    call("export", "r50_pascalpart", "--output", path)
    path.write_text(path.read_text().replace("learning_rate=5e-05", "learning_rate=0.5"))
    assert get_recipe(str(path), ROOT).learning_rate == 0.5
    with pytest.raises(OutputError, match="exists"):
        call("export", "tiny", "--output", path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("def recipe(root):\n    return 3\n", "gives a int"),
        ("recipe = None\n", "TypeError"),
        ("x = 1 / 0\n", "ZeroDivisionError"),
        ("", "AttributeError"),
    ],
)
def test_files_that_are_no_recipes(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "wrong.py"
    path.write_text(content)
    with pytest.raises(TrainingError, match=message):
        get_recipe(str(path), ROOT)
    with pytest.raises(TrainingError, match="vlpart recipes export"):
        get_recipe(str(tmp_path / "none.py"), ROOT)


def test_list_show_export(call) -> None:
    lines = call("list").splitlines()
    assert [line.split("\t")[0] for line in lines] == ["name", *list_recipes(), "finetune"]
    text = call("show", "r50_lvis_paco")
    for part in ("Command: `vlpart train r50_lvis_paco`", "source paco_lvis_v1_train", "repeat 0.001", "180000"):
        assert part in text
    assert json.loads(call("show", "tiny", "--json"))["name"] == "tiny"
    assert 'name="r50_coco"' in call("export", "r50_coco")
    with pytest.raises(TrainingError, match="r50_pascalpart"):
        call("show", "r50_pascal_part")
