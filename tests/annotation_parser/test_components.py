from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from vlpart.annotation_parser.correspondence import largest_component, sizable_components


def by_flooding(bitmap: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixel by pixel; of equally large regions the first."""
    left, best = bitmap.copy(), np.zeros_like(bitmap)
    for start in zip(*np.nonzero(bitmap), strict=True):
        region, front = np.zeros_like(bitmap), [start] if left[start] else []
        while front:
            y, x = front.pop()
            if 0 <= y < bitmap.shape[0] and 0 <= x < bitmap.shape[1] and left[y, x]:
                left[y, x], region[y, x] = False, True
                front += [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
        best = region if region.sum() > best.sum() else best
    return best


@given(st.integers(1, 12), st.integers(1, 12), st.floats(0, 1), st.integers(0, 2**32 - 1))
@settings(max_examples=150, deadline=None)
def test_equals_flooding(height: int, width: int, density: float, seed: int) -> None:
    bitmap = np.random.default_rng(seed).random((height, width)) < density
    assert np.array_equal(largest_component(bitmap), by_flooding(bitmap))


def test_corners_touch_but_image_edges_do_not_wrap() -> None:
    bitmap = np.array([[1, 0, 0, 1], [0, 1, 0, 1], [0, 0, 0, 0]], dtype=bool)
    assert np.argwhere(largest_component(bitmap)).tolist() == [[0, 0], [1, 1]]


def test_a_long_snake_is_one_region() -> None:
    snake = np.zeros((41, 30), dtype=bool)
    snake[::2] = True
    snake[1::4, -1] = True
    snake[3::4, 0] = True
    assert np.array_equal(largest_component(snake), snake)


def test_sizable_regions_stay() -> None:
    bitmap = np.zeros((9, 12), dtype=bool)
    bitmap[0:4, 0:5] = bitmap[0:5, 7:9] = bitmap[7, 0:2] = True  # 20, 10 and 2 pixels
    assert sizable_components(bitmap, 0.5).sum() == 30
    assert sizable_components(bitmap, 0.1).sum() == 32
    assert np.array_equal(sizable_components(bitmap, 1.0), largest_component(bitmap))
    assert not sizable_components(np.zeros((3, 4), dtype=bool), 0.5).any()


def test_nothing_and_the_input_stay() -> None:
    empty = np.zeros((3, 4), dtype=bool)
    assert not largest_component(empty).any()
    two = np.array([[1, 0, 1, 1]], dtype=bool)
    largest_component(two)
    assert two.tolist() == [[True, False, True, True]]
