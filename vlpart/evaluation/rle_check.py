"""Check many compressed run-length masks at once, with their areas.

The C decoder in common use hangs on damaged strings, and the metric library scores them as silent zeros. Masks are
decoded together in blocks of numpy arrays that fit a cache; if anything is wrong in a block, its masks are looked at
one by one with `vlpart.rle`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vlpart.rle import decode_runs

_BITS = 5
_MORE = 0x20
_SIGN = 0x10
_OFFSET = 48
_DIGITS = 6  # of a number in the fast path: 29 bits and the sign, more than the pixels of any usual picture
_BLOCK = 1 << 15  # characters; arrays of this size stay in the cache and are not given back to the system

Ints = NDArray[np.int64]


class RleCheck(NamedTuple):
    """`areas`: (N,) int64 pixels of every mask; `bad`: index of the first one that cannot be decoded, or None."""

    areas: Ints
    bad: int | None


def check_rles(counts: Sequence[bytes], sizes: ArrayLike) -> RleCheck:
    """Decode the run lengths of N compressed masks and check that they fill their pictures.

    Args:
        counts: N compressed `counts` strings.
        sizes: (N, 2) whole heights and widths.
    """
    shapes = np.asarray(sizes, dtype=np.int64).reshape(-1, 2)
    areas = np.zeros(len(counts), dtype=np.int64)
    lengths = np.fromiter(map(len, counts), dtype=np.int64, count=len(counts))
    limits = np.searchsorted(np.cumsum(lengths), np.arange(0, lengths.sum() + _BLOCK, _BLOCK), side="right")
    edges = np.unique(np.concatenate([[0], limits, [len(counts)]])).tolist()
    for start, stop in pairwise(edges):
        block = counts[start:stop]
        found = _areas(block, lengths[start:stop], shapes[start:stop])
        if found is None:
            found, bad = _one_by_one(block, shapes[start:stop])
            if bad is not None:
                return RleCheck(areas, start + bad)
        areas[start:stop] = found
    return RleCheck(areas, None)


def _one_by_one(counts: Sequence[bytes], shapes: Ints) -> tuple[Ints, int | None]:
    """(areas, index of the first bad one)."""
    areas = np.zeros(len(counts), dtype=np.int64)
    for i, (packed, size) in enumerate(zip(counts, shapes.tolist(), strict=True)):
        try:
            runs = decode_runs({"size": size, "counts": packed})[1]
        except ValueError:
            return areas, i
        areas[i] = int((runs[:, 1] - runs[:, 0]).sum())
    return areas, None


def _areas(counts: Sequence[bytes], lengths: Ints, shapes: Ints) -> Ints | None:
    """The areas, or None if something is wrong or unusual."""
    codes = np.frombuffer(b"".join(counts), dtype=np.uint8) - np.uint8(_OFFSET)  # below "0" wraps around to over 200
    pixels = shapes.prod(axis=1)
    if not len(codes) or not lengths.all() or int(codes.max()) >= 2 * _MORE or shapes.min() < 1:
        return None
    ends = (codes & _MORE) == 0
    last = np.flatnonzero(ends)
    final = np.cumsum(lengths) - 1
    if not ends[final].all():
        return None
    digits = np.diff(last, prepend=-1)
    if int(digits.max()) > _DIGITS:
        return None
    values = _numbers(codes, last, digits)
    stop = np.searchsorted(last, final) + 1  # numbers up to the end of each mask
    return _sum_up(values, np.diff(stop, prepend=0), pixels)


def _numbers(codes: NDArray[np.uint8], last: Ints, digits: Ints) -> Ints:
    """The signed numbers that end at `last`; five bits per character, low bits first."""
    payload = codes & np.uint8(2**_BITS - 1)
    values = payload[last].astype(np.int64)
    values -= (values & _SIGN) << 1
    rows = np.flatnonzero(digits > 1)
    back = 1
    while len(rows):
        values[rows] = (values[rows] << _BITS) | payload[last[rows] - back]
        back += 1
        rows = rows[digits[rows] > back]
    return values


def _sum_up(values: Ints, numbers: Ints, pixels: Ints) -> Ints | None:
    """Areas from the numbers of all masks; from the fourth on a number is the difference to the last but one.

    Every mask is moved to an even place, so that both chains of differences are every second number.
    """
    rounded = numbers + (numbers & 1)
    start = np.cumsum(rounded) - rounded
    shift = np.repeat(start - (np.cumsum(numbers) - numbers), numbers)
    padded = np.zeros(int(rounded.sum()), dtype=np.int64)
    padded[np.arange(len(values)) + shift] = values
    heads = padded[start]
    padded[start] = 0  # the first number is in no chain
    half, half_start = rounded // 2, start // 2
    runs = []
    for chain in (padded[0::2], padded[1::2]):
        total = np.cumsum(chain)
        before = total[half_start] - chain[half_start]
        runs.append(total - np.repeat(before, half))
    runs[0][half_start] = heads
    odd = np.flatnonzero(numbers & 1)
    runs[1][half_start[odd] + half[odd] - 1] = 0  # nothing is there
    if min(int(run.min()) for run in runs) < 0 or max(int(run.max()) for run in runs) > int(pixels.max()):
        return None
    outside, inside = (np.add.reduceat(run, half_start) for run in runs)
    return inside if bool((outside + inside == pixels).all()) else None
