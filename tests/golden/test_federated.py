"""Federated draws of the original implementation; README.md says where the numbers come from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.statistics_of import recorded_draws
from vlpart.losses.weak_labels import class_mask, federated_classes, frequency_weights

DRAWS = json.loads((Path(__file__).parent / "federated_draws.json").read_text())


@recorded_draws()
@pytest.mark.parametrize("vocabulary", ["lvis", "paco"])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_original_draw(vocabulary: str, seed: int) -> None:
    recorded = DRAWS[vocabulary]
    generator = torch.Generator().manual_seed(seed)
    weights = frequency_weights(recorded["image_counts"])
    chosen = federated_classes(torch.tensor(recorded["labels"]), weights, 50, generator)
    assert chosen.tolist() == recorded["draws"][str(seed)]


def test_the_background_is_chosen_but_is_no_column():
    assert class_mask(torch.tensor([1, 3]), 3).tolist() == [0, 1, 0]
