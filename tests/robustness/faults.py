"""Faults at every write of a command: the disk is full, writing is denied, files cannot grow, the process is killed.

    python -m tests.robustness.faults predict --every 3

A command runs in a child process. There an audit hook of Python counts what creates something below the folder of the
case: opening a file to write, renaming, making a folder or a link; what libraries in C++ write (Parquet,
OpenVINO) is announced by `native`. At the n-th of them a fault sets in and stays.
Afterwards what is there must be whole, the error must be one line that says what is wrong, and the same command, run
again without a fault, must end as if nothing had been. At last two processes run the command at once in one folder: one
of them at least must succeed, and what is there must be whole. POSIX only.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import json
import math
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

KINDS = ("full", "denied", "small", "killed")
NATIVE = "vlpart.native_write"
EVENTS = {"os.rename": 1, "os.mkdir": 0, "os.link": 1, "os.symlink": 1, "open": 0, NATIVE: 0}
"""Audit event -> which of its arguments is the name that is written."""

UNCLEAR = re.compile(r"Traceback|unexpected|vlpart --debug|[A-Z]\w+Error\b")


@dataclass(frozen=True)
class Command:
    """What is run, in a folder of its own that also holds its inputs.

    Both functions are called with the folder.
    """

    prepare: Callable[[Path], None]
    run: Callable[[Path], object]


def inject(folder: Path, kind: str | None, at: int, count: int) -> None:
    """Let a fault set in at write `at` below a folder; the number of writes goes to the file descriptor `count`."""
    state = {"seen": 0, "over": False}
    below = str(folder)

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event not in EVENTS:
            return
        if event == "open" and not (isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)):
            return
        name = args[EVENTS[event]]
        if not isinstance(name, str | os.PathLike) or not str(Path(name).absolute()).startswith(below):
            return
        state["seen"] += 1
        if kind is None:
            os.write(count, b".")
        elif state["seen"] >= at:
            strike(kind, state, os.fspath(name))

    sys.addaudithook(hook)


def native(owner: Any, name: str, path: Callable[..., object]) -> None:
    """Announce each call of a function that lets a library write; `path` says where, given its arguments."""
    real = getattr(owner, name)

    def announced(*args: Any, **kwargs: Any) -> Any:
        sys.audit(NATIVE, str(path(*args, **kwargs)))
        return real(*args, **kwargs)

    setattr(owner, name, announced)


def strike(kind: str, state: dict[str, Any], name: str) -> None:
    """One fault."""
    if kind == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "full":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)
    if kind == "denied":
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), name)
    if not state["over"]:
        state["over"] = True
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


@dataclass(frozen=True)
class Child:
    """A process that runs a command; what it says on standard error, and a byte for every write, come through pipes."""

    process: int
    lines: int
    dots: int

    def end(self) -> tuple[int, str, int]:
        """Its exit code (negative: the signal), standard error, and how many writes it made."""
        with os.fdopen(self.lines, "rb") as lines, os.fdopen(self.dots, "rb") as dots:
            text, writes = lines.read().decode(errors="replace"), len(dots.read())
        return os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1]), text, writes


def start(command: Command, folder: Path, kind: str | None = None, at: int = 0) -> Child:
    """Run a command in a child, with a fault at a write of it."""
    said, says = os.pipe()
    counted, counts = os.pipe()
    child = os.fork()
    if child:
        os.close(says)
        os.close(counts)
        return Child(child, said, counted)
    code = 1
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(says, 2)
        # The streams of the parent know whether its own could be wound back.
        sys.stdout, sys.stderr = (os.fdopen(number, "w", encoding="utf-8", closefd=False) for number in (1, 2))
        os.environ["VLPART_CACHE"] = str(folder / "cache")
        os.chdir(folder)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # here, since a fault may strike in another thread
        inject(folder, kind, at, counts)
        command.run(folder)
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
    except BaseException as error:  # noqa: BLE001 - nothing may go on behind this line
        sys.stderr.write(f"Traceback: {type(error).__name__}: {error}\n")
    finally:
        sys.stderr.flush()
        os._exit(code)


# ---- what must hold


def outputs(folder: Path) -> dict[str, Path]:
    """Files that a run left, but for hidden ones and inputs."""
    found = (path for path in folder.rglob("*") if path.is_file())
    names = {path.relative_to(folder).as_posix(): path for path in found}
    passing = (".part", ".part.json", ".lock")  # an unfinished download, and what is known about it
    hidden = ("/.", "/_vlpart/tmp/")  # the second one for files of a bulk job that are being written
    kept = {
        name: path
        for name, path in names.items()
        if not any(each in f"/{name}" for each in hidden) and not name.endswith(passing)
    }
    return {name: path for name, path in kept.items() if not name.startswith("data/")}


def check_whole(path: Path) -> None:
    """Read a file that a command wrote; raises if it is not whole."""
    from PIL import Image

    if path.suffix == ".json":
        json.loads(path.read_bytes())
    elif path.suffix == ".jsonl" and path.name != "log.jsonl":  # of a log the last line may be cut off
        for line in path.read_text().splitlines():
            json.loads(line)
    elif path.suffix in (".jpg", ".png"):
        with Image.open(path) as image:
            image.load()
    elif path.suffix == ".safetensors":
        from safetensors import safe_open

        with safe_open(path, framework="numpy") as file:
            assert list(file.keys())
    elif path.suffix == ".parquet":
        from pyarrow import parquet

        parquet.read_table(path)
    elif path.suffix in (".xml", ".torchscript"):
        check_exported(path)
    elif path.suffix == ".pt":
        import torch

        torch.load(path, weights_only=True)
    elif path.name == "a.bin":
        assert path.read_bytes() == PAYLOAD, "another content"


def check_exported(path: Path) -> None:
    """An exported file, or another XML."""
    if path.suffix == ".torchscript":
        import torch

        torch.jit.load(str(path))
        return
    from xml.etree import ElementTree

    top = ElementTree.parse(path).getroot()
    if top.tag == "net":  # of OpenVINO
        from vlpart.export.predictor import load_exported

        load_exported(path, "openvino")


def unclear(text: str) -> Iterator[str]:
    """What is wrong with the standard error of a command that failed."""
    errors = [line for line in text.splitlines() if line.startswith("error: ")]
    if len(errors) != 1 or UNCLEAR.search(text):
        yield f"not one clear error line: {text[-600:]!r}"


def broken(folder: Path) -> Iterator[str]:
    """Files that are not whole."""
    for name, path in outputs(folder).items():
        try:
            check_whole(path)
        except Exception as error:  # noqa: BLE001 - whatever a broken file leads to
            yield f"{name} is not whole: {type(error).__name__}: {error}"


def neighbours(command: Command, wanted: dict[str, Path], folder: Path) -> Iterator[str]:
    """What goes wrong when two processes run a command at once in one folder."""
    command.prepare(folder)
    ends = [child.end() for child in [start(command, folder), start(command, folder)]]
    if all(code for code, _, _ in ends):
        yield f"both failed: {ends[0][1][-300:]} {ends[1][1][-300:]}"
    for code, text, _ in ends:
        if code != 0:
            yield from unclear(text)
    yield from broken(folder)
    if missing := set(wanted) - set(outputs(folder)):
        yield f"there is no {sorted(missing)[:5]}"


def problems(command: Command, wanted: dict[str, Path], folder: Path, kind: str, at: int) -> Iterator[str]:
    """What goes wrong when a fault strikes at a write."""
    command.prepare(folder)
    code, text, _ = start(command, folder, kind, at).end()
    if kind == "killed":
        if code not in (-signal.SIGKILL, 0):
            yield f"exit code {code} instead of a kill: {text[-300:]}"
    elif code != 0:
        yield from unclear(text)
    yield from broken(folder)
    again, text, _ = start(command, folder).end()
    if again != 0 and code == 0:  # nothing failed, and what is complete may be what is in the way
        yield from unclear(text)
    elif again != 0:
        yield f"the next run ends with {again}: {text[-600:]}"
    if missing := set(wanted) - set(outputs(folder)):
        yield f"after the next run there is no {sorted(missing)[:5]}"


class Journal:
    """What was struck already, in a file of JSON lines, so that a long sweep can be stopped and taken up again."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        lines = path.read_text().splitlines() if path is not None and path.is_file() else []
        self._known = {(name, kind, at): wrong for name, kind, at, wrong in map(json.loads, lines)}

    def once(self, name: str, kind: str, at: int, strike: Callable[[], list[str]]) -> list[str]:
        """What goes wrong at a strike, which is not made again if it is known."""
        if (name, kind, at) not in self._known:
            self._known[name, kind, at] = wrong = strike()
            if self._path is not None:
                with self._path.open("a") as file:
                    file.write(json.dumps([name, kind, at, wrong]) + "\n")
        return self._known[name, kind, at]


def undisturbed(name: str, folder: Path) -> tuple[dict[str, Path], int]:
    """The files that a command leaves without any fault, and how many writes it makes.

    It is run twice: what it imports is imported here after the first run, once and for all children to come.
    """
    command = COMMANDS[name]

    def telling(folder: Path) -> None:
        try:
            command.run(folder)
        finally:
            (folder / ".modules").write_text("\n".join(sys.modules))

    for run in (telling, command.run):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        command.prepare(folder)
        code, text, writes = start(Command(command.prepare, run), folder).end()
        assert code == 0, f"{name} ends with {code} without any fault: {text[-800:]}"
        assert writes > 0, f"{name} writes nothing"
        if run is telling:
            for module in (folder / ".modules").read_text().splitlines():
                with suppress(Exception):  # some are made while others are imported
                    importlib.import_module(module)
    return outputs(folder), writes


def sweep(
    name: str, *, every: int = 1, kinds: Sequence[str] = KINDS, journal: Path | None = None, once: bool = False
) -> tuple[int, list[str]]:
    """All faults at every n-th write of a command, then two of it at once: how many faults, and what went wrong.

    With `once` each kind of fault strikes once, all of them spread over the writes.
    """
    command, known = COMMANDS[name], Journal(journal)
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as base:
        top = Path(base).resolve()
        wanted, writes = undisturbed(name, top / "undisturbed")
        cases = 0

        def struck(kind: str, at: int) -> list[str]:
            folder = top / f"{kind}{at}"
            folder.mkdir()
            try:
                return list(problems(command, wanted, folder, kind, at))
            finally:
                shutil.rmtree(folder, ignore_errors=True)

        step = math.ceil(writes / len(kinds)) if once else every
        for number, at in enumerate(range(1, writes + 1, step)):
            # With every write only some of which are struck, each fault meets others of them.
            for kind in kinds if step == 1 and not once else [kinds[number % len(kinds)]]:
                cases += 1
                found = known.once(name, kind, at, partial(struck, kind, at))
                wrong += [f"{name}, {kind} at write {at} of {writes}: {each}" for each in found]
        both = top / "both"
        both.mkdir()
        wrong += [f"{name}, two at once: {each}" for each in neighbours(command, wanted, both)]
    return cases, wrong


# ---- the commands


def vlpart(*arguments: str) -> Callable[[Path], object]:
    """A command of the command line; `data` and `out` are folders of the case."""

    def run(folder: Path) -> None:
        from vlpart.cli.main import main

        sys.argv = ["vlpart", *arguments]
        main()

    return run


def make_data(folder: Path) -> None:
    """Two small images with a dog and its head, as a COCO file."""
    import numpy as np
    from PIL import Image

    images = folder / "data" / "images"
    images.mkdir(parents=True)
    noise = np.random.default_rng(0)
    listed, annotations = [], []
    for i in (1, 2):
        Image.fromarray(noise.integers(0, 256, (64, 96, 3), dtype=np.uint8)).save(images / f"{i}.png")
        listed.append({"id": i, "file_name": f"{i}.png", "width": 96, "height": 64})
        for category, (x, y, w, h) in ((1, (10, 8, 60, 48)), (2, (14, 12, 24, 20))):
            ring = [x, y, x + w, y, x + w, y + h, x, y + h]
            entry = {"bbox": [x, y, w, h], "area": w * h, "iscrowd": 0, "segmentation": [ring]}
            annotations.append({"id": len(annotations) + 1, "image_id": i, "category_id": category, **entry})
    categories = [{"id": 1, "name": "dog"}, {"id": 2, "name": "dog:head", "object": "dog", "part": "head"}]
    content = {"images": listed, "annotations": annotations, "categories": categories}
    for name in ("train.json", "val.json"):
        (folder / "data" / name).write_text(json.dumps(content))


PAYLOAD = bytes(range(256)) * 40


@contextmanager
def payload_server() -> Iterator[str]:
    """A server that has one file."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(PAYLOAD)))
            self.end_headers()
            self.wfile.write(PAYLOAD)

        def log_message(self, *args: Any) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/a.bin"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def _told() -> Iterator[None]:
    """Errors as on the command line."""
    from vlpart.cli.console import print_error
    from vlpart.errors import VlpartError

    try:
        yield
    except VlpartError as error:
        print_error(error)
        raise SystemExit(1) from None


def download(folder: Path) -> None:
    """A file of a server; errors as on the command line."""
    from vlpart.zoo.download import download_file

    os.environ["no_proxy"] = "127.0.0.1"
    with payload_server() as url, _told():
        download_file(url, folder / "out" / "a.bin")


def checkpoints(folder: Path) -> None:
    """What a training writes: log, figures, checkpoints, the best of them; errors as on the command line."""
    import torch

    from vlpart.training.checkpoint import mark_best, save_checkpoint
    from vlpart.training.logging import CsvSink, RunLog
    from vlpart.training.loop import run_lock

    content = {"recipe": {}, "model": {"w": torch.ones(64, 64)}, "ranks": [], "metrics": {}, "optimizer": {}}
    out = folder / "out"
    with _told(), run_lock(out):
        log, table = RunLog(out / "log.jsonl"), CsvSink(out / "metrics.csv", 0)
        for step in (1, 2):
            log.write({"step": step, "loss": 0.5})
            table.write(step, {"loss": 0.5})
            mark_best(save_checkpoint(out, step, content))
        log.close()


def text_vectors(folder: Path) -> None:
    """Vectors of names, kept in the cache folder; where they cannot be kept they are made all the same."""
    import numpy as np

    from vlpart.text.encoders import cached_vectors

    made = np.eye(2, 3, dtype=np.float32)
    assert (cached_vectors("key", ["a", "b"], 3, lambda phrases: made) == made).all()


def export(folder: Path) -> None:
    """A recipe as a file, for which there must be none yet."""
    (folder / "out" / "mine.py").unlink(missing_ok=True)
    vlpart("recipes", "export", "tiny", "--output", "out/mine.py")(folder)


def bulk(folder: Path) -> None:
    """A job of two blocks, in this process; what fails is not tried again after a pause."""
    from vlpart.bulk import places, run, tables, worker

    worker.PAUSE = 0.0
    native(places.Place, "make", lambda place: place.path)
    native(places.Place, "move", lambda place, target: target.path)
    native(tables.TableWriter, "close", lambda writer, facts: writer.place.path)
    native(tables.TableWriter, "__init__", lambda writer, place, table: place.path)
    with _told():
        run.bulk("data/images", "out", block_size=1, short_side=64, in_process=True)


def openvino(folder: Path) -> None:
    """The two files of OpenVINO, of a graph that does not depend on the image."""
    import onnx
    import openvino as library

    from tests.export.small_graph import FACTS_OF_IT, graph
    from vlpart.export.facts import Facts
    from vlpart.export.write import _write_onnx

    native(library, "save_model", lambda model, path, **options: path)
    facts = Facts.from_json(json.dumps(FACTS_OF_IT), "small")
    with _told():
        _write_onnx(onnx.load_from_string(graph()), facts, folder / "out" / "small.xml", as_openvino=True)


def make_out(folder: Path) -> None:
    """The folder of the results."""
    (folder / "out").mkdir()


FORMATS = "image,json,labels,coco,labelme,yolo"
COMMANDS = {
    "predict": Command(
        make_data,
        vlpart("predict", "data/images", "--output", "out", "--format", FORMATS, "--short-side", "64"),
    ),
    "evaluate": Command(
        make_data,
        vlpart("evaluate", "tiny", "--on", "data", "--output", "out", "--quick", "--short-side", "64"),
    ),
    "convert": Command(
        make_data,
        vlpart("data", "convert", "data/val.json", "--to", "yolo", "--output", "out"),
    ),
    "parse build": Command(
        make_data,
        vlpart(
            *("parse", "build", "out", "--annotations", "data/val.json", "--images", "data/images"),
            *("--features", "embedded", "--short-side", "64", "--overwrite"),
        ),
    ),
    "annotate": Command(make_data, vlpart("annotate", "data/images", "--output", "out", "--to", "labelme")),
    "bulk": Command(make_data, bulk),
    "export": Command(make_out, vlpart("export", "tiny", "--format", "torchscript", "--output", "out/a.torchscript")),
    "export openvino": Command(make_out, openvino),
    "recipes export": Command(make_out, export),
    "download": Command(lambda folder: None, download),
    "checkpoints": Command(make_out, checkpoints),
    "text vectors": Command(lambda folder: None, text_vectors),
}


Outcomes = dict[str, tuple[int, list[str]]]


def run(names: Sequence[str], *options: str, seconds: float = 1200) -> Outcomes:
    """`sweep` of commands in a fresh process with one thread, from which the children can be forked safely.

    Args:
        names: keys of `COMMANDS`.
        options: as on the command line of this module.
        seconds: how long it may take.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    command = [sys.executable, "-m", "tests.robustness.faults", *names, *options, "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=seconds, check=False)
    assert done.stdout, done.stderr[-2000:]
    return {name: (cases, wrong) for name, (cases, wrong) in json.loads(done.stdout.splitlines()[-1]).items()}


def main() -> None:
    """Run what the options say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=list(COMMANDS), nargs="+")
    parser.add_argument("--every", type=int, default=1, help="only every n-th write, with one kind of fault each")
    parser.add_argument("--once", action="store_true", help="every kind of fault strikes once, spread over the writes")
    parser.add_argument("--kind", choices=KINDS, action="append", help="only this kind of fault; may be repeated")
    parser.add_argument("--journal", type=Path, help="file that remembers what was struck: a stopped sweep goes on")
    parser.add_argument("--json", action="store_true", help="print (cases, what went wrong) of each command as JSON")
    options = parser.parse_args()
    import numpy as np
    import torch

    from vlpart.cli.main import application
    from vlpart.inference.predictor import load

    # What every process does once is done here, not in every child.
    torch.set_num_threads(1)
    for name in options.command:
        application(name.split()[0])
    if {"predict", "evaluate", "parse build", "annotate", "bulk", "export"} & set(options.command):
        result = load("tiny")(np.zeros((64, 96, 3), np.uint8), short_side=64, score_threshold=0.0, max_detections=9)
        result.plot()
    how = {"every": options.every, "kinds": options.kind or KINDS, "journal": options.journal, "once": options.once}
    outcomes = {name: sweep(name, **how) for name in options.command}
    if options.json:
        print(json.dumps(outcomes))
    else:
        for name, (cases, wrong) in outcomes.items():
            print(*wrong, f"{name}: {cases} faults, {len(wrong)} problems", sep="\n")
    sys.exit(any(wrong for _, wrong in outcomes.values()))


if __name__ == "__main__":
    main()
