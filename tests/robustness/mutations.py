"""Good inputs of every kind, ways to spoil them, and what reading one may lead to.

Case `i` of a kind is the same on every machine: it is made from a good input by a random generator seeded with `i`.
"""

from __future__ import annotations

import copy
import io
import json
import pickle
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.numpy import save as save_numpy
from safetensors.torch import save as save_torch

from vlpart.errors import VlpartError

ODD = (None, True, -1, 0, 2**31, 2**63, 10**30, 1e308, float("inf"), float("nan"), 0.5, "", "a", "\x1b[31m", "\ud800")
ODD += ("x" * 5000, [], {}, [[]], [0], {"a": 1}, [None] * 50)
BYTES = (b"\0", b"\xff" * 4, b"\x7f\xff\xff\xff", b"\x80\0\0\0", b"\0" * 16, b"(" * 40, b"}]" * 20)


@dataclass(frozen=True)
class Kind:
    """One kind of input: good ones, the name of its file, its reader, and what must be there before time is taken."""

    good: Callable[[], list[bytes]]
    file: str
    read: Callable[[Path], object]
    is_json: bool = False
    prepare: Callable[[], object] = lambda: None


def spoiled(kind: Kind, index: int) -> bytes:
    """Case `index`."""
    rng = random.Random(index)
    data = rng.choice(_good(kind))
    if kind.is_json and rng.random() < 0.8:
        return _spoiled_json(json.loads(data), rng)
    return _spoiled_bytes(data, rng)


_known: dict[Kind, list[bytes]] = {}


def _good(kind: Kind) -> list[bytes]:
    if kind not in _known:
        _known[kind] = kind.good()
    return _known[kind]


def outcome(kind: Kind, index: int, folder: Path) -> str:
    """Read case `index`: "read" or "refused". Whatever else is raised is a fault.

    Raises:
        AssertionError: an error that is not typed, or is more than one short line.
    """
    path = folder / kind.file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(spoiled(kind, index))
    try:
        kind.read(path)
    except VlpartError as error:
        message = str(error)
    except Exception as error:
        raise AssertionError(f"case {index}: {type(error).__name__}: {error}") from error
    else:
        return "read"
    assert message, f"case {index}: no message"
    assert "\n" not in message, f"case {index}: more than one line: {message}"
    assert len(message) < 30_000, f"case {index}: {len(message)} characters"
    return "refused"


def _spoiled_bytes(data: bytes, rng: random.Random) -> bytes:
    for _ in range(rng.randint(1, 4)):
        size = len(data)
        at = rng.randrange(size + 1) if rng.random() < 0.5 else rng.randrange(min(size, 200) + 1)
        way = rng.randrange(6)
        if way == 0:
            data = data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
        elif way == 1:
            data = data[:at]
        elif way == 2:
            data = data[:at] + rng.choice(BYTES) + data[at + rng.choice((0, 4)) :]
        elif way == 3:
            data = data[:at] + data[at + rng.randint(1, 20) :]
        elif way == 4:
            end = at + rng.randint(1, 100)
            data = data[:end] + data[at:end] * rng.randint(1, 5) + data[end:]
        else:
            data = data[:at] + rng.randbytes(rng.randint(1, 12)) + data[at:]
    return data


def _spoiled_json(document: Any, rng: random.Random) -> bytes:
    document = copy.deepcopy(document)
    for _ in range(rng.randint(1, 3)):
        places = list(_places(document))
        if not places:
            break
        holder, key = rng.choice(places)
        way = rng.randrange(4)
        if way == 0:
            del holder[key]
        elif way == 1 and isinstance(holder, list):
            holder.append(copy.deepcopy(holder[key]))
        else:
            holder[key] = copy.deepcopy(rng.choice(ODD))
    text = json.dumps(document)
    return text.replace("Infinity", "1e400").encode() if rng.random() < 0.2 else text.encode()


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in list(keys):
        yield value, key
        yield from _places(value[key])


# ---- good inputs


def _images() -> list[bytes]:
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8))
    Image.init()
    made = []
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "TGA", "ICO", "AVIF", "JPEG2000", "PCX"):
        if kind in Image.SAVE:
            buffer = io.BytesIO()
            image.save(buffer, kind)
            made.append(buffer.getvalue())
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", progressive=True)
    return [*made, buffer.getvalue()]


def _annotations() -> list[bytes]:
    square = [[2.0, 2.0, 20.0, 2.0, 20.0, 20.0, 2.0, 20.0]]
    rle = {"size": [24, 32], "counts": [50, 10, 708]}
    annotations = [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [2, 2, 18, 18], "segmentation": square, "area": 324.0},
        {"id": 2, "image_id": 1, "category_id": 2, "bbox": [2, 2, 4, 10], "segmentation": rle, "iscrowd": 1},
        {"id": 3, "image_id": 2, "category_id": 2, "bbox": [0, 0, 5, 5], "object_annotation_id": 1},
    ]
    images = [{"id": i, "width": 32, "height": 24, "file_name": f"{i}.jpg"} for i in (1, 2)]
    categories = [{"id": 1, "name": "dog"}, {"id": 2, "name": "dog:head", "object": "dog", "part": "head"}]
    return [json.dumps({"images": images, "annotations": annotations, "categories": categories}).encode()]


def _detections() -> list[bytes]:
    import pycocotools.mask

    mask = np.zeros((24, 32), np.uint8, order="F")
    mask[2:20, 2:20] = 1
    rle = pycocotools.mask.encode(mask)
    rle = {"size": [24, 32], "counts": rle["counts"].decode()}
    one = {"image_id": 1, "category_id": 1, "bbox": [2.0, 2.0, 18.0, 18.0], "score": 0.5}
    return [json.dumps([{**one, "segmentation": rle}] * 2).encode(), json.dumps({"annotations": [one]}).encode()]


def _tensors() -> dict[str, torch.Tensor]:
    return {"a.weight": torch.arange(12.0).reshape(3, 4), "a.bias": torch.ones(3).half()}


def _torch(legacy: bool) -> bytes:
    buffer = io.BytesIO()
    content = {"model": _tensors(), "step": 3, "names": ["a", ("b", 2)]}
    torch.save(content, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


def _weights() -> list[bytes]:
    arrays = {name: value.numpy() for name, value in _tensors().items()}
    pickles = [pickle.dumps({"model": arrays, "x": 1}, protocol=protocol) for protocol in (2, 4)]
    return [_torch(False), _torch(True), save_torch(_tensors()), *pickles]


def _checkpoints() -> list[bytes]:
    from vlpart.training.checkpoint import FORMAT

    parts = {"recipe": {}, "model": _tensors(), "optimizer": {}, "ranks": [], "ema": None, "metrics": {}}
    made = []
    for zipped in (True, False):
        buffer = io.BytesIO()
        torch.save({"format": FORMAT, "step": 1, **parts}, buffer, _use_new_zipfile_serialization=zipped)
        made.append(buffer.getvalue())
    return made


def _recipe() -> list[bytes]:
    recipe = {"architecture": "tiny", "text_encoder": "static", "name": "mine", "score_threshold": 0.5}
    return [json.dumps({**recipe, "detections_per_image": 100, "initial_share": 0.25}).encode()]


def _results() -> list[bytes]:
    from vlpart.results.result import Result
    from vlpart.text.vocabulary import Vocabulary

    masks = np.zeros((2, 24, 32), bool)
    masks[0, 2:20, 2:20] = masks[1, 4:8, 4:8] = True
    result = Result(
        image_size=(24, 32),
        boxes_xyxy=[[2, 2, 20, 20], [4, 4, 8, 8]],
        scores=[0.75, 0.5],
        class_ids=[0, 1],
        masks=masks,
        vocabulary=Vocabulary.parse("dog: head"),
    )
    return [result.to_json().encode()]


def _vocabularies() -> list[bytes]:
    from vlpart.text.vocabulary import Vocabulary

    return [json.dumps(Vocabulary.parse("car: wheel, door; dog head; person").to_dict()).encode()]


# ---- readers


def _read_image(path: Path) -> object:
    from vlpart.data.images import read_image

    return read_image(path, max_pixels=1_000_000)


def _read_annotations(path: Path) -> object:
    from vlpart.data.readers import get_reader

    found = get_reader("coco")(path)
    return [list(image.annotations) for image in found.images]


def _read_detections(path: Path) -> object:
    from vlpart.evaluation.detections import check_detections, read_detections

    truth = json.loads(_annotations()[0])
    found = read_detections(path)
    masks = all("segmentation" in each for each in found)
    return check_detections(truth, found, with_masks=masks)


def _read_vocabulary(path: Path) -> object:
    from vlpart.text.vocabulary import Vocabulary

    return Vocabulary.load(path).parts_of(0)


def _read_weights(path: Path) -> object:
    from vlpart.zoo.weights import as_float32, load_state_dict

    return as_float32(load_state_dict(path), path)


def _read_checkpoint(path: Path) -> object:
    from vlpart.training.checkpoint import load_checkpoint

    return load_checkpoint(path)


def _read_run(path: Path) -> object:
    from vlpart.zoo.run_folder import open_run

    (path.parent / "vocabulary.json").write_text('["dog"]')
    (path.parent / "weights.safetensors").touch()
    return open_run(path.parent).entry


def _read_log(path: Path) -> object:
    from vlpart.training.logging import RunLog

    RunLog(path, resume_step=2).close()
    return path.read_text()


def _read_result(path: Path) -> object:
    from vlpart.results.result import Result

    return Result.load(path).summary()


def _read_cache(path: Path) -> object:
    """A spoiled file of text vectors is made again, or is the one that was written."""
    from vlpart.text import encoders

    vectors = encoders._read(path, "key", (2, 3))
    assert vectors is None or np.isfinite(vectors).all()
    return vectors


def _cache() -> list[bytes]:
    from hashlib import sha256

    both = (np.eye(2, 3, dtype=np.float32), np.full((2, 3), np.nan, np.float32))
    return [save_numpy({"vectors": v}, {"key": "key", "sha256": sha256(v.tobytes()).hexdigest()}) for v in both]


def _answers() -> list[bytes]:
    image = _images()[1]
    head = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: %d\r\n\r\n" % len(image)
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(image), image)
    return [head + image, chunked, b"HTTP/1.1 302 Found\r\nLocation: /b\r\n\r\n", b"HTTP/1.1 404 No\r\n\r\n"]


def _read_answer(path: Path) -> object:
    from vlpart.data.images import read_image

    with _server(path.read_bytes()) as url:
        return read_image(f"{url}/a.png", max_pixels=1_000_000, timeout=0.5)


@contextmanager
def _server(answer: bytes) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def handle(self) -> None:
            try:
                self.request.recv(65536)
                self.request.sendall(answer)
            except OSError:
                return

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            return

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def _voc() -> list[bytes]:
    box = "<bndbox><xmin>2</xmin><ymin>2</ymin><xmax>20</xmax><ymax>20</ymax></bndbox>"
    size = "<size><width>32</width><height>24</height><depth>3</depth></size>"
    item = f"<object><name>dog</name><difficult>0</difficult>{box}</object>"
    return [f"<annotation><filename>a.jpg</filename>{size}{item}{item}</annotation>".encode()]


def _cvat() -> list[bytes]:
    box = '<box label="dog" xtl="2" ytl="2" xbr="20" ybr="20" occluded="0"/>'
    polygon = '<polygon label="dog" points="2,2;20,2;20,20" group_id="1"/>'
    mask = '<mask label="dog" rle="3, 5, 8" left="2" top="2" width="4" height="4"/>'
    image = f'<image id="0" name="a.jpg" width="32" height="24">{box}{polygon}{mask}</image>'
    return [f"<annotations><meta><task/></meta>{image}</annotations>".encode()]


def _read_voc(path: Path) -> object:
    from vlpart.data.readers.voc import parse_voc

    return parse_voc(path)


def _read_cvat(path: Path) -> object:
    from vlpart.data.readers.cvat import read_cvat

    return read_cvat(path).pictures


def _read_yaml(path: Path) -> object:
    from vlpart.data.readers.yolo import read_yolo

    (path.parent / "images").mkdir(exist_ok=True)
    Image.new("RGB", (32, 24)).save(path.parent / "images" / "a.png")
    return read_yolo(path).names


def _read_job(path: Path) -> object:
    """A job goes on with what is whole of its lines; the rest is made again."""
    from vlpart.jobs import Job

    (path.parent / "settings.json").write_text('{"a": 1, "items": 3}')
    found: list[object] = []
    job = Job(folder=path.parent, settings={"a": 1}, total=3)
    job.run(lambda items: ((item, {"made": item}) for item in items), found.extend)
    assert len(found) == 3, f"{len(found)} records of 3"
    return found


YAML = b"path: .\ntrain: images\nval: images\nnc: 2\nnames:\n  0: dog\n  1: 'dog:head'  # a part\n"
JOB = b'{"item": 0, "record": {"a": [1, 2]}}\n{"item": 2, "record": {"skipped": "b", "image": "c"}}\n'

KINDS = {
    "images": Kind(_images, "a.img", _read_image),
    "annotations": Kind(_annotations, "a.json", _read_annotations, is_json=True),
    "detections": Kind(_detections, "d.json", _read_detections, is_json=True),
    "vocabularies": Kind(_vocabularies, "v.json", _read_vocabulary, is_json=True),
    "name lists": Kind(lambda: ["car: wheel, door\ndog head\n# é\nperson\n".encode()], "v.txt", _read_vocabulary),
    "weights": Kind(_weights, "w.pth", _read_weights),
    "checkpoints": Kind(_checkpoints, "step_00000001.pt", _read_checkpoint),
    "run folders": Kind(_recipe, "run/recipe.json", _read_run, is_json=True),
    "logs": Kind(lambda: [b'{"step": 1, "loss": 0.5}\n{"step": 2, "loss": 0.25}\n'], "log.jsonl", _read_log),
    "saved results": Kind(_results, "r.json", _read_result, is_json=True),
    "text caches": Kind(_cache, "c.safetensors", _read_cache),
    "VOC": Kind(_voc, "v.xml", _read_voc),
    "CVAT": Kind(_cvat, "annotations.xml", _read_cvat),
    "YOLO data": Kind(lambda: [YAML], "data.yaml", _read_yaml),
    "parser jobs": Kind(lambda: [JOB], "job/items-0-x.jsonl", _read_job),
    "server answers": Kind(_answers, "answer", _read_answer),
}
