"""RoIAlign on the CPU against torchvision's, values and gradients, on ordinary and awkward regions."""

from __future__ import annotations

import pytest
import torch
from torchvision import ops

from vlpart.models.roi_align import roi_align

AWKWARD = torch.tensor(
    [
        [-40.0, -30.0, 300.0, 260.0],  # larger than the map
        [20.0, 20.0, 20.0, 20.0],  # a point
        [20.0, 10.0, 20.0, 90.0],  # a line
        [500.0, 500.0, 600.0, 620.0],  # outside
        [100.0, 40.0, 260.0, 60.0],  # over the right border
        [3.2, 4.1, 3.9, 4.4],  # inside one cell
        [60.0, 60.0, 20.0, 20.0],  # turned inside out
    ]
)


@pytest.mark.parametrize("size", [7, 14])
@pytest.mark.parametrize("scale", [0.25, 1 / 32])
def test_values_and_gradients_are_torchvisions(size: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(40, 2, generator=generator) * 160
    regions = torch.cat((torch.cat((corner, corner + torch.rand(40, 2, generator=generator) * 90), 1), AWKWARD))
    images = torch.arange(len(regions)) % 2
    features = torch.randn(2, 5, 40, 50, generator=generator)
    ours, theirs = features.clone().requires_grad_(), features.clone().requires_grad_()
    a = roi_align(ours, images, regions, size, scale)
    indexed = torch.cat((images[:, None].float(), regions), dim=1)
    b = ops.roi_align(theirs, indexed, size, spatial_scale=scale, sampling_ratio=0, aligned=True)
    torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-5)
    weight = torch.randn(a.shape, generator=generator)
    (a * weight).sum().backward()
    (b * weight).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-4, rtol=1e-5)


def test_no_regions() -> None:
    features = torch.randn(1, 3, 8, 8, requires_grad=True)
    pooled = roi_align(features, torch.zeros(0, dtype=torch.int64), torch.zeros(0, 4), 7, 0.25)
    assert pooled.shape == (0, 3, 7, 7)
    pooled.sum().backward()
    assert features.grad is not None
    assert not features.grad.any()


def test_precision_does_not_drop_under_autocast() -> None:
    features, regions = torch.randn(1, 3, 16, 16), torch.tensor([[3.0, 5.0, 40.0, 50.0]])
    index = torch.zeros(1, dtype=torch.int64)
    exact = roi_align(features, index, regions, 7, 0.25)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(roi_align(features, index, regions, 7, 0.25), exact)
