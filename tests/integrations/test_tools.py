"""Shapes and schemas of labelling tools, held against their own packages where these are installed."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.fakes import VOCABULARY, fake_result
from vlpart.errors import DataError, ImageError
from vlpart.integrations import label_studio, x_anylabeling
from vlpart.masks.stack import MaskStack
from vlpart.results.result import Result

PIXELS = np.zeros((30, 40, 3), dtype=np.uint8)


def ring(masks: bool = True) -> Result:
    """A car with a hole, and a wheel in two pieces."""
    bitmaps = np.zeros((2, 30, 40), dtype=bool)
    bitmaps[0, 2:28, 2:38] = True
    bitmaps[0, 10:20, 10:30] = False
    bitmaps[1, 4:8, 4:9] = bitmaps[1, 22:26, 4:9] = True
    return Result(
        image_size=(30, 40),
        boxes_xyxy=[[2, 2, 38, 28], [4, 4, 9, 26]],
        scores=[0.9, 0.7],
        class_ids=[0, 1],
        masks=MaskStack.from_bitmaps(bitmaps) if masks else None,
        vocabulary=VOCABULARY,
    )


# ---- CVAT


class OfModel:
    """A predictor that always finds the same."""

    vocabulary = VOCABULARY

    def __init__(self, result: Result) -> None:
        self.result, self.asked = result, dict[str, Any]()

    def predict(self, image: Any, vocabulary: Any, **options: Any) -> Result:
        self.asked = options
        return self.result


def cvat_shapes(result: Result, threshold: float | None = None, polygons: bool = False) -> list[Any]:
    pytest.importorskip("cvat_sdk", reason='needs the extra "cvat"')
    from vlpart.integrations.cvat import PartsFunction

    function = PartsFunction(OfModel(result))  # type: ignore[arg-type]
    context = SimpleNamespace(frame_name="a.jpg", conf_threshold=threshold, conv_mask_to_poly=polygons)
    return function.detect(context, Image.new("RGB", (40, 30)))


def test_cvat_gets_polygons_where_they_are_faithful_and_masks_elsewhere() -> None:
    from_sdk = pytest.importorskip("cvat_sdk.masks", reason='needs the extra "cvat"')
    plain = cvat_shapes(fake_result(PIXELS))
    assert [str(shape.type) for shape in plain] == ["polygon", "polygon"]
    assert [shape.label_id for shape in plain] == [0, 1]
    assert [shape.score for shape in plain] == pytest.approx([0.9, 0.5])
    holed = cvat_shapes(ring())
    assert [str(shape.type) for shape in holed] == ["mask", "mask"]
    masks = ring().masks
    assert masks is not None
    for i, shape in enumerate(holed):
        assert np.array_equal(from_sdk.decode_mask(shape.points, image_width=40, image_height=30), masks[i])
    polygons = cvat_shapes(ring(), polygons=True)
    assert [str(shape.type) for shape in polygons] == ["polygon"] * 3
    assert [shape.get("group", 0) for shape in polygons] == [0, 2, 2]
    assert [str(shape.type) for shape in cvat_shapes(ring(masks=False))] == ["rectangle"] * 2


def test_the_spec_of_the_cvat_function_passes_the_checks_of_the_sdk() -> None:
    sdk = pytest.importorskip("cvat_sdk.auto_annotation", reason='needs the extra "cvat"')
    from vlpart.integrations import cvat

    model = OfModel(fake_result(PIXELS))
    function = cvat.PartsFunction(model, "car: wheel", threshold=0.3)  # type: ignore[arg-type]
    assert isinstance(function.spec, sdk.DetectionFunctionSpec)
    assert [(label.name, label.id) for label in function.spec.labels] == [("car", 0), ("car:wheel", 1)]
    context = SimpleNamespace(frame_name="a", conf_threshold=None, conv_mask_to_poly=False)
    function.detect(context, Image.new("RGB", (40, 30)))
    assert model.asked["score_threshold"] == pytest.approx(0.3, abs=1e-5)
    context.conf_threshold = 0.8
    function.detect(context, Image.new("RGB", (40, 30)))
    assert model.asked["score_threshold"] == pytest.approx(0.8, abs=1e-5)


# ---- Label Studio


def test_the_labelling_interface_and_back() -> None:
    config = label_studio.labelling_config("car: wheel; <dog>")
    colours = re.findall(r'background="(#[0-9a-f]{6})"', config)
    assert len(colours) == 9 and len(set(colours)) == 3  # each name has one, the same in all three controls
    assert label_studio.names_of_config(config) == ["car", "car:wheel", "<dog>"]
    assert label_studio.controls_of_config(config) == {
        "polygon": ("polygon", "image"),
        "brush": ("brush", "image"),
        "rectangle": ("rectangle", "image"),
    }
    for broken in ("<View", "<View/>", '<!DOCTYPE a [<!ENTITY b "c">]><View>&b;</View>'):
        with pytest.raises(DataError):
            label_studio.names_of_config(broken)


def test_predictions_use_the_controls_that_there_are() -> None:
    whole = label_studio.prediction_of(ring(), "m")
    assert [shape["type"] for shape in whole["result"]] == ["brushlabels", "brushlabels"]
    assert (whole["score"], whole["model_version"]) == (0.7, "m")
    assert [shape["type"] for shape in label_studio.prediction_of(fake_result(PIXELS), "m")["result"]] == [
        "polygonlabels"
    ] * 2
    boxes = label_studio.prediction_of(ring(), "m", {"rectangle": ("box", "photo")})
    assert [(s["type"], s["from_name"], s["to_name"]) for s in boxes["result"]] == [
        ("rectanglelabels", "box", "photo")
    ] * 2
    assert boxes["result"][0]["value"]["x"] == pytest.approx(5)
    assert label_studio.prediction_of(ring(), "m", {"polygon": ("p", "i")})["result"] == []
    assert label_studio.prediction_of(ring(masks=False), "m")["result"][0]["type"] == "rectanglelabels"


def test_images_of_tasks_are_read_below_one_folder_only(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "upload" / "1").mkdir(parents=True)
    (root / "upload" / "1" / "a b.jpg").write_bytes(b"upload")
    (root / "x.jpg").write_bytes(b"local")
    (tmp_path / "secret").write_bytes(b"secret")

    def read(address: Any, folder: Path | None = root) -> bytes:
        return label_studio.image_of_task({"data": {"image": address}}, folder)

    assert read("/data/local-files/?d=x.jpg") == b"local"
    assert read("/data/upload/1/a%20b.jpg") == b"upload"
    assert read("http://localhost:8080/data/upload/1/a%20b.jpg") == b"upload"
    assert read("data:image/png;base64," + base64.b64encode(b"inline").decode(), None) == b"inline"
    (root / "images").mkdir()
    (root / "images" / "linked.jpg").symlink_to(tmp_path / "secret")  # as vlpart annotate makes them
    assert read("/data/local-files/?d=images/linked.jpg") == b"secret"
    for address in (
        "/data/local-files/?d=../secret",
        "/data/local-files/?d=images/../../secret",
        "/data/local-files/?d=images/%00",
        "/data/local-files/?d=/etc/passwd",
        "http://elsewhere/x.jpg",
        "s3://bucket/x.jpg",
        "/data/local-files/?d=none.jpg",
        "data:image/png,raw",
        None,
    ):
        with pytest.raises(ImageError):
            read(address)
    with pytest.raises(ImageError, match="--images FOLDER"):
        read("/data/local-files/?d=x.jpg", None)
    with pytest.raises(ImageError):
        label_studio.image_of_task({}, root)


def test_label_studio_itself_accepts_interface_and_predictions() -> None:
    sdk = pytest.importorskip("label_studio_sdk.label_interface", reason="needs label-studio-sdk")
    brush = pytest.importorskip("label_studio_sdk.converter.brush")
    interface = sdk.LabelInterface(label_studio.labelling_config("car: wheel"))
    interface.validate()
    for result in (ring(), fake_result(PIXELS), ring(masks=False)):
        assert interface.validate_prediction(label_studio.prediction_of(result, "m"))
    masks = ring().masks
    assert masks is not None
    packed = label_studio.prediction_of(ring(), "m")["result"][0]["value"]["rle"]
    assert np.array_equal(brush.decode_rle(packed).reshape(30, 40, 4)[:, :, 3] > 0, masks[0])


# ---- X-AnyLabeling


def test_x_anylabeling_gets_polygons_and_rectangles() -> None:
    shapes = x_anylabeling.shapes_of(ring())
    assert [(s["label"], s["shape_type"], s["group_id"]) for s in shapes] == [
        ("car", "polygon", 1),
        ("car:wheel", "polygon", 2),
        ("car:wheel", "polygon", 2),
    ]
    assert shapes[1]["description"] == "part of car 1"
    assert all(len(point) == 2 for shape in shapes for point in shape["points"])
    boxes = x_anylabeling.shapes_of(ring(masks=False))
    assert boxes[0]["shape_type"] == "rectangle"
    assert np.array(boxes[0]["points"]).min(axis=0).tolist() == [2, 2]
    info = x_anylabeling.model_info("tiny", ["car"])
    assert info["classes"] == ["car"] and all("name" in widget for widget in info["widgets"])
