"""Kinds of input that need an extra (videos, exported graphs, requests to the server), and what commands leave behind.

A kind whose extra is not installed is left out.
"""

from __future__ import annotations

import importlib.util
import io
import json
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from tests.robustness.mutations import KINDS, Kind, _annotations, _images
from vlpart.errors import VlpartError


def _videos() -> list[bytes]:
    import av

    made = []
    frames = np.random.default_rng(0).integers(0, 256, (3, 48, 64, 3), dtype=np.uint8)
    for form, codec in (("mp4", "libx264"), ("matroska", "libx264"), ("mpegts", "mpeg2video"), ("avi", "mjpeg")):
        buffer = io.BytesIO()
        with av.open(buffer, "w", format=form) as container:
            stream: Any = container.add_stream(codec, rate=10)
            stream.width, stream.height = 64, 48
            stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode(None))
        made.append(buffer.getvalue())
    return [*made, b"ffconcat version 1.0\nfile 'v.mp4'\n"]


def _read_video(path: Path) -> object:
    from vlpart.video.reader import open_video

    with open_video(str(path)) as video:
        return sum(1 for _ in video)


def _graphs() -> list[bytes]:
    from tests.export.small_graph import graph

    return [graph()]


def _read_graph(path: Path) -> object:
    from vlpart.export.predictor import load_exported

    return load_exported(path)(np.zeros((48, 64, 3), np.uint8)).names


BOUNDARY = b"b"


def _requests() -> list[bytes]:
    """A path, then the body: JSON where it begins with a brace, else a form."""
    import base64

    png = next(each for each in _images() if each.startswith(b"\x89PNG"))
    text = base64.b64encode(png).decode()
    address = f"data:image/png;base64,{text}"
    config = '<View><RectangleLabels name="a" toName="b"><Label value="dog"/></RectangleLabels></View>'
    asked = {"image": text, "vocabulary": "dog: head", "threshold": 0.5, "masks": ["rle"]}
    part = b'--b\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'
    result = {"format": "vlpart.result", "version": 2, "image_size": [24, 32], "vocabulary": {}, "detections": []}
    form = part % (b"image", b'; filename="a.png"', png) + part % (b"vocabulary", b"", b"dog") + b"--b--\r\n"
    files = part % (b"images", b'; filename="a.png"', png) + part % (b"formats", b"", b"json")
    files += part % (b"results", b"", json.dumps([result]).encode()) + b"--b--\r\n"
    made = [
        ("/v1/predict", json.dumps(asked).encode()),
        ("/v1/batch", json.dumps({"images": [text], "vocabulary": ["dog"]}).encode()),
        ("/v1/vocabulary", json.dumps({"vocabulary": "dog: head"}).encode()),
        ("/label-studio/predict", json.dumps({"tasks": [{"data": {"a": address}}], "label_config": config}).encode()),
        ("/x-anylabeling/v1/predict", json.dumps({"model": "tiny", "image": address, "params": {}}).encode()),
        ("/v1/predict", form),
        ("/v1/export", files),
    ]
    return [path.encode() + b"\n" + body for path, body in made]


@cache
def _server() -> Any:
    from starlette.testclient import TestClient

    from vlpart.serve.app import create_app
    from vlpart.serve.settings import ServeSettings

    client = TestClient(create_app(ServeSettings(hosts=None)), raise_server_exceptions=False)
    client.__enter__()  # it ends with the process
    client.post("/v1/predict", files={"image": _images()[1]})
    return client


PATHS = (
    "/v1/predict",
    "/v1/batch",
    "/v1/vocabulary",
    "/label-studio/predict",
    "/x-anylabeling/v1/predict",
    "/v1/export",
)


def _ask(path: Path) -> object:
    """Answers of 400 to 499 are refusals, those of 500 on are faults."""
    where, _, body = path.read_bytes().partition(b"\n")
    route = where.decode(errors="replace")
    route = route if route in PATHS else PATHS[len(body) % len(PATHS)]
    kind = "application/json" if body.lstrip()[:1] in b"{[" else "multipart/form-data; boundary=b"
    answer = _server().post(route, content=body, headers={"content-type": kind})
    assert answer.status_code < 500, f"{route}: {answer.status_code}"
    if answer.status_code >= 400:
        raise VlpartError(" ".join(str(answer.json()["detail"]).split())[:200])
    return answer.status_code


def _records() -> list[bytes]:
    from tests.annotation_parser.test_damaged_jobs import RECORD

    return [json.dumps(RECORD).encode()]


def _read_record(path: Path) -> object:
    import shutil

    from tests.annotation_parser.test_damaged_jobs import go_on

    folder = path.parent / "job"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return go_on(folder, path.read_bytes())


def _shards() -> list[bytes]:
    detection = {"image_id": 1, "category_id": 1, "bbox": [2.0, 2.0, 18.0, 18.0], "score": 0.5}
    lines = [{"image_id": i, "detections": [detection | {"image_id": i}], "proposals": []} for i in (1, 2)]
    return ["".join(json.dumps(line) + "\n" for line in lines).encode()]


def _read_shards(path: Path) -> object:
    from vlpart.evaluation.detections import check_detections
    from vlpart.evaluation.shards import read_shards

    return check_detections(json.loads(_annotations()[0]), read_shards(path.parent), with_masks=False)


MORE = {
    "parser records": Kind(_records, "r.json", _read_record, is_json=True),
    "shards": Kind(_shards, "shards/00000.jsonl", _read_shards),
    "videos": Kind(_videos, "v.mp4", _read_video),
    "exported graphs": Kind(_graphs, "g.onnx", _read_graph),
    "requests": Kind(_requests, "request", _ask, prepare=lambda: _server().get("/health")),
}
_NEEDED = {"videos": ("av",), "exported graphs": ("onnx", "onnxruntime"), "requests": ("fastapi", "httpx")}


def _is_here(name: str) -> bool:
    with suppress(ImportError):
        return all(importlib.util.find_spec(module) is not None for module in _NEEDED.get(name, ()))
    return False


ALL_KINDS = KINDS | {name: kind for name, kind in MORE.items() if _is_here(name)}
