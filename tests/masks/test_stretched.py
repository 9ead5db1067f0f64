"""Runs of stretched maps against one look at every pixel."""

from __future__ import annotations

import numpy as np
import pytest

from vlpart.masks.stack import MaskStack


def by_pixel(maps: np.ndarray, boxes: np.ndarray, size: tuple[int, int], threshold: float) -> np.ndarray:
    """(N, H, W) bool by the definition, in float64: each pixel centre between the four nearest cell centres."""
    cells = maps.shape[-1]
    padded = np.pad(maps.astype(np.float64), ((0, 0), (1, 1), (1, 1)))
    found = np.zeros((len(maps), *size), dtype=bool)
    for i, (x0, y0, x1, y1) in enumerate(boxes.astype(np.float64)):
        if x1 <= x0 or y1 <= y0:
            continue
        u = np.clip((np.arange(size[1]) + 0.5 - x0) / (x1 - x0) * cells + 0.5, 0, cells + 1)
        v = np.clip((np.arange(size[0]) + 0.5 - y0) / (y1 - y0) * cells + 0.5, 0, cells + 1)
        across = np.maximum(0, 1 - np.abs(u[:, None] - np.arange(cells + 2)))
        down = np.maximum(0, 1 - np.abs(v[:, None] - np.arange(cells + 2)))
        found[i] = down @ padded[i] @ across.T >= threshold
    return found


@pytest.mark.parametrize("side", [1, 2, 5, 28])
@pytest.mark.parametrize("spread", [0.1, 0.6, 3.0])
def test_runs_are_those_of_the_pixels(side: int, spread: float) -> None:
    """Boxes smaller than the map, larger than the image, partly or wholly outside, and without area."""
    rng = np.random.default_rng(side)
    size, count = (70, 90), 40
    corners = rng.uniform(-0.4, 1, (count, 2)) * [90, 70]
    boxes = np.concatenate([corners, corners + rng.uniform(0, spread, (count, 2)) * [90, 70]], axis=1)
    boxes[0, 2:], boxes[1, 2] = boxes[0, :2], boxes[1, 0]
    maps = rng.random((count, side, side))
    maps[2], maps[3] = 0.9, 0.1
    maps, boxes = maps.astype(np.float32), boxes.astype(np.float32)
    stack = MaskStack(maps, boxes, size)
    expected = by_pixel(maps, boxes, size, 0.5)
    full = np.asarray(stack)
    assert (full != expected).sum() <= 2  # a value at the threshold up to rounding
    assert full[2].any() == expected[2].any()
    assert (stack.areas() == full.sum(axis=(1, 2))).all()
    assert all((stack[i] == full[i]).all() for i in range(count))
    assert (np.asarray(MaskStack.from_rles(stack.rles(), size)) == full).all()
    assert stack.rles() == [stack.rle(i) for i in range(count)]
    for crop, mask in zip(stack.crops(), full, strict=True):
        assert crop.bitmap.sum() == mask.sum()
        assert (mask[crop.y0 : crop.y1, crop.x0 : crop.x1] == crop.bitmap).all()


def test_sharp_maps_in_whole_boxes() -> None:
    """Zeros and ones, whose edges lie exactly at the threshold in the middle of pixels."""
    maps = np.zeros((2, 4, 4), dtype=np.float32)
    maps[0, 1:3, 1:3] = 1
    maps[1] = np.indices((4, 4)).sum(axis=0) % 2
    boxes = np.array([[2, 2, 10, 10], [0, 0, 12, 12]], dtype=np.float32)
    stack = MaskStack(maps, boxes, (12, 12))
    assert (np.asarray(stack) == by_pixel(maps, boxes, (12, 12), 0.5)).all()


def test_no_masks() -> None:
    assert MaskStack(np.zeros((0, 28, 28)), np.zeros((0, 4)), (5, 6)).all_runs() == []
