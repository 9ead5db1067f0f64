"""Tables, GeoJSON, and what a notebook shows."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image

from vlpart.masks.rasterise import rasterise_polygons
from vlpart.results.result import Result
from vlpart.text.vocabulary import Vocabulary


def street(image: np.ndarray | None = None) -> Result:
    """A car with a hole in it, and its wheel, which has two pieces."""
    masks = np.zeros((2, 60, 80), dtype=bool)
    masks[0, 10:50, 10:70] = True
    masks[0, 20:30, 20:40] = False
    masks[1, 40:48, 20:30] = True
    masks[1, 40:48, 50:60] = True
    return Result(
        image_size=(60, 80),
        boxes_xyxy=[[10, 10, 70, 50], [20, 40, 60, 48]],
        scores=[0.9, 0.5],
        class_ids=[0, 1],
        masks=masks,
        vocabulary=Vocabulary.parse("car: wheel"),
        image=image,
        path="street.jpg",
    )


def filled(coordinates: list[list[list[float]]]) -> np.ndarray:
    """(60, 80) bool of a GeoJSON polygon: its outline without its holes."""
    inside = np.zeros((60, 80), dtype=bool)
    for number, ring in enumerate(coordinates):
        assert ring[0] == ring[-1]
        x0, y0, bitmap = rasterise_polygons([np.array(ring[:-1])], 60, 80)
        inside[y0 : y0 + bitmap.shape[0], x0 : x0 + bitmap.shape[1]][bitmap] = number == 0
    return inside


def test_geojson_has_outlines_with_holes_and_pieces() -> None:
    result = street()
    data = json.loads(json.dumps(result.to_geojson()))
    car, wheel = data["features"]
    assert (data["type"], car["geometry"]["type"], wheel["geometry"]["type"]) == (
        "FeatureCollection",
        "Polygon",
        "MultiPolygon",
    )
    assert len(car["geometry"]["coordinates"]) == 2
    assert result.masks is not None
    assert (filled(car["geometry"]["coordinates"]) ^ result.masks[0]).mean() < 0.01
    pieces = [filled(piece) for piece in wheel["geometry"]["coordinates"]]
    assert (np.logical_or(*pieces) ^ result.masks[1]).mean() < 0.01
    assert wheel["properties"] | {"score": None} == {
        "name": "car:wheel",
        "score": None,
        "part_of": 0,
        "objectType": "detection",
        "classification": {"name": "car:wheel"},
    }


def test_geojson_of_a_map_and_of_boxes() -> None:
    boxes = street()
    boxes.masks = None
    (outline,) = boxes.to_geojson((0.5, 0, 1000, 0, -0.5, 2000))["features"][0]["geometry"]["coordinates"]
    assert {tuple(point) for point in outline} == {(1005, 1995), (1035, 1995), (1035, 1975), (1005, 1975)}


def test_a_table_has_a_row_per_detection() -> None:
    pytest.importorskip("pandas", reason="needs pip install pandas")
    table = street().to_dataframe()
    assert table["name"].tolist() == ["car", "car:wheel"]
    assert (table["part"][1], table["owner"].tolist()) == ("wheel", [-1, 0])
    assert table["area"].tolist() == [60 * 40 - 200, 160]
    assert table.loc[0, ["x0", "y0", "x1", "y1"]].tolist() == [10, 10, 70, 50]
    assert len(street()[0:0].to_dataframe()) == 0


def test_a_notebook_shows_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    assert street()._repr_png_() is None
    result = street(np.full((60, 80, 3), 90, dtype=np.uint8))
    data = result._repr_png_()
    assert data is not None
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == "PNG"
    shown: list[Image.Image] = []
    monkeypatch.setattr(Image.Image, "show", lambda self: shown.append(self))
    result.show(labels=False)
    assert len(shown) == 1


def test_a_dictionary_is_a_vocabulary() -> None:
    assert Vocabulary.of({"car": ["wheel", "door"], "person": []}) == Vocabulary.parse("car: wheel, door; person")
