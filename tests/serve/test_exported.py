"""Exported files behind the server, each on its engine."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.testclient import TestClient

from tests.serve.test_app import predict
from vlpart.errors import VlpartError
from vlpart.export.write import export
from vlpart.inference.predictor import load
from vlpart.serve.app import create_app
from vlpart.serve.engine import Models
from vlpart.serve.settings import ServeSettings

WORDS = "person: hair, eye"


def test_an_exported_file_answers_like_its_model(
    client: TestClient, sample: bytes, tiny_weights: Path, tmp_path: Path
) -> None:
    file = export(load("tiny", device="cpu"), tmp_path / "small.torchscript", "torchscript", vocabulary=WORDS)
    with TestClient(create_app(ServeSettings(models=(str(file),), engine="torch", hosts=None))) as server:
        answer = predict(server, sample).json()
        (about,) = server.get("/v1/models").json()
        refused = predict(server, sample, vocabulary="dog")
    expected = predict(client, sample, vocabulary=WORDS).json()["detections"]
    assert [each["name"] for each in answer["detections"]] == [each["name"] for each in expected] != []
    for own, other in zip(answer["detections"], expected, strict=True):
        assert own["score"] == pytest.approx(other["score"], abs=1e-3)
    assert (about["name"], about["loaded"], about["masks"], about["vocabulary"]) == ("small", True, True, None)
    assert refused.status_code == 422 and "exported for the vocabulary" in refused.text


def test_an_engine_is_for_exported_files() -> None:
    with pytest.raises(VlpartError, match="openvino computes exported files"):
        Models(ServeSettings(models=("tiny",), engine="openvino"))
