"""The check of many masks agrees with the decoder of one, on good and on damaged strings."""

from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from vlpart.masks import rle as rle_check
from vlpart.masks.rle import check_rles, decode_runs


def random_rle(rng, size):
    """Noise, discs, single pixels, empty and full masks."""
    kind = int(rng.integers(0, 5))
    height, width = size
    bitmap = np.zeros(size, dtype=np.uint8)
    if kind == 0:
        bitmap = (rng.random(size) < rng.random()).astype(np.uint8)
    elif kind == 1:
        y, x = np.ogrid[:height, :width]
        bitmap = ((y - height / 2) ** 2 + (x - width / 2) ** 2 < rng.integers(1, 900)).astype(np.uint8)
    elif kind == 2:
        bitmap[int(rng.integers(height)), int(rng.integers(width))] = 1
    elif kind == 3:
        bitmap[:] = 1
    return coco_mask.encode(np.asfortranarray(bitmap))["counts"], int(bitmap.sum())


@pytest.mark.parametrize("block", [1, 300, 1 << 15])
def test_areas(block, monkeypatch):
    monkeypatch.setattr(rle_check, "_BLOCK", block)
    rng = np.random.default_rng(0)
    sizes = [(int(h), int(w)) for h, w in rng.integers(1, 70, (80, 2))]
    counts, areas = zip(*(random_rle(rng, size) for size in sizes), strict=True)
    checked = check_rles(counts, sizes)
    assert checked.bad is None
    assert checked.areas.tolist() == list(areas)


def test_nothing_and_very_large_images():
    assert check_rles([], np.zeros((0, 2))).bad is None
    large = (60_000, 50_000)  # its counts need more characters than the fast path takes
    rle = coco_mask.encode(np.asfortranarray(np.zeros((10, 10), dtype=np.uint8)))
    assert check_rles([rle["counts"]], [large]).bad == 0
    from vlpart.masks.rle import encode_runs

    packed = encode_runs(np.array([[5, 2_999_999_999]]), large)["counts"].encode()
    assert check_rles([packed], [large]) == ([2_999_999_994], None)


def test_damaged_strings_are_found_where_the_decoder_refuses_them():
    rng = np.random.default_rng(1)
    refused = 0
    for _ in range(400):
        size = (int(rng.integers(2, 40)), int(rng.integers(2, 40)))
        strings = [random_rle(rng, size)[0] for _ in range(5)]
        victim = int(rng.integers(5))
        damaged = bytearray(strings[victim])
        for _ in range(int(rng.integers(1, 3))):
            what, place = int(rng.integers(4)), int(rng.integers(max(len(damaged), 1)))
            if what == 0:
                damaged[place : place + 1] = b""
            elif what == 1:
                damaged.insert(place, int(rng.integers(0, 256)))
            elif what == 2 and damaged:
                damaged[place] = int(rng.integers(48, 112))
            else:
                damaged = damaged[:place]
        strings[victim] = bytes(damaged)
        try:
            decode_runs({"size": size, "counts": strings[victim]}, size)
            expected = None
        except ValueError:
            expected = victim
            refused += 1
        assert check_rles(strings, [size] * 5).bad == expected
    assert refused > 300
