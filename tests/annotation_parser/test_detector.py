from __future__ import annotations

import numpy as np
import pytest
import torch

from vlpart.annotation_parser.detector import MAX_ASPECT, DetectorOptions, PartDetector, check_aspect, enlarge
from vlpart.errors import ImageError, VlpartError
from vlpart.models import boxes
from vlpart.models.build import build_detector
from vlpart.text.vocabulary import Vocabulary


@pytest.fixture(scope="module")
def detector() -> PartDetector:
    torch.manual_seed(0)
    network = build_detector("tiny").eval()
    options = DetectorOptions(short_side=96, score_threshold=0.1, kept=20, proposals=60)
    return PartDetector(network, torch.randn(3, 128), Vocabulary.parse("car: wheel, door"), options)


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (48, 70, 3), dtype=np.uint8)


def test_proposals_are_apart_and_inside_the_target(detector: PartDetector, image: np.ndarray) -> None:
    found = detector.refined_proposals(image)
    assert 2 <= len(found) <= 20
    assert found.min() >= 0
    assert (found.amax(dim=0) <= torch.tensor([70.01, 48.01, 70.01, 48.01])).all()
    overlap = boxes.iou(found, found).fill_diagonal_(0)
    assert overlap.max() <= 0.3


def test_objectness_does_not_count_in_the_choice(detector: PartDetector, image: np.ndarray) -> None:
    """Only region proposals are ranked by it; the choice among them follows the first class."""
    before = detector.refined_proposals(image)
    bias = detector.detector.rpn.objectness.bias
    with torch.no_grad():
        bias += 3
        after = detector.refined_proposals(image)
        bias -= 3
    torch.testing.assert_close(after, before, atol=1e-4, rtol=0)


def test_base_parts_are_scored_and_in_pixels_of_the_image(detector: PartDetector, image: np.ndarray) -> None:
    small = detector.base_parts(image, (48, 70))
    large = detector.base_parts(image, (480, 700))
    assert 0 < len(small.scores) <= 20
    assert small.scores.min() > 0.1
    torch.testing.assert_close(large.boxes_xyxy, 10 * small.boxes_xyxy, atol=1e-3, rtol=1e-5)
    assert set(small.labels.tolist()) <= {0, 1, 2}


def test_enlarge_truncates_sizes_and_values(image: np.ndarray) -> None:
    found = enlarge(image, 100)
    assert found.shape == (100, 145, 3)  # 145.8 before
    weights = [np.clip((np.arange(n) + 0.5) * m / n - 0.5, 0, m - 1) for n, m in ((100, 48), (145, 70))]
    rows, columns = (w.astype(int) for w in weights)
    dy, dx = (weights[0] - rows)[:, None, None], (weights[1] - columns)[None, :, None]
    below, right = np.minimum(rows + 1, 47), np.minimum(columns + 1, 69)
    pixel = image.astype(np.float64)
    top = pixel[rows][:, columns] * (1 - dx) + pixel[rows][:, right] * dx
    bottom = pixel[below][:, columns] * (1 - dx) + pixel[below][:, right] * dx
    exact = top * (1 - dy) + bottom * dy
    difference = exact - found
    assert difference.min() > -1e-3
    assert difference.max() < 1 + 1e-3


def test_enlarge_to_the_same_size_changes_nothing(image: np.ndarray) -> None:
    assert np.array_equal(enlarge(image, 48), image)


def test_a_strip_is_refused_before_it_becomes_huge(detector: PartDetector) -> None:
    strip = np.zeros((30, 1500, 3), dtype=np.uint8)
    for function in (
        check_aspect,
        lambda image: enlarge(image, 800),
        detector.refined_proposals,
        lambda image: detector.base_parts(image, (30, 1500)),
    ):
        with pytest.raises(ImageError, match=r"1500x30 pixels is too long for the detector.*8 times"):
            function(strip)
    longest = np.zeros((10, 10 * MAX_ASPECT, 3), dtype=np.uint8)
    check_aspect(longest)
    assert enlarge(longest, 40).shape == (40, 320, 3)


def test_devices_and_precisions_are_checked(detector: PartDetector) -> None:
    for wrong in ({"device": "nonsense"}, {"precision": "fp16"}):
        with pytest.raises(VlpartError, match=next(iter(wrong.values()))):
            PartDetector(detector.detector, torch.randn(1, 128), Vocabulary.parse("car"), **wrong)
