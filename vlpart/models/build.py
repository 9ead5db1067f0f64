"""A detector from the numbers of its architecture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vlpart.checks import typed
from vlpart.models.config import Architecture, get_architecture

if TYPE_CHECKING:
    from torch import nn

    from vlpart.models.detector import Detector


def _build_backbone(name: str) -> nn.Module:
    if name == "resnet50":
        from vlpart.models.backbones.resnet import ResNet50

        return ResNet50()
    if name == "swin_base":
        from vlpart.models.backbones.swin import SwinBase

        return SwinBase()
    if name == "lite0_csp":
        from vlpart.models.backbones.csp_trunk import LiteWithTrunk

        return LiteWithTrunk()
    from vlpart.models.backbones.efficientnet_lite import EfficientNetLite0

    return EfficientNetLite0()


@typed()
def build_detector(architecture: str | Architecture, *, mask_on: bool = True) -> Detector:
    """A detector with freshly initialised weights, in training mode, on the CPU.

    Args:
        architecture: a name, or its table.
        mask_on: with a mask head; False gives a detector of boxes only.

    Raises:
        ModelNotFoundError: no architecture of that name.
    """
    from vlpart.models.detector import Detector
    from vlpart.models.evidence import ClassEvidence
    from vlpart.models.fpn import FeaturePyramid
    from vlpart.models.mask_head import MaskHead
    from vlpart.models.roi_heads import BoxStage, RoiHeads
    from vlpart.models.rpn import AnchorGenerator, ProposalOptions, RegionProposalNetwork
    from vlpart.models.text_classifier import TextClassifier

    sizes = get_architecture(architecture) if isinstance(architecture, str) else architecture
    backbone = _build_backbone(sizes.backbone)
    stages = []
    for delta_weights in sizes.stage_delta_weights:
        classifier = TextClassifier(
            sizes.box_width, sizes.text_dim, scale=sizes.logit_scale, initial_bias=sizes.logit_bias
        )
        stages.append(BoxStage(sizes.channels, sizes.box_width, classifier, delta_weights, quality=sizes.quality))
    return Detector(
        backbone=backbone,
        fpn=FeaturePyramid(backbone.out_channels, sizes.channels),  # type: ignore[arg-type]
        rpn=RegionProposalNetwork(sizes.channels, AnchorGenerator(sizes.anchor_sides, strides=(4, 8, 16, 32, 64))),
        roi_heads=RoiHeads(
            stages,
            MaskHead(sizes.channels, sizes.mask_width, sizes.mask_convs) if mask_on else None,
            ClassEvidence(sizes.evidence_names, sizes.evidence_features, sizes.text_dim)
            if sizes.evidence_names
            else None,
        ),
        proposal_options=ProposalOptions(pre_nms=sizes.test_pre_nms, post_nms=sizes.test_proposals),
        mask_confidence=sizes.mask_confidence,
    )
