"""A server on this machine that follows a script: ranges, errors, broken lines."""

from __future__ import annotations

import contextlib
import hashlib
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from vlpart.zoo import download

DATA = bytes(range(256)) * 4096  # 1 MiB
SHA256 = hashlib.sha256(DATA).hexdigest()


@dataclass
class Script:
    """What the server does. `cuts`: bytes of each answer before the line drops; `statuses`: errors to give first."""

    data: bytes = DATA
    cuts: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    ranges: bool = True
    etag: str = '"one"'
    content_type: str = "application/octet-stream"
    say_length: bool = True
    redirect: bool = False
    asked: list[str | None] = field(default_factory=list)


class Server(ThreadingHTTPServer):
    """A server that follows a script."""

    daemon_threads = True
    script: Script

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/files/model.pth"


class Handler(BaseHTTPRequestHandler):
    """GET with ranges, errors and broken lines."""

    server: Server

    def log_message(self, *_: object) -> None:
        return

    def do_GET(self) -> None:
        script = self.server.script
        wanted = self.headers.get("Range")
        if script.redirect and self.path.startswith("/files/"):
            self.send_response(302)
            self.send_header("Location", "/elsewhere")
            self.end_headers()
            return
        script.asked.append(wanted)
        if script.statuses:
            self.send_error(script.statuses.pop(0))
            return
        start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and script.ranges else 0  # type: ignore[index]
        if self.headers.get("If-Range") not in (None, script.etag):
            start = 0
        if start >= len(script.data) and start:
            self.send_error(416)
            return
        body = script.data[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(script.data) - 1}/{len(script.data)}")
        if script.say_length:
            self.send_header("Content-Length", str(len(body)))
        if script.etag:
            self.send_header("ETag", script.etag)
        self.send_header("Content-Type", script.content_type)
        self.end_headers()
        sent = body[: script.cuts.pop(0)] if script.cuts else body
        with contextlib.suppress(ConnectionError):
            self.wfile.write(sent)
        self.close_connection = True


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(download, "PAUSE", 0.0)
    with Server(("127.0.0.1", 0), Handler) as running:
        running.script = Script()
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield running
        running.shutdown()
        thread.join()
