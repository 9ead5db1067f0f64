"""A server on this machine with the routes of the Hugging Face hub that a download asks for: one repository."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class Repository:
    """What is published. `commits`: files of each, by its 40 digits; `names`: branches and tags."""

    name: str
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    token: str | None = None
    cuts: list[int] = field(default_factory=list)  # bytes of each large answer before the line drops
    asked: list[str] = field(default_factory=list)

    def publish(self, folder: Path, *names: str) -> str:
        """A commit with the files of a folder, under these names."""
        files = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
        commit = hashlib.sha1(b"".join(name.encode() + data for name, data in files.items())).hexdigest()
        self.commits[commit] = files
        self.names |= dict.fromkeys(names, commit)
        return commit


class Hub(ThreadingHTTPServer):
    """A server for one repository."""

    daemon_threads = True
    repository: Repository

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    """Revisions, trees and files, with the headers of the hub."""

    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        return

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        repository = self.server.repository
        repository.asked.append(f"{self.command} {self.path}")
        found = re.fullmatch(
            r"(?:/api/models/(?P<api>[^/]+/[^/]+)/(?P<kind>revision|tree)/(?P<at>[^/?]+)"
            r"|/(?P<repository>[^/]+/[^/]+)/resolve/(?P<of>[^/]+)/(?P<file>[^?]+))(?:\?.*)?",
            self.path,
        )
        if found is None or repository.name not in (found["api"], found["repository"]):
            return self.refuse(404, "RepoNotFound", "Repository not found")
        if repository.token and self.headers.get("Authorization") != f"Bearer {repository.token}":
            return self.refuse(401, "GatedRepo", "Access to this model is restricted")
        asked = found["at"] or found["of"]
        commit = repository.names.get(asked, asked)
        files = repository.commits.get(commit)
        if files is None:
            return self.refuse(404, "RevisionNotFound", f"Invalid rev id: {asked}")
        if found["file"] is not None:
            return self.send_file(commit, files, found["file"])
        if found["kind"] == "revision":
            listed = [{"rfilename": name} for name in files]
            return self.send_json(
                {"id": repository.name, "modelId": repository.name, "sha": commit, "siblings": listed}
            )
        return self.send_json(
            [{"type": "file", "path": name, "size": len(data), "oid": oid(data)} for name, data in files.items()]
        )

    def refuse(self, status: int, code: str, message: str) -> None:
        body = json.dumps({"error": message}).encode()
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", message)
        self.finish_with(body, "application/json")

    def send_json(self, value: object) -> None:
        self.send_response(200)
        self.finish_with(json.dumps(value).encode(), "application/json")

    def send_file(self, commit: str, files: dict[str, bytes], name: str) -> None:
        data = files.get(name)
        if data is None:
            return self.refuse(404, "EntryNotFound", "Entry not found")
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(wanted[1]) if wanted else 0
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("X-Repo-Commit", commit)
        self.send_header("ETag", f'"{oid(data)}"')
        self.send_header("Accept-Ranges", "bytes")
        return self.finish_with(data[start:], "application/octet-stream")

    def finish_with(self, body: bytes, content_type: str) -> None:
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        cuts = self.server.repository.cuts
        cut = cuts.pop(0) if cuts and len(body) > 1_000_000 else None
        with contextlib.suppress(ConnectionError):
            self.wfile.write(body[:cut])
        self.close_connection = self.close_connection or cut is not None


def oid(data: bytes) -> str:
    """The name that git gives to the content of a file."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@contextlib.contextmanager
def serving(repository: Repository) -> Iterator[Hub]:
    """The hub, for the length of a block."""
    with Hub(("127.0.0.1", 0), Handler) as running:
        running.repository = repository
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield running
        finally:
            running.shutdown()
            thread.join()
