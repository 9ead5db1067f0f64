"""A published checkpoint file through `vlpart.load` and `predict`, as users do, against the original's detections."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import vlpart
from tests.parity.reference import fixture, published_state, text_embeddings


@pytest.mark.slow  # about 10 s
@pytest.mark.parametrize("wrapped", [True, False])
def test_a_published_file_needs_no_text_encoder_for_its_own_vocabulary(
    shared: Path, tmp_path: Path, wrapped: bool
) -> None:
    expected = fixture(shared, "r50_pascalpart__chelsea__small")
    state = published_state(shared, "r50_pascalpart")
    text = text_embeddings(shared, "pascal_part")
    state["roi_heads.box_predictor.cls_score.zs_weight"] = torch.cat((text, torch.zeros(1, text.shape[1]))).T
    path = tmp_path / "r50_pascalpart.pth"
    torch.save({"model": state} if wrapped else state, path)

    predictor = vlpart.load("r50_pascalpart", weights=path, device="cpu")
    result = predictor.predict(expected["orig_image"], short_side=256, max_side=427)
    assert len(result) == len(expected["out_scores"])
    for box, score, label in zip(result.boxes_xyxy, result.scores, result.class_ids, strict=True):
        same = np.flatnonzero(expected["out_classes"] == label)
        distance = np.abs(expected["out_boxes"][same] - box).max(axis=1)
        assert distance.min() < 0.02
        assert abs(expected["out_scores"][same[distance.argmin()]] - score) < 2e-5
