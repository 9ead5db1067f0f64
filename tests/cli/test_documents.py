"""Every `vlpart` command and every block of Python in the documents runs as printed."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.fakes import FakePredictor

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = ("README.md", "docs/inference.md", "docs/models.md")


def blocks(document: str, language: str) -> list[str]:
    text = (ROOT / document).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def commands(*first: str) -> list[str]:
    lines = (line for document in DOCUMENTS for block in blocks(document, "bash") for line in block.splitlines())
    return sorted({line for line in lines if shlex.split(line)[: len(first) + 1] == ["vlpart", *first]})


@pytest.fixture
def folder(photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the documents speak of, and the current one."""
    run = tmp_path / "runs" / "finetune"
    run.mkdir(parents=True)
    recipe = {"name": "finetune", "architecture": "tiny", "text_encoder": "static", "score_threshold": 0.05}
    (run / "recipe.json").write_text(json.dumps(recipe | {"detections_per_image": 100}))
    (run / "vocabulary.json").write_text(json.dumps(["car", "car:wheel"]))
    (run / "weights.safetensors").touch()
    (tmp_path / "photos" / "more").mkdir(parents=True)
    shutil.copy(photo, tmp_path / "photos" / "more" / "a.jpg")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_there_is_something_to_test() -> None:
    assert "vlpart predict photo.jpg" in commands("predict")
    assert all(blocks(document, "bash") for document in ("README.md", "docs/inference.md"))


@pytest.mark.parametrize("line", commands("predict"))
def test_predict(run: Run, fake_predictor: FakePredictor, folder: Path, line: str) -> None:
    outcome = run(*shlex.split(line)[1:])
    assert (outcome.code, outcome.err) == (0, "")


@pytest.mark.parametrize("line", [*commands("models", "list"), *commands("models", "show"), *commands("vocabularies")])
def test_list_and_show(run: Run, line: str) -> None:
    outcome = run(*shlex.split(line)[1:])
    assert (outcome.code, outcome.err) == (0, "")


@pytest.mark.network
@pytest.mark.parametrize("line", commands("models", "download"))
def test_download(run: Run, line: str) -> None:
    assert run(*shlex.split(line)[1:]).code == 0


def test_the_first_command_with_the_embedded_model(run: Run, tiny_weights: Path, folder: Path) -> None:
    assert run("predict", "photo.jpg").code == 0
    assert sorted(path.name for path in (folder / "vlpart-results").iterdir()) == [
        "photo_parts.jpg",
        "photo_parts.json",
    ]


@pytest.mark.parametrize("document", ["README.md", "docs/inference.md"])
def test_python(tiny_weights: Path, folder: Path, document: str) -> None:
    for block in blocks(document, "python"):
        exec(compile(block, document, "exec"), {})
    assert (folder / "photo_parts.jpg").is_file()
