"""What strangers send: no answer of 500, nothing read outside the folder of images, bounds of time and memory."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.serve.conftest import png
from vlpart.serve.app import create_app
from vlpart.serve.bodies import MAX_VALUES
from vlpart.serve.settings import ServeSettings

IMAGE = base64.b64encode(png()).decode()
ADDRESS = f"data:image/png;base64,{IMAGE}"
ODD: tuple[Any, ...] = (None, True, -1, 1e308, 10**400, "\ud800", "\0", "x" * 100_000, [], {}, [[]], ["\ud800"], [None])
JSON_PATHS = ("/v1/predict", "/v1/batch", "/v1/vocabulary", "/label-studio/predict", "/x-anylabeling/v1/predict")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("served")
    (top / "secret.png").write_bytes(png())
    images = top / "images"
    images.mkdir()
    (images / "a.png").write_bytes(png())
    if os.name != "nt":
        os.mkfifo(images / "pipe.png")
        (images / "zero.png").symlink_to("/dev/zero")
        (images / "loop.png").symlink_to("loop.png")
        (images / "out.png").symlink_to(top / "secret.png")
    return images


@pytest.fixture(scope="module")
def server(folder: Path, tiny_weights: Path) -> Iterator[TestClient]:
    app = create_app(ServeSettings(hosts=None, images=folder, max_pixels=1_000_000, max_body=20_000_000))
    with TestClient(app, raise_server_exceptions=False) as started:
        yield started


def post(server: TestClient, path: str, content: Any) -> tuple[int, str]:
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    answer = server.post(path, content=data, headers={"content-type": "application/json"})
    return answer.status_code, answer.text


@pytest.mark.parametrize(
    "name",
    [
        *("pipe.png", "zero.png", "loop.png", "../secret.png", "%2e%2e/secret.png", "absent.png", "."),
        *("a%00b", "%ff%fe", "x" * 5000, "/etc/passwd"),
    ],
)
@pytest.mark.parametrize("form", ["/data/local-files/?d={}", "/data/upload/{}", "file:///{}", "http://127.0.0.1:9/{}"])
def test_tasks_name_files_below_the_folder_alone(form: str, name: str, server: TestClient) -> None:
    status, said = post(server, "/label-studio/predict", {"tasks": [{"data": {"image": form.format(name)}}]})
    assert status == 422, said
    assert "below the folder of --images" in said


@pytest.mark.parametrize("address", ["http://[bad", "\ud800", "s3://bucket/a.png", "//evil/a.png", "data:", "data:,x"])
def test_tasks_of_no_address(address: str, server: TestClient) -> None:
    assert post(server, "/label-studio/predict", {"tasks": [{"data": {"image": address}}]})[0] == 422


@pytest.mark.parametrize("name", ["a.png", "out.png"])
def test_a_task_of_the_folder_is_answered(name: str, server: TestClient) -> None:
    """Links too: the images of a project of `vlpart annotate` are links, and no client can make one."""
    task = {"data": {"image": f"/data/local-files/?d={name}"}}
    assert post(server, "/label-studio/predict", {"tasks": [task]})[0] == 200


@pytest.mark.parametrize("path", JSON_PATHS)
def test_bodies_that_grow_when_they_are_read(path: str, server: TestClient) -> None:
    dense = b'{"a":[' + b"[]," * MAX_VALUES + b"[]]}"
    assert post(server, path, dense) == (413, '{"detail": "the JSON text has more than 1,000,000 values"}')
    for deep in (b"[" * 200_000, b'{"a":' * 100_000 + b"1" + b"}" * 100_000, b'{"a":' + b"9" * 100_000 + b"}"):
        assert 400 <= post(server, path, deep)[0] < 500


def test_results_that_grow_when_they_are_read(server: TestClient) -> None:
    fields = {"formats": "json", "results": "[" + "[]," * MAX_VALUES + "[]]"}
    answer = server.post("/v1/export", data=fields, files={"images": ("a.png", png())})
    assert (answer.status_code, "results: more than" in answer.text) == (413, True)


@pytest.mark.parametrize("key", ["image_size", "vocabulary", "detections", "format", "version"])
def test_results_of_odd_values(key: str, server: TestClient) -> None:
    good = {"format": "vlpart.result", "version": 2, "image_size": [48, 64], "detections": [], "vocabulary": {}}
    for value in ODD:
        fields = {"formats": "json", "results": json.dumps([{**good, key: value}])}
        answer = server.post("/v1/export", data=fields, files={"images": ("a.png", png())})
        assert answer.status_code == 422, answer.text


@pytest.mark.parametrize("key", ["model", "vocabulary", "threshold", "iou", "masks", "short_side", "\ud800"])
def test_options_of_odd_values(key: str, server: TestClient) -> None:
    for value in ODD:
        assert post(server, "/v1/predict", {"image": IMAGE, key: value})[0] in (200, 404, 422)


@pytest.mark.parametrize(
    "path", ["/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py", "/static//etc/passwd"]
)
def test_the_page_gives_its_own_files_only(path: str, server: TestClient) -> None:
    assert server.get(path).status_code == 404
