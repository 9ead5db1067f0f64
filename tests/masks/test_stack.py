"""MaskStack against grid_sample (the published pasting) and the run-length code against pycocotools."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from vlpart.masks.rle import bitmap_of_runs, coco_rle, decode_runs, encode_runs, runs_of_bitmap
from vlpart.masks.stack import MaskStack


def paste_with_grid_sample(maps: np.ndarray, boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(N, H, W) float32: every map sampled at every pixel of the whole image."""
    height, width = size
    x0, y0, x1, y1 = torch.from_numpy(boxes)[:, :, None].unbind(1)
    x = (torch.arange(width) + 0.5 - x0) / (x1 - x0) * 2 - 1
    y = (torch.arange(height) + 0.5 - y0) / (y1 - y0) * 2 - 1
    grid = torch.stack([x[:, None, :].expand(-1, height, -1), y[:, :, None].expand(-1, -1, width)], dim=3)
    return torch.nn.functional.grid_sample(torch.from_numpy(maps)[:, None], grid, align_corners=False)[:, 0].numpy()


def random_masks(count: int, size: tuple[int, int], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Smooth, noisy, all-one and hard maps on boxes from a fifth of a pixel to larger than the image."""
    rng = np.random.default_rng(seed)
    maps = rng.random((count, 28, 28)).astype(np.float32)
    maps[0::4] = 1
    maps[1::4] = maps[1::4] > 0.5
    y, x = np.mgrid[:28, :28]
    maps[2::4] = np.exp(-((x - 13) ** 2 + (y - 11) ** 2) / 90)
    centres = rng.random((count, 2)) * np.array([size[1] + 20, size[0] + 20]) - 10
    sides = np.exp(rng.random((count, 2)) * 7 - 1.6)
    boxes = np.concatenate([centres - sides / 2, centres + sides / 2], axis=1).astype(np.float32)
    return maps, boxes


def test_pasting_equals_grid_sample() -> None:
    size = (61, 83)
    maps, boxes = random_masks(120, size)
    pasted = np.asarray(MaskStack(maps, boxes, size))
    sampled = paste_with_grid_sample(maps, boxes, size)
    differs = pasted != (sampled >= 0.5)
    assert pasted.any(axis=(1, 2)).sum() > 60
    assert np.all(np.abs(sampled[differs] - 0.5) < 1e-5)
    assert differs.sum() <= 3


def test_whole_pixels_by_hand() -> None:
    maps = np.ones((1, 28, 28), dtype=np.float32)
    stack = MaskStack(maps, [[2, 1, 5, 3]], (6, 8))
    expected = np.zeros((6, 8), dtype=bool)
    expected[1:3, 2:5] = True
    assert np.array_equal(stack[0], expected)
    assert stack.areas().tolist() == [6]


def test_half_pixel_edges_belong_to_the_mask() -> None:
    """A pixel centre exactly on the box edge samples 0.5 of the border cell, and 0.5 counts (>=)."""
    stack = MaskStack(np.ones((1, 28, 28)), [[0.5, 0, 2.5, 2]], (2, 4))
    assert stack[0][0].tolist() == [True, True, True, False]


@pytest.mark.parametrize(
    "box",
    [[3, 3, 3, 5], [5, 5, 2, 2], [-50, 0, -10, 5], [100, 100, 140, 140]],
    ids=["flat", "inverted", "left", "beyond"],
)
def test_boxes_without_pixels_give_empty_masks(box: list[float]) -> None:
    stack = MaskStack(np.ones((1, 28, 28)), [box], (10, 12))
    assert not stack[0].any()
    assert stack.rle(0) == encode_runs(np.zeros((0, 2), dtype=np.int64), (10, 12))
    assert stack.fractions_inside(0, [0]).tolist() == [0]
    assert MaskStack.from_rles([stack.rle(0)]).fractions_inside(0, [0]).tolist() == [0]


def test_behaves_like_an_array() -> None:
    size = (30, 40)
    maps, boxes = random_masks(9, size)
    stack = MaskStack(maps, boxes, size)
    full = np.array(stack)
    assert stack.shape == full.shape == (9, 30, 40)
    assert stack.dtype == full.dtype == bool
    assert (stack.ndim, len(stack), stack.image_size) == (3, 9, size)
    assert np.asarray(stack, dtype=np.uint8).dtype == np.uint8
    assert all(np.array_equal(one, full[i]) for i, one in enumerate(stack))
    assert np.array_equal(stack[-1], full[-1])
    for key in (slice(2, 7, 2), [3, 0, 3], np.array([-1, 1]), full.any(axis=(1, 2)), [], slice(0, 0)):
        chosen = np.asarray(key, dtype=int) if isinstance(key, list) else key
        assert np.array_equal(np.asarray(stack[key]), full[chosen])
    assert np.array_equal(stack.areas(), full.sum(axis=(1, 2)))


@pytest.mark.parametrize("key", [9, -10, [9], [True] * 3, 1.5, "a", [[0, 1]], [0.5]])
def test_bad_indices(key: Any) -> None:
    stack = MaskStack(*random_masks(9, (30, 40)), (30, 40))
    with pytest.raises(TypeError if key in (1.5, "a", [[0, 1]], [0.5]) else IndexError):
        stack[key]


@pytest.mark.parametrize(
    "key", [(0, 1), (0, 2, 3), (-1, slice(1, 4)), (slice(None), 1), (slice(0, 2), slice(1, 3), 2), (..., 3), ..., ()]
)
def test_several_indices_are_those_of_an_array(key: Any) -> None:
    maps, boxes = random_masks(5, (9, 7))
    stack = MaskStack(maps, boxes, (9, 7))
    np.testing.assert_array_equal(np.asarray(stack[key]), np.asarray(stack)[key])


def test_runs_bitmaps_and_maps_agree() -> None:
    size = (50, 70)
    stack = MaskStack(*random_masks(40, size), size)
    full = np.asarray(stack)
    for other in (
        MaskStack.from_bitmaps(full),
        MaskStack.from_bitmaps(iter(stack)),
        MaskStack.from_rles(stack_rles(stack)),
    ):
        assert np.array_equal(np.asarray(other), full)
        assert np.array_equal(np.asarray(other[5:9]), full[5:9])
        assert stack_rles(other) == stack_rles(stack)


def stack_rles(stack: MaskStack) -> list[dict[str, Any]]:
    return [stack.rle(i) for i in range(len(stack))]


def test_empty_stacks_know_their_size() -> None:
    for stack in (
        MaskStack(np.zeros((0, 28, 28)), np.zeros((0, 4)), (5, 6)),
        MaskStack.from_rles([], (5, 6)),
        MaskStack.from_bitmaps(np.zeros((0, 5, 6), dtype=bool)),
    ):
        assert np.asarray(stack).shape == (0, 5, 6)
        assert stack.areas().shape == (0,)
        assert list(stack[[]]) == []


def test_fractions_inside_match_the_full_count() -> None:
    size = (90, 110)
    stack = MaskStack(*random_masks(60, size, seed=3), size)
    full = np.asarray(stack)
    others = list(range(60))
    for i in range(60):
        true = (full & full[i]).sum(axis=(1, 2)) / max(1, full[i].sum())
        for same in (stack, MaskStack.from_bitmaps(full)):
            assert np.abs(same.fractions_inside(i, others, limit=100_000) - true).max() < 1e-9
            assert np.abs(same.fractions_inside(i, others) - true).max() < 0.08


@pytest.mark.parametrize("factor", [0.5, 2, 3.3])
def test_resized(factor: float) -> None:
    """Both kinds of store scale to the same shape: a disc stays a disc of the scaled area."""
    y, x = np.mgrid[:28, :28]
    maps = np.clip(12.5 - np.hypot(x - 13.5, y - 13.5), 0, 1)[None]
    stack = MaskStack(maps, [[10, 20, 66, 76]], (100, 80))
    size = (round(100 * factor), round(80 * factor))
    scaled = stack.resized(size)
    stored = MaskStack.from_bitmaps(np.asarray(stack)).resized(size)
    assert scaled.shape == stored.shape == (1, *size)
    assert scaled.areas()[0] == pytest.approx(stack.areas()[0] * factor**2, rel=0.03)
    both = (scaled[0] & stored[0]).sum() / (scaled[0] | stored[0]).sum()
    assert both > 0.95


@pytest.mark.parametrize(
    ("maps", "boxes", "size"),
    [
        (np.ones((2, 28, 28)), np.ones((1, 4)), (5, 5)),
        (np.ones((1, 28, 14)), np.ones((1, 4)), (5, 5)),
        (np.full((1, 28, 28), np.nan), np.ones((1, 4)), (5, 5)),
        (np.ones((1, 28, 28)), np.array([[0, 0, np.inf, 1]]), (5, 5)),
        (np.ones((1, 28, 28)), np.ones((1, 4)), (0, 5)),
    ],
)
def test_bad_stacks(maps: np.ndarray, boxes: np.ndarray, size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"masks need|NaN|image_size"):
        MaskStack(maps, boxes, size)


def test_bad_bitmaps() -> None:
    with pytest.raises(ValueError, match="threshold"):
        MaskStack.from_bitmaps(np.full((1, 4, 4), 0.7))
    with pytest.raises(ValueError, match="shape"):
        MaskStack.from_bitmaps([np.ones((4, 4), dtype=bool), np.ones((4, 5), dtype=bool)])


@st.composite
def bitmaps(draw: st.DrawFn) -> np.ndarray:
    height, width = draw(st.integers(1, 14)), draw(st.integers(1, 14))
    bits = draw(st.lists(st.booleans(), min_size=height * width, max_size=height * width))
    return np.array(bits, dtype=bool).reshape(height, width)


@settings(max_examples=80, deadline=None)
@given(bitmaps())
def test_rle_equals_pycocotools(bitmap: np.ndarray) -> None:
    ours = encode_runs(runs_of_bitmap(bitmap, 0, 0, bitmap.shape[0]), bitmap.shape)
    theirs = coco_mask.encode(np.asfortranarray(bitmap.astype(np.uint8)))
    assert ours == {"size": theirs["size"], "counts": theirs["counts"].decode()}
    size, runs = decode_runs(theirs)
    assert size == bitmap.shape
    x0, y0, small = bitmap_of_runs(runs, size[0])
    back = np.zeros(size, dtype=bool)
    back[y0 : y0 + small.shape[0], x0 : x0 + small.shape[1]] = small
    assert np.array_equal(back, bitmap)


def test_rle_of_long_runs_and_lists() -> None:
    bitmap = np.zeros((700, 900), dtype=bool)
    bitmap[5:650, 40:800] = True
    bitmap[300:310, 60:70] = False
    bitmap[:, 400:403] = True
    rle = encode_runs(runs_of_bitmap(bitmap, 0, 0, 700), bitmap.shape)
    assert rle["counts"] == coco_mask.encode(np.asfortranarray(bitmap.astype(np.uint8)))["counts"].decode()
    assert np.array_equal(MaskStack.from_rles([rle])[0], bitmap)
    listed = {"size": [2, 3], "counts": [1, 2, 0, 1, 2]}
    assert MaskStack.from_rles([listed])[0].tolist() == [[False, True, False], [True, True, False]]


@pytest.mark.parametrize(
    "rle",
    [
        {"size": [4, 4], "counts": ""},
        {"size": [4, 4], "counts": "garbage"},
        {"size": [4, 4], "counts": "`"},
        {"size": [4, 4], "counts": "é"},
        {"size": [4, 4], "counts": "ooooooooooo0"},
        {"size": [4, 4], "counts": [20]},
        {"size": [4, 4], "counts": [-4, 20]},
        {"size": [4, 4], "counts": ["x"]},
        {"size": [4], "counts": "@0"},
        {"size": [0, 4], "counts": "0"},
        {"counts": "@0"},
        None,
    ],
)
def test_damaged_rles_are_refused(rle: Any) -> None:
    with pytest.raises(ValueError, match="RLE"):
        decode_runs(rle)


def test_rle_of_another_size_is_refused() -> None:
    rle = MaskStack.from_bitmaps(np.ones((1, 4, 6), dtype=bool)).rle(0)
    with pytest.raises(ValueError, match="for an image of"):
        MaskStack.from_rles([rle], (6, 4))


def test_checked_segmentations_for_the_c_functions() -> None:
    bitmap = np.zeros((20, 30), dtype=np.uint8, order="F")
    bitmap[4:12, 5:25] = 1
    expected = coco_mask.encode(bitmap)["counts"]
    for counts in (expected, expected.decode()):
        assert coco_rle({"size": [20, 30], "counts": counts}, (20, 30)) == {"size": [20, 30], "counts": expected}
    halves = [[5, 4, 15, 4, 15, 12, 5, 12], [15, 4, 25, 4, 25, 12, 15, 12]]
    assert coco_rle(halves, (20, 30))["counts"] == expected
