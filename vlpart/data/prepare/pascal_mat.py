"""One `.mat` file of Pascal Part: objects, the masks of their parts, and which of the 93 classes a part is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlpart.errors import DataError
from vlpart.rle import encode_runs, runs_of_bitmap
from vlpart.text.vocabulary import Vocabulary

MAX_SIDE = 20_000


@dataclass(frozen=True, slots=True)
class MatPart:
    """One part that has a class.

    Attributes:
        category_id: in the list `pascal_part`.
        box_xywh: [x, y, w, h] of the mask pixels, with w = last - first column and h = last - first row (without + 1).
        rle: compressed COCO RLE.
        area: number of mask pixels.
    """

    category_id: int
    box_xywh: list[float]
    rle: dict[str, Any]
    area: int


@dataclass(frozen=True, slots=True)
class MatPicture:
    """What a `.mat` file says; `empty` names parts with a class whose mask has no pixel, `unnamed` counts the rest.

    `height` and `width` are 0 where the file has no mask at all.
    """

    height: int
    width: int
    parts: tuple[MatPart, ...]
    empty: tuple[str, ...]
    unnamed: int


@cache
def part_names() -> dict[str, tuple[tuple[str, int], ...]]:
    """For every object as the .mat files spell it: `(text to look for, category id)` in id order."""
    found: dict[str, list[tuple[str, int]]] = {}
    for entry in sorted(Vocabulary.load("pascal_part").entries, key=lambda entry: entry.id):
        object_name, text = (entry.abbr or entry.name).split(":", 1)
        found.setdefault(object_name.replace(" ", ""), []).append((text, entry.id))
    return {name: tuple(rows) for name, rows in found.items()}


def category_of(object_name: str, part_name: str) -> int | None:
    """The class of a part: the first of its object whose short name occurs in the part's name ("lear" has "ear")."""
    for text, category_id in part_names().get(object_name.replace(" ", ""), ()):
        if text in part_name:
            return category_id
    return None


def read_mat(path: Path) -> MatPicture:
    """Read a file of `Annotations_Part`.

    Raises:
        DataError: missing or damaged, not of the Pascal Part form, or with masks of different sizes.
        DataError: scipy is not installed.
    """
    parts: list[MatPart] = []
    empty: list[str] = []
    unnamed = 0
    size: tuple[int, int] | None = None
    for object_name, part_name, mask in _masks(path):
        if part_name is None:
            size = _same_size(size, mask, path)
            continue
        category_id = category_of(object_name, part_name)
        size = _same_size(size, mask, path)
        if category_id is None:
            unnamed += 1
        elif not mask.any():
            empty.append(f"{object_name}:{part_name}")
        else:
            parts.append(encode_part(category_id, mask))
    height, width = size or (0, 0)
    return MatPicture(height, width, tuple(parts), tuple(empty), unnamed)


def encode_part(category_id: int, mask: NDArray[np.bool_]) -> MatPart:
    """A part from its (H, W) bool mask, which has at least one pixel."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    y0, y1, x0, x1 = int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])
    runs = runs_of_bitmap(mask[y0 : y1 + 1, x0 : x1 + 1], x0, y0, mask.shape[0])
    rle = encode_runs(runs, (mask.shape[0], mask.shape[1]))
    return MatPart(category_id, [float(x0), float(y0), float(x1 - x0), float(y1 - y0)], rle, int(mask.sum()))


def _masks(path: Path) -> Iterator[tuple[str, str | None, NDArray[np.bool_]]]:
    """`(object, part or None for the object itself, (H, W) bool mask)` in the order of the file."""
    annotation = _load(path)
    try:
        for item in np.asarray(annotation["objects"]).reshape(-1):
            object_name = _text(item["class"])
            yield object_name, None, _bitmap(item["mask"])
            for part in np.asarray(item["parts"]).reshape(-1):
                yield object_name, _text(part["part_name"]), _bitmap(part["mask"])
    except (KeyError, IndexError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path} is not of the Pascal Part form ({reason}); is it from Annotations_Part?") from None


def _load(path: Path) -> Any:
    try:
        from scipy.io import loadmat
    except ImportError:
        raise DataError('reading .mat files needs scipy: pip install "vlpart[train]"') from None
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from None
    try:
        content = loadmat(BytesIO(data))
    except MemoryError:
        raise DataError(f"{path} is damaged: it asks for more memory than there is") from None
    except Exception as error:  # noqa: BLE001 - a damaged file ends in whatever its bytes lead the decoder to
        raise DataError(f"{path} is damaged or no MATLAB file: {' '.join(str(error).split())[:200]}") from None
    try:
        return content["anno"][0, 0]
    except (KeyError, IndexError, TypeError):
        raise DataError(f"{path} has no variable 'anno'; is it from Annotations_Part?") from None


def _text(cell: Any) -> str:
    values = np.asarray(cell).reshape(-1)
    if len(values) != 1 or not isinstance(values[0], str):
        raise ValueError("a name is not a text")
    return str(values[0])


def _bitmap(cell: Any) -> NDArray[np.bool_]:
    array = np.asarray(cell)
    if array.ndim != 2 or array.dtype.kind not in "biu" or not (0 < min(array.shape) <= max(array.shape) <= MAX_SIDE):
        raise ValueError(f"a mask has the shape {array.shape} and type {array.dtype}")
    bitmap: NDArray[np.bool_] = array > 0
    return bitmap


def _same_size(size: tuple[int, int] | None, mask: NDArray[np.bool_], path: Path) -> tuple[int, int]:
    own = (int(mask.shape[0]), int(mask.shape[1]))
    if size is not None and own != size:
        raise DataError(f"{path} has masks of {size[1]}x{size[0]} and of {own[1]}x{own[0]} pixels")
    return own
