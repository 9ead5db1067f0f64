"""Two processes against one, and what processes agree on. Both processes are started once, for all tests here."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from made_up import write_dataset
from safetensors.torch import load_file
from two_processes import same_batch_trainer

from vlpart.errors import TrainingError
from vlpart.runtime import World, joined, own_device
from vlpart.training.checkpoint import latest_checkpoint, list_checkpoints
from vlpart.training.logging import read_log
from vlpart.training.optimizer import trainable

HERE = Path(__file__).parent


def environment(**more: str) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(HERE.parents[1]), "OMP_NUM_THREADS": "1"} | more


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict]]:
    folder = tmp_path_factory.mktemp("two")
    write_dataset(folder / "data", images=8)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    processes = [
        subprocess.Popen(
            [sys.executable, str(HERE / "two_processes.py"), str(folder)],
            env=environment(RANK=str(rank), LOCAL_RANK=str(rank), **common),
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    try:
        errors = [process.communicate(timeout=240)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(errors)
    return folder, [json.loads((folder / f"rank{rank}.json").read_text()) for rank in (0, 1)]


def test_two_processes_train_like_one_with_the_same_global_batch(outcomes, tmp_path):
    """Losses within 1e-4 relative, summed gradients within 1e-3 of their norm, weights within 1e-5: three steps.

    One process accumulates the two batches that the two processes take. Nothing is subsampled, so the generators of the
    processes make no difference; sums in another order do.
    """
    folder, (first, second) = outcomes
    assert first["compare_with_one_process"] == second["compare_with_one_process"]
    alone = same_batch_trainer(folder / "data", 2, tmp_path)
    alone.run()
    ours, theirs = read_log(tmp_path / "log.jsonl"), read_log(folder / "same" / "log.jsonl")
    assert len(ours) == len(theirs) == 3
    for one, two in zip(ours, theirs, strict=True):
        assert (one["images"], one["sources"]) == (two["images"], two["sources"]) == (4, ["boxes", "boxes"])
        assert set(one["losses"]) == {"rpn_objectness", "rpn_box", "classification", "box", "mask"}
        assert two["losses"] == pytest.approx(one["losses"], rel=1e-4)
        assert two["grad_norm"] == pytest.approx(one["grad_norm"], rel=1e-4)
    checkpoint = latest_checkpoint(folder / "same" / "checkpoints")
    sums = checkpoint["optimizer"]["state"]
    total = sum(value["momentum_buffer"].norm() ** 2 for value in sums.values()) ** 0.5
    for index, (name, parameter) in enumerate(trainable(alone.model).items()):
        expected = alone.stepper.optimizer.state[parameter]["momentum_buffer"]
        gap = (sums[index]["momentum_buffer"] - expected).norm()
        assert gap <= 1e-3 * expected.norm() + 1e-6 * total, name
    for name, value in alone.model.state_dict().items():
        torch.testing.assert_close(checkpoint["model"][name], value, rtol=0, atol=1e-5, msg=name)


def test_annotation_kinds_may_differ_between_processes(outcomes):
    folder, (first, second) = outcomes
    assert first["mix_kinds"] == second["mix_kinds"]
    drawn = [tuple(record["sources"]) for record in read_log(folder / "kinds" / "log.jsonl")]
    assert any(len(set(pair)) == 2 for pair in drawn)
    weights = latest_checkpoint(folder / "kinds" / "checkpoints")
    assert all(value.isfinite().all() for value in weights["model"].values())


def test_a_signal_to_any_process_stops_all_and_the_resume_is_exact(outcomes):
    folder, ranks = outcomes
    for rank in ranks:
        assert rank["stop_and_resume"] == [2, "SIGTERM", 2, True]
    states = latest_checkpoint(folder / "parts" / "checkpoints")["ranks"]
    assert len(states) == 2 and not torch.equal(states[0]["rng"]["torch"], states[1]["rng"]["torch"])


def test_a_bad_batch_in_one_process_concerns_all(outcomes):
    folder, (first, second) = outcomes
    assert first["meet_a_bad_batch"][0] == second["meet_a_bad_batch"][0]
    assert [r["step"] for r in read_log(folder / "skip" / "log.jsonl") if r["skipped"]] == [2]
    assert "another process" in first["meet_a_bad_batch"][1]
    assert "loss_class" in second["meet_a_bad_batch"][1]
    assert [p.name for p in (folder / "stop").glob("nonfinite*")] == ["nonfinite_step_00000003_rank1.pt"]
    assert latest_checkpoint(folder / "stop" / "checkpoints")["step"] == 2


def test_another_number_of_processes_is_refused(outcomes):
    _, ranks = outcomes
    for rank in ranks:
        assert "made by 2 processes, this run has 1" in rank["refuse_one_process"]


def test_devices():
    assert own_device("cpu", 1, 2) == "cpu"
    if not torch.cuda.is_available():
        assert own_device("auto") == "cpu"
        with pytest.raises(TrainingError, match="no CUDA device"):
            own_device("cuda")
    for wrong in ("foo", "cuda:x", "cpu:one"):
        with pytest.raises(TrainingError, match=f"--device {wrong} cannot be used here"):
            own_device(wrong)
    with joined("cpu", {}) as world:
        assert world == World()


@pytest.mark.slow  # about 40 s: torchrun and two processes start, twice
def test_torchrun_and_the_command(tmp_path):
    """`torchrun -m vlpart train FILE.py`: main process writes, all resume."""
    write_dataset(tmp_path / "data", images=8)
    program = tmp_path / "mine.py"
    program.write_text(
        f"import sys\nsys.path.insert(0, {str(HERE)!r})\nfrom made_up import add_architecture, small_recipe\n"
        "def recipe(root):\n    add_architecture()\n    return small_recipe(root, iterations=8, reference_batch=8)\n"
    )
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launcher, "-m", "vlpart", "train", str(program), "--data", str(tmp_path / "data"), "--device", "cpu"]
    command += ["--output", str(tmp_path / "run"), "--workers", "1", "--log-to", "csv"]
    for more, said in (([], "instead of 8"), (["--resume", "--iterations", "18"], "resumed at step 16")):
        done = subprocess.run(
            command + more, env=environment(), cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr.count(said) == 1
    run = tmp_path / "run"
    steps = [record["step"] for record in read_log(run / "log.jsonl") if record["event"] == "step"]
    assert steps == list(range(1, 19))
    assert list_checkpoints(run / "checkpoints")[-1].name == "step_00000018.pt"
    assert len((run / "metrics.csv").read_text().splitlines()) == 19
    assert load_file(run / "weights.safetensors")
