"""What flows between the stages: small dataclasses, validated once where data enters.

Images are RGB. Boxes are pixels, `xyxy`, in the frame of the image they belong to. No torch is imported at run time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from vlpart.masks.stack import MaskStack
    from vlpart.text.vocabulary import Vocabulary


class AnnotationKind(Enum):
    """How a training source is annotated (docs/method.md, 'Annotation kinds'); the value is the published name.

    `BOXES` and `PARTS` train alike (boxes, and masks where there are any); the two names are kept because the published
    recipes tell object sources from part sources.
    """

    BOXES = "box"
    PARTS = "part"
    IMAGE_LABELS = "image"
    PARSED_PARTS = "ppart"


@dataclass(kw_only=True)
class Targets:
    """Ground truth of one image, in the frame of the *network input* (after augmentation).

    Attributes:
        boxes_xyxy: (N, 4) float32 pixels.
        labels: (N,) int64 indices into the vocabulary of the source.
        masks: (N, H, W) bool at the (unpadded) image size, or None where the source has no masks.
        image_labels: (K,) int64 indices into the vocabulary of the source (image-label sources; else empty).
        unknown_labels: (C,) bool or None. True = whether this class occurs elsewhere in the image is not known: no
            negative for proposals away from any annotation. None = everything not annotated is absent.
        ignore_inside: (N,) bool or None. True = inside of this annotation other things may be unlabelled: the parts of
            an object of which only the outline is known. None = there are no such annotations.
        pseudo_labels: (N,) bool or None. True = this box and mask are no person's work: they teach what is there,
            not its outline. None = there are none.
        only_at_matches: (C,) bool or None. True = this class is a negative for regions that are matched to an
            annotation of another class, and says nothing elsewhere. None = there are no such classes.
    """

    boxes_xyxy: Tensor
    labels: Tensor
    masks: Tensor | None
    image_labels: Tensor
    unknown_labels: Tensor | None = None
    ignore_inside: Tensor | None = None
    pseudo_labels: Tensor | None = None
    only_at_matches: Tensor | None = None

    def to(self, device: object) -> Targets:
        """The same targets with every tensor on `device`."""

        def move(x: Tensor | None) -> Tensor | None:
            return None if x is None else x.to(device)  # type: ignore[call-overload]

        return Targets(
            boxes_xyxy=self.boxes_xyxy.to(device),  # type: ignore[call-overload]
            labels=self.labels.to(device),  # type: ignore[call-overload]
            masks=move(self.masks),
            image_labels=self.image_labels.to(device),  # type: ignore[call-overload]
            unknown_labels=move(self.unknown_labels),
            ignore_inside=move(self.ignore_inside),
            pseudo_labels=move(self.pseudo_labels),
            only_at_matches=move(self.only_at_matches),
        )


@dataclass(kw_only=True)
class Sample:
    """One augmented training image before batching: `image` is (3, H, W) uint8 RGB, not normalised, not padded."""

    image: Tensor
    targets: Targets
    source: str
    image_id: int
    path: str


@dataclass(kw_only=True)
class ImageBatch:
    """Network input: normalised, then zero-padded right and bottom to a common multiple of the stride.

    Attributes:
        pixels: (B, 3, H, W) float32.
        sizes_hw: B pairs, the unpadded height and width of every image.
    """

    pixels: Tensor
    sizes_hw: Sequence[tuple[int, int]]

    def to(self, device: object) -> ImageBatch:
        """The same batch with its pixels on `device`."""
        return ImageBatch(pixels=self.pixels.to(device), sizes_hw=self.sizes_hw)  # type: ignore[call-overload]


@dataclass(kw_only=True)
class Batch:
    """A training batch. All images come from one source, so they share one annotation kind and one vocabulary.

    Attributes:
        images: B images.
        targets: B targets.
        source: name of the source in the recipe.
        kind: annotation kind of the source.
        image_ids, paths: B of each, for messages and for saving a batch that gave a non-finite loss.
    """

    images: ImageBatch
    targets: Sequence[Targets]
    source: str
    kind: AnnotationKind
    image_ids: Sequence[int] = field(default_factory=tuple)
    paths: Sequence[str] = field(default_factory=tuple)

    def to(self, device: object) -> Batch:
        """The same batch with every tensor on `device`."""
        return Batch(
            images=self.images.to(device),
            targets=[t.to(device) for t in self.targets],
            source=self.source,
            kind=self.kind,
            image_ids=self.image_ids,
            paths=self.paths,
        )


@dataclass(frozen=True, kw_only=True)
class DetectionOptions:
    """Which detections are kept: score strictly above the threshold, NMS per class, the best over all classes."""

    score_threshold: float = 0.05
    nms_iou: float = 0.5
    max_detections: int = 100


class NamedDetections(Protocol):
    """What drawing and file formats need of the N detections of an image; `vlpart.Result` has it.

    Attributes:
        image_size: (height, width) in pixels.
        boxes_xyxy: (N, 4) float32, pixels of the image.
        scores: (N,) float32 in 0..1.
        class_ids: (N,) int64 indices into `vocabulary`.
        masks: (N, H, W) or None.
        vocabulary: what was looked for.
        path: where the image came from, or None.
    """

    image_size: tuple[int, int]
    boxes_xyxy: NDArray[np.float32]
    scores: NDArray[np.float32]
    class_ids: NDArray[np.int64]
    masks: MaskStack | None
    vocabulary: Vocabulary
    path: str | None

    def __len__(self) -> int: ...

    @property
    def names(self) -> list[str]:
        """N names, parts as "object:part"."""
        ...

    @property
    def owners(self) -> NDArray[np.int64]:
        """(N,) int64: for a part the index of its object, else -1."""
        ...

    def is_part(self, i: int) -> bool:
        """Whether detection `i` is a part."""
        ...
