"""EfficientNet-Lite0 beside a frozen trunk trained on COCO: what `tiny` learned and what object detection taught."""

from __future__ import annotations

import torch
from torch import Tensor

from vlpart.models.backbones.csp_trunk import CspTrunk
from vlpart.models.backbones.efficientnet_lite import EfficientNetLite0


class LiteWithTrunk(EfficientNetLite0):
    """Maps of strides 4, 8, 16, 32: those of EfficientNet-Lite0, and from stride 8 on those of `CspTrunk` behind them.

    The lateral convolutions of the pyramid read both. A pyramid of `EfficientNetLite0` becomes one of this backbone
    with zeros for the new columns: then the detector starts with the very answers that it had.
    """

    out_channels = (24, *(c + CspTrunk.channels for c in (40, 112, 320)))  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.trunk = CspTrunk()

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """(B, 3, H, W) normalised pixels -> four maps, finest first."""
        finest, *coarser = super().forward(pixels)
        joined = [torch.cat((x, y.to(x.dtype)), dim=1) for x, y in zip(coarser, self.trunk(pixels), strict=True)]
        return [finest, *joined]
