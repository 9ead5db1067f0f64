"""A server in this process, with the embedded model: its routes, or the whole of it behind a socket."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi", reason='needs the extra "serve"')
pytest.importorskip("httpx", reason="the test client of starlette needs httpx")

from starlette.testclient import TestClient

from tests.serve.studio import BROWSERS, Open, Studio
from vlpart.serve.app import SAMPLE, create_app
from vlpart.serve.settings import ServeSettings

Start = Callable[..., tuple[str, int]]


@pytest.fixture(scope="session")
def client(tiny_weights: Path) -> Iterator[TestClient]:
    with TestClient(create_app(ServeSettings(hosts=None, max_pixels=1_000_000))) as started:
        yield started


@pytest.fixture(scope="session")
def sample() -> bytes:
    return SAMPLE.read_bytes()


def png(width: int = 64, height: int = 48, mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(buffer, "PNG")
    return buffer.getvalue()


@contextlib.contextmanager
def serving(**settings: object) -> Iterator[tuple[str, int]]:
    """A whole server on loopback, in a thread: settings in, host and port out."""
    import uvicorn

    from vlpart.serve.protocol import guarded

    chosen = ServeSettings(**settings)  # type: ignore[arg-type]
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        create_app(chosen),
        http=guarded(chosen.header_seconds),
        ws="none",
        lifespan="on",
        log_config=None,
        limit_concurrency=chosen.connections,
        timeout_graceful_shutdown=2,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    deadline = time.monotonic() + 60
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.02)
    assert server.started
    yield listening.getsockname()
    server.should_exit = True
    thread.join(20)
    assert not thread.is_alive()


@pytest.fixture
def start(tiny_weights: Path) -> Iterator[Start]:
    """Start servers that end with the test."""
    with contextlib.ExitStack() as running:
        yield lambda **settings: running.enter_context(serving(**settings))


def talk(address: tuple[str, int], *chunks: bytes, pause: float = 0.0, timeout: float = 20.0) -> bytes:
    """Send chunks with pauses, then read until the server ends the connection."""
    with socket.create_connection(address, timeout=timeout) as connection:
        for chunk in chunks:
            with contextlib.suppress(ConnectionError):
                connection.sendall(chunk)
            time.sleep(pause)
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while chunk := connection.recv(1 << 16):
                received += chunk
        return received


# ---- the page in a browser


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    playwright_api = pytest.importorskip("playwright.sync_api", reason="the tests of the page need playwright")
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    with playwright_api.sync_playwright() as playwright:
        own = Path(playwright.chromium.executable_path)
        if found is None and not own.is_file():
            pytest.skip("no Chromium: install one, or name it in the variable CHROMIUM")
        camera = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
        started = playwright.chromium.launch(executable_path=found or str(own), args=["--no-sandbox", *camera])
        yield started
        started.close()


@pytest.fixture(scope="session")
def address(tiny_weights: Path) -> Iterator[str]:
    with serving(token="abc") as (host, port):
        yield f"http://{host}:{port}/#token=abc"


@pytest.fixture
def studio(browser: Any, address: str) -> Iterator[Open]:
    """Open pages; at the end all must have gone well, and none asked anybody but its own server."""
    opened: list[Studio] = []

    def new(**options: Any) -> Studio:
        opened.append(Studio(browser, address, options))
        return opened[-1]

    yield new
    own = address.partition("#")[0]
    for each in opened:
        each.context.close()
        assert each.errors == []
        assert [url for url in each.asked if not url.startswith((own, f"blob:{own}"))] == []
