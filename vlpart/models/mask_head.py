"""The class-agnostic mask head."""

from __future__ import annotations

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from vlpart.models.convolution import convolve, predicts_on_cpu


class MaskHead(nn.Module):
    """3x3 convolutions, a 2x2 stride-2 deconvolution, and one mask channel.

    Args:
        channels: channels of the pooled features.
        width: channels inside the head.
        convs: number of 3x3 convolutions.
    """

    def __init__(self, channels: int, width: int, convs: int = 4) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(channels if i == 0 else width, width, 3, padding=1) for i in range(convs))
        self.deconv = nn.ConvTranspose2d(width, width, 2, stride=2)
        self.predictor = nn.Conv2d(width, 1, 1)
        for layer in (*self.convs, self.deconv):
            conv = cast(nn.Conv2d, layer)
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(cast(Tensor, conv.bias))
        nn.init.normal_(self.predictor.weight, std=0.001)
        nn.init.zeros_(cast(Tensor, self.predictor.bias))

    def forward(self, pooled: Tensor) -> Tensor:
        """(N, C, 14, 14) region features -> (N, 28, 28) float32 mask logits."""
        for module in self.convs:
            conv = cast(nn.Conv2d, module)
            pooled = convolve(pooled, conv.weight, conv.bias, padding=1, relu=True)
        if predicts_on_cpu(pooled):
            return self._quadrants(pooled)
        return self.predictor(F.relu(self.deconv(pooled), inplace=True)).float().squeeze(1)

    def _quadrants(self, x: Tensor) -> Tensor:
        """(N, width, H, W) -> (N, 2 H, 2 W) logits: a cell makes its four by itself, so it is a matrix product, and
        only their logits are put in order.
        """
        count, _, height, width = x.shape
        weight = self.deconv.weight.permute(2, 3, 1, 0).flatten(0, 2)  # (2 * 2 * width, width)
        hidden = F.linear(x.permute(0, 2, 3, 1), weight, cast(Tensor, self.deconv.bias).repeat(4)).relu_()
        logits = F.linear(
            hidden.view(count, height, width, 2, 2, self.predictor.in_channels), self.predictor.weight.flatten(1)
        )
        logits = (logits.squeeze(-1) + cast(Tensor, self.predictor.bias)).permute(0, 1, 3, 2, 4)
        return logits.reshape(count, 2 * height, 2 * width)
