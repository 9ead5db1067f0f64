"""The architectures, as tables of numbers. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from vlpart.checks import typed
from vlpart.errors import ModelNotFoundError

_SINGLE = ((10.0, 10.0, 5.0, 5.0),)
_CASCADE = ((10.0, 10.0, 5.0, 5.0), (20.0, 20.0, 10.0, 10.0), (30.0, 30.0, 15.0, 15.0))


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Sizes of a detector.

    Attributes:
        backbone: `resnet50`, `swin_base`, `efficientnet_lite0`, or `lite0_csp` (that and a trunk trained on COCO).
        text_dim: width of the text embeddings it was made for.
        channels: channels of the pyramid, the RPN and the mask head's input.
        box_width: width of the fully connected layers of a box stage.
        mask_width, mask_convs: channels and number of 3x3 convolutions of the mask head.
        stage_delta_weights: box-delta factors; one entry per stage.
        anchor_sides: anchor side in pixels on p2..p6.
        test_pre_nms, test_proposals: proposals before NMS per level and after NMS, at test time.
        logit_scale, logit_bias: of the text classifier.
        evidence_names: how many names the backbone's trunk has probabilities of, see `models.evidence`; 0 = no trunk.
        evidence_features: channels of that trunk's features.
        quality: whether the box stage says how well a region fits anything at all, see `roi_heads.BoxStage`.
        mask_confidence: whether scores are multiplied by that of the mask, see `postprocess.mask_confidence`.
        short_side, max_side: default size of the network input in pixels.
    """

    backbone: str
    text_dim: int
    channels: int
    box_width: int
    mask_width: int
    mask_convs: int = 4
    stage_delta_weights: tuple[tuple[float, ...], ...] = _SINGLE
    anchor_sides: tuple[float, ...] = (32, 64, 128, 256, 512)
    test_pre_nms: int = 1000
    test_proposals: int = 1000
    logit_scale: float = 50.0
    logit_bias: float | None = None
    quality: bool = False
    mask_confidence: bool = False
    evidence_names: int = 0
    evidence_features: int = 0
    short_side: int = 800
    max_side: int = 1333


ARCHITECTURES = {
    "r50_mask_rcnn": Architecture(backbone="resnet50", text_dim=1024, channels=256, box_width=1024, mask_width=256),
    "swin_b_cascade": Architecture(
        backbone="swin_base",
        text_dim=1024,
        channels=256,
        box_width=1024,
        mask_width=256,
        stage_delta_weights=_CASCADE,
    ),
    "tiny": Architecture(
        backbone="efficientnet_lite0",
        text_dim=128,
        channels=96,
        box_width=256,
        mask_width=96,
        anchor_sides=(16, 32, 64, 128, 256),
        test_pre_nms=400,
        test_proposals=300,
        logit_scale=30.0,
        logit_bias=-6.0,
        short_side=352,
        max_side=576,
    ),
    "tiny2": Architecture(
        backbone="lite0_csp",
        text_dim=256,
        channels=96,
        box_width=256,
        mask_width=96,
        anchor_sides=(16, 32, 64, 128, 256),
        test_pre_nms=400,
        test_proposals=300,
        logit_scale=30.0 * 2**0.5,  # the text has two halves of equal weight; the first is that of `tiny`
        logit_bias=-6.0,
        quality=True,
        mask_confidence=True,
        evidence_names=80,
        evidence_features=128,
        short_side=352,
        max_side=576,
    ),
}


@typed()
def get_architecture(name: str) -> Architecture:
    """The table of a named architecture.

    Raises:
        ModelNotFoundError: no architecture of that name.
    """
    try:
        return ARCHITECTURES[name]
    except KeyError:
        raise ModelNotFoundError(f"no architecture {name!r}: choose one of {', '.join(ARCHITECTURES)}") from None
