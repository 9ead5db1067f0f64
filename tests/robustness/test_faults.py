"""Odd names, streams that are closed or full, neighbours, and values of the wrong kind: one typed line each."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from vlpart.annotation_parser.bank import HEADER, INDEX, RECORDS, TOKENS, ReferenceBank
from vlpart.cli import main
from vlpart.data import image_files
from vlpart.data.image_files import list_images
from vlpart.errors import DataError, ImageError, TrainingError, VlpartError, WeightsError
from vlpart.inference.batch import predict_to_folder
from vlpart.inference.predictor import load
from vlpart.names import printable
from vlpart.recipes.files import load_recipe_file
from vlpart.results.result import Result
from vlpart.runtime import choose_device, process_group
from vlpart.signals import StopRequest, exit_code
from vlpart.training.checkpoint import load_checkpoint, save_checkpoint
from vlpart.training.logging import CsvSink, read_log
from vlpart.training.loop import run_lock
from vlpart.zoo.run_folder import open_run
from vlpart.zoo.weights import load_state_dict

REPOSITORY = Path(__file__).resolve().parents[2]
posix = pytest.mark.skipif(os.name == "nt", reason="POSIX only")


def command(script: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """Run a shell script in which $V is the vlpart command."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "V": f"{sys.executable} -m vlpart"}
    return subprocess.run(
        ["sh", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


# ---- terminal


@posix
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_streams_that_are_full_or_closed_and_a_folder_that_is_gone(tmp_path: Path) -> None:
    full = command("$V models list > /dev/full; echo $?; $V models list > /dev/full 2> /dev/full; echo $?", tmp_path)
    assert full.stdout.split() == ["1", "1"]
    assert full.stderr.count("\n") == 1
    assert "No space left" in full.stderr
    closed = command("$V models list >&-; $V models list 2>&-; $V models show nosuch 2>&- <&-; echo $?", tmp_path)
    assert "tiny\t" in closed.stdout
    assert closed.stdout.endswith("1\n")
    assert closed.stderr == ""
    gone = command("mkdir gone; cd gone; rmdir ../gone; $V models list", tmp_path)
    assert gone.returncode == 1
    assert gone.stderr == "error: the working folder is gone: change to another one\n"


@posix
def test_control_sequences_are_shown_escaped(tmp_path: Path) -> None:
    names = ["a\x1b[31mb", "a\x07b", "a\u202eb"]
    lines = [f"$V models show '{name}'" for name in names] + [f"$V predict x.jpg -v '{names[0]}.txt'"]
    done = command("; ".join(lines), tmp_path)
    errors = done.stderr.splitlines()
    assert len(errors) == 4
    for name, error in zip([*names, names[0]], errors, strict=True):
        assert error.startswith("error: ")
        assert name[1] not in error
        assert name[1].encode("unicode_escape").decode() in error


WORD = "e\x1b[31mv\x07i\u202el\x9b\x08"


@pytest.mark.parametrize(
    "arguments",
    [
        ["models", f"--{WORD}"],
        [f"--{WORD}"],
        [WORD],
        ["data", WORD],
        ["models", "list", WORD],
        ["predict", "a.jpg", "--shard", WORD],
        ["predict", "a.jpg", "--size", WORD],
        ["annotate", "a.jpg", "-o", "b", "--to", WORD],
        ["annotate", "a.jpg", "-o", "b", "--top", WORD],
        ["bulk", "a", "b", "--workers", WORD],
        ["export", "tiny", "--calibrate", WORD, "--int8"],
        ["serve", "--images", WORD],
        ["train", "tiny", "--data", "a", "--batch-size", WORD],
        ["train", "tiny", "--data", "a", "--set", WORD],
    ],
    ids=lambda arguments: " ".join(arguments).replace(WORD, "WORD"),
)
def test_wrong_usage_is_shown_escaped(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(main, "_prepare_streams", lambda: None)
    monkeypatch.setattr(main, "_quiet_libraries", lambda: None)
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)
    monkeypatch.setattr(sys, "argv", ["vlpart", *arguments])
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code in (1, 2)
    said = "".join(capfd.readouterr())
    assert "Error" in said or "error" in said
    assert printable(said, lines=True) == said


@posix
def test_a_terminal_that_is_closed_stops_what_does_not_ignore_it() -> None:
    before = signal.getsignal(signal.SIGHUP)
    try:
        for ignored, reason in ((signal.SIG_IGN, None), (signal.SIG_DFL, "SIGHUP")):
            signal.signal(signal.SIGHUP, ignored)
            with StopRequest() as stop:
                signal.raise_signal(signal.SIGHUP)
            assert stop.reason == reason
            assert signal.getsignal(signal.SIGHUP) == ignored
    finally:
        signal.signal(signal.SIGHUP, before)
    assert exit_code("SIGHUP") == 129


def test_too_little_memory_is_no_damage_of_the_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import safetensors.torch

    def short(path: Path) -> None:
        raise RuntimeError(f"unable to mmap 18241232 bytes from file <{path}>: Cannot allocate memory (12)")

    safetensors.torch.save_file({"a": torch.ones(2)}, tmp_path / "a.safetensors")
    monkeypatch.setattr(safetensors.torch, "load_file", short)
    with pytest.raises(WeightsError, match="not enough memory"):
        load_state_dict(tmp_path / "a.safetensors")


# ---- names


@posix
def test_odd_names_are_one_line_each_and_the_rest_goes_on(tmp_path: Path) -> None:
    folder, output = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(tmp_path / "good.png")
    data = (tmp_path / "good.png").read_bytes()
    for name in (b"good.png", b"bad\xff.png", b"..png", b"\x1b[31m.png", b"new\nline.png"):
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(data)
    (folder / "loop.png").symlink_to("loop.png")
    os.mkfifo(folder / "pipe.png")
    (folder / "photo.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    skipped: dict[str, str] = {}
    summary = predict_to_folder(
        load("tiny"),
        [str(folder), str(folder / "..png"), "http://[bad/x.png", "http://u:geheim@127.0.0.1:9/y.png"],
        output=output,
        formats=("json", "coco", "yolo", "labelme"),
        on_failure=lambda image, error: skipped.update({image: str(error)}),
    )
    assert summary.finished == 5
    assert summary.failed == len(skipped) == 5
    assert not any("\n" in message or "geheim" in f"{image}{message}" for image, message in skipped.items())
    assert len(json.loads((output / "coco.json").read_text())["images"]) == 5


def test_a_folder_that_cannot_be_listed_is_told_and_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a/1.png", "b/2.png", "c/3.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    scandir = os.scandir

    def refusing(path: Any) -> Any:
        if not isinstance(path, int) and Path(path).name == "b":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(image_files.os, "scandir", refusing)
    told: list[ImageError] = []
    found = [Path(image).name for image in list_images(tmp_path, recursive=True, on_unlisted=told.append)]
    assert found == ["1.png", "3.png"]
    assert len(told) == 1
    assert "cannot list" in str(told[0])
    with pytest.raises(ImageError, match="cannot list"):
        list(list_images(tmp_path, recursive=True))


def test_folders_may_be_deep(tmp_path: Path) -> None:
    """Deeper than Python may call itself; taken away again, since pytest's own cleaning cannot."""
    made = [tmp_path]
    (tmp_path / "x.png").touch()
    try:
        for _ in range(1200):
            (made[-1] / "d").mkdir()
            made.append(made[-1] / "d")
        assert list(list_images(tmp_path, recursive=True)) == [tmp_path / "x.png"]
    finally:
        for folder in reversed(made[1:]):
            folder.rmdir()


# ---- neighbours


def test_a_run_folder_belongs_to_one_training(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with run_lock(run):
        with pytest.raises(TrainingError, match="another training is running"), run_lock(run):
            pass
        (run / "recipe.json").touch()
    with run_lock(run):
        pass
    with run_lock(tmp_path / "other"):
        pass
    assert not (tmp_path / "other").exists()


@posix
def test_the_lock_of_a_killed_training_is_free(tmp_path: Path) -> None:
    script = "import os, sys; from pathlib import Path; from vlpart.training.loop import run_lock\n"
    script += "lock = run_lock(Path(sys.argv[1])); lock.__enter__(); os.kill(os.getpid(), 9)"
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "run")], env=environment, timeout=120, check=False)
    assert (tmp_path / "run" / ".lock").exists()
    with run_lock(tmp_path / "run"):
        pass


# ---- typed errors


@pytest.mark.parametrize("ending", ["raise SystemExit(3)", "import sys; sys.exit('bye')", "exit()", "1 / 0"])
def test_a_recipe_file_that_exits_is_a_typed_error(ending: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(f"def recipe(root):\n    {ending}\n")
    with pytest.raises(TrainingError, match="fails"):
        load_recipe_file(path, tmp_path)


@pytest.mark.parametrize("device", ["", "cpu:-3", "nosuch", "meta", "cuda:99999999999999999999", "cpu\x1b", "a" * 500])
def test_device_names(device: str) -> None:
    with pytest.raises(VlpartError) as caught:
        choose_device(device)
    assert "\n" not in str(caught.value)


def test_variables_of_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "two")
    with pytest.raises(VlpartError, match="WORLD_SIZE"), process_group():
        pass


@pytest.mark.parametrize(
    "change",
    [
        {"architecture": ["tiny"]},
        {"score_threshold": "high"},
        {"score_threshold": float("nan")},
        {"detections_per_image": 1.5},
        {"inference_vocabulary": {}},
        {"initial_share": 2},
    ],
)
def test_recipes_of_run_folders(change: dict[str, object], tmp_path: Path) -> None:
    recipe = {"architecture": "tiny", "text_encoder": "static", "name": "x", "score_threshold": 0.5}
    (tmp_path / "recipe.json").write_text(json.dumps({**recipe, "detections_per_image": 10, **change}))
    with pytest.raises(WeightsError, match=next(iter(change))):
        open_run(tmp_path)


@pytest.mark.parametrize("change", [{"model": [1]}, {"model": {"a": 1}}, {"ranks": [3]}, {"step": "1"}, {"ema": 5}])
def test_checkpoints_of_wrong_values(change: dict[str, object], tmp_path: Path) -> None:
    good = {"recipe": {}, "model": {"a": torch.ones(1)}, "optimizer": {}, "ranks": [], "ema": None, "metrics": {}}
    path = save_checkpoint(tmp_path, 1, good)
    load_checkpoint(path)
    torch.save({**torch.load(path, weights_only=True), **change}, path)
    with pytest.raises(TrainingError, match=next(iter(change))):
        load_checkpoint(path)


def test_logs_of_wrong_values(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_bytes(b'{"step": 1}\n[1]\n{"step": "2"}\n{"loss": 1}\n\xff\n' + b"[" * 100_000 + b'\n{"step": 3}\n')
    assert [record["step"] for record in read_log(log)] == [1, 3]
    (tmp_path / "metrics.csv").write_bytes(b"loss\n1\n")
    with pytest.raises(TrainingError, match="step"):
        CsvSink(tmp_path / "metrics.csv", 5)
    (tmp_path / "metrics.csv").write_bytes(b"step,loss\n\xff\xfe,1\n")
    with pytest.raises(TrainingError, match="cannot read"):
        CsvSink(tmp_path / "metrics.csv", 5)


@pytest.mark.parametrize("size", [[2**31, 2**31], [10**9, 1], [-1, 5], [1e400, 1], [None, 1]])
def test_saved_results_of_impossible_sizes(size: list[object], tmp_path: Path) -> None:
    document = {"format": "vlpart.result", "version": 1, "image_size": size, "detections": [], "vocabulary": {}}
    (tmp_path / "r.json").write_text(json.dumps(document).replace("Infinity", "1e400"))
    with pytest.raises(DataError, match="damaged"):
        Result.load(tmp_path / "r.json")


@pytest.mark.parametrize(
    "header",
    ["[1]", "[" * 100_000, '{"count": 1e400, "token_dim": 3}', '{"count": 1000000000000, "token_dim": 384}', "{}"],
    ids=["list", "deep", "infinite", "huge", "empty"],
)
def test_banks_of_wrong_values(header: str, tmp_path: Path) -> None:
    (tmp_path / HEADER).write_text(header)
    for name in (TOKENS, INDEX, RECORDS):
        (tmp_path / name).write_bytes(b"\0" * 64)
    with pytest.raises(DataError, match="damaged"):
        ReferenceBank(tmp_path)
