"""Outlines of masks against the masks that they come from."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from vlpart.masks.polygons import Polygon, area, exact_rings, joined, rectangle, simplified
from vlpart.masks.stack import MaskStack

SIZE = (60, 100)


def filled(polygons: list[Polygon]) -> np.ndarray:
    """The pixels inside, as readers of COCO polygons find them."""
    rles = coco_mask.frPyObjects([polygon.reshape(-1).tolist() for polygon in polygons], *SIZE)
    return coco_mask.decode(coco_mask.merge(rles)).astype(bool)


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def disc(x: float, y: float, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    return (columns + 0.5 - x) ** 2 + (rows + 0.5 - y) ** 2 <= radius**2


def polygons_of(bitmap: np.ndarray, tolerance: float = 0.5) -> list[Polygon]:
    return MaskStack.from_bitmaps([bitmap]).polygons(0, tolerance)


def test_a_rectangle_has_its_sides_where_a_box_has_them() -> None:
    bitmap = np.zeros(SIZE, dtype=bool)
    bitmap[10:30, 20:70] = True
    (polygon,) = polygons_of(bitmap)
    assert np.array_equal([*polygon.min(axis=0), *polygon.max(axis=0)], [20, 10, 70, 30])
    assert iou(filled([polygon]), bitmap) > 0.97
    exact = polygons_of(bitmap, tolerance=0)[0]  # but for the tips of its corners
    assert area(exact) == 1000 - 4 / 8
    assert np.array_equal(filled([exact]), bitmap)


def test_a_mask_at_the_edges_of_the_image() -> None:
    (polygon,) = polygons_of(np.ones(SIZE, dtype=bool))
    assert filled([polygon]).mean() > 0.99
    assert np.array_equal([*polygon.min(axis=0), *polygon.max(axis=0)], [0, 0, SIZE[1], SIZE[0]])


def test_pieces_come_apart_and_holes_are_filled() -> None:
    pieces = disc(20, 30, 8) | disc(60, 30, 20)
    found = polygons_of(pieces & ~disc(60, 30, 10))
    assert [area(polygon) for polygon in found] == pytest.approx([np.pi * 20**2, np.pi * 8**2], rel=0.03)
    assert iou(filled(found), pieces) > 0.98


@pytest.mark.parametrize("box", [[10, 10, 90, 50], [5.3, 7.7, 40.2, 58.9], [-20, -10, 50, 40], [0, 0, 100, 60]])
def test_the_outline_of_a_map_is_that_of_its_mask(box: list[float]) -> None:
    y, x = np.mgrid[:28, :28]
    stack = MaskStack([np.exp(-(((x - 13) / 11) ** 2) - ((y - 14) / 8) ** 2)], [box], SIZE)
    found = stack.polygons(0)
    assert iou(filled(found), stack[0]) > 0.96
    assert sum(map(len, found)) < 40
    assert min(polygon.min() for polygon in found) >= 0
    assert (np.max([polygon.max(axis=0) for polygon in found], axis=0) <= (SIZE[1], SIZE[0])).all()


@pytest.mark.parametrize("box", [[10, 10, 10, 30], [200, 10, 300, 50], [10, 10, 10.2, 10.2]])
def test_a_mask_without_a_pixel_has_no_outline(box: list[float]) -> None:
    assert MaskStack([np.ones((28, 28))], [box], SIZE).polygons(0) == []
    assert MaskStack([np.zeros((28, 28))], [[5, 5, 30, 30]], SIZE).polygons(0) == []
    assert polygons_of(np.zeros(SIZE, dtype=bool)) == []


@given(st.lists(st.tuples(st.integers(0, 90), st.integers(0, 50), st.integers(2, 9)), min_size=1, max_size=6))
def test_pixels_stay_but_for_the_corners(squares: list[tuple[int, int, int]]) -> None:
    bitmap = np.zeros(SIZE, dtype=bool)
    for x, y, side in squares:
        bitmap[y : y + side, x : x + side] = True
    found = polygons_of(bitmap, tolerance=0)
    assert (filled(found) & bitmap).sum() >= bitmap.sum() - 4 * len(squares)
    assert sum(map(area, found)) >= bitmap.sum() - len(squares)


def test_corners_near_the_line_go() -> None:
    angles = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    circle = 30 + 20 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    fewer = simplified(circle, 0.5)
    assert 10 < len(fewer) < 30
    assert area(fewer) == pytest.approx(area(circle), rel=0.03)
    assert np.array_equal(simplified(circle, 0), circle)


def test_pieces_joined_cover_what_they_cover_apart() -> None:
    pieces = polygons_of(disc(15, 15, 8) | disc(50, 40, 15) | disc(85, 12, 6))
    assert len(pieces) == 3
    one = joined(pieces)
    assert area(one) == pytest.approx(sum(map(area, pieces)))
    assert iou(filled([one]), filled(pieces)) > 0.93  # a bridge has no width, but a rasteriser draws its line
    assert joined(pieces[:1]) is pieces[0]


def test_the_corners_of_a_box() -> None:
    assert rectangle([1, 2, 4, 8]).tolist() == [[1, 2], [4, 2], [4, 8], [1, 8]]
    assert area(rectangle([1, 2, 4, 8])) == 18


def diagonal(length: int = 50) -> np.ndarray:
    bitmap = np.zeros(SIZE, dtype=bool)
    bitmap[np.arange(length), np.arange(length)] = True
    return bitmap


@pytest.mark.parametrize(
    "bitmap",
    [
        diagonal(),
        diagonal() | diagonal()[:, ::-1],
        disc(50, 30, 25) & ~disc(50, 30, 23),
        disc(50, 30, 25) & ~disc(45, 30, 9) & ~disc(62, 30, 4),
        disc(50, 30, 25) & (np.mgrid[: SIZE[0], : SIZE[1]][1] % 5 != 0),
        np.random.default_rng(0).random(SIZE) < 0.5,
    ],
)
def test_thin_masks_and_holes_keep_their_pixels(bitmap: np.ndarray) -> None:
    """As one polygon with bridges, and as the exact edges of their pixels."""
    one = joined(MaskStack.from_bitmaps([bitmap]).rings(0))
    assert (filled([one]) != bitmap).sum() <= 0.02 * bitmap.sum()
    exact = exact_rings(bitmap, 0, 0)
    assert np.array_equal(filled([joined(exact)]), bitmap)
    assert all((np.diff(ring, axis=0) == 0).any(axis=1).all() for ring in exact)  # across, then down


@given(st.lists(st.booleans(), min_size=20, max_size=20))
def test_exact_rings_of_any_small_mask(values: list[bool]) -> None:
    bitmap = np.zeros(SIZE, dtype=bool)
    bitmap[3:7, 2:7] = np.reshape(values, (4, 5))
    rings = exact_rings(bitmap[3:7, 2:7], 2, 3)
    assert bool(rings) == bitmap.any()
    if rings:
        assert np.array_equal(filled([joined(rings)]), bitmap)
