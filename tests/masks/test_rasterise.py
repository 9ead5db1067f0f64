"""Segmentations are checked once, survive packing, and rasterise as the COCO tools do."""

from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from vlpart.errors import DataError
from vlpart.masks.rasterise import (
    decode_rle,
    pack_segmentation,
    parse_segmentation,
    rasterise_polygons,
    segmentation_box,
    unpack_segmentation,
)


def full(x0: int, y0: int, bitmap: np.ndarray, height: int, width: int) -> np.ndarray:
    canvas = np.zeros((height, width), dtype=bool)
    canvas[y0 : y0 + bitmap.shape[0], x0 : x0 + bitmap.shape[1]] = bitmap
    return canvas


def rle_of(bitmap: np.ndarray) -> dict:
    code = coco_mask.encode(np.asfortranarray(bitmap.astype(np.uint8)))
    return {"size": code["size"], "counts": code["counts"].decode()}


@pytest.fixture
def blob() -> np.ndarray:
    bitmap = np.zeros((30, 41), dtype=bool)
    bitmap[5:20, 7:30] = True
    bitmap[10:12, 10:12] = False
    return bitmap


def test_rle_survives(blob: np.ndarray) -> None:
    counts = parse_segmentation(rle_of(blob), 30, 41)
    assert isinstance(counts, bytes)
    again = unpack_segmentation(pack_segmentation(counts))
    assert isinstance(again, bytes)
    assert np.array_equal(full(*decode_rle(again, 30, 41), 30, 41), blob)
    assert segmentation_box(again, 30, 41) == (7, 5, 30, 20)


def test_uncompressed_rle_is_compressed() -> None:
    counts = parse_segmentation({"size": [2, 3], "counts": [1, 2, 3]}, 2, 3)
    assert isinstance(counts, bytes)
    assert full(*decode_rle(counts, 2, 3), 2, 3).tolist() == [[False, True, False], [True, False, False]]


def test_polygons_survive() -> None:
    raw = [[1, 2, 10.5, 2, 10.5, 9, 1, 9], [20, 20, 25, 20, 22, 28], [3, 3, 4, 4]]
    polygons = parse_segmentation(raw, 30, 41)
    assert isinstance(polygons, list)
    assert len(polygons) == 2  # two points are no polygon
    again = unpack_segmentation(pack_segmentation(polygons))
    assert all(np.array_equal(a, b) for a, b in zip(again, polygons, strict=True))
    assert segmentation_box(polygons, 30, 41) == (1, 2, 25, 28)


@pytest.mark.parametrize("raw", [None, [], [[1, 1, 2, 2]], {"size": [2, 3], "counts": [6]}])
def test_nothing_left(raw: object) -> None:
    assert parse_segmentation(raw, 2, 3) is None


@pytest.mark.parametrize(
    "raw",
    [
        {"size": [3, 2], "counts": "15"},  # another size
        {"size": [2, 3], "counts": [1, 2]},  # does not fill the image
        {"size": [2, 3], "counts": [-1, 7]},
        {"size": [2, 3], "counts": ["a"]},
        {"size": [2, 3], "counts": "~~~~"},  # outside the alphabet
        {"size": [2, 3], "counts": "PPPPPPPPPPPP"},  # never ends
        {"size": [2, 3], "counts": "é"},
        {"size": [2, 3]},
        {"counts": "15"},
        [[1, 2, 3, 4, 5, float("nan")]],
        [[1, 2, 3, 4, 5]],
        [[0, 0, 1e6, 0, 0, 1e6]],
        [[0, 0, 1e300, 0, 0, 1]],  # more than float32 holds
        [[0, 0, 10**400, 0, 0, 1]],  # more than float64 holds
        {"size": [2, 3], "counts": [10**30, 1]},
        [["a", "b", "c", "d", "e", "f"]],
        [[[1, 2], [3, 4], [5, 6]]],
        "15",
    ],
)
def test_malformed(raw: object) -> None:
    with pytest.raises(DataError):
        parse_segmentation(raw, 2, 3)


def test_polygon_of_known_pixels() -> None:
    x0, y0, bitmap = rasterise_polygons([np.array([[2, 3], [7, 3], [7, 6], [2, 6]], dtype=np.float32)], 40, 50)
    expected = np.zeros((40, 50), dtype=bool)
    expected[3:6, 2:7] = True
    assert np.array_equal(full(x0, y0, bitmap, 40, 50), expected)


def test_polygons_are_united_and_cut_to_the_canvas() -> None:
    square = np.array([[-5, -5], [3, -5], [3, 3], [-5, 3]], dtype=np.float32)
    x0, y0, bitmap = rasterise_polygons([square, square + 2], 40, 50)
    expected = np.zeros((40, 50), dtype=bool)
    expected[:3, :3] = expected[:5, :5] = True
    assert np.array_equal(full(x0, y0, bitmap, 40, 50), expected)


def test_polygon_outside_is_empty() -> None:
    outside = [np.array([[60, 1], [70, 1], [65, 9]], dtype=np.float32)]
    assert rasterise_polygons(outside, 40, 50)[2].size == 0


def test_polygons_are_filled_as_on_the_whole_canvas() -> None:
    """In the middle, over every edge and outside, several at once, with corners anywhere between pixels."""
    rng = np.random.default_rng(0)
    height, width = 50, 70
    filled = 0
    for _ in range(300):
        centre = rng.uniform(-0.2, 1.2, 2) * [width, height]
        polygons = [centre + rng.normal(0, rng.uniform(0.3, 30), (5, 2)) for _ in range(rng.integers(1, 4))]
        flat = [polygon.ravel().tolist() for polygon in polygons]
        expected = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(flat, height, width))).astype(bool)
        x0, y0, bitmap = rasterise_polygons(polygons, height, width)
        found = np.zeros((height, width), dtype=bool)
        found[y0 : y0 + bitmap.shape[0], x0 : x0 + bitmap.shape[1]] = bitmap
        assert np.array_equal(found, expected)
        filled += bool(expected.any())
    assert 150 < filled < 300
