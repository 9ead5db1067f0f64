"""Batch normalisation that never changes, folded into the convolution before it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vlpart.models.convolution import convolve


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
