"""The routes: what they answer, and what they say to requests that are wrong."""

from __future__ import annotations

import base64
import io
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

import vlpart
from tests.serve.conftest import png
from vlpart.serve.app import create_app
from vlpart.serve.settings import ServeSettings

WORDS = "person: hair, eye, nose"


def predict(client: TestClient, image: bytes, **fields: Any) -> Any:
    return client.post("/v1/predict", files={"image": ("photo.jpg", image)}, data=fields)


def test_a_form_gives_what_the_library_gives(client: TestClient, sample: bytes) -> None:
    answer = predict(client, sample, vocabulary=WORDS, threshold="0.3").json()
    expected = vlpart.load("tiny")(sample, vocabulary=WORDS, score_threshold=0.3)
    expected = expected.without_nested().without_overlapping()
    assert len(expected) > 3
    assert answer["detections"] == expected.to_dict()["detections"]
    assert [group["parts"] for group in answer["objects"]] == [group.parts for group in expected.objects]
    assert answer["loose_parts"] == expected.loose_parts
    assert answer["summary"] == expected.summary()
    assert (answer["model"], answer["threshold"]) == ("tiny", 0.3)


def test_an_answer_is_a_saved_result(client: TestClient, sample: bytes) -> None:
    result = vlpart.Result.from_dict(predict(client, sample, vocabulary=WORDS).json())
    assert "person" in result.names and result.image_size == (512, 512)


def test_json_gives_the_same_as_a_form(client: TestClient, sample: bytes) -> None:
    body = {"image": base64.b64encode(sample).decode(), "vocabulary": ["person", "person:eye"], "masks": []}
    answer = client.post("/v1/predict", json=body)
    assert answer.status_code == 200
    form = predict(client, sample, vocabulary="person: eye", masks="")
    assert answer.json()["detections"] == form.json()["detections"]
    assert all("mask" not in detection for detection in form.json()["detections"])


def test_masks_come_in_every_form(client: TestClient, sample: bytes) -> None:
    answer = predict(client, sample, vocabulary=WORDS, masks="rle, polygons,rings,png").json()
    result = vlpart.Result.from_dict(answer)
    library = vlpart.load("tiny")(sample, vocabulary=WORDS, score_threshold=answer["threshold"])
    library = library.without_nested().without_overlapping()
    assert result.masks is not None and library.masks is not None
    assert len(library) == len(answer["detections"]) > 0
    for i, detection in enumerate(answer["detections"]):
        outlines = [outline.reshape(-1).round(2).tolist() for outline in library.masks.polygons(i)]
        assert detection["polygons"] == [pytest.approx(outline, abs=0.011) for outline in outlines]
        picture = detection["png"]
        bitmap = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture["data"])))) == 255
        whole = np.zeros(result.image_size, dtype=bool)
        whole[picture["y"] : picture["y"] + bitmap.shape[0], picture["x"] : picture["x"] + bitmap.shape[1]] = bitmap
        assert np.array_equal(whole, result.masks[i])
        assert all(len(ring) >= 6 for ring in detection["rings"])


def test_what_is_replaced_comes_back_above_the_score_of_what_replaces_it(client: TestClient, sample: bytes) -> None:
    """A client that filters by the threshold sees what the server would have sent at that threshold."""
    words = "person: head, torso, hair, face, arm"
    everything = predict(client, sample, vocabulary=words, threshold="0.1", keep_replaced="true").json()
    for threshold in (0.1, 0.2, 0.3, 0.45, 0.6):
        asked = predict(client, sample, vocabulary=words, threshold=str(threshold)).json()["detections"]
        shown = {
            i: detection
            for i, detection in enumerate(everything["detections"])
            if detection["score"] > threshold
            and (detection["replaced_below"] is None or detection["replaced_below"] <= threshold)
        }
        assert [each["box_xyxy"] for each in shown.values()] == [each["box_xyxy"] for each in asked]
        owners = [next((owner for owner in each["owners"] if owner in shown), None) for each in shown.values()]
        places = {i: place for place, i in enumerate(shown)}
        assert [places.get(owner) for owner in owners] == [each["object_index"] for each in asked]


def test_a_batch_answers_in_order_and_one_bad_image_spoils_no_other(client: TestClient, sample: bytes) -> None:
    files = [("images", ("a.jpg", sample)), ("images", ("b.jpg", b"not an image")), ("images", ("c.png", png()))]
    answer = client.post("/v1/batch", files=files, data={"vocabulary": "person"})
    assert answer.status_code == 200
    first, second, third = answer.json()["results"]
    assert first["image_size"] == [512, 512] and third["image_size"] == [48, 64]
    assert list(second) == ["detail"] and "not an image" in second["detail"]


@pytest.mark.parametrize(
    ("fields", "status", "says"),
    [
        ({"vocabulary": "car:"}, 422, "needs an object before ':'"),
        ({"vocabulary": ""}, 422, "empty"),
        ({"threshold": "2"}, 422, "threshold"),
        ({"threshold": "nan"}, 422, "threshold"),
        ({"model": "nothing"}, 404, "no model 'nothing'"),
        ({"masks": "jpeg"}, 422, "masks"),
        ({"thresold": "0.5"}, 422, "thresold"),
        ({"short_side": "100000"}, 422, "short_side"),
    ],
)
def test_a_wrong_field_is_named(client: TestClient, fields: dict[str, str], status: int, says: str) -> None:
    answer = predict(client, png(), **fields)
    assert answer.status_code == status
    assert says in answer.json()["detail"] and "\n" not in answer.json()["detail"]


def test_a_vocabulary_never_reads_a_file_of_the_server(client: TestClient, tmp_path: Any) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("the secret name")
    answer = predict(client, png(), vocabulary=str(secret), threshold="0")
    assert "the secret" not in answer.text


def test_an_address_is_no_image(client: TestClient) -> None:
    answer = client.post("/v1/predict", json={"image": "http://127.0.0.1:1/photo.jpg"})
    assert answer.status_code == 422 and "base64" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"{", "application/json", 400),
        (b"[1]", "application/json", 422),
        (b'{"image": 3}', "application/json", 422),
        (b'{"image": "####"}', "application/json", 422),
        (b"image", "text/plain", 415),
        (b"--x\r\nbroken", "multipart/form-data; boundary=x", 422),
        (b"", "multipart/form-data", 400),
        (b"--x--\r\n", "multipart/form-data; boundary=x", 422),
    ],
)
def test_a_broken_body_is_refused(client: TestClient, body: bytes, kind: str, status: int) -> None:
    answer = client.post("/v1/predict", content=body, headers={"content-type": kind})
    assert answer.status_code == status
    assert answer.json()["detail"]


def test_an_image_with_too_many_pixels_is_refused_before_it_is_decoded(client: TestClient) -> None:
    answer = predict(client, b"P6 40000 40000 255\n")
    assert answer.status_code == 413 and "1,600,000,000 pixels" in answer.json()["detail"]


def test_lists_models_and_the_rest_describe_themselves(client: TestClient) -> None:
    lists = client.get("/v1/vocabularies").json()
    assert {k: v for k, v in lists[1].items() if k != "about"} == {"name": "coco", "entries": 80}
    coco = client.get("/v1/vocabularies/coco").json()
    assert coco["entries"][0] == {"id": 1, "name": "person", "object": None, "part": None}
    assert client.get("/v1/vocabularies/nothing").status_code == 404
    (model,) = client.get("/v1/models").json()
    assert model == {"name": "tiny", "loaded": True, "default": True, "vocabulary": "tiny", "masks": True}
    assert "wheel" in client.get("/v1/names").json()["objects"]["car"]
    assert client.get("/v1/version").json()["vlpart"] == vlpart.__version__
    assert client.get("/health").json() == {"status": "ok", "waiting": 0, "queue": 64}


def test_a_weight_file_is_a_model_by_its_own_name(tiny_weights: Path, tmp_path: Path, sample: bytes) -> None:
    shutil.copy(tiny_weights, tmp_path / "mine.safetensors")
    models = ("tiny", str(tmp_path / "mine.safetensors"))
    with TestClient(create_app(ServeSettings(hosts=None, models=models))) as two:
        assert [(each["name"], each["loaded"]) for each in two.get("/v1/models").json()] == [
            ("tiny", True),
            ("mine", False),
        ]
        first = predict(two, sample, vocabulary="person", model="tiny").json()
        second = predict(two, sample, vocabulary="person", model="mine").json()
        assert second["model"] == "mine" and second["detections"] == first["detections"]
        assert [each["loaded"] for each in two.get("/v1/models").json()] == [True, True]


def test_a_vocabulary_is_explained(client: TestClient) -> None:
    answer = client.post("/v1/vocabulary", json={"vocabulary": "car: wheel"}).json()
    assert answer["unknown"] == []
    strange = client.post("/v1/vocabulary", json={"vocabulary": "car: zxqvy; xkqjz", "model": "tiny"}).json()
    assert strange["unknown"] == ["zxqvy", "xkqjz"]
    assert client.post("/v1/vocabulary", json={"vocabulary": "car", "model": "none"}).status_code == 404
    assert [entry["name"] for entry in answer["entries"]] == ["car", "car:wheel"]
    assert answer["entries"][1]["part"] == "wheel" and answer["threshold"] == 0.43
    refused = client.post("/v1/vocabulary", json={"vocabulary": "car: wheel, wheel"})
    assert refused.status_code == 422 and "named twice" in refused.json()["detail"]
    long = client.post("/v1/vocabulary", json={"vocabulary": [f"thing {i}" for i in range(3001)]})
    assert long.status_code == 422 and "3001 names" in long.json()["detail"]


def test_the_figures_count_what_was_answered(client: TestClient) -> None:
    def counted() -> dict[str, float]:
        lines = client.get("/metrics").text.splitlines()
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}

    before = counted()
    predict(client, png(), vocabulary="person")
    client.get("/no/such/path/31415")
    after = counted()
    of_predict = 'vlpart_requests_total{method="POST",path="/v1/predict",status="200"}'
    assert after[of_predict] - before.get(of_predict, 0) == 1
    assert after["vlpart_images_total"] - before["vlpart_images_total"] == 1
    assert not any("31415" in line for line in after)


def test_the_openapi_text_describes_both_kinds_of_body(client: TestClient) -> None:
    described = client.get("/openapi.json").json()
    content = described["paths"]["/v1/predict"]["post"]["requestBody"]["content"]
    assert set(content) == {"multipart/form-data", "application/json"}
    fields = set(content["application/json"]["schema"]["properties"])
    assert fields == set(content["multipart/form-data"]["schema"]["properties"])


@pytest.mark.parametrize("path", ["/", "/health", "/v1/models", "/nothing"])
def test_every_answer_says_that_nothing_comes_from_elsewhere(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    assert "default-src 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert "access-control-allow-origin" not in headers


def test_a_token_is_asked_for_everywhere_but_where_nothing_is_told(tiny_weights: Any) -> None:
    with TestClient(create_app(ServeSettings(hosts=None, token="s3cret"))) as guarded:
        for path in ("/v1/models", "/v1/names", "/metrics", "/nothing"):
            refused = guarded.get(path)
            assert refused.status_code == 401 and refused.headers["www-authenticate"] == "Bearer"
            assert guarded.get(path, headers={"Authorization": "Bearer wrong"}).status_code == 401
        right = {"Authorization": "Bearer s3cret"}
        assert guarded.get("/v1/models", headers=right).status_code == 200
        assert predict(guarded, png()).status_code == 401
        assert [guarded.get(path).status_code for path in ("/", "/health")] == [200, 200]


def test_other_names_and_other_sites_are_refused(tiny_weights: Any) -> None:
    with TestClient(create_app(ServeSettings()), base_url="http://localhost:8000") as local:
        assert local.get("/health").status_code == 200
        assert local.get("/health", headers={"host": "[::1]:8000"}).status_code == 200
        assert local.get("/health", headers={"host": "rebound.example:8000"}).status_code == 403
        own, other = {"origin": "http://localhost:8000"}, {"origin": "http://other.example"}
        assert local.get("/health", headers=own).status_code == 200
        assert local.get("/health", headers=other).status_code == 403
        preflight = local.options("/v1/predict", headers=other | {"access-control-request-method": "POST"})
        assert preflight.status_code == 403


# ---- downloads


def export(client: TestClient, results: list[Any], formats: str, images: list[tuple[str, bytes]]) -> Any:
    files = [("images", each) for each in images]
    return client.post("/v1/export", files=files, data={"formats": formats, "results": json.dumps(results)})


def test_a_single_file_comes_as_it_is_and_several_as_an_archive(client: TestClient, sample: bytes) -> None:
    result = predict(client, sample, vocabulary=WORDS).json()
    picture = export(client, [result], "image", [("photo.jpg", sample)])
    assert picture.headers["content-disposition"].startswith('attachment; filename="photo_parts.jpg"')
    assert Image.open(io.BytesIO(picture.content)).size == (640, 640)  # drawn at its smallest legible size
    shape = export(client, [result], "labelme", [("photo.jpg", sample)]).json()
    assert shape["imagePath"] == "photo.jpg"
    archive = zipfile.ZipFile(io.BytesIO(export(client, [result], "coco,yolo,crops", [("photo.jpg", sample)]).content))
    names = archive.namelist()
    assert {"coco.json", "data.yaml", "images/photo.jpg", "labels/photo.txt"} <= set(names)
    assert sum(name.startswith("crops/photo/") for name in names) == len(result["detections"])
    assert archive.read("images/photo.jpg") == sample
    saved = export(client, [result], "json", [("photo.jpg", sample)]).json()
    assert saved["path"] == "photo.jpg" and saved["detections"] == result["detections"]


def test_files_for_several_images_have_one_list_of_classes(client: TestClient) -> None:
    def result(*named: tuple[int, str]) -> dict[str, Any]:
        detections = [
            {"name": name, "category_id": number, "score": 1.0, "box_xyxy": [1, 1, 9, 9]} for number, name in named
        ]
        entries = [{"id": number, "name": name} for number, name in named]
        return {
            "format": "vlpart.result",
            "version": 2,
            "image_size": [48, 64],
            "vocabulary": {"entries": entries},
            "detections": detections,
        }

    images = [("../../x.png", png()), ("x.png", png(mode="L"))]
    answer = export(client, [result((1, "car"), (2, "dog")), result((1, "dog"), (5, "cat"))], "coco", images)
    data = answer.json()
    names = {category["id"]: category["name"] for category in data["categories"]}
    assert sorted(names.values()) == ["car", "cat", "dog"]
    assert [names[each["category_id"]] for each in data["annotations"]] == ["car", "dog", "dog", "cat"]
    assert [image["file_name"] for image in data["images"]] == ["x.png", "x-2.png"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"image_size": [10, 10]}, "an image of [10, 10]"),
        ({"detections": [{"name": "car"}]}, "damaged"),
        ({"format": "other"}, "not a saved result"),
        ({"detections": [{}] * 301}, "more than 300"),
    ],
)
def test_a_result_that_does_not_fit_is_refused(client: TestClient, change: dict[str, Any], says: str) -> None:
    result = predict(client, png(), vocabulary="car").json() | change
    answer = export(client, [result], "coco", [("x.png", png())])
    assert answer.status_code == 422 and says in answer.json()["detail"]
