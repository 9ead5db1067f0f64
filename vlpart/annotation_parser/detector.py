"""The detector inside the parser: confident parts of base objects, and class-agnostic proposals for novel ones."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vlpart.checks import check_fields, in_range, whole
from vlpart.data.preprocess import to_batch
from vlpart.errors import ImageError
from vlpart.models.postprocess import Detections, rescale, select_detections
from vlpart.models.rpn import ProposalOptions, Proposals
from vlpart.runtime import autocast, choose_device, choose_precision
from vlpart.types import DetectionOptions, ImageBatch

if TYPE_CHECKING:
    from vlpart.inference.predictor import Predictor
    from vlpart.models.detector import Detector
    from vlpart.text.vocabulary import Vocabulary

MAX_ASPECT = 8
"""How many times as long as its shorter side the detector takes an image.

The published parser has no limit. With 800 pixels for the shorter side, this one keeps the input to 5 megapixels; a
strip of 1500x30 pixels would become one of 32, which takes gigabytes.
"""


@dataclass(frozen=True, kw_only=True)
class DetectorOptions:
    """How the parser uses its detector; the defaults are the published numbers.

    Attributes:
        short_side: shorter side of its input in pixels; the longer one is at most `MAX_ASPECT` times as long.
        score_threshold: parts of base objects need a higher score.
        nms_iou: suppression of parts (per class) and of refined proposals.
        kept: the best so many boxes are kept.
        proposals: region proposals that are refined for a novel object.

    Raises:
        TypeError, ValueError: a value of another kind, or out of range.
    """

    short_side: int = 800
    score_threshold: float = 0.7
    nms_iou: float = 0.3
    kept: int = 100
    proposals: int = 512

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("short_side", "kept", "proposals"):
            whole(name, getattr(self, name), 1, 10**6)
        for name in ("score_threshold", "nms_iou"):
            in_range(name, getattr(self, name), 0, 1)


class PartDetector:
    """A detector with the vocabulary of the base parts.

    Args:
        detector: in evaluation mode.
        text: (C, D) embeddings of the vocabulary.
        vocabulary: C part names.
        options: thresholds and sizes.
        device, precision: where to run; see `choose_precision`.

    Raises:
        VlpartError: the device is not here, or there is no such precision.
    """

    def __init__(
        self,
        detector: Detector,
        text: Tensor,
        vocabulary: Vocabulary,
        options: DetectorOptions | None = None,
        device: str | torch.device = "cpu",
        precision: str = "float32",
    ) -> None:
        self.detector = detector
        self.vocabulary = vocabulary
        self.options = options or DetectorOptions()
        self.device = choose_device(device)
        self.precision = choose_precision(precision, self.device)
        self._text = text.to(self.device)

    @classmethod
    def of(cls, predictor: Predictor, vocabulary: Vocabulary, options: DetectorOptions | None = None) -> PartDetector:
        """The detector of a predictor, which keeps working for its owner."""
        text = torch.from_numpy(predictor.embed(vocabulary))
        return cls(predictor.detector, text, vocabulary, options, predictor.device, predictor.precision)

    @torch.inference_mode()
    def base_parts(self, target: NDArray[np.uint8], image_hw: tuple[int, int]) -> Detections:
        """Confident parts, boxes in pixels of the image, best first; no masks.

        Args:
            target: (H, W, 3) uint8 RGB, the image as the feature extractor sees it.
            image_hw: size of the image.

        Raises:
            ImageError: see `check_aspect`.
        """
        scores, regions, size_hw = self._regions(target, self._text, None)
        limits = DetectionOptions(
            score_threshold=self.options.score_threshold, nms_iou=self.options.nms_iou, max_detections=self.options.kept
        )
        detections = select_detections(scores, regions, limits)
        return rescale(detections, size_hw, image_hw)

    @torch.inference_mode()
    def refined_proposals(self, target: NDArray[np.uint8]) -> Tensor:
        """(Q, 4) float32 boxes in pixels of `target` that may hold a part of anything.

        The best proposals go through the box head. Suppression ranks them by the probability of the first class alone,
        without objectness, and drops none for its score (docs/method.md, 'Proposals of a novel object').

        Raises:
            ImageError: see `check_aspect`.
        """
        scores, regions, _ = self._regions(target, self._text[:1], self.options.proposals)
        limits = DetectionOptions(score_threshold=0.0, nms_iou=self.options.nms_iou, max_detections=self.options.kept)
        kept = select_detections(scores, regions, limits).boxes_xyxy
        return (kept / (self.options.short_side / min(target.shape[:2]))).cpu()

    def _regions(
        self, target: NDArray[np.uint8], text: Tensor, best: int | None
    ) -> tuple[Tensor, Tensor, tuple[int, int]]:
        """Scores (P, C) and refined boxes (P, 4) in the detector's input, and the size of that input.

        With `best`, only so many proposals, and class probabilities (their square root) instead of scores.
        """
        images = to_batch([enlarge(target, self.options.short_side)])
        pixels = images.pixels.to(self.device).contiguous(memory_format=torch.channels_last)
        choice = self.detector.proposal_options
        if best is not None:
            choice = ProposalOptions(pre_nms=max(choice.pre_nms, best), post_nms=best, nms_iou=choice.nms_iou)
        with autocast(self.device, self.precision):
            pyramid = self.detector.pyramid(ImageBatch(pixels=pixels, sizes_hw=images.sizes_hw).pixels)
            proposals = self.detector.propose(pyramid, images.sizes_hw, choice)
            if best is not None:
                proposals = [_certain(p) for p in proposals]
            scores, regions = self.detector.roi_heads.classify_and_refine(pyramid, proposals, images.sizes_hw, text)
        return scores[0], regions[0], images.sizes_hw[0]


def _certain(proposals: Proposals) -> Proposals:
    """The same proposals with an objectness of one."""
    return replace(proposals, logits=torch.full_like(proposals.logits, torch.inf))


def check_aspect(image: NDArray[np.uint8]) -> None:
    """Refuse a (H, W, 3) image whose `enlarge`d form would be too long to compute.

    Raises:
        ImageError: it is longer than `MAX_ASPECT` times its shorter side.
    """
    height, width = image.shape[:2]
    if max(height, width) > MAX_ASPECT * min(height, width):
        raise ImageError(
            f"an image of {width}x{height} pixels is too long for the detector, which takes "
            f"{MAX_ASPECT} times the shorter side at most: cut it into pieces"
        )


def enlarge(image: NDArray[np.uint8], short_side: int) -> NDArray[np.uint8]:
    """Resize (H, W, 3) uint8 so that the shorter side is `short_side`: bilinear, sizes and values *truncated*.

    Where an image is flat, the last bit of float32 decides whether a value is truncated to the level below. This is
    the arithmetic of the published parser: along rows, then along columns, each as one fused multiply-add.

    Raises:
        ImageError: see `check_aspect`.
    """
    check_aspect(image)
    height, width = image.shape[:2]
    scale = short_side / min(height, width)
    new_height, new_width = int(height * scale), int(width * scale)
    left, right, share = _sample_points(width, new_width)
    values = _blend(image[:, left], image[:, right], share[None, :, None])
    top, bottom, share = _sample_points(height, new_height)
    return _blend(values[top], values[bottom], share[:, None, None]).astype(np.uint8)


def _sample_points(size: int, new_size: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """For every output position the two input positions around it and the share of the second."""
    step = np.float64(np.float32(size) / np.float32(new_size))
    places = np.maximum(((np.arange(new_size) + 0.5) * step - 0.5).astype(np.float32), np.float32(0))
    first = np.minimum(places.astype(np.int64), size - 1)
    return first, np.minimum(first + 1, size - 1), (places - first).astype(np.float32)


def _blend(a: NDArray[Any], b: NDArray[Any], share: NDArray[np.float32]) -> NDArray[np.float32]:
    """a * (1 - share) + b * share; the second product is rounded to float32, the first one is not."""
    rest = (np.float32(1) - share).astype(np.float64)
    return (a * rest + (b.astype(np.float32) * share)).astype(np.float32)
