"""Fixtures shared by the whole suite. The suite runs without the `shared` folder; tests that read it skip."""

from __future__ import annotations

import itertools
import logging
import os
import shutil
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

REPOSITORY = Path(__file__).resolve().parent.parent


def pytest_configure(config: pytest.Config) -> None:
    """Keep every worker on one thread: parallel workers would otherwise fight for the cores.

    A suite that a shell started in the background ignores Ctrl-C, and so would the programs that tests interrupt.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Slow and long tests, and those that need the internet, run only when they are asked for: `-m slow`, and so on."""
    asked = config.getoption("-m") or ""
    reasons = {
        "slow": "slow; run with -m slow",
        "long": "takes minutes; run with -m long",
        "network": "needs the internet; run with -m network",
    }
    for item in items:
        for mark, reason in reasons.items():
            if mark in item.keywords and mark not in asked:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session", autouse=True)
def hang_ups_are_heard() -> Iterator[None]:
    """Also where the tests run under `nohup`: what that ignores, every process that a test starts would ignore, too."""
    if not hasattr(signal, "SIGHUP") or signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        yield
        return
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


@pytest.fixture(scope="session")
def cache_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Names of folders that are not there yet, one after the other."""
    top = tmp_path_factory.mktemp("caches")
    return (top / str(number) for number in itertools.count())


@pytest.fixture(autouse=True)
def private_cache(cache_folders: Iterator[Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Every test has its own empty cache folder, which goes with it: nothing leaks in from (or into) the user's."""
    folder = next(cache_folders)
    folder.mkdir()
    monkeypatch.setenv("VLPART_CACHE", str(folder))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


class Outcome(NamedTuple):
    """What a command left behind: exit code, standard output, standard error."""

    code: int
    out: str
    err: str


Command = Callable[..., Outcome]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run `vlpart` with arguments in this process."""
    from vlpart import SPIN
    from vlpart.cli.main import main

    monkeypatch.setattr("signal.signal", lambda number, handler: None)
    monkeypatch.setenv("GOMP_SPINCOUNT", SPIN)  # set here, so that what the command sets does not stay
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "0")
    monkeypatch.delenv("VLPART_DATA", raising=False)

    log = logging.getLogger("vlpart")
    before = list(log.handlers)

    def run(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["vlpart", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        log.handlers[:] = before  # every call of the command adds one
        captured = capsys.readouterr()
        return Outcome(int(stopped.value.code or 0), captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def shared() -> Path:
    """Reference facts, data and parity fixtures: `$VLPART_SHARED`, or `../shared` beside the checkout."""
    folder = Path(os.environ.get("VLPART_SHARED") or REPOSITORY.parent / "shared")
    if not (folder / "facts").is_dir():
        pytest.skip("no shared folder: set VLPART_SHARED to run the tests that compare with it")
    return folder


@pytest.fixture(scope="session")
def tiny_weights() -> Path:
    """The weights of the embedded model, in the installed package."""
    import vlpart

    path = Path(vlpart.__file__).parent / "assets" / "models" / "tiny.safetensors"
    if not path.is_file():
        pytest.skip("this checkout has no embedded model (vlpart/assets/models/tiny.safetensors)")
    return path


@pytest.fixture(scope="session")
def photo_array() -> np.ndarray:
    """A small made-up image, (90, 120, 3) uint8 RGB: a gradient with two discs."""
    y, x = np.mgrid[:90, :120]
    image = np.stack([x * 2, y * 2, 255 - x - y], axis=2).clip(0, 255).astype(np.uint8)
    for cx, cy, radius, colour in ((35, 50, 20, (200, 30, 30)), (85, 45, 25, (30, 160, 60))):
        image[(x - cx) ** 2 + (y - cy) ** 2 <= radius**2] = colour
    return image


@pytest.fixture
def photo(photo_array: np.ndarray, tmp_path: Path) -> Path:
    """`photo_array` as a JPEG file."""
    path = tmp_path / "photo.jpg"
    Image.fromarray(photo_array).save(path, quality=92)
    return path


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """Give the address of a server that follows a talk with everybody who connects; what it was asked is in `asked`."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    over = threading.Event()
    listeners: list[socket.socket] = []

    def start(talk: Callable[[socket.socket, threading.Event], None], asked: list[bytes] | None = None) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def attend(line: socket.socket) -> None:
            with line, suppress(OSError):
                request = line.recv(65536)
                if asked is not None:
                    asked.append(request)
                talk(line, over)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    threading.Thread(target=attend, args=(listener.accept()[0],), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield start
    over.set()
    for listener in listeners:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
