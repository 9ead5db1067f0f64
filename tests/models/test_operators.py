"""Suppression without torchvision's Python package gives what torchvision gives."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from vlpart.models import operators
from vlpart.models.operators import batched_nms


def random_boxes(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 2, generator=generator) * 1000 - 50
    boxes = torch.cat((corners, corners + 5 + torch.rand(count, 2, generator=generator) * 300), dim=1)
    groups = torch.randint(0, 40, (count,), generator=generator)
    return boxes, torch.rand(count, generator=generator), groups


@pytest.mark.parametrize("one_call", [0, 2000])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_equal_to_torchvision(one_call, seed, monkeypatch):
    from torchvision.ops import boxes as reference

    monkeypatch.setattr(operators, "ONE_CALL", one_call)
    boxes, scores, groups = random_boxes(700, seed)
    expected = reference._batched_nms_vanilla(boxes, scores, groups, 0.5)
    assert 100 < len(expected) < 700
    assert batched_nms(boxes, scores, groups, 0.5).tolist() == expected.tolist()


@pytest.mark.parametrize("one_call", [0, 2000])
def test_a_small_case_by_hand(one_call, monkeypatch):
    """Box 1 overlaps box 0 by 0.6 and goes; box 2 is the same box in another group; box 3 overlaps by exactly 0.5."""
    monkeypatch.setattr(operators, "ONE_CALL", one_call)
    boxes = torch.tensor([[0, 0, 10, 10], [0, 0, 10, 6], [0, 0, 10, 10], [0, 0, 10, 5]], dtype=torch.float32)
    scores = torch.tensor([0.9, 0.8, 0.95, 0.7])
    assert batched_nms(boxes, scores, torch.tensor([3, 3, 0, 3]), 0.5).tolist() == [2, 0, 3]
    assert batched_nms(boxes[:0], scores[:0], torch.zeros(0, dtype=torch.int64), 0.5).tolist() == []


def test_the_package_of_torchvision_is_not_imported():
    script = (
        "import sys, torch; from vlpart.models.operators import batched_nms; "
        "batched_nms(torch.zeros(1, 4), torch.zeros(1), torch.zeros(1, dtype=torch.int64), 0.5); "
        "import vlpart.inference.predictor; print('torchvision' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout == "False\n"


def test_without_a_library_file_the_package_is_imported():
    script = (
        "import sys, torch; from vlpart.models import operators; operators._libraries = lambda: []; "
        "operators.load_operators(); print('torchvision' in sys.modules, hasattr(torch.ops.torchvision, 'nms'))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout == "True True\n"
