"""The numbers that shape the losses; the defaults are the published ones (docs/method.md, 'Training path'). Imports no
torch: a recipe holds them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from vlpart.checks import check_fields
from vlpart.errors import TrainingError

#: Which proposals learn a parsed part: those matched to its box, the best-scoring one, or the largest one.
ParsedPartAssignment = Literal["matched", "max_score", "max_size"]


@dataclass(frozen=True, kw_only=True)
class LossOptions:
    """How a batch becomes losses.

    Attributes:
        proposals_before_nms, proposals: kept of each level before NMS, and of all levels after it, in training.
        rpn_anchors: anchors sampled per image; the RPN losses are divided by it, per image, whatever was sampled.
        rpn_positive_fraction: upper limit of positives among them.
        roi_regions: regions sampled per image.
        roi_positive_fraction: upper limit of positives among them.
        stage_ious: matching threshold of every stage.
        federated_classes: classes that count in a step of a federated source, those present included.
        unknown_below_iou: where labels are unknown, proposals that overlap every annotation less than this do not count
            for the unknown classes; see `vlpart.losses.boxes_and_masks.known_weights`.
        image_label_proposals: proposals that image labels (and parsed parts by score or size) choose from.
        image_label_weight: factor of the image-label loss.
        parsed_part_weight: factor of the parsed-part loss.
        parsed_part_assignment: see `ParsedPartAssignment`.
        ranking_weight: factor of each of the two losses on order, see `vlpart.losses.ranking`; 0 = none.
        mask_regions: regions per image that the mask head learns from, at most; None = all that are matched.
        quality_weight: factor of the loss of the quality output, where the architecture has one.

    Raises:
        TrainingError: a number that no training could use.
        TypeError: a value of another kind.
    """

    proposals_before_nms: int = 2000
    proposals: int = 1000
    rpn_anchors: int = 256
    rpn_positive_fraction: float = 0.5
    roi_regions: int = 512
    roi_positive_fraction: float = 0.25
    stage_ious: tuple[float, ...] = (0.5, 0.6, 0.7)
    federated_classes: int = 50
    unknown_below_iou: float = 0.1
    image_label_proposals: int = 128
    image_label_weight: float = 0.01
    parsed_part_weight: float = 0.1
    parsed_part_assignment: ParsedPartAssignment = "matched"
    ranking_weight: float = 0.0
    quality_weight: float = 0.5
    mask_regions: int | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        counts = ("proposals_before_nms", "proposals", "rpn_anchors", "roi_regions", "federated_classes")
        shares = ("rpn_positive_fraction", "roi_positive_fraction", "unknown_below_iou")
        weights = ("image_label_weight", "parsed_part_weight", "ranking_weight", "quality_weight")
        for names, rule, broken in (
            ((*counts, "image_label_proposals"), ">= 1", lambda value: value < 1),
            (shares, "between 0 and 1", lambda value: not 0 <= value <= 1),
            (weights, ">= 0", lambda value: not value >= 0),
        ):
            for name in names:
                if broken(getattr(self, name)):
                    raise TrainingError(f"losses: {name} {getattr(self, name)} must be {rule}")
        if self.mask_regions is not None and self.mask_regions < 1:
            raise TrainingError(f"losses: mask_regions {self.mask_regions} must be >= 1, or None")
        if self.parsed_part_assignment not in get_args(ParsedPartAssignment):
            raise TrainingError(
                f"losses: parsed_part_assignment {self.parsed_part_assignment!r}: "
                f"use one of {', '.join(get_args(ParsedPartAssignment))}"
            )
