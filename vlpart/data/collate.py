"""Samples -> one batch, in two steps: what a worker sends (small: uint8 pixels, mask bits) and what training gets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from vlpart.data.preprocess import normalise_and_pad
from vlpart.types import AnnotationKind, Batch, Sample, Targets


@dataclass(kw_only=True)
class PackedMasks:
    """(N, H, W) masks as bits: an eighth of the bytes between processes."""

    bits: NDArray[np.uint8]
    shape: tuple[int, int, int]

    def unpack(self) -> torch.Tensor:
        """(N, H, W) bool."""
        n, height, width = self.shape
        if n == 0:
            return torch.zeros(self.shape, dtype=torch.bool)
        flat = np.unpackbits(self.bits, axis=1, count=height * width)
        return torch.from_numpy(flat.view(bool).reshape(self.shape))


@dataclass(kw_only=True)
class PackedSample:
    """A `Sample` in numpy arrays: these go through an ordinary pipe, so shared memory and handles cannot run out."""

    image: NDArray[np.uint8]
    boxes_xyxy: NDArray[np.float32]
    labels: NDArray[np.int64]
    masks: PackedMasks | None
    image_labels: NDArray[np.int64]
    unknown_labels: NDArray[np.bool_] | None
    open_objects: NDArray[np.bool_] | None
    inexact: NDArray[np.bool_] | None
    source: str
    image_id: int
    path: str


def pack(sample: Sample) -> PackedSample:
    """In the worker."""
    targets = sample.targets
    masks = None
    if targets.masks is not None:
        array = targets.masks.numpy()
        bits = np.packbits(array.reshape(len(array), -1), axis=1) if len(array) else np.zeros((0, 0), dtype=np.uint8)
        masks = PackedMasks(bits=bits, shape=(len(array), array.shape[1], array.shape[2]))
    return PackedSample(
        image=np.ascontiguousarray(sample.image.permute(1, 2, 0).numpy()),
        boxes_xyxy=targets.boxes_xyxy.numpy(),
        labels=targets.labels.numpy(),
        masks=masks,
        image_labels=targets.image_labels.numpy(),
        unknown_labels=None if targets.unknown_labels is None else targets.unknown_labels.numpy(),
        open_objects=None if targets.open_objects is None else targets.open_objects.numpy(),
        inexact=None if targets.inexact is None else targets.inexact.numpy(),
        source=sample.source,
        image_id=sample.image_id,
        path=sample.path,
    )


def collate(samples: Sequence[PackedSample], kind: AnnotationKind, divisor: int = 32) -> Batch:
    """In the training process: unpack, normalise, pad to a common multiple of `divisor`."""
    images = normalise_and_pad([torch.from_numpy(sample.image).permute(2, 0, 1) for sample in samples], divisor)
    return Batch(
        images=images,
        targets=[_targets(sample) for sample in samples],
        source=samples[0].source,
        kind=kind,
        image_ids=tuple(sample.image_id for sample in samples),
        paths=tuple(sample.path for sample in samples),
    )


def _targets(sample: PackedSample) -> Targets:
    return Targets(
        boxes_xyxy=torch.from_numpy(sample.boxes_xyxy),
        labels=torch.from_numpy(sample.labels),
        masks=None if sample.masks is None else sample.masks.unpack(),
        image_labels=torch.from_numpy(sample.image_labels),
        unknown_labels=None if sample.unknown_labels is None else torch.from_numpy(sample.unknown_labels),
        open_objects=None if sample.open_objects is None else torch.from_numpy(sample.open_objects),
        inexact=None if sample.inexact is None else torch.from_numpy(sample.inexact),
    )
