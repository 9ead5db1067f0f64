"""The path of one image: image-level label in, named part boxes out (docs/method.md, 'Annotation parser')."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from vlpart.annotation_parser.bank import ReferenceBank, check_features, check_sources
from vlpart.annotation_parser.correspondence import (
    TransferredParts,
    best_proposals,
    nearest,
    normalised,
    transfer_parts,
)
from vlpart.annotation_parser.detector import PartDetector, check_aspect
from vlpart.annotation_parser.features.base import FeatureExtractor, ImageFeatures, fingerprint
from vlpart.annotation_parser.labelled_images import LabelledImage
from vlpart.annotation_parser.output import ParsedPart
from vlpart.annotation_parser.references import Reference
from vlpart.annotation_parser.rename import Renamer
from vlpart.checks import check_fields, in_range, whole
from vlpart.data.images import read_image_file
from vlpart.data.resize import resize_shorter_side
from vlpart.errors import DataError, ImageError
from vlpart.names import plain

if TYPE_CHECKING:
    from vlpart.models.postprocess import Detections

PUBLISHED = {"short_side": 224, "max_side": 672}
"""Size at which images are compared where no bank says another one, and the saliency of the object."""
FOREGROUND = 0.05
REFERENCES_KEPT = 64  # about 8 MB each with DINO at 224 pixels


@dataclass(frozen=True, kw_only=True)
class ParserOptions:
    """How an image is parsed.

    Attributes:
        short_side, max_side: size of the images that are compared, in pixels; None takes that of the bank.
        foreground: patches with a saliency above it belong to the object; None takes what the features are good at.
        min_iou: a transferred box without a proposal that overlaps it by more is dropped.
        use_proposals: replace transferred boxes by proposals of the detector; False keeps the boxes of the masks.
        keep_masks: keep the transferred masks, which the published parser drops.
        base_objects: labels whose parts the detector finds by itself; None = all labels.
        sources: for a label, the base objects that may serve as references; labels that are not in it may take any.

    Raises:
        TypeError, ValueError: a value of another kind, or out of range.
    """

    short_side: int | None = None
    max_side: int | None = None
    foreground: float | None = None
    min_iou: float = 0.3
    use_proposals: bool = True
    keep_masks: bool = False
    base_objects: frozenset[str] | None = frozenset()
    sources: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def needs_detector(self) -> bool:
        """Whether parts or proposals of a detector are asked for."""
        return self.base_objects is None or bool(self.base_objects) or self.use_proposals

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("short_side", "max_side"):
            whole(name, 1 if (value := getattr(self, name)) is None else value, 1, 10**5)
        for name in ("foreground", "min_iou"):
            in_range(name, getattr(self, name) or 0, 0, 1)


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """Everything between a target and its parts, for looking at.

    Attributes:
        reference: the base image that was chosen, and its similarity (cosine of class tokens).
        reference_image, target_image: (H, W, 3) uint8 RGB, as they were compared.
        reference_features, target_features: of the two.
        nearest_patch: (N,) int64, for every target patch the reference patch.
        patch_similarity: (N,) float32 cosines.
        parts: masks and boxes on the target, before proposals.
        proposals_xyxy: (Q, 4) in pixels of the target image; empty without proposals.
        chosen: (K,) int64 indices into `parts`, and `final_xyxy` (K, 4) their final boxes in pixels of the target
            image, and `overlaps` (K,) the IoU of the two.
    """

    reference: Reference
    similarity: float
    reference_image: NDArray[np.uint8]
    target_image: NDArray[np.uint8]
    reference_features: ImageFeatures
    target_features: ImageFeatures
    nearest_patch: Tensor
    patch_similarity: Tensor
    parts: TransferredParts
    proposals_xyxy: Tensor
    chosen: Tensor
    final_xyxy: Tensor
    overlaps: Tensor


@dataclass(eq=False)
class _Target:
    """An image at the size at which it is compared, and what is found out about it, once for all of its labels."""

    image: NDArray[np.uint8]
    features: ImageFeatures | None = None
    base_parts: Detections | None = None
    proposals: Tensor | None = None

    @property
    def described(self) -> ImageFeatures:
        """Its features."""
        assert self.features is not None
        return self.features


class ImageParser:
    """Finds the parts of images with an image-level label.

    Args:
        features: describes images; must be the extractor the bank was built with. None if there is no bank.
        bank: base images; None if all labels are base objects.
        detector: may be None if no label is a base object and no proposals are used.
        renamer: from base part to the names to write.
        options: sizes and thresholds.

    Raises:
        DataError: the bank was built with other features, or something that the options need is missing.
    """

    def __init__(
        self,
        features: FeatureExtractor | None,
        bank: ReferenceBank | None,
        detector: PartDetector | None,
        renamer: Renamer,
        options: ParserOptions,
    ) -> None:
        if bank is not None and features is not None:
            check_features(bank, features)
            if bank.of_objects:
                raise DataError(f"the reference bank {bank.folder} is one of objects: use vlpart parse find-objects")
        header = PUBLISHED if bank is None else bank.header
        self._short_side = options.short_side or int(header["short_side"])
        self._max_side = options.max_side or int(header["max_side"])
        saliency = FOREGROUND if features is None else features.foreground
        self._foreground = saliency if options.foreground is None else options.foreground
        if detector is None and options.needs_detector:
            raise DataError("base objects and proposals need a detector: name a model, or switch both off")
        self.features, self.bank, self.detector, self.renamer, self.options = features, bank, detector, renamer, options
        self._base = None if options.base_objects is None else {plain(name) for name in options.base_objects}
        self._sources = {plain(label): tuple(names) for label, names in options.sources.items()}
        self._references: OrderedDict[int, tuple[NDArray[np.uint8], ImageFeatures]] = OrderedDict()

    def settings(self) -> dict[str, Any]:
        """Whatever the parts depend on, as JSON data."""
        options = asdict(self.options) | {
            "short_side": self._short_side,
            "max_side": self._max_side,
            "foreground": self._foreground,
        }
        options["base_objects"] = None if self._base is None else sorted(self.options.base_objects or ())
        options["sources"] = {label: list(names) for label, names in sorted(self.options.sources.items())}
        detector = None
        if self.detector is not None:
            detector = asdict(self.detector.options) | {
                "weights": fingerprint(self.detector.detector),
                "vocabulary": self.detector.vocabulary.content_hash,
                "precision": self.detector.precision,
            }
        return {
            "precision": None if self.features is None else self.features.precision,
            "bank": None if self.bank is None else self.bank.settings(),
            "detector": detector,
            "options": options,
            **self.renamer.settings(),
        }

    def parse_labelled(
        self, pixels: Sequence[NDArray[np.uint8]], images: Sequence[LabelledImage]
    ) -> list[list[ParsedPart]]:
        """`parse` with the labels of the images."""
        return self.parse(pixels, [image.labels for image in images])

    def is_base(self, label: str) -> bool:
        """Whether the detector finds the parts of this label by itself."""
        return self._base is None or plain(label) in self._base

    def check_labels(self, labels: Iterable[str]) -> None:
        """Refuse labels that cannot be parsed, and `sources` of labels or base objects that there are not.

        Raises:
            DataError: there are some.
        """
        labels = list(labels)
        novel = [label for label in labels if not self.is_base(label)]
        if novel and self.bank is None:
            raise DataError(f"{novel[0]!r} is no base object and needs a reference bank: vlpart parse build")
        check_sources(self.options.sources, labels, self.bank)

    def parse(self, images: Sequence[NDArray[np.uint8]], labels: Sequence[Sequence[str]]) -> list[list[ParsedPart]]:
        """Parts of (H, W, 3) uint8 RGB images, for each of the labels that it has.

        Raises:
            DataError: a novel label and no bank, or a reference image that cannot be read.
            ImageError: an image that is too thin to be looked at.
        """
        targets = [_Target(self._resized(image)) for image in images]
        novel = [
            (t, name) for t, names in zip(targets, labels, strict=True) for name in names if not self.is_base(name)
        ]
        described = list(dict.fromkeys(target for target, _ in novel))
        for target, features in zip(described, self._describe([t.image for t in described]), strict=True):
            target.features = features
        references = iter(self._search(novel))
        parts_by_image: list[list[ParsedPart]] = []
        for image, target, names in zip(images, targets, labels, strict=True):
            parts: list[ParsedPart] = []
            for label in names:
                if self.is_base(label):
                    parts += self._detected(target, image.shape[:2], label)
                else:
                    parts += self.named(self._transfer(target, *next(references)), image.shape[:2], label)
            parts_by_image.append(parts)
        return parts_by_image

    def transfer(self, image: NDArray[np.uint8], label: str) -> Transfer:
        """The transfer to one image with all its intermediate results."""
        target = _Target(self._resized(image))
        (target.features,) = self._describe([target.image])
        return self._transfer(target, *self._search([(target, label)])[0])

    def named(self, transfer: Transfer, image_hw: tuple[int, int], label: str) -> list[ParsedPart]:
        """The transferred parts that the vocabulary has, in pixels of the image."""
        height, width = transfer.target_image.shape[:2]
        scale = np.array([image_hw[1] / width, image_hw[0] / height] * 2)
        named = []
        for row, index in enumerate(transfer.chosen.tolist()):
            base = transfer.reference.parts[int(transfer.parts.sources[index])]
            name = self.renamer(label, base.part)
            if name is None:
                continue
            x0, y0, x1, y1 = (transfer.final_xyxy[row].numpy().astype(np.float64) * scale).tolist()
            named.append(
                ParsedPart(
                    name=name,
                    found_as=f"{base.object}:{base.part}",
                    box_xyxy=(max(x0, 0.0), max(y0, 0.0), min(x1, image_hw[1]), min(y1, image_hw[0])),
                    score=float(transfer.overlaps[row]),
                    mask=transfer.parts.masks[index] if self.options.keep_masks else None,
                )
            )
        return named

    def _resized(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return resize_shorter_side(image, self._short_side, self._max_side)

    def _detected(self, target: _Target, image_hw: tuple[int, int], label: str) -> list[ParsedPart]:
        assert self.detector is not None
        if target.base_parts is None:
            target.base_parts = self.detector.base_parts(target.image, image_hw)
        detections = target.base_parts
        vocabulary, parts = self.detector.vocabulary, []
        for box, score, index in zip(
            detections.boxes_xyxy.tolist(), detections.scores.tolist(), detections.labels.tolist(), strict=True
        ):
            name = self.renamer.found(label, vocabulary, index)
            if name is not None:
                x0, y0, x1, y1 = box
                parts.append(
                    ParsedPart(name=name, found_as=vocabulary.names[index], box_xyxy=(x0, y0, x1, y1), score=score)
                )
        return parts

    def _describe(self, images: Sequence[NDArray[np.uint8]]) -> list[ImageFeatures]:
        if not images:
            return []
        if self.features is None or self.bank is None:
            raise DataError("labels that are no base objects need a reference bank: vlpart parse build")
        return self.features.describe(images)

    def _search(self, queries: Sequence[tuple[_Target, str]]) -> list[tuple[int, float]]:
        """The most similar reference of every target and label: its number and the cosine of the class tokens.

        Targets that may take the same references are looked up together, which reads a large bank once.
        """
        references: list[tuple[int, float]] = [(0, 0.0)] * len(queries)
        groups: dict[tuple[str, ...] | None, list[int]] = {}
        for i, (_, label) in enumerate(queries):
            groups.setdefault(self._sources.get(plain(label)), []).append(i)
        for objects, members in groups.items():
            assert self.bank is not None
            tokens = torch.stack([queries[i][0].described.class_token for i in members])
            nearest_ones = self.bank.search(tokens, objects=objects)
            for row, i in enumerate(members):
                references[i] = (int(nearest_ones.indices[row, 0]), float(nearest_ones.similarities[row, 0]))
        return references

    def _transfer(self, target: _Target, index: int, similarity: float) -> Transfer:
        assert self.bank is not None
        features = target.described
        reference = self.bank.reference(index)
        reference_image, reference_features = self._described_reference(index, reference)
        matches = nearest(normalised(features.descriptors), normalised(reference_features.descriptors))
        nearest_patch = matches.indices[:, 0]
        parts = transfer_parts(
            reference.part_bitmaps(),
            reference_features.grid,
            nearest_patch,
            features.saliency > self._foreground,
            features.grid,
            target.image.shape[:2],
        )
        proposals, chosen, final, overlaps = self._boxes(target, parts)
        return Transfer(
            reference=reference,
            similarity=similarity,
            reference_image=reference_image,
            target_image=target.image,
            reference_features=reference_features,
            target_features=features,
            nearest_patch=nearest_patch.cpu(),
            patch_similarity=matches.similarities[:, 0].cpu(),
            parts=parts,
            proposals_xyxy=proposals,
            chosen=chosen,
            final_xyxy=final,
            overlaps=overlaps,
        )

    def _boxes(self, target: _Target, parts: TransferredParts) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Proposals, the parts that stay, their final boxes in pixels of the target, and the overlaps."""
        tight = torch.from_numpy(parts.boxes_xyxy)
        if self.options.use_proposals and len(tight):
            assert self.detector is not None
            if target.proposals is None:
                target.proposals = self.detector.refined_proposals(target.image)
            proposals = target.proposals
            chosen, proposal, overlaps = best_proposals(tight, proposals, self.options.min_iou)
            return proposals, chosen, proposals[proposal], overlaps
        edges = tight + 0.5  # from pixel centres to edges, which all other boxes count
        return tight.new_zeros(0, 4), torch.arange(len(tight)), edges, torch.ones(len(tight))

    def _described_reference(self, index: int, reference: Reference) -> tuple[NDArray[np.uint8], ImageFeatures]:
        """The reference image as it is compared, and its features; the last few are kept."""
        if index not in self._references:
            assert self.bank is not None
            try:
                whole = read_image_file(self.bank.images / reference.file_name)
                image = shrink_reference(whole, self._short_side)
            except ImageError as error:
                raise DataError(f"a reference cannot be read ({error}): name its folder with --base-images") from error
            self._references[index] = (image, self._describe([image])[0])
        self._references.move_to_end(index)
        while len(self._references) > REFERENCES_KEPT:
            self._references.popitem(last=False)
        return self._references[index]


def shrink_reference(image: NDArray[np.uint8], short_side: int) -> NDArray[np.uint8]:
    """Resize a reference so that its shorter side is `short_side`: Lanczos, sizes truncated (docs/method.md, 'Dense
    correspondence').

    Raises:
        ImageError: see `check_aspect`; the longer side has no other limit.
    """
    check_aspect(image)
    height, width = image.shape[:2]
    scale = short_side / min(height, width)
    size = (int(width * scale), int(height * scale))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))
