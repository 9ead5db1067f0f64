"""Points that carry labels lie where they should."""

from __future__ import annotations

import numpy as np
import pytest

from vlpart.masks.crop import MaskCrop
from vlpart.visualize.paint import _depths, box_crop, outline_of, tight


def holds(crop: MaskCrop, x: float, y: float) -> bool:
    return bool(crop.bitmap[int(y) - crop.y0, int(x) - crop.x0])


def shapes() -> dict[str, np.ndarray]:
    y, x = np.mgrid[:90, :120]
    ring = (np.hypot(x - 60, y - 45) < 42) & (np.hypot(x - 60, y - 45) > 30)
    pair = (np.hypot(x - 20, y - 20) < 15) | (np.hypot(x - 95, y - 65) < 22)
    line = np.abs(x - y) < 1
    return {"disc": np.hypot(x - 60, y - 45) < 40, "ring": ring, "pair": pair, "line": line, "dot": (x == 3) & (y == 5)}


@pytest.mark.parametrize("name", shapes())
def test_anchor_and_interior_lie_in_the_mask(name: str) -> None:
    crop = tight(MaskCrop(7, 11, shapes()[name]))
    outline = outline_of(crop)
    assert outline.bounds == (crop.x0, crop.y0, crop.x1, crop.y1)
    assert holds(crop, *outline.anchor)
    assert all(holds(crop, x, y) for x, y in outline.interior)
    assert tuple(outline.interior[0]) == outline.anchor
    assert 2 <= len(outline.interior) <= 10


def test_anchor_is_deep_and_top_is_the_upper_edge() -> None:
    outline = outline_of(tight(MaskCrop(0, 0, shapes()["disc"])))
    assert np.hypot(outline.anchor[0] - 60, outline.anchor[1] - 45) < 5
    for x, y in outline.top:
        assert y == pytest.approx(45 - np.sqrt(max(0, 40**2 - (x - 60) ** 2)), abs=6)
    assert np.all(np.diff(outline.top[:, 0]) > 0)


def test_depths_are_city_block_distances() -> None:
    grid = np.random.default_rng(0).random((9, 13)) > 0.25
    outside = np.argwhere(~np.pad(grid, 1)) - 1
    expected = [[np.abs(outside - (r, c)).sum(axis=1).min() for c in range(13)] for r in range(9)]
    assert np.array_equal(_depths(grid), expected)


def test_tight_and_box_crops() -> None:
    crop = tight(MaskCrop(5, 6, np.pad(np.ones((2, 3), dtype=bool), ((1, 4), (2, 0)))))
    assert (crop.x0, crop.y0, crop.bitmap.shape) == (7, 7, (2, 3))
    assert tight(MaskCrop(5, 6, np.zeros((4, 4), dtype=bool))).bitmap.size == 0
    inside = box_crop(np.array([1.2, 2.9, 4.1, 5.0], dtype=np.float32), (20, 10))
    assert (inside.x0, inside.y0, inside.x1, inside.y1) == (1, 2, 5, 5)
    for box in ([30, 30, 40, 40], [-9, -9, -5, -5], [3, 3, 3, 3]):
        assert box_crop(np.array(box, dtype=np.float32), (20, 10)).bitmap.size == 1
