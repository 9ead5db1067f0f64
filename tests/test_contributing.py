"""The examples of CONTRIBUTING.md work, and its commands are those of the CI script."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

import vlpart
from vlpart.recipes.files import load_recipe_file

ROOT = Path(__file__).resolve().parent.parent
GUIDE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def examples() -> dict[str, str]:
    """The block of Python below each heading that has one."""
    sections = re.split(r"^## ", GUIDE, flags=re.MULTILINE)[1:]
    found = {
        s.splitlines()[0]: re.findall(r"^```python\n(.*?)^```", s, flags=re.MULTILINE | re.DOTALL) for s in sections
    }
    return {title: "\n".join(blocks) for title, blocks in found.items() if blocks}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """photo.jpg, and my_set: two images with a car and its wheel each."""
    photo = Path(vlpart.__file__).parent / "assets" / "samples" / "astronaut.jpg"
    images = tmp_path / "my_set" / "images"
    images.mkdir(parents=True)
    shutil.copy(photo, tmp_path / "photo.jpg")
    boxes = ((1, [100, 100, 300, 200]), (2, [120, 220, 60, 60]))
    for split, name in (("train", "a"), ("val", "b")):
        shutil.copy(photo, images / f"{name}.jpg")
        data = {
            "images": [{"id": 1, "file_name": f"{name}.jpg", "width": 512, "height": 512}],
            "categories": [{"id": 1, "name": "car"}, {"id": 2, "name": "car:wheel"}],
            "annotations": [
                {"id": i, "image_id": 1, "category_id": i, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
                for i, box in boxes
            ],
        }
        (tmp_path / "my_set" / f"{split}.json").write_text(json.dumps(data))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_there_is_an_example_of_each_kind() -> None:
    assert list(examples()) == ["Add a dataset", "Add a model", "Add a format", "Add a recipe"]


@pytest.mark.parametrize("title", ["Add a dataset", "Add a model", "Add a format"])
def test_example(title: str, folder: Path, tiny_weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(examples()[title], title, "exec"), {})
    if title == "Add a dataset":
        assert "my_set: 1 images, 2 annotations" in capsys.readouterr().out


def test_example_of_a_recipe(folder: Path, tiny_weights: Path) -> None:
    file = folder / "my_recipe.py"
    file.write_text(examples()["Add a recipe"])
    recipe = load_recipe_file(file, folder / "my_set")
    assert (recipe.name, recipe.iterations) == ("my_recipe", 500)
    assert recipe.sources[0].name == "my_set"


def test_files_that_the_guide_names_exist() -> None:
    named = {
        name for name in re.findall(r"`([\w./]+/[\w./]*)`", GUIDE) if name.split("/")[0] in ("vlpart", "tests", ".ci")
    }
    assert len(named) > 8
    assert not [name for name in named if not (ROOT / name).exists()]


def test_the_commands_of_the_guide_are_those_of_ci() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    for command in ("pytest -n 2", "mypy", "zensical build --clean --strict"):
        assert command in GUIDE.splitlines() and command in script
