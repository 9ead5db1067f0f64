"""The numbers that shape the losses; the defaults are the published ones (docs/method.md, 'Training path')."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from vlpart.models.rpn import ProposalOptions


class ParsedPartAssignment(Enum):
    """Which proposals learn a parsed part: those matched to its box, the best-scoring one, or the largest one."""

    MATCHED = "matched"
    MAX_SCORE = "max_score"
    MAX_SIZE = "max_size"


_TRAINING_PROPOSALS = ProposalOptions(pre_nms=2000, post_nms=1000)


@dataclass(frozen=True, kw_only=True)
class LossOptions:
    """How a batch becomes losses.

    Attributes:
        proposals: which proposals are kept in training.
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
    """

    proposals: ProposalOptions = _TRAINING_PROPOSALS
    rpn_anchors: int = 256
    rpn_positive_fraction: float = 0.5
    roi_regions: int = 512
    roi_positive_fraction: float = 0.25
    stage_ious: tuple[float, ...] = (0.5, 0.6, 0.7)
    federated_classes: int = 50
    unknown_below_iou: float = 0.1
    image_label_proposals: int = 128
    image_label_weight: float = 0.1
    parsed_part_weight: float = 0.1
    parsed_part_assignment: ParsedPartAssignment = ParsedPartAssignment.MATCHED
