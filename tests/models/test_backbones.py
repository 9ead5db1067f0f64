"""The backbones against torchvision's: Swin on sizes that need padding and shifting, ResNet with its norms folded."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn
from torchvision.models import resnet50
from torchvision.models.swin_transformer import SwinTransformer
from torchvision.ops.misc import FrozenBatchNorm2d

from vlpart.models.backbones.efficientnet_lite import EfficientNetLite0
from vlpart.models.backbones.resnet import FrozenBatchNorm, ResNet50, conv_norm
from vlpart.models.backbones.swin import SwinBase, shifted_window_mask


class SmallSwin(SwinBase):
    """Two blocks a stage, narrow: every mechanism of the large one."""

    out_channels = (16, 32, 64, 128)
    depths = (2, 2, 2, 2)
    heads = (1, 2, 4, 8)


def torchvision_name(ours: str) -> str:
    """Name of a tensor of `SwinBase` in torchvision's Swin."""
    ours = ours.replace("patch_embed.proj", "features.0.0").replace("patch_embed.norm", "features.0.2")
    ours = re.sub(r"layers\.(\d)\.blocks\.(\d+)", lambda m: f"features.{2 * int(m[1]) + 1}.{m[2]}", ours)
    ours = re.sub(r"downsamples\.(\d)", lambda m: f"features.{2 * int(m[1]) + 2}", ours)
    return ours.replace("mlp.fc1", "mlp.0").replace("mlp.fc2", "mlp.3")


@torch.no_grad()
@pytest.mark.parametrize("size", [(128, 160), (192, 256), (64, 96)])
def test_swin_equals_torchvision(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    reference = SwinTransformer(
        [4, 4], 16, [2, 2, 2, 2], [1, 2, 4, 8], [7, 7], stochastic_depth_prob=0.0, num_classes=1
    )
    for parameter in reference.parameters():
        parameter.normal_(std=0.2) if parameter.ndim > 1 else parameter.add_(torch.randn_like(parameter), alpha=0.1)
    reference.eval()
    ours = SmallSwin(drop_path=0.0).eval()
    theirs = reference.state_dict()
    state = {k: theirs[torchvision_name(k)] for k in ours.state_dict() if not k.startswith("norms.")}
    ours.load_state_dict(state, strict=False)
    pixels = torch.randn(2, 3, *size)
    maps = ours(pixels)
    x = pixels
    for index, layer in enumerate(reference.features):
        x = layer(x)
        if index % 2 == 1:
            stage = index // 2
            expected = ours.norms[stage](x).permute(0, 3, 1, 2)
            if min(expected.shape[-2:]) > 7:  # torchvision does not shift where a padded side is one window
                torch.testing.assert_close(maps[stage], expected, atol=1e-3, rtol=1e-3)
            assert maps[stage].shape == expected.shape


def test_shifted_windows_keep_regions_apart() -> None:
    mask = shifted_window_mask(14, 14, 3, torch.device("cpu"))
    assert mask.shape == (4, 49, 49)
    assert not mask[0].any()  # only windows at the right and bottom mix regions
    assert set(mask[3].unique().tolist()) == {-100.0, 0.0}
    assert torch.equal(mask[3], mask[3].T)


def test_a_side_of_one_window_is_still_shifted() -> None:
    assert shifted_window_mask(7, 7, 3, torch.device("cpu")).any()


@torch.no_grad()
def test_resnet_equals_torchvision_with_frozen_norms() -> None:
    torch.manual_seed(0)
    reference = resnet50(weights=None, norm_layer=FrozenBatchNorm2d).eval()
    for module in reference.modules():
        if isinstance(module, FrozenBatchNorm2d):
            module.weight.normal_(0.4, 0.1)
            module.bias.normal_(0, 0.1)
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    ours = ResNet50().eval()
    ours.load_state_dict({k: v for k, v in reference.state_dict().items() if not k.startswith("fc.")})
    x = torch.randn(1, 3, 64, 96)
    y = reference.maxpool(reference.relu(reference.bn1(reference.conv1(x))))
    for stage, found in zip(("layer1", "layer2", "layer3", "layer4"), ours(x), strict=True):
        y = getattr(reference, stage)(y)
        torch.testing.assert_close(found, y, atol=1e-3, rtol=1e-3)


def test_stem_and_first_stage_of_the_resnet_do_not_train() -> None:
    frozen = {name.split(".")[0] for name, p in ResNet50().named_parameters() if not p.requires_grad}
    assert frozen == {"conv1", "layer1"}


def test_the_small_backbone_has_the_strides_of_the_others() -> None:
    maps = EfficientNetLite0()(torch.randn(1, 3, 64, 96))
    assert [tuple(m.shape[1:]) for m in maps] == [(24, 16, 24), (40, 8, 12), (112, 4, 6), (320, 2, 3)]


@pytest.mark.parametrize("groups", [1, 8])
def test_folding_the_norm_keeps_values_and_gradients(groups: int) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(8, 8, 5, padding=2, groups=groups, bias=False)
    norm = FrozenBatchNorm(8, eps=1e-3)
    norm.running_var.uniform_(0.5, 2)
    norm.running_mean.normal_()
    norm.weight.normal_()
    norm.bias.normal_()
    x = torch.randn(2, 8, 9, 9)
    scale, shift = norm.scale_and_shift()
    expected = conv(x) * scale.view(1, -1, 1, 1) + shift.view(1, -1, 1, 1)
    found = conv_norm(x, conv, norm)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    (wanted,) = torch.autograd.grad((expected**2).sum(), conv.weight)
    (got,) = torch.autograd.grad((found**2).sum(), conv.weight)
    torch.testing.assert_close(got, wanted, atol=1e-3, rtol=1e-4)
