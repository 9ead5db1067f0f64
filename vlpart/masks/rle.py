"""COCO run-length codes: bitmap <-> runs <-> the compressed `counts` string, and a fast check of many masks at once.

A mask is a list of *foreground runs* over the column-major pixel order of its image (index = x * height + y): an (R, 2)
int64 array of [start, end), sorted, disjoint and not touching. Decoding checks everything first: the C decoder in
common use hangs on damaged strings and turns wrong sizes into silence. Many masks are checked together in blocks of
numpy arrays that fit a cache; if anything is wrong in a block, its masks are looked at one by one.

Source: the COCO annotation format (cocodataset.org/#format-data).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Runs = NDArray[np.int64]

_BITS = 5  # payload bits per character
_MORE = 0x20  # another character follows
_SIGN = 0x10  # the top payload bit of the last character: the number is negative
_OFFSET = 48  # "0"
_MAX_CHARACTERS = 8  # 40 bits: far more pixels than any image
_MOST_PIXELS = 1 << 39


def runs_of_bitmap(bitmap: NDArray[np.bool_], x0: int, y0: int, height: int) -> Runs:
    """Foreground runs of a (h, w) bitmap whose top left pixel is at (x0, y0) of an image `height` pixels high."""
    columns = np.zeros((bitmap.shape[1], bitmap.shape[0] + 2), dtype=bool)
    columns[:, 1:-1] = bitmap.T
    flips = np.flatnonzero(columns[:, 1:] != columns[:, :-1])
    x, y = np.divmod(flips, bitmap.shape[0] + 1)
    edges = (x + x0) * height + y + y0
    return joined_runs(edges.reshape(-1, 2))


def joined_runs(runs: Runs) -> Runs:
    """Runs, of which those become one that touch: at the foot of a column and the head of the next."""
    apart = runs[1:, 0] != runs[:-1, 1]
    if apart.all():
        return runs
    return np.stack([runs[np.append(True, apart), 0], runs[np.append(apart, True), 1]], axis=1)


def bitmap_of_runs(runs: Runs, height: int) -> tuple[int, int, NDArray[np.bool_]]:
    """`(x0, y0, bitmap)`: the smallest bitmap that holds all runs, and the place of its top left pixel in the image."""
    if not len(runs):
        return 0, 0, np.zeros((0, 0), dtype=bool)
    starts, last = runs[:, 0], runs[:, 1] - 1
    x0, x1 = int(starts[0] // height), int(last[-1] // height) + 1
    if np.any(starts // height != last // height):  # such a run holds the bottom of a column and the top of the next
        y0, y1 = 0, height
    else:
        y0, y1 = int((starts % height).min()), int((last % height).max()) + 1
    edges = np.stack([starts, last], axis=1)
    edges = (edges // height - x0) * (y1 - y0) + edges % height - y0 + [0, 1]
    lengths = np.diff(edges.reshape(-1), prepend=0, append=(x1 - x0) * (y1 - y0))
    filled = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    return x0, y0, filled.reshape(x1 - x0, y1 - y0).T


def pixels_of_runs(runs: Runs, height: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """x and y of every pixel in the runs."""
    lengths = runs[:, 1] - runs[:, 0]
    places = np.arange(lengths.sum()) + np.repeat(runs[:, 0] - np.cumsum(lengths) + lengths, lengths)
    return places // height, places % height


def runs_box(runs: Runs, height: int) -> tuple[float, float, float, float]:
    """Extents x0, y0, x1, y1 (ends exclusive) of foreground runs; at least one run."""
    starts, last = runs[:, 0], runs[:, 1] - 1
    x0, x1 = int(starts[0] // height), int(last[-1] // height) + 1
    if np.any(starts // height != last // height):
        return float(x0), 0.0, float(x1), float(height)
    return float(x0), float((starts % height).min()), float(x1), float((last % height).max() + 1)


def encode_runs(runs: Runs, image_size: tuple[int, int]) -> dict[str, Any]:
    """COCO RLE `{"size": [height, width], "counts": str}` of foreground runs; equal to what pycocotools writes."""
    height, width = image_size
    edges = np.concatenate([[0], runs.reshape(-1), [height * width]])
    counts = np.diff(edges)
    if len(counts) > 1 and counts[-1] == 0:
        counts = counts[:-1]
    return {"size": [height, width], "counts": _pack(counts)}


def coco_rle(segmentation: Any, image_size: tuple[int, int]) -> dict[str, Any]:
    """A segmentation that was already checked, as the C functions of pycocotools want it: RLE with `counts` in bytes.

    Args:
        segmentation: compressed RLE of `image_size`, or polygons ([x, y, x, y, ...] each), which are merged.
        image_size: (height, width).
    """
    if isinstance(segmentation, Mapping):
        counts = segmentation["counts"]
        return {"size": list(image_size), "counts": counts.encode("ascii") if isinstance(counts, str) else counts}
    from pycocotools import mask as coco_mask

    merged: dict[str, Any] = coco_mask.merge(coco_mask.frPyObjects(segmentation, *image_size))
    return merged


def decode_runs(rle: Mapping[str, Any], image_size: tuple[int, int] | None = None) -> tuple[tuple[int, int], Runs]:
    """`((height, width), runs)` of a COCO RLE, compressed (str or bytes) or not (list of counts).

    Raises:
        ValueError: not an RLE, a damaged string, counts that do not fill the size, a size other than `image_size`.
    """
    try:
        height, width = (_side(side) for side in rle["size"])
        packed = rle["counts"]
    except (KeyError, TypeError, ValueError, OverflowError):
        raise ValueError('not a COCO RLE: expected {"size": [height, width], "counts": ...}') from None
    if height < 1 or width < 1 or height * width > _MOST_PIXELS:
        raise ValueError(f"RLE size {[height, width]} is not the height and width of an image")
    if image_size is not None and (height, width) != tuple(image_size):
        raise ValueError(f"RLE of size {[height, width]} (height, width) for an image of {list(image_size)}")
    if isinstance(packed, (str, bytes)):
        counts = _unpack(packed)
    else:
        counts = _whole_counts(packed)
    if np.any(counts < 0) or np.any(counts > height * width) or int(counts.sum()) != height * width:
        raise ValueError(f"RLE counts do not add up to the {height * width} pixels of their size {[height, width]}")
    edges = np.cumsum(counts)
    edges = edges[: len(edges) // 2 * 2].reshape(-1, 2)
    edges = edges[edges[:, 0] < edges[:, 1]]
    apart = edges[1:, 0] != edges[:-1, 1]
    ends = np.ones(len(edges), dtype=bool)
    starts = ends.copy()
    starts[1:], ends[:-1] = apart, apart
    return (height, width), np.stack([edges[starts, 0], edges[ends, 1]], axis=1)


def _whole_counts(packed: Any) -> NDArray[np.int64]:
    """Counts given as a list of whole numbers; what is none is refused, not rounded."""
    try:
        counts = np.asarray(packed).reshape(-1)
        if counts.size and counts.dtype.kind not in "iu" and not (counts.dtype.kind == "f" and _all_whole(counts)):
            raise ValueError
        return counts.astype(np.int64)
    except (TypeError, ValueError, OverflowError):
        raise ValueError("RLE counts are neither a string nor a list of whole numbers") from None


def _all_whole(values: NDArray[Any]) -> bool:
    return bool(
        np.isfinite(values).all() and (np.abs(values) < _MOST_PIXELS).all() and (values == values.round()).all()
    )


def _side(value: Any) -> int:
    """A whole number, also as 120.0: no other value is made one."""
    whole = int(value)
    if isinstance(value, str | bytes | bool) or whole != value:
        raise ValueError(f"{value!r} is no whole number")
    return whole


def _pack(counts: NDArray[np.int64]) -> str:
    """Counts to characters: from the fourth on the difference to the last but one, five bits each, low bits first."""
    values = counts.copy()
    values[3:] -= counts[1:-2]
    # As many characters as the longest number needs: its bits, and one for the sign.
    most = max(int(values.max()), -1 - int(values.min())).bit_length() // _BITS + 1
    shifts = np.arange(most) * _BITS
    rest = values[:, None] >> shifts
    digits = rest & (2**_BITS - 1)
    # Nothing follows a character where the rest is zeros, or ones, from its sign on.
    more = (((rest >> (_BITS - 1)) + 1) & -2) != 0
    used = np.ones_like(more)
    np.logical_and.accumulate(more[:, :-1], axis=1, out=used[:, 1:])
    characters = (digits | np.where(more, _MORE, 0)) + _OFFSET
    return characters[used].astype(np.uint8).tobytes().decode("ascii")


def _unpack(packed: str | bytes) -> NDArray[np.int64]:
    try:
        raw = packed.encode("ascii") if isinstance(packed, str) else packed
    except UnicodeEncodeError:
        raise ValueError("RLE counts hold a character that is not ASCII") from None
    codes = np.frombuffer(raw, dtype=np.uint8).astype(np.int64) - _OFFSET
    if not len(codes):
        raise ValueError("RLE counts are empty")
    if codes.min() < 0 or codes.max() >= 2 * _MORE:
        raise ValueError("RLE counts hold a character outside the code")
    last = np.flatnonzero((codes & _MORE) == 0)
    if not len(last) or last[-1] != len(codes) - 1:
        raise ValueError("RLE counts end in the middle of a number")
    first = np.concatenate([[0], last[:-1] + 1])
    lengths = last - first + 1
    if lengths.max() > _MAX_CHARACTERS:
        raise ValueError("RLE counts hold a number larger than any image")
    place = np.arange(len(codes)) - np.repeat(first, lengths)
    values = np.add.reduceat((codes & (2**_BITS - 1)) << (_BITS * place), first)
    values -= np.where(codes[last] & _SIGN, np.int64(1) << (_BITS * lengths), 0)
    counts = values.copy()
    for parity in (1, 2):
        counts[parity::2] = np.cumsum(values[parity::2])
    return counts


_DIGITS = 6  # of a number in the fast path: 29 bits and the sign, more than the pixels of any usual image
_BLOCK = 1 << 15  # characters; arrays of this size stay in the cache and are not given back to the system

Ints = NDArray[np.int64]


class RleCheck(NamedTuple):
    """`areas`: (N,) int64 pixels of every mask; `bad`: index of the first one that cannot be decoded, or None."""

    areas: Ints
    bad: int | None


def check_rles(counts: Sequence[bytes], sizes: ArrayLike) -> RleCheck:
    """Decode the run lengths of N compressed masks and check that they fill their images.

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
