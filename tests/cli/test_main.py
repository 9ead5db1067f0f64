"""What all commands share: help, version, wrong usage, errors, pipes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

import vlpart
from tests.cli.conftest import Run
from tests.conftest import Command
from vlpart import SPIN
from vlpart.cli.main import application


def test_help_names_every_command(run: Run) -> None:
    outcome = run("--help")
    assert outcome.code == 0
    for command in ("predict", "models", "vocabularies", "evaluate", "train", "doctor"):
        assert f" {command} " in outcome.out


def test_help_does_not_import_torch() -> None:
    script = (
        "import sys; from vlpart.cli.main import main\n"
        "sys.argv = ['vlpart', '--help']\n"
        "try: main()\n"
        "except SystemExit: print([m for m in ('torch', 'torchvision', 'timm', 'numpy', 'PIL') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("command", "given", "spin"),
    [
        ("doctor", {}, SPIN),
        ("doctor", {"OMP_WAIT_POLICY": "ACTIVE"}, "-"),
        ("doctor", {"GOMP_SPINCOUNT": "7"}, "7"),
        ("train", {}, SPIN),
        ("train", {"OMP_WAIT_POLICY": "PASSIVE"}, "-"),
    ],
)
def test_threads_spin_briefly_unless_the_user_says_otherwise(command: str, given: dict[str, str], spin: str) -> None:
    script = (
        "import os, sys; from vlpart.cli.main import main\n"
        f"sys.argv = ['vlpart', {command!r}, '--help']\n"
        "try: main()\n"
        "except SystemExit: print(os.environ.get('GOMP_SPINCOUNT', '-'))"
    )
    others = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120, env=others | given
    )
    assert done.stdout.splitlines()[-1] == spin


@pytest.mark.parametrize(
    ("before", "given", "spin"),
    [("", {}, SPIN), ("", {"OMP_WAIT_POLICY": "PASSIVE"}, "-"), ("sys.modules['torch'] = sys; ", {}, "-")],
)
def test_so_they_do_for_who_imports_the_package_before_torch(before: str, given: dict[str, str], spin: str) -> None:
    script = f"import os, sys; {before}import vlpart; print(os.environ.get('GOMP_SPINCOUNT', '-'))"
    others = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120, env=others | given
    )
    assert done.stdout.splitlines() == [spin]


def test_a_command_is_the_same_with_and_without_the_others() -> None:
    def of(group: Any) -> dict[str, Any]:
        return {
            name: of(each) if hasattr(each, "commands") else [p.opts for p in each.params]
            for name, each in group.commands.items()
        }

    every = of(typer.main.get_command(application()))
    assert set(every) > {"predict", "parse", "data", "train"}
    for name, options in every.items():
        assert of(typer.main.get_command(application(name))) == {name: options}


@pytest.mark.parametrize(
    "arguments", [["predict"], ["models"], ["models", "show"], ["vocabularies"], ["doctor"], ["train"]]
)
def test_every_command_has_help(run: Run, arguments: list[str]) -> None:
    outcome = run(*arguments, "--help")
    assert (outcome.code, outcome.err) == (0, "")
    assert "Usage: vlpart" in outcome.out


def test_version(run: Run) -> None:
    assert run("--version").out == f"vlpart {vlpart.__version__}\n"


def test_the_module_runs_as_the_command(run_process: Run) -> None:
    assert run_process("--version").out == f"vlpart {vlpart.__version__}\n"


def test_a_misspelt_command_or_option_is_wrong_usage_with_a_suggestion(run: Run) -> None:
    outcome = run("predcit", "photo.jpg")
    assert (outcome.code, "predict" in outcome.err) == (2, True)
    outcome = run("predict", "photo.jpg", "--vocabluary", "car")
    assert (outcome.code, "--vocabulary" in outcome.err) == (2, True)


def test_an_error_is_one_line_without_traceback(run: Run) -> None:
    outcome = run("models", "show", "r50_pascalprat")
    assert outcome.code == 1
    assert outcome.err.startswith("error: ")
    assert "r50_pascalpart" in outcome.err
    assert outcome.err.count("\n") == 1


def test_an_error_of_our_own_is_one_line_and_tells_how_to_see_more(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> tuple[()]:
        raise RuntimeError("first line\nsecond line")

    monkeypatch.setattr("vlpart.zoo.catalogue.list_models", broken)
    outcome = run("models", "list")
    assert outcome.code == 1
    assert outcome.err == ("error: RuntimeError: first line second line (run `vlpart --debug ...` to see where)\n")


def test_debug_shows_the_traceback(run_process: Run) -> None:
    outcome = run_process("--debug", "models", "show", "nothing")
    assert outcome.code == 1
    assert "Traceback" in outcome.err
    assert "ModelNotFoundError" in outcome.err


def test_an_interrupted_command_says_so(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> tuple[()]:
        raise KeyboardInterrupt

    monkeypatch.setattr("vlpart.zoo.catalogue.list_models", interrupted)
    outcome = run("models", "list")
    assert (outcome.code, outcome.err) == (130, "error: interrupted\n")


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell with pipes")
def test_a_reader_that_leaves_early_is_no_error(tmp_path: Path) -> None:
    command = f"'{sys.executable}' -m vlpart vocabularies show lvis_v1 | head -n 1"
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == ""


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
@pytest.mark.parametrize("arguments", [("export", "tiny", "--int8", "--calibrate"), ("serve", "--images")])
@pytest.mark.parametrize("kind", ["pipe", "file", "nothing"])
def test_what_is_no_folder_is_refused_before_any_work(
    command: Command, tmp_path: Path, arguments: tuple[str, ...], kind: str
) -> None:
    path = tmp_path / kind
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "file":
        path.touch()
    outcome = command(*arguments, path)
    assert outcome.code == 2
    assert "is not a folder" in " ".join(outcome.err.split())
