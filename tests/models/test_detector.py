from __future__ import annotations

import pytest
import torch

from vlpart.models.build import build_detector
from vlpart.models.config import get_architecture
from vlpart.types import DetectionOptions, ImageBatch

OPTIONS = DetectionOptions(score_threshold=0.0, max_detections=60)


@pytest.fixture
def detector():
    torch.manual_seed(0)
    return build_detector("tiny").eval()


@pytest.fixture
def images():
    draw = torch.Generator().manual_seed(0)
    return ImageBatch(pixels=torch.randn(2, 3, 64, 96, generator=draw), sizes_hw=[(64, 96), (50, 90)])


@pytest.fixture
def text():
    draw = torch.Generator().manual_seed(1)
    return torch.randn(7, get_architecture("tiny").text_dim, generator=draw)


@torch.no_grad()
def test_a_region_with_several_names_is_segmented_once(detector, images, text):
    segmented = []
    detector.roi_heads.mask_head.register_forward_pre_hook(lambda module, given: segmented.append(len(given[0])))
    same = text[:1].repeat(7, 1)
    found = detector(images, same, OPTIONS)
    regions = [len(d.boxes_xyxy.unique(dim=0)) for d in found]
    assert sum(regions) < sum(len(d.boxes_xyxy) for d in found) == 120
    assert segmented == [sum(regions)]


def test_every_detection_has_the_mask_of_its_own_box(detector, images, text):
    with torch.no_grad():
        found = detector(images, text[[0, 0, 1]], OPTIONS)
        expected = detector.roi_heads.masks(detector.pyramid(images.pixels), [d.boxes_xyxy for d in found])
    for detections, masks in zip(found, expected, strict=True):
        torch.testing.assert_close(detections.mask_logits, masks, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_an_image_without_detections_has_no_masks(detector, images, text):
    found = detector(images, text, DetectionOptions(score_threshold=1.0))
    assert [tuple(d.mask_logits.shape) for d in found] == [(0, 28, 28)] * 2
