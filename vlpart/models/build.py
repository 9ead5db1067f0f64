"""A detector from the numbers of its architecture."""

from __future__ import annotations

from typing import TYPE_CHECKING

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

    a = get_architecture(architecture) if isinstance(architecture, str) else architecture
    backbone = _build_backbone(a.backbone)
    stages = []
    for delta_weights in a.stage_delta_weights:
        classifier = TextClassifier(a.box_width, a.text_dim, scale=a.logit_scale, initial_bias=a.logit_bias)
        stages.append(BoxStage(a.channels, a.box_width, classifier, delta_weights, quality=a.quality))
    return Detector(
        backbone=backbone,
        fpn=FeaturePyramid(backbone.out_channels, a.channels),  # type: ignore[arg-type]
        rpn=RegionProposalNetwork(a.channels, AnchorGenerator(a.anchor_sides, strides=(4, 8, 16, 32, 64))),
        roi_heads=RoiHeads(
            stages,
            MaskHead(a.channels, a.mask_width, a.mask_convs) if mask_on else None,
            ClassEvidence(a.evidence_names, a.evidence_features, a.text_dim) if a.evidence_names else None,
        ),
        proposal_options=ProposalOptions(pre_nms=a.test_pre_nms, post_nms=a.test_proposals),
    )
