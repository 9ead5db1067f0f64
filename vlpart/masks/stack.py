"""Instance masks that stay compact until somebody asks for pixels.

The mask head gives one 28x28 map of probabilities per detection. `MaskStack` keeps those (3 KB each) with their boxes
and looks like an (N, H, W) bool array from outside; pixels are computed per instance, inside the box only. A stack read
from a file keeps runs instead. Source: docs/method.md, 'Mask head' (bilinear, align_corners False, threshold 0.5).
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import EllipsisType
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vlpart.checks import in_range
from vlpart.masks.crop import MaskCrop
from vlpart.masks.polygons import Polygon, area, faithful, outlines, simplified
from vlpart.masks.rle import Runs, bitmap_of_runs, decode_runs, encode_runs, pixels_of_runs, runs_of_bitmap
from vlpart.masks.stretched import neighbours, pixel_bounds, runs_of_maps

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]

_SURE = np.float32(0.02)  # nearer to 0 and 1 than this, a map counts as equally sure


class _Grids:
    """Masks as square maps of probabilities that are stretched over boxes."""

    def __init__(self, maps: FloatArray, boxes: FloatArray, image_size: tuple[int, int], threshold: float) -> None:
        self.maps, self.boxes, self.image_size, self.threshold = maps, boxes, image_size, np.float32(threshold)

    def __len__(self) -> int:
        return len(self.maps)

    def take(self, indices: IntArray) -> _Grids:
        return _Grids(self.maps[indices], self.boxes[indices], self.image_size, float(self.threshold))

    def resized(self, image_size: tuple[int, int]) -> _Grids:
        height, width = image_size
        scale = np.array([width / self.image_size[1], height / self.image_size[0]] * 2, dtype=np.float32)
        return _Grids(self.maps, self.boxes * scale, image_size, float(self.threshold))

    def extended(self, cells: int) -> _Grids:
        """With `cells` more on each side, in which what reaches the edge of its box runs out."""
        if not len(self.maps):
            return self
        side = self.maps.shape[-1]
        probabilities = np.clip(self.maps, _SURE, 1 - _SURE)
        odds = np.log(probabilities / (1 - probabilities)) - np.log(self.threshold / (1 - self.threshold))
        fall = np.float32(np.log((1 - _SURE) / _SURE) / cells)
        for axis in (1, 2):
            odds = np.concatenate(
                [_beyond(odds, axis, 0, fall, cells), odds, _beyond(odds, axis, -1, fall, cells)], axis
            )
        odds += np.log(self.threshold / (1 - self.threshold))
        margin = (self.boxes[:, 2:] - self.boxes[:, :2]) * np.float32(cells / side)
        boxes = np.concatenate([self.boxes[:, :2] - margin, self.boxes[:, 2:] + margin], axis=1)
        return _Grids((1 / (1 + np.exp(-odds))).astype(np.float32), boxes, self.image_size, float(self.threshold))

    def runs(self, indices: Sequence[int]) -> list[Runs]:
        chosen = list(indices)
        return runs_of_maps(self.maps[chosen], self.boxes[chosen], self.image_size, self.threshold)

    def points(self, i: int, limit: int) -> tuple[IntArray, IntArray]:
        """x and y of about `limit` pixels of mask `i`, spread evenly."""
        x0, y0, x1, y1 = self.boxes[i]
        step = max(1, int(np.sqrt(max(x1 - x0, 0) * max(y1 - y0, 0) / limit)))
        (bounds,) = pixel_bounds(self.maps[[i]], self.boxes[[i]], self.image_size, self.threshold).tolist()
        columns, rows = (_every(bounds[axis], bounds[axis + 2], step) for axis in (0, 1))
        xs, ys = np.tile(columns, len(rows)), np.repeat(rows, len(columns))
        inside = self.contains(np.array([i]), xs, ys)[0]
        if step > 1 and not inside.any():  # thinner than the step
            return pixels_of_runs(self.runs([i])[0], self.image_size[0])
        return xs[inside], ys[inside]

    def contains(self, others: IntArray, xs: IntArray, ys: IntArray) -> BoolArray:
        """(K, P): whether each of K masks holds each of P pixels."""
        cells = self.maps.shape[-1]
        x0, y0, x1, y1 = self.boxes[others].T[:, :, None]
        solid = (x1 > x0) & (y1 > y0)
        x1, y1 = np.where(solid, x1, x0 + 1), np.where(solid, y1, y0 + 1)
        left, du = neighbours(xs, x0, x1, cells)
        top, dv = neighbours(ys, y0, y1, cells)
        padded = np.pad(self.maps[others], ((0, 0), (1, 1), (1, 1))).reshape(-1)
        side = cells + 2
        corner = (np.arange(len(others))[:, None] * side + top) * side + left
        upper = padded[corner] * (1 - du) + padded[corner + 1] * du
        lower = padded[corner + side] * (1 - du) + padded[corner + side + 1] * du
        return solid & (upper * (1 - dv) + lower * dv >= self.threshold)

    def outlines(self, i: int) -> list[Polygon]:
        """Of the map itself: between its cells the outline is as exact as the mask, and has no steps of pixels."""
        x0, y0, x1, y1 = (float(side) for side in self.boxes[i])
        if not (x1 > x0 and y1 > y0):
            return []
        cells = self.maps.shape[-1]
        centres = (np.arange(-1, cells + 1) + 0.5) / cells
        grid = np.pad(self.maps[i], 1)
        return outlines(grid, x0 + centres * (x1 - x0), y0 + centres * (y1 - y0), float(self.threshold))


def _beyond(odds: FloatArray, axis: int, edge: int, fall: np.float32, cells: int) -> FloatArray:
    """`cells` more cells beyond one edge, in order: on with the slope at the edge, but down by `fall` at least."""
    last = odds.take([edge], axis=axis)
    slope = np.minimum(last - odds.take([edge - 1 if edge else 1], axis=axis), -fall)
    steps = np.arange(1, cells + 1, dtype=np.float32).reshape([-1 if k == axis else 1 for k in range(3)])
    further: FloatArray = last + slope * steps
    return np.flip(further, axis=axis) if edge == 0 else further


def _every(start: int, stop: int, step: int) -> IntArray:
    """Whole numbers in the middle of steps."""
    return np.arange(start + min(step // 2, max(stop - start - 1, 0)), stop, step, dtype=np.int64)


class _RunLists:
    """Masks as foreground runs (see `vlpart.masks.rle`), for what comes from files or bitmaps."""

    def __init__(self, runs: list[Runs], image_size: tuple[int, int]) -> None:
        self.lists, self.image_size = runs, image_size

    def __len__(self) -> int:
        return len(self.lists)

    def take(self, indices: IntArray) -> _RunLists:
        return _RunLists([self.lists[int(i)] for i in indices], self.image_size)

    def extended(self, cells: int) -> _RunLists:
        return self

    def resized(self, image_size: tuple[int, int]) -> _RunLists:
        return _RunLists([self._resized_runs(i, image_size) for i in range(len(self))], image_size)

    def runs(self, indices: Sequence[int]) -> list[Runs]:
        return [self.lists[i] for i in indices]

    def points(self, i: int, limit: int) -> tuple[IntArray, IntArray]:
        runs = self.lists[i]
        filled = np.cumsum(runs[:, 1] - runs[:, 0])
        area = int(filled[-1]) if len(filled) else 0
        ranks = np.arange(area) if area <= limit else (np.arange(limit) + 0.5) * (area / limit)
        ranks = ranks.astype(np.int64)
        owner = np.searchsorted(filled, ranks, side="right")
        xs, ys = np.divmod(runs[owner, 1] - (filled[owner] - ranks), self.image_size[0])
        return xs, ys

    def contains(self, others: IntArray, xs: IntArray, ys: IntArray) -> BoolArray:
        pixels = xs * self.image_size[0] + ys
        places = [np.searchsorted(self.lists[int(i)].reshape(-1), pixels, side="right") for i in others]
        return np.array(places, dtype=np.int64).reshape(len(others), len(pixels)) % 2 == 1

    def outlines(self, i: int) -> list[Polygon]:
        x0, y0, bitmap = bitmap_of_runs(self.lists[i], self.image_size[0])
        if not bitmap.size:
            return []
        grid = np.pad(bitmap, 1).astype(np.float32)
        xs, ys = (low - 0.5 + np.arange(size) for low, size in ((x0, grid.shape[1]), (y0, grid.shape[0])))
        return outlines(grid, xs, ys, 0.5)

    def _resized_runs(self, i: int, image_size: tuple[int, int]) -> Runs:
        from PIL import Image

        height, width = image_size
        x0, y0, bitmap = bitmap_of_runs(self.lists[i], self.image_size[0])
        if not bitmap.size:
            return self.lists[i]
        margin = 2  # cells of zeros around, so that the edge is interpolated like everywhere else
        grid = np.pad(bitmap, margin).astype(np.uint8) * 255
        x0, y0 = x0 - margin, y0 - margin
        sx, sy = width / self.image_size[1], height / self.image_size[0]
        left, top = max(0, int(np.ceil(x0 * sx))), max(0, int(np.ceil(y0 * sy)))
        right = min(width, int(np.floor((x0 + grid.shape[1]) * sx)))
        bottom = min(height, int(np.floor((y0 + grid.shape[0]) * sy)))
        if right <= left or bottom <= top:
            return np.zeros((0, 2), dtype=np.int64)
        source = (left / sx - x0, top / sy - y0, right / sx - x0, bottom / sy - y0)
        scaled = Image.fromarray(grid).resize((right - left, bottom - top), Image.Resampling.BILINEAR, box=source)
        return runs_of_bitmap(np.asarray(scaled) >= 128, left, top, height)


class MaskStack:
    """N masks over one image of (height, width), array-like: shape (N, H, W), dtype bool, read-only.

    `stack[i]` is an (H, W) bool array; a slice, a list or an array of indices, or a bool array gives a `MaskStack` of
    those; `stack[i, y, x]`, `stack[:, 5:9]` and `stack[...]` are what an array would give. `numpy.asarray(stack)` makes
    all N at once (N * H * W bytes), while iterating makes one at a time.

    Args:
        probabilities: (N, S, S) float32 in 0..1, one map per instance (S = 28 in the published models).
        boxes_xyxy: (N, 4) float32 pixels, what each map is stretched over.
        image_size: (height, width) of the image.
        threshold: a pixel belongs to the mask where its bilinearly sampled value is >= this.

    Raises:
        ValueError: shapes that do not fit, values that are not finite, an empty image.
    """

    def __init__(
        self,
        probabilities: ArrayLike,
        boxes_xyxy: ArrayLike,
        image_size: tuple[int, int],
        threshold: float = 0.5,
    ) -> None:
        maps = np.asarray(probabilities, dtype=np.float32)
        boxes = np.asarray(boxes_xyxy, dtype=np.float32)
        if not len(maps):
            maps, boxes = np.zeros((0, 1, 1), dtype=np.float32), boxes.reshape(-1, 4)
        if maps.ndim != 3 or maps.shape[1] != maps.shape[2] or boxes.shape != (len(maps), 4):
            raise ValueError(f"masks need (N, S, S) maps and (N, 4) boxes, got {maps.shape} and {boxes.shape}")
        if not (np.isfinite(maps).all() and np.isfinite(boxes).all()):
            raise ValueError("mask maps or boxes hold NaN or infinity")
        if not threshold > 0:
            raise ValueError(f"a mask threshold must be above 0, got {threshold}")
        self._store: _Grids | _RunLists = _Grids(maps, boxes, checked_size(image_size), threshold)

    @classmethod
    def _of(cls, store: _Grids | _RunLists) -> MaskStack:
        stack = cls.__new__(cls)
        stack._store = store
        return stack

    @classmethod
    def from_bitmaps(cls, bitmaps: Iterable[ArrayLike], image_size: tuple[int, int] | None = None) -> MaskStack:
        """A stack of (N, H, W) bool (or 0/1) bitmaps, an array or any iterable; `image_size` is only needed for N = 0.

        Raises:
            ValueError: bitmaps of different sizes, values other than 0 and 1.
        """
        runs: list[Runs] = []
        size = checked_size(image_size) if image_size is not None else None
        for item in bitmaps:
            bitmap = np.asarray(item)
            if bitmap.ndim != 2 or (size is not None and bitmap.shape != size):
                raise ValueError(f"bitmap {len(runs)} has the shape {bitmap.shape}, not {size or '(height, width)'}")
            if bitmap.dtype != bool:
                if not np.isin(bitmap, (0, 1)).all():
                    raise ValueError(f"bitmap {len(runs)} holds values other than 0 and 1: apply a threshold first")
                bitmap = bitmap.astype(bool)
            size = checked_size(bitmap.shape)
            runs.append(runs_of_bitmap(bitmap, 0, 0, size[0]))
        if size is None and isinstance(bitmaps, np.ndarray) and bitmaps.ndim == 3:
            size = checked_size(bitmaps.shape[1:])
        if size is None:
            raise ValueError("no bitmaps and no image_size=(height, width)")
        return cls._of(_RunLists(runs, size))

    @classmethod
    def from_rles(cls, rles: Sequence[Mapping[str, Any]], image_size: tuple[int, int] | None = None) -> MaskStack:
        """A stack of COCO RLEs, compressed or not; `image_size` is needed only where there are none.

        Raises:
            ValueError: a damaged RLE, or sizes that differ from each other or from `image_size`.
        """
        size = checked_size(image_size) if image_size is not None else None
        runs = []
        for rle in rles:
            size, decoded = decode_runs(rle, size)
            runs.append(decoded)
        if size is None:
            raise ValueError("no masks and no image_size=(height, width)")
        return cls._of(_RunLists(runs, size))

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) of the image in pixels."""
        return self._store.image_size

    @property
    def shape(self) -> tuple[int, int, int]:
        """(N, H, W)."""
        return (len(self._store), *self._store.image_size)

    @property
    def dtype(self) -> np.dtype[np.bool_]:
        """Always bool."""
        return np.dtype(np.bool_)

    @property
    def ndim(self) -> int:
        """Always 3."""
        return 3

    def __len__(self) -> int:
        return len(self._store)

    def __repr__(self) -> str:
        return f"MaskStack(shape={self.shape})"

    @overload
    def __getitem__(self, key: int | np.integer[Any]) -> BoolArray: ...
    @overload
    def __getitem__(self, key: tuple[Any, ...] | EllipsisType) -> Any: ...
    @overload
    def __getitem__(self, key: slice | list[int] | list[bool] | range | NDArray[Any]) -> MaskStack: ...
    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, tuple) and key and isinstance(key[0], (int, np.integer)):
            return self[key[0]][key[1:]]  # one mask is made, not all
        if isinstance(key, tuple) or key is Ellipsis:
            return np.asarray(self)[key]
        if isinstance(key, (int, np.integer)) and not isinstance(key, (bool, np.bool_)):
            return self._full(range(len(self))[int(key)])
        return MaskStack._of(self._store.take(resolve_indices(key, len(self))))

    def __iter__(self) -> Iterator[BoolArray]:
        return (self._full(i) for i in range(len(self)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("a MaskStack is computed when asked for: it cannot become an array without a copy")
        full = np.zeros(self.shape, dtype=np.bool_ if dtype is None else dtype)
        for i in range(len(self)):
            crop = self.crop(i)
            full[i, crop.y0 : crop.y1, crop.x0 : crop.x1] = crop.bitmap
        return full

    def crop(self, i: int) -> MaskCrop:
        """The mask of instance `i` as a bitmap of the region around it (cheap), without empty margins."""
        return MaskCrop(*bitmap_of_runs(self.runs(i), self.image_size[0]))

    def crops(self) -> list[MaskCrop]:
        """`crop` of every mask, computed together: several times faster than one by one."""
        return [MaskCrop(*bitmap_of_runs(runs, self.image_size[0])) for runs in self.all_runs()]

    def areas(self) -> IntArray:
        """(N,) int64: number of pixels of every mask."""
        return np.array([np.diff(runs).sum() for runs in self.all_runs()], dtype=np.int64)

    def runs(self, i: int) -> Runs:
        """(R, 2) int64 foreground runs of mask `i` in column-major pixel order (see `vlpart.masks.rle`)."""
        return self._store.runs([range(len(self))[i]])[0]

    def all_runs(self) -> list[Runs]:
        """`runs` of every mask, computed together: several times faster than one by one."""
        return self._store.runs(range(len(self)))

    def rle(self, i: int) -> dict[str, Any]:
        """COCO RLE of mask `i`: `{"size": [height, width], "counts": str}`."""
        return encode_runs(self.runs(i), self.image_size)

    def rles(self) -> list[dict[str, Any]]:
        """`rle` of every mask, computed together: several times faster than one by one."""
        return [encode_runs(runs, self.image_size) for runs in self.all_runs()]

    def polygons(self, i: int, tolerance: float = 0.5) -> list[Polygon]:
        """The outline of mask `i`: (K, 2) float64 x, y in pixels for each of its pieces, the largest first.

        Holes are filled, and pieces of less than a pixel are left out, so the list may be empty.

        Args:
            i: which mask.
            tolerance: corners that are no further from the line without them, in pixels, are left out.

        Raises:
            ValueError: a tolerance that is no number of at least 0.
        """
        in_range("tolerance", tolerance, 0, math.inf)
        height, width = self.image_size
        pieces = []
        for outline in self._store.outlines(range(len(self))[i]):
            piece = simplified(np.clip(outline, 0, (width, height)), tolerance)
            if len(piece) >= 3 and area(piece) >= 1:
                pieces.append(piece)
        return sorted(pieces, key=area, reverse=True)

    def rings(self, i: int) -> list[Polygon]:
        """The mask `i` as rings: outlines, and holes as rings inside of them, to be filled by the even-odd rule.

        They differ from the mask in 2 % of its pixels at most: where `polygons` are not as good (thin masks, holes,
        many small pieces) these are the edges of its pixels. Empty only for an empty mask.
        """
        crop = self.crop(i)
        return faithful(crop.bitmap, crop.x0, crop.y0, self.polygons(i)) if crop.bitmap.size else []

    def fractions_inside(self, i: int, others: Sequence[int], limit: int = 512) -> NDArray[np.float64]:
        """(len(others),): which share of mask `i` lies inside each of the other masks; zeros if mask `i` is empty.

        Counted on about `limit` pixels at most, spread evenly over mask `i`: the cost does not grow with the image.

        Args:
            i: which mask.
            others: the others.
            limit: how many pixels to count.
        """
        shares: NDArray[np.float64] = self.moved_fractions_inside(i, others, np.zeros((1, 2)), limit)[0]
        return shares

    def moved_fractions_inside(
        self, i: int, others: Sequence[int], moves_xy: NDArray[np.floating[Any]], limit: int = 512
    ) -> NDArray[np.float64]:
        """(M, len(others)): `fractions_inside`, after each of M moves of mask `i` by x and y pixels, rounded."""
        xs, ys = self._store.points(i, limit)
        chosen = np.asarray(others, dtype=np.int64).reshape(-1)
        if not len(xs):
            return np.zeros((len(moves_xy), len(chosen)))
        height, width = self.image_size
        moves = np.rint(moves_xy).astype(np.int64)
        xs, ys = (xs + moves[:, :1]).reshape(-1), (ys + moves[:, 1:]).reshape(-1)
        on_image = (xs >= 0) & (xs < width) & (ys >= 0) & (ys < height)
        held = self._store.contains(chosen, xs, ys) & on_image
        shares: NDArray[np.float64] = held.reshape(len(chosen), len(moves), -1).mean(axis=2).T
        return shares

    @property
    def maps(self) -> tuple[FloatArray, FloatArray] | None:
        """The (N, S, S) float32 probabilities and the (N, 4) boxes that they are stretched over, where masks are kept
        as such; None for runs.
        """
        return (self._store.maps, self._store.boxes) if isinstance(self._store, _Grids) else None

    def resized(self, image_size: tuple[int, int]) -> MaskStack:
        """The same masks over a scaled image of (height, width)."""
        return MaskStack._of(self._store.resized(checked_size(image_size)))

    def extended(self, cells: int = 2) -> MaskStack:
        """Masks that run out beyond their boxes instead of being cut off straight there; for pictures, not for figures.

        Where the map of a mask is sure of the region up to the edge of its box, the object goes on behind it. Such an
        edge is continued with the slope of the map, `cells` of its cells at most (2 of 28: a fourteenth of the box), so
        that it ends in a curve. An edge that the map itself draws inside its box stays where it is. Masks that are kept
        as runs have no map, and stay as they are.
        """
        return MaskStack._of(self._store.extended(cells))

    def _full(self, i: int) -> BoolArray:
        full = np.zeros(self.image_size, dtype=bool)
        crop = self.crop(i)
        full[crop.y0 : crop.y1, crop.x0 : crop.x1] = crop.bitmap
        return full


def resolve_indices(key: Any, length: int) -> IntArray:
    """A slice, N bools or (also negative) indices as int64 positions in 0..length-1.

    Raises:
        IndexError: one beyond the end, or another number of bools.
        TypeError: anything else.
    """
    if isinstance(key, slice):
        return np.arange(length, dtype=np.int64)[key]
    chosen = np.asarray(key)
    if not chosen.size and chosen.ndim == 1:
        chosen = chosen.astype(np.int64) if chosen.dtype != bool else chosen
    if chosen.ndim != 1 or (chosen.dtype != bool and not np.issubdtype(chosen.dtype, np.integer)):
        raise TypeError("index with a whole number, a slice, a list of whole numbers or a list of N bools")
    if chosen.dtype == bool and len(chosen) != length:
        raise IndexError(f"{len(chosen)} bools for {length} instances")
    return np.arange(length, dtype=np.int64)[chosen]


def checked_size(size: Sequence[int]) -> tuple[int, int]:
    """(height, width) of an image.

    Raises:
        ValueError: not two whole numbers of at least 1.
    """
    try:
        height, width = (operator.index(side) for side in size)
    except (TypeError, ValueError):
        height = width = 0
    if height < 1 or width < 1:
        raise ValueError(f"image_size is (height, width), two whole numbers of at least 1, got {size!r:.80}")
    return height, width
