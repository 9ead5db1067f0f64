"""Commands whose standard streams are closed, full or without a reader, or whose working folder is gone.

    python -m tests.robustness.streams predict

A command runs in a forked child with its file descriptors as a shell would leave them. It must end with a known exit
code, say at most one error line, and never show a traceback. POSIX only.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.robustness.faults import UNCLEAR, make_data

SECONDS = 60
"""Of one command in one state; some take many seconds on busy cores."""
SERVING = 8
"""Seconds after which a server is told to end."""


@dataclass(frozen=True)
class End:
    """How a command ended: its exit code (negative: the signal), what it wrote."""

    code: int
    out: bytes
    err: str


# ---- states of the three streams: each is called in the child, and replaces file descriptors


def _redirect(number: int, path: str, flags: int) -> None:
    opened = os.open(path, flags)
    os.dup2(opened, number)
    os.close(opened)


def _without_reader() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    os.dup2(writing, 1)
    os.close(writing)


def _gone() -> None:
    folder = tempfile.mkdtemp()
    os.chdir(folder)
    Path(folder).rmdir()


STATES: dict[str, Callable[[], None]] = {
    "as usual": lambda: None,
    "full output": lambda: _redirect(1, "/dev/full", os.O_WRONLY),
    "closed output": lambda: os.close(1),
    "output without a reader": _without_reader,
    "closed input": lambda: os.close(0),
    "closed errors": lambda: os.close(2),
    "full errors": lambda: _redirect(2, "/dev/full", os.O_WRONLY),
    "all closed": lambda: [os.close(number) for number in (0, 1, 2)] and None,
    "no working folder": _gone,
}


def _streams_of_python() -> None:
    """What Python makes of the file descriptors when it starts."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
            stream = os.fdopen(number, "r" if number == 0 else "w", encoding="utf-8", closefd=False)
        except OSError:
            stream = None
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def run(arguments: Sequence[str], folder: Path, state: str, given: bytes = b"") -> End:
    """Run a command line in a child, in a folder."""
    files = [folder / ".stdin", folder / ".stdout", folder / ".stderr"]
    files[0].write_bytes(given)
    child = os.fork()
    if not child:
        code = 1
        try:
            os.chdir(folder)
            for number, path in enumerate(files):
                _redirect(number, str(path), os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            STATES[state]()
            _streams_of_python()
            os.environ["VLPART_CACHE"] = str(folder / "cache")
            signal.alarm(SECONDS)
            if arguments[0] == "serve":
                threading.Timer(SERVING, os.kill, (os.getpid(), signal.SIGTERM)).start()
            sys.argv = ["vlpart", *arguments]
            from vlpart.cli.main import main

            main()
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
        except BaseException as error:  # noqa: BLE001 - nothing may go on behind this line
            with suppress(Exception):
                files[2].write_text(f"Traceback: {type(error).__name__}: {error}")
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return End(code, files[1].read_bytes(), files[2].read_text(errors="replace"))


# ---- the commands


def _annotations(folder: Path) -> None:
    make_data(folder)
    detections = [{"image_id": 1, "category_id": 1, "score": 0.5, "bbox": [10, 8, 60, 48]}]
    (folder / "detections.json").write_text(json.dumps(detections))
    (folder / "mine").mkdir()
    shutil.copy(folder / "data" / "train.json", folder / "mine")
    (folder / "mine" / "images").symlink_to(folder / "data" / "images")


IMAGES = "data/images"
SMALL = ("--short-side", "64")
BUILD = (
    *("parse", "build", "bank", "--annotations", "data/val.json", "--images", IMAGES),
    *("--features", "embedded", *SMALL, "--overwrite"),
)
COMMANDS: dict[str, tuple[Sequence[str], int]] = {
    "": (["--help"], 0),
    "predict": (["predict", IMAGES, *SMALL, "--output", "out"], 0),
    "predict lines": (["predict", IMAGES, *SMALL, "--format", "jsonl", "--output", "-"], 0),
    "predict image": (["predict", f"{IMAGES}/1.png", *SMALL, "--format", "image", "--output", "-"], 0),
    "predict input": (["predict", "-", *SMALL, "--format", "json", "--output", "-"], 0),
    "annotate": (["annotate", IMAGES, "--output", "labels"], 0),
    "bulk": (["bulk", IMAGES, "found", *SMALL], 0),
    "evaluate": (["evaluate", "--on", "data/val.json", "--predictions", "detections.json", "--boxes"], 0),
    "train": (["train", "finetune", "--data", "mine", "--dry-run"], 0),
    "export": (["export", "tiny", "--format", "safetensors", "--output", "a.safetensors"], 0),
    "serve": (["serve", "--port", "0"], 143),
    "doctor": (["doctor"], 0),
    "benchmark": (["benchmark", "nosuch"], 1),
    "models list": (["models", "list"], 0),
    "models show": (["models", "show", "tiny"], 0),
    "models download": (["models", "download", "tiny"], 0),
    "vocabularies list": (["vocabularies", "list"], 0),
    "vocabularies show": (["vocabularies", "show", "pascal_part"], 0),
    "zoo table": (["zoo", "table", "--data", "data", "--output", "zoo"], 0),
    "recipes list": (["recipes", "list"], 0),
    "recipes show": (["recipes", "show", "tiny"], 0),
    "recipes export": (["recipes", "export", "tiny", "--output", "mine.py"], 0),
    "data list": (["data", "list"], 0),
    "data prepare": (["data", "prepare", "voc", "data"], 1),
    "data check": (["data", "check", "data/val.json", "--processes", "1"], 0),
    "data convert": (["data", "convert", "data/val.json", "--to", "yolo", "--output", "yolo"], 0),
    "data download parsed": (["data", "download", "parsed", "nosuch"], 1),
    "parse recipes": (["parse", "recipes"], 0),
    "parse build": (BUILD, 0),
    "parse find": (["parse", "find", "nosuch", "--images", IMAGES, "--output", "a.json"], 1),
    "parse show": (["parse", "show", "nosuch", f"{IMAGES}/1.png", "--label", "dog"], 1),
    "parse find-objects": (
        ["parse", "find-objects", "nosuch", "--labels", "data/val.json", "--images", IMAGES, "--output", "a.json"],
        1,
    ),
    "parse show-object": (["parse", "show-object", "nosuch", f"{IMAGES}/1.png", "--label", "dog"], 1),
    "parse golden": (["parse", "golden", "--data", "data", "--dry-run"], 0),
}
"""What is run, and its exit code where nothing is amiss."""


def problems(name: str, states: Sequence[str] = tuple(STATES)) -> Iterator[str]:
    """What goes wrong with a command in the states of its streams."""
    arguments, wanted = COMMANDS[name]
    with tempfile.TemporaryDirectory() as base:
        usual: End | None = None
        for state in dict.fromkeys(("as usual", *states)):
            folder = Path(base).resolve() / state.replace(" ", "_")
            folder.mkdir()
            _annotations(folder)
            given = (folder / IMAGES / "1.png").read_bytes() if "-" in arguments[1:2] else b""
            end = run(arguments, folder, state, given)
            usual = usual or end
            yield from (f"{name}, {state}: {each}" for each in wrong(end, usual, wanted, state))
            shutil.rmtree(folder, ignore_errors=True)


def wrong(end: End, usual: End, wanted: int, state: str) -> Iterator[str]:
    """What does not hold for how a command ended."""
    errors = [line for line in end.err.splitlines() if line.startswith("error: ")]
    if UNCLEAR.search(end.err):
        yield f"unclear: {end.err[-600:]!r}"
    if len(errors) > 1:
        yield f"more than one error: {end.err[-600:]!r}"
    codes = {wanted}
    if usual.out and state in ("full output", "output without a reader"):
        codes = {1} if wanted == 0 else {1, wanted}
    if state == "full errors" and usual.err:
        codes = {1, wanted}
    if state in ("closed input", "all closed") and usual.code == 0:
        codes |= {1}
    if state == "no working folder":
        codes = {1}
    if end.code not in codes:
        yield f"exit code {end.code}, not {sorted(codes)}: {end.err[-600:]!r}"
    if state == "full output" and usual.out and len(errors) != 1:
        yield f"a full output is not told in one line: {end.err[-600:]!r}"
    if state == "output without a reader" and wanted == 0 and errors:
        yield f"a pipe that nobody reads is no error to tell: {end.err[-600:]!r}"


def main() -> None:
    """Run the commands that are named, or all; print what is wrong as JSON."""
    import torch

    import vlpart.bulk.run as bulk
    import vlpart.cli.main  # noqa: F401 - once, not in every child
    from vlpart.inference.predictor import load

    torch.set_num_threads(1)
    load("tiny")
    bulk._ray = lambda: None  # Ray's processes have streams of their own
    bulk._on_ray = lambda missing, request, workers, address: bulk._here(missing, request)
    found = [each for name in sys.argv[1:] or COMMANDS for each in problems(name)]
    print(json.dumps(found, indent=1))
    sys.exit(bool(found))


def sweep(*names: str, seconds: float = 1200) -> list[str]:
    """`problems` of commands in a fresh process with one thread, from which children can be forked safely."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    command = [sys.executable, "-m", "tests.robustness.streams", *names]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=seconds, check=False)
    assert done.stdout, done.stderr[-2000:]
    found: list[str] = json.loads(done.stdout)
    return found


if __name__ == "__main__":
    main()
