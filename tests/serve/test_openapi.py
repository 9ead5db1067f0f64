"""What the OpenAPI text says is so: requests made from it at random, valid and not, get answers that it describes."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from tests.serve.conftest import serving

schemathesis = pytest.importorskip("schemathesis", reason="requests are made from the OpenAPI text by schemathesis")


@pytest.fixture(scope="module")
def described(tiny_weights: Path) -> Iterator[Any]:
    with serving(max_body=300_000) as (host, port):
        yield schemathesis.openapi.from_url(f"http://{host}:{port}/openapi.json")


PATHS = (
    *("/v1/predict", "/v1/batch", "/v1/export", "/v1/vocabulary", "/v1/vocabularies", "/v1/vocabularies/{name}"),
    *("/v1/models", "/v1/names", "/v1/version", "/health", "/metrics"),
)


@pytest.mark.parametrize("path", PATHS)
def test_answers_are_what_is_described(path: str, described: Any) -> None:
    (operation,) = (each.ok() for each in described.get_all_operations() if each.ok().path == path)

    # No schema can say that bytes are an image, or that names are not twice in a vocabulary.
    from schemathesis.specs.openapi.checks import positive_data_acceptance

    @given(case=operation.as_strategy())
    @settings(max_examples=15, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    def check(case: Any) -> None:
        case.call_and_validate(excluded_checks=[positive_data_acceptance], timeout=120)

    check()


@pytest.mark.parametrize("path", ["/v1/predict", "/v1/batch"])
def test_a_real_answer_is_what_is_described(path: str, described: Any, sample: bytes) -> None:
    forms = ["rle", "polygons", "rings", "png"]
    image = base64.b64encode(sample).decode()
    body = {"vocabulary": "person: nose", "masks": forms, "keep_replaced": True, "threshold": 0.2}
    body |= {"image": image} if path == "/v1/predict" else {"images": [image, "eA=="]}
    case = described[path]["POST"].Case(body=body, media_type="application/json")
    response = case.call()
    assert response.status_code == 200
    case.validate_response(response)


def test_no_path_is_forgotten(described: Any) -> None:
    assert {each.ok().path for each in described.get_all_operations()} == set(PATHS)
