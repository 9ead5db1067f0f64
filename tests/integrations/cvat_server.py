"""The routes of a CVAT server that `cvat-cli task auto-annotate` calls, for one task, and what was sent to it.

Answers have the fields that the SDK's own models of the API demand; the SDK checks them as it does those of a server.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import threading
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from PIL import Image

TASK, USER, PASSWORD = 7, "ann", "secret"
_WHEN = "2026-01-01T00:00:00Z"


@dataclass
class Server:
    """A task with its images, and what clients did.

    Attributes:
        images: name and bytes of each frame.
        labels: name and type of each label; ids are 101, 102, ...
        version: that it says it has.
        deleted: frames that were taken out.
        asked: method and path of every request.
        uploads: action and body of every upload of annotations.
    """

    images: Sequence[tuple[str, bytes]]
    labels: Mapping[str, str]
    version: str
    deleted: Sequence[int] = ()
    asked: list[str] = field(default_factory=list)
    uploads: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    address: str = ""

    def label_id(self, name: str) -> int:
        """The id of a label."""
        return 101 + list(self.labels).index(name)

    def task(self) -> dict[str, Any]:
        """The task itself."""
        return {
            "id": TASK,
            "name": "parts",
            "url": f"{self.address}/api/tasks/{TASK}",
            "mode": "annotation",
            "owner": None,
            "assignee": None,
            "bug_tracker": "",
            "created_date": _WHEN,
            "updated_date": _WHEN,
            "overlap": 0,
            "segment_size": 100,
            "status": "annotation",
            "subset": "",
            "dimension": "2d",
            "data_chunk_size": 2,
            "data_compressed_chunk_type": "imageset",
            "data_original_chunk_type": "imageset",
            "size": len(self.images),
            "image_quality": 70,
            "data": 3,
            "project_id": None,
            "organization": None,
            "guide_id": None,
            "source_storage": None,
            "target_storage": None,
            "validation_mode": None,
            "labels": {"url": f"{self.address}/api/labels?task_id={TASK}"},
            "jobs": {"count": 1, "completed": 0, "validation": 0, "url": f"{self.address}/api/jobs?task_id={TASK}"},
        }

    def label_page(self) -> dict[str, Any]:
        """All labels, as one page."""
        labels = [
            {
                "id": self.label_id(name),
                "name": name,
                "type": kind,
                "color": "#33ddff",
                "task_id": TASK,
                "attributes": [],
                "sublabels": [],
                "has_parent": False,
                "parent_id": None,
            }
            for name, kind in self.labels.items()
        ]
        return {"count": len(labels), "next": None, "previous": None, "results": labels}

    def meta(self) -> dict[str, Any]:
        """Sizes and names of the frames."""
        frames = []
        for name, data in self.images:
            width, height = Image.open(io.BytesIO(data)).size
            frames.append({"width": width, "height": height, "name": name, "related_files": 0})
        return {
            "chunk_size": 2,
            "size": len(frames),
            "image_quality": 70,
            "start_frame": 0,
            "stop_frame": len(frames) - 1,
            "frame_filter": "",
            "frames": frames,
            "deleted_frames": list(self.deleted),
            "included_frames": None,
            "storage": "local",
            "storage_method": "cache",
            "chunks_updated_date": _WHEN,
        }

    def chunk(self, number: int) -> bytes:
        """The images of two frames, as a ZIP."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for i, (_, data) in enumerate(self.images[2 * number : 2 * number + 2]):
                archive.writestr(f"{i:06d}.png", data)
        return buffer.getvalue()


class _Handler(BaseHTTPRequestHandler):
    state: Server

    def do_GET(self) -> None:
        route, query = self._route()
        if route == "/api/server/about":
            about = {"name": "CVAT", "description": "", "version": self.state.version, "logo_url": "", "subtitle": ""}
            return self._json(about)
        if not self._logged_in():
            return self._json({"detail": "Authentication credentials were not provided."}, 401)
        if route == f"/api/tasks/{TASK}":
            return self._json(self.state.task())
        if route == "/api/labels":
            return self._json(self.state.label_page())
        if route == f"/api/tasks/{TASK}/data/meta":
            return self._json(self.state.meta())
        if route == f"/api/tasks/{TASK}/data" and query.get("type") == ["chunk"]:
            return self._send(self.state.chunk(int(query["number"][0])), "application/zip")
        return self._json({"detail": "Not found."}, 404)

    def do_POST(self) -> None:
        route, _ = self._route()
        body = self._body()
        if route == "/api/auth/login":
            if (body.get("username"), body.get("password")) != (USER, PASSWORD):
                return self._json({"non_field_errors": ["Unable to log in with provided credentials."]}, 400)
            return self._json({"key": "k"}, cookies=("sessionid=s1", "csrftoken=c1"))
        if route == "/api/auth/logout":
            return self._json({"detail": "ok"})
        return self._json({"detail": "Not found."}, 404)

    def do_PATCH(self) -> None:
        self._upload(lambda query: query["action"][0])

    def do_PUT(self) -> None:
        self._upload(lambda query: "replace")

    def _upload(self, action: Any) -> None:
        route, query = self._route()
        body = self._body()
        if route != f"/api/tasks/{TASK}/annotations" or not self._logged_in():
            return self._json({"detail": "Not found."}, 404)
        self.state.uploads.append((action(query), body))
        return self._json({"version": 1, "tags": [], "shapes": [], "tracks": []})

    def _route(self) -> tuple[str, dict[str, list[str]]]:
        parts = urlsplit(self.path)
        self.state.asked.append(f"{self.command} {parts.path}")
        return parts.path.rstrip("/"), parse_qs(parts.query)

    def _body(self) -> dict[str, Any]:
        return dict(json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}"))

    def _logged_in(self) -> bool:
        return bool(re.search(r"\bsessionid=s1\b", self.headers.get("Cookie") or ""))

    def _json(self, content: object, status: int = 200, cookies: Sequence[str] = ()) -> None:
        self._send(json.dumps(content).encode(), "application/json", status, cookies)

    def _send(self, data: bytes, kind: str, status: int = 200, cookies: Sequence[str] = ()) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        for cookie in cookies:
            self.send_header("Set-Cookie", f"{cookie}; Path=/")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Nothing is printed."""


@contextlib.contextmanager
def running(state: Server) -> Iterator[Server]:
    """The server on a free port of this machine, while the block runs."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"state": state}))
    state.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
