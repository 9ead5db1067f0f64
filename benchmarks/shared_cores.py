"""Seconds per photo or training step, alone and beside a second process, for the ways threads can wait for each other.

    python benchmarks/shared_cores.py
    python benchmarks/shared_cores.py --work step        # a training step of four images

By default the threads of GNU OpenMP spin for a long time until the last one is done; `import vlpart` lets them spin
briefly (`vlpart/__init__.py`). Every row starts new processes, since torch reads the policy once. The ratio is to the
first row.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np

from vlpart import SPIN

POLICIES: dict[str, dict[str, str]] = {
    "spin": {"GOMP_SPINCOUNT": "300000"},  # GNU OpenMP's default where threads are no more than cores
    "sleep": {"OMP_WAIT_POLICY": "PASSIVE"},
    "spin briefly": {"GOMP_SPINCOUNT": SPIN},
}


def photo() -> Callable[[], object]:
    """The embedded model on a photo of noise."""
    from vlpart.inference.predictor import load

    predictor = load("tiny", device="cpu")
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8).repeat(8, axis=0).repeat(8, axis=1)
    return lambda: predictor(noise)


def step() -> Callable[[], object]:
    """A training step of the embedded model's architecture."""
    from train_step import make_batch, make_stepper

    stepper, batch = make_stepper("tiny", "bf16", None), make_batch(4, 320, 384)
    return lambda: stepper(batch)


WORK = {"photo": photo, "step": step}


def child(work: str, runs: int) -> None:
    """Print the wall seconds of every run, after one that warms up."""
    run = WORK[work]()
    run()
    for _ in range(runs):
        began = time.perf_counter()
        run()
        print(time.perf_counter() - began, flush=True)


def measure(work: str, policy: dict[str, str], processes: int, runs: int, limit: float) -> list[float]:
    """Seconds per run of all processes together; slow ones are stopped at the limit."""
    known = {name for each in POLICIES.values() for name in each}
    environment = {name: value for name, value in os.environ.items() if name not in known} | policy
    command = [sys.executable, __file__, "--child", "--work", work, "--runs", str(runs)]
    started = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(processes)]
    seconds: list[float] = []
    end = time.monotonic() + limit
    for process in started:
        try:
            output, _ = process.communicate(timeout=max(0.1, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            output, _ = process.communicate()
        seconds += [float(line) for line in output.split()]
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", choices=WORK, default="photo")
    parser.add_argument("--runs", type=int, default=15, help="photos or steps of each process")
    parser.add_argument("--rounds", type=int, default=3, help="the rows are measured in turn, so often")
    parser.add_argument("--limit", type=float, default=40, help="seconds for one row of a round")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.work, arguments.runs)
        return
    rows: dict[tuple[int, str], list[float]] = {}
    for _ in range(arguments.rounds):
        for processes in (1, 2):
            for name, policy in POLICIES.items():
                found = measure(arguments.work, policy, processes, arguments.runs, arguments.limit)
                rows.setdefault((processes, name), []).extend(found)
    print(f"{'processes':<12}{'threads':<14}{'median s':>10}{'slowest s':>11}{'runs':>8}{'ratio':>8}")
    first = None
    for (processes, name), seconds in rows.items():
        if not seconds:
            print(f"{processes:<12}{name:<14}{'none in time':>29}")
            continue
        middle = statistics.median(seconds)
        first = first or middle
        ratio = f"{middle / first:.2f}"
        print(f"{processes:<12}{name:<14}{middle:>10.3f}{max(seconds):>11.3f}{len(seconds):>8}{ratio:>8}")


if __name__ == "__main__":
    main()
