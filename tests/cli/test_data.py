"""`vlpart data`: what is printed, written and returned."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from PIL import Image

from tests.cli.conftest import Run
from tests.data.prepare.conftest import voc_xml, write_image, write_list


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """VOC2007 with two train images."""
    folder = tmp_path / "VOC2007"
    (folder / "Annotations").mkdir(parents=True)
    for stem in ("000001", "000002"):
        (folder / "Annotations" / f"{stem}.xml").write_text(voc_xml([("dog", (3, 3, 20, 15), 0)]))
        write_image(folder / "JPEGImages" / f"{stem}.jpg")
    write_list(folder / "ImageSets" / "Main" / "train.txt", ["000001", "000002"])
    return tmp_path


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """A sound data set of one image."""
    folder = tmp_path / "own"
    (folder / "images").mkdir(parents=True)
    Image.new("RGB", (60, 40), (80, 80, 80)).save(folder / "images" / "a.jpg")
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "height": 40, "width": 60}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [5, 5, 20, 20]}],
        "categories": [{"id": 1, "name": "dog"}],
    }
    (folder / "train.json").write_text(json.dumps(content))
    return folder


def test_list(run: Run) -> None:
    outcome = run("data", "list")
    assert (outcome.code, outcome.err) == (0, "")
    assert len(outcome.out.splitlines()) == 12
    assert outcome.out.startswith("data set\tgives\tROOT holds\toffered at\n")
    assert "pascal_part_one\t" in outcome.out


def test_prepare(run: Run, voc: Path) -> None:
    outcome = run("data", "prepare", "voc", voc, "--processes", "1", "--no-progress")
    assert (outcome.code, outcome.err) == (0, "")
    assert f"{voc / 'voc_2007_train.json'}: 2 images, 2 annotations" in outcome.out


def test_prepare_lists_problems_and_returns_1(run: Run, voc: Path, tmp_path: Path) -> None:
    (voc / "VOC2007" / "Annotations" / "000002.xml").unlink()
    outcome = run("data", "prepare", "voc", voc, "--output", tmp_path / "out", "--processes", "1")
    assert outcome.code == 1
    assert "1 problems" in outcome.out
    assert "000002.xml" in outcome.out
    assert (tmp_path / "out" / "voc.problems.txt").is_file()
    assert (tmp_path / "out" / "voc_2007_train.json").is_file()


def test_prepare_of_something_unknown(run: Run, tmp_path: Path) -> None:
    outcome = run("data", "prepare", "ade20k", tmp_path)
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err.startswith("error: unknown data set 'ade20k'; known: pascal_part,")


def test_check(run: Run, coco: Path) -> None:
    outcome = run("data", "check", coco, "--processes", "1")
    assert (outcome.code, outcome.err) == (0, "")
    assert "1 images, 1 annotations, 1 classes" in outcome.out
    assert outcome.out.endswith("nothing was found wrong\n")


def test_check_finds_errors_and_writes_a_page(run: Run, coco: Path, tmp_path: Path) -> None:
    content = json.loads((coco / "train.json").read_text())
    content["annotations"][0]["bbox"] = [50, 5, 90, 20]
    (coco / "train.json").write_text(json.dumps(content))
    page = tmp_path / "page.html"
    outcome = run("data", "check", coco / "train.json", "--images", coco / "images", "--page", "-o", page)
    assert outcome.code == 1
    assert "error: train.json: 1 x boxes reach out" in outcome.out
    assert "1 errors, 0 warnings" in outcome.out
    assert "data:image/jpeg" in page.read_text()


def test_strict_and_json(run: Run, coco: Path) -> None:
    content = json.loads((coco / "train.json").read_text())
    content["categories"].append({"id": 2, "name": "cat"})
    (coco / "train.json").write_text(json.dumps(content))
    assert run("data", "check", coco).code == 0
    outcome = run("data", "check", coco, "--strict", "--json", "--decode")
    assert outcome.code == 1
    assert json.loads(outcome.out)["findings"][0]["kind"] == "class-without-annotations"


def documented() -> list[str]:
    """Every `vlpart data` command in docs/data.md."""
    text = (Path(__file__).resolve().parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```bash\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def test_the_document_shows_every_data_set() -> None:
    from vlpart.data.prepare import DATASETS

    assert {line.split()[3] for line in documented() if line.startswith("vlpart data prepare")} == set(DATASETS)


@pytest.mark.parametrize("line", documented())
def test_documented_commands_are_understood(line: str) -> None:
    """The line is parsed as the shell would hand it over, down to its last option, without running it."""
    import click
    import typer

    from vlpart.cli.main import application

    _, *words = shlex.split(line)
    command: click.Command = typer.main.get_command(application())
    context = click.Context(command)
    while hasattr(command, "get_command"):
        name, *words = words
        found = command.get_command(context, name)
        assert found is not None, name
        command = found
    command.make_context("vlpart", words)
