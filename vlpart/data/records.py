"""The annotation index of a source: flat numpy columns that worker processes share instead of copying.

A Python list of a million annotation dicts is copied page by page into every forked worker as soon as reference counts
are touched. Here an index is about twenty arrays whatever its size: forked workers share their pages, and pickling
(spawned workers) moves them to shared memory once.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vlpart.masks.rasterise import Segmentation, pack_segmentation, unpack_segmentation

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Record:
    """Ground truth of one image as annotated, in pixels of the stored image.

    Attributes:
        boxes_xyxy: (N, 4) float32.
        labels: (N,) int64 vocabulary indices.
        scored: (N,) bool, see `AnnotationEntry.scored`.
        segmentations: N polygons lists or compressed RLE strings, or None where the source has no masks.
        image_labels, unknown_labels: vocabulary indices, int64.
    """

    image_id: int
    path: Path
    height: int
    width: int
    boxes_xyxy: NDArray[np.float32]
    labels: NDArray[np.int64]
    scored: NDArray[np.bool_]
    segmentations: list[Segmentation] | None
    image_labels: NDArray[np.int64]
    unknown_labels: NDArray[np.int64]


@dataclass(kw_only=True)
class RecordStore:
    """Columns over images (I), annotations (A) and label lists; `*_start` arrays have one more entry than their rows.

    Attributes:
        root: folder of the images.
        has_masks: whether `Record.segmentations` is given.
        image_ids (I,) int64; heights, widths (I,) int32; names: all file names in UTF-8, one after the other.
        boxes_xyxy (A, 4) float32; labels (A,) int32; scored (A,) bool; segments: packed segmentations, one after the
            other.
        image_labels, unknown_labels: int32 lists of vocabulary indices.
    """

    root: str
    has_masks: bool
    image_ids: NDArray[np.int64]
    heights: NDArray[np.int32]
    widths: NDArray[np.int32]
    names: NDArray[np.uint8]
    names_start: NDArray[np.int64]
    annotations_start: NDArray[np.int64]
    boxes_xyxy: NDArray[np.float32]
    labels: NDArray[np.int32]
    scored: NDArray[np.bool_]
    segments: NDArray[np.uint8]
    segments_start: NDArray[np.int64]
    image_labels: NDArray[np.int32]
    image_labels_start: NDArray[np.int64]
    unknown_labels: NDArray[np.int32]
    unknown_labels_start: NDArray[np.int64]
    _shared: dict[str, Tensor] | None = field(default=None, init=False, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.image_ids)

    def __getitem__(self, index: int) -> Record:
        """Everything known about image `index` (0 <= index < len)."""
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        first, last = int(self.annotations_start[index]), int(self.annotations_start[index + 1])
        segmentations = None
        if self.has_masks:
            edges = self.segments_start[first : last + 1]
            segmentations = [unpack_segmentation(self.segments[a:b].tobytes()) for a, b in pairwise(edges)]
        return Record(
            image_id=int(self.image_ids[index]),
            path=Path(self.root, self.file_name(index)),
            height=int(self.heights[index]),
            width=int(self.widths[index]),
            boxes_xyxy=self.boxes_xyxy[first:last].copy(),
            labels=self.labels[first:last].astype(np.int64),
            scored=self.scored[first:last].copy(),
            segmentations=segmentations,
            image_labels=_row(self.image_labels, self.image_labels_start, index),
            unknown_labels=_row(self.unknown_labels, self.unknown_labels_start, index),
        )

    def file_name(self, index: int) -> str:
        """File name of image `index`, relative to `root`."""
        name = self.names[self.names_start[index] : self.names_start[index + 1]].tobytes()
        return name.decode(errors="surrogateescape")  # names of files may be bytes that are no UTF-8

    def renamed(self, names: Sequence[str]) -> RecordStore:
        """The same store with other file names."""
        encoded = [name.encode(errors="surrogateescape") for name in names]
        return replace(
            self,
            names=np.frombuffer(b"".join(encoded), dtype=np.uint8),
            names_start=np.cumsum([0, *map(len, encoded)], dtype=np.int64),
        )

    @property
    def nbytes(self) -> int:
        """Bytes of all columns together."""
        return sum(value.nbytes for value in vars(self).values() if isinstance(value, np.ndarray))

    def image_class_pairs(self) -> NDArray[np.int64]:
        """(P, 2) int64: every (image index, class) that occurs, once, from annotations and image labels; sorted."""
        owners = np.repeat(np.arange(len(self)), np.diff(self.annotations_start))
        label_owners = np.repeat(np.arange(len(self)), np.diff(self.image_labels_start))
        pairs = np.stack(
            [np.concatenate([owners, label_owners]), np.concatenate([self.labels, self.image_labels]).astype(np.int64)],
            axis=1,
        )
        return np.unique(pairs, axis=0)

    def __getstate__(self) -> dict[str, object]:
        """Columns as shared-memory tensors, so that spawned workers map them instead of receiving a copy each."""
        if self._shared is None:
            self._shared = {name: _share(value) for name, value in vars(self).items() if isinstance(value, np.ndarray)}
            for name, tensor in self._shared.items():
                setattr(self, name, tensor.numpy())
        return {"root": self.root, "has_masks": self.has_masks, "_shared": self._shared}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        for name, tensor in state["_shared"].items():
            setattr(self, name, tensor.numpy())


class RecordStoreBuilder:
    """Collects images one by one into growing buffers; `finish` hands the arrays over."""

    def __init__(self, root: str, has_masks: bool) -> None:
        self.root, self.has_masks = root, has_masks
        self.image_ids, self.heights, self.widths = array("q"), array("i"), array("i")
        self.names, self.segments = bytearray(), bytearray()
        self.names_start, self.annotations_start, self.segments_start = (
            array("q", [0]),
            array("q", [0]),
            array("q", [0]),
        )
        self.boxes, self.labels, self.scored = array("f"), array("i"), array("b")
        self.image_labels, self.image_labels_start = array("i"), array("q", [0])
        self.unknown_labels, self.unknown_labels_start = array("i"), array("q", [0])

    def add_annotation(
        self,
        box_xyxy: tuple[float, float, float, float],
        label: int,
        segmentation: Segmentation | None,
        scored: bool = False,
    ) -> None:
        """Append an annotation to the image that the next `add_image` closes."""
        self.boxes.extend(box_xyxy)
        self.labels.append(label)
        self.scored.append(scored)
        if self.has_masks:
            if segmentation is None:
                raise ValueError("a store with masks needs a segmentation for every annotation")
            self.segments += pack_segmentation(segmentation)
            self.segments_start.append(len(self.segments))

    def add_image(self, image_id: int, file_name: str, height: int, width: int, image_labels: list[int]) -> None:
        """Close an image: it owns the annotations added since the last call."""
        self.image_ids.append(image_id)
        self.heights.append(height)
        self.widths.append(width)
        self.names += file_name.encode(errors="surrogateescape")
        self.names_start.append(len(self.names))
        self.annotations_start.append(len(self.labels))
        self.image_labels.extend(image_labels)
        self.image_labels_start.append(len(self.image_labels))

    def add_unknown(self, labels: list[int]) -> None:
        """Classes of unknown presence of the next image in order (called once per image, or never)."""
        self.unknown_labels.extend(labels)
        self.unknown_labels_start.append(len(self.unknown_labels))

    def finish(self) -> RecordStore:
        """The store."""
        images = len(self.image_ids)
        if len(self.unknown_labels_start) == 1:
            self.unknown_labels_start.extend([0] * images)
        return RecordStore(
            root=self.root,
            has_masks=self.has_masks,
            image_ids=np.array(self.image_ids, dtype=np.int64),
            heights=np.array(self.heights, dtype=np.int32),
            widths=np.array(self.widths, dtype=np.int32),
            names=np.frombuffer(bytes(self.names), dtype=np.uint8),
            names_start=np.array(self.names_start, dtype=np.int64),
            annotations_start=np.array(self.annotations_start, dtype=np.int64),
            boxes_xyxy=np.array(self.boxes, dtype=np.float32).reshape(-1, 4),
            labels=np.array(self.labels, dtype=np.int32),
            scored=np.array(self.scored, dtype=bool),
            segments=np.frombuffer(bytes(self.segments), dtype=np.uint8),
            segments_start=np.array(self.segments_start, dtype=np.int64),
            image_labels=np.array(self.image_labels, dtype=np.int32),
            image_labels_start=np.array(self.image_labels_start, dtype=np.int64),
            unknown_labels=np.array(self.unknown_labels, dtype=np.int32),
            unknown_labels_start=np.array(self.unknown_labels_start, dtype=np.int64),
        )


def _share(column: NDArray[Any]) -> Tensor:
    import torch

    tensor = torch.from_numpy(column.copy())
    return tensor.share_memory_() if column.size else tensor


def _row(values: NDArray[np.int32], start: NDArray[np.int64], index: int) -> NDArray[np.int64]:
    return values[start[index] : start[index + 1]].astype(np.int64)
