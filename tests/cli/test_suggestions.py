"""What users of other tools type is answered with what it is called here; Tab knows the names."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Run
from vlpart.cli import options
from vlpart.cli.suggestions import COMMANDS, OPTIONS


def words(text: str) -> str:
    return " ".join(text.replace("│", " ").split())


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["predict", "x.jpg", "--conf", "0.3"], "did you mean --threshold?"),
        (["predict", "x.jpg", "--imgsz", "640"], "did you mean --short-side or --max-side?"),
        (["predict", "x.jpg", "--hide-conf"], "did you mean --no-scores?"),
        (["predict", "x.jpg", "--treshold", "0.3"], "did you mean --threshold?"),
        (["train", "tiny", "--max-iter", "3"], "did you mean --iterations?"),
        (["train", "tiny", "--imgsz", "320"], "did you mean --image-size?"),
        (["train", "tiny", "--early-stopping", "3"], "did you mean --patience?"),
        (["evaluate", "tiny", "--dataset", "coco"], "did you mean --data or --on?"),
        (["val"], "did you mean vlpart evaluate?"),
        (["detect", "x.jpg"], "did you mean vlpart predict?"),
        (["convert"], "did you mean vlpart data convert?"),
        (["predikt"], "predict"),
    ],
)
def test_the_name_here_is_suggested(run: Run, arguments: list[str], meant: str) -> None:
    outcome = run(*arguments)
    assert outcome.code == 2
    assert meant in words(outcome.err)


@pytest.mark.parametrize(
    "arguments",
    [
        ["predict", "x.jpg", "--engine", "z"],
        ["predict", "x.jpg", "--precision", "q"],
        ["export", "tiny", "--format", "z"],
        ["parse", "find", "bank", "--min-iou", "x"],
    ],
)
def test_what_is_wrong_with_a_value_is_said_in_plain_words(run: Run, arguments: list[str]) -> None:
    outcome = run(*arguments)
    assert outcome.code == 2
    assert arguments[-2] in outcome.err
    assert "Value error" not in outcome.err


@pytest.mark.parametrize("value", ["²/8", "1/²", f"1/{'9' * 5000}", "9" * 5000])
def test_digits_that_are_no_numbers(run: Run, value: str) -> None:
    outcome = run("predict", "x.jpg", "--shard", value)
    assert outcome.code == 2
    assert "is no share of the images" in words(outcome.err)


def test_what_is_suggested_exists() -> None:
    import typer.main

    from vlpart.cli.main import application

    commands = typer.main.get_command(application()).commands  # type: ignore[attr-defined]
    options = {
        name
        for command in (
            commands["predict"],
            commands["train"],
            commands["evaluate"],
            commands["data"].commands["prepare"],
        )
        for parameter in command.params
        for name in (*parameter.opts, *parameter.secondary_opts)
    }
    assert {COMMANDS[name].split()[0] for name in COMMANDS} <= set(commands)
    for typed, meant in OPTIONS.items():
        assert options & set(meant), typed


def test_completion_knows_models_recipes_formats_and_vocabularies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    (tmp_path / "runs" / "mine" / "recipe.json").write_text("{}")
    assert options.complete_models("ti") == ["tiny"]
    assert options.complete_models("runs/") == ["runs/mine"]
    assert options.complete_recipes("fine") == ["finetune"]
    assert "r50_coco" in options.complete_recipes("r50_c")
    assert options.complete_vocabularies("lv") == ["lvis_paco", "lvis_v1"]
    assert options.complete_formats("c") == ["coco", "crops", "cutouts"]
    assert options.complete_formats("coco,c") == ["coco,crops", "coco,cutouts"]
    assert options.complete_formats("coco,j") == ["coco,json", "coco,jsonl"]


def test_the_commands_offer_them(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import typer.main

    from vlpart.cli.main import application

    commands = typer.main.get_command(application()).commands  # type: ignore[attr-defined]
    for command, parameter in (
        ("predict", "model"),
        ("predict", "vocabulary"),
        ("predict", "formats"),
        ("train", "recipe"),
        ("evaluate", "model"),
    ):
        found = next(each for each in commands[command].params if each.name == parameter)
        assert found.shell_complete(None, "zzz") == []
        assert found.shell_complete(None, "")
