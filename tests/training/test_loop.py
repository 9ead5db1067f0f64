"""The loop: it learns, resumes bit by bit, survives SIGKILL and a full disk, stops on signals and non-finite losses."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from killable import fingerprint, make_recipe, make_trainer
from made_up import write_dataset

from vlpart.errors import DataError, TrainingError
from vlpart.training.checkpoint import latest_checkpoint, list_checkpoints, load_checkpoint
from vlpart.training.logging import read_log
from vlpart.training.loop import refuse_existing_run

PROGRAM = Path(__file__).with_name("killable.py")


def start(output, iterations, seconds=0.0, *more, **options):
    environment = os.environ | {"PYTHONPATH": str(PROGRAM.parents[2]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(PROGRAM), str(output), str(iterations), str(seconds), *map(str, more)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, **options)


def wait_for(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the run did not get there"
        time.sleep(0.02)


def test_the_loss_falls_and_everything_is_logged(tmp_path):
    said, steps = [], []
    trainer = make_trainer(tmp_path, make_recipe(iterations=40))
    result = trainer.run(say=said.append, progress=lambda *step: steps.append(step))
    records = read_log(tmp_path / "log.jsonl")
    assert (result.step, result.reason, len(records)) == (40, "finished", 40)
    assert {"lr", "grad_norm", "images_per_second", "seconds", "memory_mib", "losses", "sources"} <= set(records[0])
    assert set(records[0]["losses"]) == {"loss_class", "loss_noise"} and records[0]["images"] == 2
    assert records[0]["lr"] == pytest.approx(1e-5) and records[3]["lr"] == pytest.approx(1e-2)
    assert len(said) == 11  # every fourth step, and how it ended
    assert steps == [("training", done, 40) for done in range(1, 41)]
    assert [p.name for p in list_checkpoints(tmp_path / "checkpoints")] == ["step_00000038.pt", "step_00000040.pt"]
    with pytest.raises(TrainingError, match="--resume"):
        refuse_existing_run(tmp_path)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_resumed_run_is_bit_identical(tmp_path, precision, accumulate):
    recipe = make_recipe(precision=precision, accumulate=accumulate)
    whole = make_trainer(tmp_path / "whole", recipe)
    whole.run()
    first = make_trainer(tmp_path / "parts", recipe)
    assert first.run(time_limit=0.0).reason == "time limit" and first.step == 1
    torch.rand(7)
    second = make_trainer(tmp_path / "parts", recipe)
    assert second.resume() == 1 and second.seconds > 0
    second.run()
    assert fingerprint(second) == fingerprint(whole)
    changing = {"seconds", "waited", "images_per_second", "memory_mib"}
    logs = [read_log(tmp_path / name / "log.jsonl") for name in ("whole", "parts")]
    assert [{k: v for k, v in r.items() if k not in changing} for r in logs[0]] == [
        {k: v for k, v in r.items() if k not in changing} for r in logs[1]
    ]


def test_killed_at_any_moment_and_resumed_is_bit_identical(tmp_path):
    recipe = make_recipe(iterations=30)
    whole = make_trainer(tmp_path / "whole", recipe)
    torch.set_num_threads(1)
    whole.run()
    log = tmp_path / "killed" / "log.jsonl"
    process = start(tmp_path / "killed", 30, 0.05)
    wait_for(lambda: len(read_log(log)) >= 7)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    steps = [int(path.stem.split("_")[1]) for path in list_checkpoints(log.parent / "checkpoints")]
    assert steps and steps[-1] < 30
    with log.open("a") as file:
        file.write('{"step": 9')  # a line that the kill cut off
    resumed = make_trainer(tmp_path / "killed", recipe)
    assert resumed.resume() == steps[-1]
    resumed.run()
    assert fingerprint(resumed) == fingerprint(whole)
    assert [record["step"] for record in read_log(log)] == list(range(1, 31))


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_signal_to_the_whole_group_finishes_the_step_and_saves(tmp_path, number):
    """As schedulers (SIGTERM) and terminals (Ctrl-C) send it: the processes that read images get it too."""
    write_dataset(tmp_path / "data")
    run = tmp_path / "run"
    process = start(run, 10_000, 0.02, tmp_path / "data", start_new_session=True)
    wait_for(lambda: len(read_log(run / "log.jsonl")) >= 3)
    os.killpg(process.pid, number)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, "Traceback" in errors.decode()) == (0, False)
    assert f"{number.name} at step" in errors.decode()
    step = latest_checkpoint(run / "checkpoints")["step"]
    assert step == read_log(run / "log.jsonl")[-1]["step"] < 10_000
    with pytest.raises(ProcessLookupError):  # the workers are gone, too
        wait_for(lambda: os.killpg(process.pid, 0), 10)


def test_a_non_finite_loss_stops_with_the_batch(tmp_path):
    trainer = make_trainer(tmp_path, bad_at=5)
    with pytest.raises(TrainingError, match=r"step 6: .*loss_class.*saved"):
        trainer.run()
    saved = torch.load(tmp_path / "nonfinite_step_00000006.pt", weights_only=True)
    assert saved["pixels"].isnan().any() and saved["image_ids"] == [6, 7] and saved["paths"] == ["x.jpg", "y.jpg"]
    assert latest_checkpoint(tmp_path / "checkpoints")["step"] == 4
    assert all(value.isfinite().all() for name, value in trainer.model.named_parameters())


def test_a_non_finite_loss_can_be_skipped(tmp_path):
    trainer = make_trainer(tmp_path, make_recipe(non_finite="skip"), bad_at=5)
    assert trainer.run().step == 12
    records = read_log(tmp_path / "log.jsonl")
    assert [r["step"] for r in records if r["skipped"]] == [6]
    assert all(value.isfinite().all() for value in trainer.average.shadow.values())


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path):
    make_trainer(tmp_path, make_recipe(iterations=4)).run()
    before = fingerprint_of_file(list_checkpoints(tmp_path / "checkpoints")[-1])
    limit = list_checkpoints(tmp_path / "checkpoints")[-1].stat().st_size // 2

    def small_files_only():  # the kernel then refuses longer files, as it does when no space is left
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    process = start(tmp_path, 12, preexec_fn=small_files_only)
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "TrainingError: cannot write" in errors.decode() and "earlier checkpoints are intact" in errors.decode()
    paths = list_checkpoints(tmp_path / "checkpoints")
    assert fingerprint_of_file(paths[-1]) == before and load_checkpoint(paths[-1])["step"] == 4
    assert not list((tmp_path / "checkpoints").glob(".*"))


def fingerprint_of_file(path):
    return path.read_bytes()


def test_periodic_evaluation_sees_the_average_and_marks_the_best(tmp_path):
    seen = []

    def evaluate(model):
        assert not seen or model.training
        torch.rand(3)  # must not disturb the run
        model.eval()
        seen.append(model.head.weight.detach().clone())
        return {"score": [0.2, 0.5, 0.4][len(seen) - 1], "cars": 0.1}

    recipe = make_recipe(evaluate_every=4, checkpoint_every=100)
    trainer = make_trainer(tmp_path / "a", recipe, evaluate=evaluate)
    trainer.run()
    assert torch.equal(seen[2], trainer.average.shadow["head.weight"])
    assert not torch.equal(seen[2], trainer.model.head.weight)
    assert load_checkpoint(tmp_path / "a" / "checkpoints" / "best.pt")["step"] == 8
    events = [r for r in read_log(tmp_path / "a" / "log.jsonl") if r["event"] == "evaluation"]
    assert [(e["step"], e["score"]) for e in events] == [(4, 0.2), (8, 0.5), (12, 0.4)]
    plain = make_trainer(tmp_path / "b", make_recipe(checkpoint_every=100))
    plain.run()
    assert fingerprint(plain) == fingerprint(trainer)


def test_another_recipe_is_refused(tmp_path):
    make_trainer(tmp_path).run()
    for options, message in (({"seed": 4}, "seed"), ({"name": "other"}, "name"), ({"ema_decay": None}, "ema_decay")):
        recipe = make_recipe(**options)
        with pytest.raises(TrainingError, match=message):
            make_trainer(tmp_path, recipe).resume()
    longer = make_trainer(tmp_path, make_recipe(iterations=14))
    assert longer.resume() == 12 and longer.run().step == 14


def test_a_damaged_checkpoint_is_named(tmp_path):
    make_trainer(tmp_path).run()
    path = list_checkpoints(tmp_path / "checkpoints")[-1]
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(TrainingError, match="cannot read checkpoint"):
        make_trainer(tmp_path).resume()
    path.unlink()
    assert make_trainer(tmp_path).resume() == 10


def test_the_log_is_json_lines(tmp_path):
    make_trainer(tmp_path).run()
    for line in (tmp_path / "log.jsonl").read_text().splitlines():
        assert json.loads(line)["step"] >= 1


def test_a_failing_evaluation_does_not_cost_the_steps_before_it(tmp_path):
    def fail(model):
        raise DataError("val.json: annotation 3 has no box")

    recipe = make_recipe(evaluate_every=4, checkpoint_every=2)
    with pytest.raises(DataError, match="annotation 3"):
        make_trainer(tmp_path, recipe, evaluate=fail).run()
    assert latest_checkpoint(tmp_path / "checkpoints")["step"] == 4
    other = make_recipe(evaluate_every=12, checkpoint_every=100)
    with pytest.raises(DataError, match="annotation 3"):
        make_trainer(tmp_path / "end", other, evaluate=fail).run()
    assert latest_checkpoint(tmp_path / "end" / "checkpoints")["step"] == 12


def test_the_best_figure_is_in_a_checkpoint_that_was_due_anyway(tmp_path):
    recipe = make_recipe(evaluate_every=4, checkpoint_every=4)
    trainer = make_trainer(tmp_path, recipe, evaluate=lambda model: {"score": 0.5})
    trainer.run(time_limit=None)
    checkpoints = tmp_path / "checkpoints"
    assert load_checkpoint(checkpoints / "best.pt")["step"] == 4
    for name in ("best.pt", "step_00000012.pt"):
        assert load_checkpoint(checkpoints / name)["metrics"]["best"] == 0.5


def test_without_a_valid_figure_nothing_is_the_best(tmp_path):
    scores = iter([float("nan"), 0.0, float("nan")])
    recipe = make_recipe(evaluate_every=4, checkpoint_every=100)
    trainer = make_trainer(tmp_path, recipe, evaluate=lambda model: {"score": next(scores)})
    trainer.run()
    assert trainer.best == 0.0
    assert load_checkpoint(tmp_path / "checkpoints" / "best.pt")["step"] == 8
