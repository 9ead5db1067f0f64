"""Faster convolutions for predicting: torch's numbers within their rounding, and only where nothing learns."""

from __future__ import annotations

from unittest.mock import patch

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vlpart.models import convolution
from vlpart.models.convolution import MIN_CHANNELS, convolve, winograd
from vlpart.models.mask_head import MaskHead


def case(batch: int, channels: int, wide: int, height: int, width: int, kernel: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, channels, height, width, generator=generator)
    weight = torch.randn(wide, channels, kernel, kernel, generator=generator) / (kernel * channels**0.5)
    return x, weight, torch.randn(wide, generator=generator)


@pytest.mark.parametrize(
    "shape",
    [(1, 8, 5, 40, 48), (1, 8, 5, 41, 50), (2, 4, 3, 3, 200), (30, 3, 4, 14, 14), (1, 2, 2, 1, 1), (3, 2, 2, 90, 3)],
    ids=str,
)
@pytest.mark.parametrize("relu", [False, True])
def test_winograds_algorithm_is_a_convolution(shape: tuple[int, ...], relu: bool) -> None:
    x, weight, bias = case(*shape, kernel=3)
    expected = F.conv2d(x.double(), weight.double(), bias.double(), padding=1)
    found = winograd(x.contiguous(memory_format=torch.channels_last), weight, bias, relu=relu)
    torch.testing.assert_close(found.double(), expected.relu() if relu else expected, atol=1e-5, rtol=0)
    assert found.is_contiguous(memory_format=torch.channels_last)
    without = winograd(x, weight, None)
    torch.testing.assert_close(without.double(), expected - bias.double()[:, None, None], atol=1e-5, rtol=0)


def test_rounding_is_near_that_of_a_direct_convolution() -> None:
    x, weight, bias = case(1, 256, 256, 24, 24, kernel=3)
    exact = F.conv2d(x.double(), weight.double(), bias.double(), padding=1)
    direct = (F.conv2d(x, weight, bias, padding=1) - exact).square().mean().sqrt()
    ours = (winograd(x, weight, bias) - exact).square().mean().sqrt()
    assert ours < 10 * direct
    assert ours < 2e-6 * exact.std()


@torch.no_grad()
@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
def test_small_kernels_add_and_rectify(memory_format: torch.memory_format, relu: bool, stride: int) -> None:
    x, weight, bias = case(2, 6, 7, 9, 12, kernel=1)
    expected = F.conv2d(x, weight, bias, stride)
    x = x.contiguous(memory_format=memory_format)
    found = convolve(x, weight, bias, stride=stride, relu=relu)
    torch.testing.assert_close(found, expected.relu() if relu else expected, atol=1e-5, rtol=1e-5)
    onto = torch.randn_like(expected)
    summed = expected + onto
    found = convolve(x, weight, bias, stride=stride, relu=relu, onto=onto.contiguous(memory_format=memory_format))
    torch.testing.assert_close(found, summed.relu() if relu else summed, atol=1e-5, rtol=1e-5)


def test_only_wide_kernels_that_predict_take_it() -> None:
    x, weight, bias = case(1, MIN_CHANNELS, MIN_CHANNELS, 46, 46, kernel=3)
    with patch.object(convolution, "winograd", wraps=winograd) as taken:
        with torch.no_grad():
            convolve(x, weight, bias, padding=1)
            assert taken.call_count == 1
            convolve(x[:, :, :9, :9], weight, bias, padding=1)  # too few tiles
            convolve(x, weight, bias, padding=1, stride=2)
            convolve(x[:, 1:], weight[:, 1:], bias, padding=1)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                convolve(x, weight, bias, padding=1)
        learning = convolve(x, weight.requires_grad_(), bias, padding=1, relu=True)
        assert taken.call_count == 1
    assert learning.requires_grad


def test_the_mask_head_predicts_what_it_trains() -> None:
    torch.manual_seed(0)
    head = MaskHead(6, 8)
    nn.init.normal_(head.predictor.weight)
    nn.init.normal_(head.deconv.bias)
    pooled = torch.randn(3, 6, 14, 14)
    trained = head(pooled)
    with torch.no_grad():
        predicted = head(pooled)
    assert predicted.shape == (3, 28, 28)
    torch.testing.assert_close(predicted, trained.detach(), atol=1e-4, rtol=1e-4)
