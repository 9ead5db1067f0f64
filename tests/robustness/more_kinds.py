"""Kinds of input that need an extra (videos, exported graphs, requests to the server), and what commands leave behind.

A kind whose extra is not installed is left out.
"""

from __future__ import annotations

import importlib.util
import io
import json
import tarfile
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from tests.robustness.mutations import KINDS, Kind, _annotations, _images, _results
from vlpart.errors import VlpartError
from vlpart.results.result import Result


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


BULK_SETTINGS = {"vocabulary": {"entries": [{"id": 1, "name": "dog"}, {"id": 2, "name": "dog:head"}]}, "iou": 0.7}


@cache
def _bulk_job() -> dict[str, bytes]:
    """The files of a finished job of two images, by name."""
    from vlpart.bulk import job
    from vlpart.bulk.places import open_place
    from vlpart.bulk.tables import SCHEMAS, TableWriter, detection_rows, file_of

    with tempfile.TemporaryDirectory() as base:
        for name in ("a", "b"):
            (Path(base) / f"{name}.png").touch()
        dest = open_place(f"{base}/out")
        job.prepare(dest, BULK_SETTINGS, base, "path", 2)
        tables: dict[str, TableWriter] = {}
        for name in SCHEMAS:
            (dest / name).make()
            tables[name] = TableWriter(file_of(dest, name, 0), name)
        found = Result.from_dict(json.loads(_results()[0]))
        tables["detections"].add(detection_rows(0, "a.png", found), len(found))
        size = {"width": [32], "height": [24], "detections": [len(found)]}
        tables["images"].add({"image_id": [0], "path": ["a.png"], **size}, 1)
        tables["failed"].add({"image_id": [1], "path": ["b.png"], "reason": ["it is empty"]}, 1)
        for writer in tables.values():
            writer.close({"vlpart.images": "1", "vlpart.failed": "1", "vlpart.detections": "2"})
        top = Path(base) / "out"
        return {path.relative_to(top).as_posix(): path.read_bytes() for path in top.rglob("*") if path.is_file()}


def _bulk_file(name: str) -> Kind:
    """One of the files of a job, which are all read."""

    def read(path: Path) -> object:
        top = path.parents[name.count("/")]
        for other, content in _bulk_job().items():
            if other != name:
                (top / other).parent.mkdir(parents=True, exist_ok=True)
                (top / other).write_bytes(content)
        return _read_bulk(top)

    good, is_json = (lambda: [_bulk_job()[name]]), name.endswith(".json")
    return Kind(good, f"out/{name}", read, is_json, prepare=_bulk_job)


def _read_bulk(folder: Path) -> object:
    import pyarrow

    from vlpart.bulk import job
    from vlpart.bulk.places import open_place
    from vlpart.bulk.tables import facts_of, file_of, read_results

    dest = open_place(str(folder))
    plan = job.prepare(dest, BULK_SETTINGS, str(folder), "path", 2)
    try:
        items = [len(job.items_of(dest, block)) for block in range(plan.blocks)][:3]
        facts = facts_of(file_of(dest, "images", 0))
    except (OSError, LookupError, ValueError, pyarrow.ArrowException) as error:  # as a worker takes them
        raise VlpartError(" ".join(str(error).split())[:300] or type(error).__name__) from error
    return items, facts, job.failures(dest, job.finished(dest)), [len(each) for each in read_results(str(folder))]


def _tars() -> list[bytes]:
    made = []
    for mode in ("w", "w:gz"):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode=mode, format=tarfile.PAX_FORMAT) as archive:  # type: ignore[call-overload]
            for name in ("a.png", "é" * 60 + ".png", "b.txt"):
                info = tarfile.TarInfo(name)
                info.size = len(data := _images()[1])
                archive.addfile(info, io.BytesIO(data))
        made.append(buffer.getvalue())
    return made


def _read_tar(path: Path) -> object:
    from vlpart.bulk.sources import members

    with path.open("rb") as stream:
        found = list(members(stream, str(path)))
    reasons = [content for _, content in found if isinstance(content, VlpartError)]
    if reasons:
        raise reasons[-1]
    return len(found)


MORE = {
    "bulk plans": _bulk_file("_vlpart/plan.json"),
    "bulk settings": _bulk_file("_vlpart/settings.json"),
    "bulk lists": _bulk_file("_vlpart/plan/00000000.parquet"),
    "bulk tables": _bulk_file("images/00000000.parquet"),
    "bulk detections": _bulk_file("detections/00000000.parquet"),
    "bulk failures": _bulk_file("failed/00000000.parquet"),
    "bulk shards": Kind(_tars, "a.tar", _read_tar, prepare=_bulk_job),
    "parser records": Kind(_records, "r.json", _read_record, is_json=True),
    "shards": Kind(_shards, "shards/00000.jsonl", _read_shards),
    "videos": Kind(_videos, "v.mp4", _read_video),
    "exported graphs": Kind(_graphs, "g.onnx", _read_graph),
    "requests": Kind(_requests, "request", _ask, prepare=lambda: _server().get("/health")),
}
_NEEDED = {name: ("pyarrow",) for name in MORE if name.startswith("bulk")}
_NEEDED |= {"videos": ("av",), "exported graphs": ("onnx", "onnxruntime"), "requests": ("fastapi", "httpx")}


def _is_here(name: str) -> bool:
    with suppress(ImportError):
        return all(importlib.util.find_spec(module) is not None for module in _NEEDED.get(name, ()))
    return False


ALL_KINDS = KINDS | {name: kind for name, kind in MORE.items() if _is_here(name)}
