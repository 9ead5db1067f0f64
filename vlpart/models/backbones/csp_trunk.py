"""A convolutional trunk trained for detection on COCO: cross-stage partial stages, a small pyramid, class maps.

The network is NanoDet-g (RangiLyu, NanoDet, 2021; Apache-2.0) without its box branch, written anew from its published
graph; its batch norms are folded into the convolutions. Its weights stay frozen here: what it saw in 118,000 images is
more than what a small run can teach, and a frozen trunk costs no backward pass.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vlpart.models.backbones.efficientnet_lite import EfficientNetLite0

#: Output channels and inner blocks of the four stages (strides 4, 8, 16, 32).
STAGES = ((64, 1), (128, 2), (256, 2), (512, 3))
WIDTH = 128
CLASSES = 80
SLOPE = 0.1


def _conv3(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1)


class PartialStage(nn.Module):
    """One convolution, blocks of two convolutions whose outputs are joined, one more, joined with the first's output.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output; half of them bypass the blocks.
        blocks: number of blocks.
        stride: of the first convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, blocks: int, stride: int) -> None:
        super().__init__()
        width = out_channels // 2
        self.enter = _conv3(in_channels, width, stride)
        self.blocks = nn.ModuleList(
            nn.ModuleList((_conv3(width, width // 2), _conv3(width // 2, width // 2))) for _ in range(blocks)
        )
        self.leave = _conv3(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, H / stride, W / stride)."""
        entered = _act(self.enter(x))
        y = entered
        for pair in self.blocks:
            first = _act(pair[0](y))  # type: ignore[index]
            y = torch.cat((_act(pair[1](first)), first), dim=1)  # type: ignore[index]
        return torch.cat((_act(self.leave(y)), entered), dim=1)


class CspTrunk(nn.Module):
    """Features and class probabilities of strides 8, 16, 32; never trained.

    Attributes:
        channels: channels of every output map: features, then the probabilities of COCO's 80 objects.
    """

    channels = WIDTH + CLASSES

    def __init__(self) -> None:
        super().__init__()
        self.stem = _conv3(3, 32, stride=2)
        stages, channels = [], 32
        for number, (out_channels, blocks) in enumerate(STAGES):
            stages.append(PartialStage(channels, out_channels, blocks, 1 if number == 0 else 2))
            channels = out_channels
        self.stages = nn.ModuleList(stages)
        self.lateral = nn.ModuleList(nn.Conv2d(c, WIDTH, 1) for c, _ in STAGES[1:])
        self.hidden = nn.ModuleList(_conv3(WIDTH, WIDTH) for _ in STAGES[1:])
        self.classes = nn.ModuleList(nn.Conv2d(WIDTH, CLASSES, 1) for _ in STAGES[1:])
        self.requires_grad_(False)

    @torch.no_grad()
    def forward(self, pixels: Tensor) -> list[Tensor]:
        """(B, 3, H, W) normalised RGB pixels -> three maps (B, `channels`, H / 8.., W / 8..), finest first."""
        maps = []
        for head, classes, level in zip(self.hidden, self.classes, self.necks(pixels), strict=True):
            hidden = _act(head(level))
            maps.append(torch.cat((hidden, classes(hidden).sigmoid()), dim=1))
        return maps

    def necks(self, pixels: Tensor) -> list[Tensor]:
        """The pyramid before the heads: coarse maps added to finer ones, and the sums back to the coarse ones."""
        x = F.max_pool2d(_act(self.stem(pixels)), 3, stride=2, padding=1)
        outputs = []
        for stage in self.stages:
            x = stage(x)
            outputs.append(x)
        levels = [lateral(y) for lateral, y in zip(self.lateral, outputs[1:], strict=True)]
        for i in (1, 0):
            levels[i] = levels[i] + _resized(levels[i + 1], levels[i])
        for i in (1, 2):
            levels[i] = levels[i] + _resized(levels[i - 1], levels[i])
        return levels


def _act(x: Tensor) -> Tensor:
    return F.leaky_relu(x, SLOPE)


def _resized(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)


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
