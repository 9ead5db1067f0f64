"""The routes of labelling tools, asked as the tools ask."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from tests.serve.conftest import Start, png
from vlpart.inference.predictor import load
from vlpart.integrations.annotate import annotate_folder
from vlpart.integrations.label_studio import labelling_config
from vlpart.serve.app import SAMPLE, create_app
from vlpart.serve.settings import ServeSettings


def address(image: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(image).decode()


def test_label_studio(client: TestClient, sample: bytes) -> None:
    config = labelling_config("person: hair, nose")
    assert client.get("/label-studio/health").json()["status"] == "UP"
    setup = client.post(
        "/label-studio/setup", json={"project": "1.1", "schema": config, "hostname": "", "access_token": ""}
    )
    assert setup.json() == {"model_version": "vlpart tiny"}
    asked = {"tasks": [{"id": 1, "data": {"image": address(sample)}}], "label_config": config, "params": {}}
    answer = client.post("/label-studio/predict", json=asked)
    assert answer.status_code == 200
    (prediction,) = answer.json()["results"]
    names = {shape["value"][shape["type"]][0] for shape in prediction["result"]}
    assert "person" in names and names <= {"person", "person:hair", "person:nose"}
    assert 0 < prediction["score"] <= 1 and prediction["model_version"] == "vlpart tiny"
    assert prediction["result"][0]["original_width"] == 512


def test_label_studio_asks_for_the_images_of_a_project_that_annotate_wrote(tiny_weights: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    annotate_folder(load("tiny"), SAMPLE, project, vocabulary="person: hair", score_threshold=0.5)
    tasks = json.loads((project / "tasks.json").read_text())
    config = (project / "labels.xml").read_text()
    with TestClient(create_app(ServeSettings(hosts=None, images=project))) as server:
        answer = server.post("/label-studio/predict", json={"tasks": tasks, "label_config": config})
        assert answer.status_code == 200, answer.json()
        (prediction,) = answer.json()["results"]
        assert {shape["value"][shape["type"]][0] for shape in prediction["result"]} == {"person", "person:hair"}
        assert server.post("/label-studio/webhook", json={"action": "ANNOTATION_CREATED"}).json() == {}


def test_label_studio_is_told_what_is_wrong(client: TestClient) -> None:
    for body, status in (
        ([], 400),
        ({}, 422),
        ({"tasks": [1]}, 422),
        ({"tasks": [{"data": {"image": "http://elsewhere/a.jpg"}}]}, 422),
        ({"tasks": [{"data": {"image": address(b"none")}}]}, 422),
        ({"tasks": [], "label_config": "<View/>"}, 422),
        ({"tasks": [{}] * 1000}, 413),
    ):
        answer = client.post("/label-studio/predict", json=body)
        assert (answer.status_code, "detail" in answer.json()) == (status, True), body
    assert client.post("/label-studio/setup", json={"schema": "<View/>"}).status_code == 422


def test_x_anylabeling(client: TestClient, sample: bytes) -> None:
    models = client.get("/x-anylabeling/v1/models").json()["data"]
    assert list(models) == ["tiny"]
    params = {"conf_threshold": 0.0, "iou_threshold": 0.0, "text_prompt": "person: nose", "epsilon_factor": 0.001}
    body = {"model": "tiny", "image": address(sample), "params": params}
    shapes = client.post("/x-anylabeling/v1/predict", json=body).json()["data"]["shapes"]
    assert {"person", "person:nose"} >= {shape["label"] for shape in shapes} and shapes
    params["filter_classes"] = ["person"]
    shapes = client.post("/x-anylabeling/v1/predict", json=body).json()["data"]["shapes"]
    assert {shape["label"] for shape in shapes} == {"person"}
    assert client.post("/x-anylabeling/v1/predict", json={**body, "model": "none"}).status_code == 404
    assert client.post("/x-anylabeling/v1/predict", json={**body, "image": png().hex()}).status_code == 422


def test_the_tools_log_in_with_what_they_can_send(tiny_weights: Path) -> None:
    with TestClient(create_app(ServeSettings(hosts=None, token="s3crét:x"))) as guarded:
        right, wrong = "s3crét:x".encode(), b"s3cret:x"
        for path in ("/label-studio/health", "/x-anylabeling/v1/models"):
            assert guarded.get(path).status_code == 401
            for token, status in ((right, 200), (wrong, 401), (b"", 401)):
                for name, value in (
                    ("Authorization", b"Basic " + base64.b64encode(b"anybody:" + token)),
                    ("Token", token),
                    ("Authorization", b"Bearer " + token),
                ):
                    answer = guarded.get(path, headers={name.encode(): value})
                    assert answer.status_code == status, (path, name, value)
            for value in ("Basic", "Basic !", "Basic " + base64.b64encode(right).decode(), "Digest s3", "Bearer"):
                assert guarded.get(path, headers={"Authorization": value}).status_code == 401


def test_the_client_of_label_studio_logs_in(start: Start) -> None:
    """What its `MLApi` sends with "basic" authentication, by the library that it sends it with."""
    requests = pytest.importorskip("requests")
    host, port = start(token="s3cret")
    url = f"http://{host}:{port}/label-studio/setup"
    body = {"project": "1", "schema": labelling_config("person: nose"), "hostname": "", "access_token": ""}
    assert requests.post(url, json=body, auth=("label-studio", "s3cret"), timeout=20).ok
    assert requests.post(url, json=body, auth=("label-studio", "wrong"), timeout=20).status_code == 401
