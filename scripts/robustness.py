"""Many spoiled inputs, kills and faults, each within bounds of time and memory; prints a table of counts.

    python scripts/robustness.py --inputs 1000 --kills 200 --faults 1

Inputs are those of `tests/robustness/mutations.py` and `more_kinds.py`, numbered from --first. Each is read in a child
process that may use --memory bytes more than it has after the imports, and that ends with a traceback when one input
takes over --seconds.
Kills: a child predicts images into a folder, or writes checkpoints, and is killed (SIGKILL) at a random moment, or its
files may not grow beyond a random size, as on a full disk; afterwards every file must be whole, and a second run must
complete the folder. Faults: every n-th write of every command finds a full disk, no permission, or files that cannot
grow, or is the last thing the process does, see `tests/robustness/faults.py`; then two processes run each command at
once. Exit code 1 if anything went wrong. POSIX only.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import json
import multiprocessing
import os
import random
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from PIL import Image

from tests.robustness import faults
from tests.robustness.more_kinds import ALL_KINDS
from tests.robustness.mutations import outcome
from vlpart.errors import VlpartError
from vlpart.inference.batch import predict_to_folder
from vlpart.inference.predictor import load
from vlpart.results.result import Result
from vlpart.training.checkpoint import list_checkpoints, load_checkpoint, save_checkpoint

FORK = multiprocessing.get_context("fork")  # with one thread, see main


def used_memory() -> int:
    """Private writable memory of this process, bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmData"))


def read_inputs(name: str, first: int, count: int, options: argparse.Namespace, report: Path) -> None:
    """Read inputs of a kind and append a line for each; runs in a child."""
    ALL_KINDS[name].prepare()
    limit = used_memory() + options.memory
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    with tempfile.TemporaryDirectory() as folder, report.open("a", buffering=1) as lines:
        for index in range(first, first + count):
            lines.write(json.dumps({"begun": index}) + "\n")
            faulthandler.dump_traceback_later(options.seconds, exit=True)
            begun = time.monotonic()
            try:
                found = outcome(ALL_KINDS[name], index, Path(folder))
            except AssertionError as error:
                found = f"FAULT {error}"
            faulthandler.cancel_dump_traceback_later()
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            lines.write(json.dumps({"found": found, "seconds": time.monotonic() - begun, "peak_kib": peak}) + "\n")


def inputs_of(name: str, options: argparse.Namespace) -> bool:
    """All inputs of a kind; a child that dies counts as a fault, and another goes on behind its input."""
    counts: Counter[str] = Counter()
    slowest, peak, at, end = 0.0, 0, options.first, options.first + options.inputs
    while at < end:
        with tempfile.TemporaryDirectory() as folder:
            report = Path(folder) / "report"
            child = FORK.Process(target=read_inputs, args=(name, at, end - at, options, report))
            child.start()
            child.join()
            lines = [json.loads(line) for line in report.read_text().splitlines()]
        answers = [line for line in lines if "found" in line]
        for line in answers:
            counts[line["found"] if line["found"] in ("read", "refused") else "fault"] += 1
            if line["found"].startswith("FAULT"):
                print(f"{name}: {line['found'][:300]}")
            slowest, peak = max(slowest, line["seconds"]), max(peak, line["peak_kib"])
        at += len(answers)
        if at < end:
            print(f"{name}: case {at}: the process ended with {child.exitcode}")
            counts["fault"] += 1
            at += 1
    row = f"{name:<16} {options.inputs:>7} {counts['read']:>7} {counts['refused']:>8} {counts['fault']:>7}"
    print(f"{row} {slowest:>9.2f} {peak / 1024:>9.0f}", flush=True)
    return counts["fault"] == 0


# ---- kills and full disks


def whole(path: Path) -> bool:
    """Whether a result file is complete."""
    try:
        if path.suffix == ".json":
            if path.name == "coco.json":
                return {"images", "annotations"} <= json.loads(path.read_text()).keys()
            Result.load(path)
        elif path.suffix in (".jpg", ".png"):
            with Image.open(path) as image:
                image.load()
    except (VlpartError, OSError, ValueError):
        return False
    return True


def check_results(folder: Path, again: Callable[[], object]) -> list[str]:
    """What is not whole after a kill, and after a second run."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
    wrong = [f"{path.name} is not whole" for path in files if not whole(path)]
    again()
    done = len(list(folder.glob("*_parts.json")))
    if done != 4:
        wrong.append(f"{done} results after a second run")
    return wrong


def check_checkpoints(folder: Path, again: Callable[[], object]) -> list[str]:
    """Checkpoints that cannot be read after a kill."""
    wrong = []
    for path in list_checkpoints(folder):
        try:
            load_checkpoint(path)
        except VlpartError as error:
            wrong.append(str(error))
    again()
    return wrong


def write_checkpoints(folder: Path) -> None:
    """Twenty checkpoints of 2 MB."""
    model = {f"w{i}": torch.randn(256, 256) for i in range(8)}
    for step in range(1, 21):
        save_checkpoint(folder, step, {"recipe": {}, "model": model, "ranks": [], "metrics": {}, "optimizer": {}})


def start(work: Callable[[], object], file_limit: int | None) -> multiprocessing.process.BaseProcess:
    """A child that does the work, perhaps with files that cannot grow beyond a size."""

    def child() -> None:
        if file_limit is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))
        with contextlib.suppress(VlpartError):
            work()

    process = FORK.Process(target=child)
    process.start()
    return process


def strike(rng: random.Random, work: Callable[[], object], longest: float) -> str:
    """Run the work in a child, and kill it or fill its disk."""
    if rng.random() < 0.25:
        process = start(work, rng.choice((0, 100, 3000, 20_000, 500_000)))
        process.join(60)
        if process.exitcode != 0:
            return f"a full disk ended the process with {process.exitcode}"
        return ""
    process = start(work, None)
    time.sleep(rng.random() * longest)
    if process.pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
    process.join()
    return ""


def kills(options: argparse.Namespace) -> bool:
    """Strike again and again; every folder must be whole afterwards."""
    rng = random.Random(options.first)
    predictor = load("tiny")
    noise = np.random.default_rng(0)
    faults = struck = 0
    with tempfile.TemporaryDirectory() as base:
        images = Path(base) / "images"
        images.mkdir()
        for i in range(4):
            Image.fromarray(noise.integers(0, 256, (64, 96, 3), dtype=np.uint8)).save(images / f"{i}.jpg")
        while struck < options.kills:
            folder = Path(base) / f"out{struck}"

            def predict(folder: Path = folder, skip: bool = False) -> object:
                formats = ("image", "json", "labels") if skip else ("image", "json", "labels", "coco")
                return predict_to_folder(predictor, images, output=folder, formats=formats, skip_existing=skip)

            if struck % 2:
                problems = [strike(rng, lambda: predict(), 0.6)]
                problems += check_results(folder, lambda: predict(skip=True))
            else:
                problems = [strike(rng, lambda folder=folder: write_checkpoints(folder), 0.4)]
                problems += check_checkpoints(folder, lambda folder=folder: write_checkpoints(folder))
            for problem in filter(None, problems):
                print(f"kill {struck}: {problem}")
                faults += 1
            struck += 1
    print(f"kills and full disks: {struck}, faults: {faults}", flush=True)
    return faults == 0


def faulty_writes(every: int, names: Sequence[str], journal: Path | None) -> bool:
    """Every n-th write of some commands."""
    good, struck = True, 0
    for name in names:
        how = ("--every", str(every), *(() if journal is None else ("--journal", str(journal))))
        cases, wrong = faults.run([name], *how, seconds=24 * 3600)[name]
        print(*wrong, f"{name}: {cases} faults, two processes at once, {len(wrong)} problems", sep="\n", flush=True)
        good, struck = good and not wrong, struck + cases
    print(f"faults at writes: {struck}", flush=True)
    return good


def main() -> None:
    """Run what the options say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=1000, help="of each kind")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument(
        "--faults", type=int, default=0, metavar="N", help="strike every N-th write; 1 = each by every kind; 0 = none"
    )
    parser.add_argument("--command", choices=list(faults.COMMANDS), action="append", help="faults in this one only")
    parser.add_argument("--journal", type=Path, help="remembers the faults that were struck: a stopped run goes on")
    parser.add_argument("--first", type=int, default=0, help="number of the first input, and seed of the kills")
    parser.add_argument("--kind", choices=list(ALL_KINDS), action="append", help="only this kind; may be repeated")
    parser.add_argument("--seconds", type=float, default=10, help="an input may take")
    parser.add_argument("--memory", type=int, default=1_000_000_000, help="bytes that reading may take")
    options = parser.parse_args()
    os.environ["no_proxy"] = "127.0.0.1"
    torch.set_num_threads(1)
    good = True
    if options.inputs:
        print(f"{'kind':<16} {'inputs':>7} {'read':>7} {'refused':>8} {'faults':>7} {'slowest s':>9} {'peak MiB':>9}")
        for name in options.kind or ALL_KINDS:
            good = inputs_of(name, options) and good
    if options.faults:
        good = faulty_writes(options.faults, options.command or list(faults.COMMANDS), options.journal) and good
    if options.kills:
        good = kills(options) and good
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
