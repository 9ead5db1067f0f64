"""Convolutions that are faster than torch's own when a network only predicts on a CPU.

Wide 3x3 kernels go by Winograd's algorithm, 1x1 kernels through oneDNN's operators that add and rectify while they
write. Everywhere else (training, GPUs, half precision, export) they are torch's.
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

#: Outputs of a tile along an axis, and the inputs that they come from.
OUT, IN = 4, 6
#: Where the polynomials of the algorithm are evaluated, besides infinity. The rounding error is half of that at 0, +-1,
#: +-2 (Lavin and Gray, CVPR 2016): 1e-6 of the spread of the outputs, two to six times that of a direct convolution.
POINTS = (0.0, 0.5**0.5, -(0.5**0.5), 2**0.5, -(2**0.5))
#: Fewer channels, or fewer tiles in all, are faster directly.
MIN_CHANNELS, MIN_TILES = 192, 128
#: Tiles that are computed together: few enough to stay in the processor's cache.
TILES = 160


def predicts_on_cpu(x: Tensor) -> bool:
    """Whether what is computed from `x` is plain float32 on a CPU: without gradients, autocast or a graph."""
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and not torch.jit.is_tracing()
        and not torch.compiler.is_compiling()
    )


def convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    *,
    stride: int = 1,
    padding: int = 0,
    relu: bool = False,
    onto: Tensor | None = None,
) -> Tensor:
    """A convolution, with what is added to it and the rectifier behind it.

    Args:
        x: (B, C, H, W).
        weight: (K, C, k, k).
        bias: (K,), or None.
        stride, padding: as of `torch.nn.functional.conv2d`.
        relu: rectify the sum.
        onto: a map of the output's shape to add to; nobody may need it any more, it may be overwritten.

    Returns:
        (B, K, H', W').
    """
    if predicts_on_cpu(x):
        kernel = weight.shape[2:]
        if kernel == (1, 1) and padding == 0 and _has_fused():
            return _fused(x, weight, bias, stride, relu, onto)
        if kernel == (3, 3) and stride == padding == 1 and onto is None and _pays(x, weight):
            return winograd(x, weight, bias, relu=relu)
    y = F.conv2d(x, weight, bias, stride, padding)
    if onto is not None:
        y += onto  # in place: a second map of this size costs as much as the convolution
    return F.relu(y, inplace=True) if relu else y


@cache
def _has_fused() -> bool:
    """Whether torch is built with oneDNN and has its operators, which are what compiled models call."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_convolution_pointwise_")


def _fused(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, relu: bool, onto: Tensor | None) -> Tensor:
    x = x.contiguous(memory_format=torch.channels_last)
    sizes = ([0, 0], [stride, stride], [1, 1], 1)  # padding, stride, dilation, groups
    if onto is None:
        kind = "relu" if relu else "none"
        y: Tensor = torch.ops.mkldnn._convolution_pointwise(x, weight, bias, *sizes, kind, [], "")
        return y
    onto = onto.contiguous(memory_format=torch.channels_last)
    after = "relu" if relu else None
    torch.ops.mkldnn._convolution_pointwise_.binary(onto, x, weight, bias, *sizes, "add", 1.0, after, [], "")
    return onto


def _pays(x: Tensor, weight: Tensor) -> bool:
    tiles = x.shape[0] * -(-x.shape[2] // OUT) * -(-x.shape[3] // OUT)
    return min(weight.shape[:2]) >= MIN_CHANNELS and tiles >= MIN_TILES


@cache
def _transforms() -> tuple[Tensor, Tensor, Tensor]:
    """(16, 36), (36, 9) and (36, 36) float32: of products to outputs, of kernels, and of tiles of the input.

    A convolution is the transpose of a product of polynomials, and such a product is values at `IN` points multiplied
    one by one. Both axes in one matrix: it is dense, but a matrix product is what a processor does best.
    """

    def values(terms: int) -> Tensor:
        points = torch.tensor(POINTS, dtype=torch.float64)
        at_infinity = torch.zeros(1, terms, dtype=torch.float64)
        at_infinity[0, -1] = 1
        return torch.cat((points[:, None] ** torch.arange(terms), at_infinity))

    outputs, kernels, tiles = values(OUT).T, values(IN - OUT + 1), torch.linalg.inv(values(IN)).T
    one, two, three = (torch.kron(m.contiguous(), m.contiguous()).float() for m in (outputs, kernels, tiles))
    return one, two, three


def winograd(x: Tensor, weight: Tensor, bias: Tensor | None, *, relu: bool = False) -> Tensor:
    """A 3x3 convolution of stride 1 and padding 1 by Winograd's algorithm F(4x4, 3x3) (Lavin and Gray, CVPR 2016).

    36 products stand for 144 of a direct convolution, in matrices over the channels. Fastest in channels-last format.

    Args:
        x: (B, C, H, W) float32.
        weight: (K, C, 3, 3) float32.
        bias: (K,) float32, or None.
        relu: rectify the outputs.

    Returns:
        (B, K, H, W) float32 in channels-last format.
    """
    to_outputs, to_kernels, to_tiles = _transforms()
    (batch, channels, height, width), wide = x.shape, len(weight)
    down, across = -(-height // OUT), -(-width // OUT)
    kernels = torch.mm(to_kernels, weight.permute(2, 3, 1, 0).reshape(9, -1)).view(IN * IN, channels, wide)
    # (B, H, W, C) with a border of zeros, up to whole tiles
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, OUT * across + 1 - width, 1, OUT * down + 1 - height))
    image, row, column, _ = padded.stride()
    tiles = padded.as_strided(
        (IN, IN, batch, down, across, channels), (row, column, image, OUT * row, OUT * column, 1)
    )  # overlapping
    y = x.new_empty(batch, OUT * down, OUT * across, wide)
    images, rows = max(1, TILES // (down * across)), min(down, max(1, TILES // across))
    for i in range(0, batch, images):
        for j in range(0, down, rows):
            some = tiles[:, :, i : i + images, j : j + rows]
            moved = torch.mm(to_tiles, some.reshape(IN * IN, -1)).view(IN * IN, -1, channels)
            products = torch.bmm(moved, kernels).view(IN * IN, -1)
            found = torch.mm(to_outputs, products).view(OUT, OUT, *some.shape[2:5], wide)
            place = y[i : i + images, OUT * j : OUT * (j + rows)]
            place.view(*some.shape[2:4], OUT, across, OUT, wide).copy_(found.permute(2, 3, 0, 4, 1, 5))
            if bias is not None:
                place += bias
            if relu:
                place.relu_()
    return y[:, :height, :width].permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
