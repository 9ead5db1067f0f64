"""ResNet-50 with frozen batch norm: stride in the 3x3 convolution, symmetric padding (docs/method.md, 'Backbones')."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlpart.models.convolution import convolve


class Bottleneck(nn.Module):
    """1x1 reduce, 3x3, 1x1 expand by four, around a shortcut."""

    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        out_channels = 4 * width
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = FrozenBatchNorm(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = FrozenBatchNorm(width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = FrozenBatchNorm(out_channels)
        self.downsample: nn.ModuleList | None = None
        if stride != 1 or in_channels != out_channels:
            projection = nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False)
            self.downsample = nn.ModuleList([projection, FrozenBatchNorm(out_channels)])

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, 4 * width, H / stride, W / stride); may overwrite an input of the output's shape."""
        shortcut = x if self.downsample is None else conv_norm(x, self.downsample[0], self.downsample[1])  # type: ignore[arg-type]
        y = conv_norm(x, self.conv1, self.bn1, relu=True)
        y = conv_norm(y, self.conv2, self.bn2, relu=True)
        return conv_norm(y, self.conv3, self.bn3, relu=True, onto=shortcut)


class ResNet50(nn.Module):
    """Maps of strides 4, 8, 16, 32 with `out_channels` channels. The stem and the first stage do not train."""

    out_channels = (256, 512, 1024, 2048)

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = FrozenBatchNorm(64)
        self.layer1 = self._stage(64, 64, blocks=3, stride=1)
        self.layer2 = self._stage(256, 128, blocks=4, stride=2)
        self.layer3 = self._stage(512, 256, blocks=6, stride=2)
        self.layer4 = self._stage(1024, 512, blocks=3, stride=2)
        for frozen in (self.conv1, self.layer1):
            frozen.requires_grad_(False)

    @staticmethod
    def _stage(in_channels: int, width: int, blocks: int, stride: int) -> nn.Sequential:
        first = Bottleneck(in_channels, width, stride)
        return nn.Sequential(first, *(Bottleneck(4 * width, width, 1) for _ in range(blocks - 1)))

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """(B, 3, H, W) normalised pixels -> four maps, finest first."""
        x = conv_norm(pixels, self.conv1, self.bn1, relu=True)
        x = F.max_pool2d(x, kernel_size=3, stride=2, padding=1)
        maps = []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            maps.append(x)
        return maps


class FrozenBatchNorm(nn.Module):
    """The affine map of a batch norm with fixed statistics: four (C,) buffers, no parameter, no update."""

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.register_buffer("weight", torch.ones(channels))
        self.register_buffer("bias", torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """(C,) factor and (C,) offset of the affine map."""
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        return scale, self.bias - self.running_mean * scale


def conv_norm(
    x: Tensor, conv: nn.Conv2d, norm: FrozenBatchNorm, *, relu: bool = False, onto: Tensor | None = None
) -> Tensor:
    """`norm(conv(x))` in one convolution; `relu` and `onto` as of `convolve`.

    The fixed affine map goes into the weight, which is small, so that no pass over the activations is spent on it and
    none is kept for the backward pass; gradients of `conv.weight` are the same.
    """
    scale, shift = norm.scale_and_shift()
    weight = conv.weight * scale.view(-1, 1, 1, 1)
    if conv.groups == 1:
        return convolve(x, weight, shift, stride=conv.stride[0], padding=int(conv.padding[0]), relu=relu, onto=onto)
    if _backward_is_slow_in_half_precision(x, conv):
        with torch.autocast("cpu", enabled=False):
            y = F.conv2d(x.float(), weight, shift, conv.stride, conv.padding, conv.dilation, conv.groups)
        return y.to(x.dtype)
    return F.conv2d(x, weight, shift, conv.stride, conv.padding, conv.dilation, conv.groups)


def _backward_is_slow_in_half_precision(x: Tensor, conv: nn.Conv2d) -> bool:
    """Large or strided depthwise kernels on the CPU: their bf16 backward pass takes half of a training step."""
    large = conv.kernel_size[0] > 3 or conv.stride[0] > 1
    return x.device.type == "cpu" and conv.groups > 1 and large and torch.is_grad_enabled()
