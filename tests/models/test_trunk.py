"""The frozen trunk beside Lite0: its shapes, that it never trains, that growing `tiny` changes no answer but by the
evidence of the trunk, and what that evidence is.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from vlpart.models.backbones.csp_trunk import CLASSES, WIDTH, CspTrunk
from vlpart.models.backbones.lite_csp import LiteWithTrunk
from vlpart.models.build import build_detector
from vlpart.models.evidence import ClassEvidence
from vlpart.models.load import architecture_of
from vlpart.models.postprocess import DetectionOptions
from vlpart.types import ImageBatch

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


def test_maps_and_probabilities() -> None:
    torch.manual_seed(0)
    maps = CspTrunk()(torch.randn(2, 3, 64, 96))
    assert [tuple(m.shape) for m in maps] == [(2, WIDTH + CLASSES, 64 // s, 96 // s) for s in (8, 16, 32)]
    classes = torch.cat([m[:, WIDTH:].flatten() for m in maps])
    assert ((classes > 0) & (classes < 1)).all()


def test_a_stage_joins_its_blocks_and_its_input() -> None:
    torch.manual_seed(0)
    stage = CspTrunk().stages[1]
    x = torch.randn(1, 64, 16, 16)

    def conv(layer: torch.nn.Module, y: torch.Tensor) -> torch.Tensor:
        return F.leaky_relu(layer(y), 0.1)

    entered = conv(stage.enter, x)  # type: ignore[arg-type]
    y = entered
    for first, second in stage.blocks:  # type: ignore[union-attr, misc]
        a = conv(first, y)
        y = torch.cat((conv(second, a), a), 1)
    expected = torch.cat((conv(stage.leave, y), entered), 1)  # type: ignore[arg-type]
    torch.testing.assert_close(stage(x), expected)
    assert expected.shape == (1, 128, 8, 8)


def test_the_trunk_never_trains() -> None:
    backbone = LiteWithTrunk()
    assert not any(p.requires_grad for p in backbone.trunk.parameters())
    assert all(p.requires_grad for n, p in backbone.named_parameters() if not n.startswith("trunk."))
    finest, *coarser = backbone(torch.randn(1, 3, 64, 64))
    assert [m.shape[1] for m in (finest, *coarser)] == list(backbone.out_channels)


@torch.no_grad()
def test_a_grown_detector_gives_the_same_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    monkeypatch.delitem(sys.modules, "grow_tiny", raising=False)
    from grow_tiny import grown  # type: ignore[import-not-found]

    torch.manual_seed(0)
    old = build_detector("tiny").eval()
    trunk = {name: torch.randn_like(value) * 0.05 for name, value in CspTrunk().state_dict().items()}
    state = grown(old.state_dict(), trunk)
    assert architecture_of(state, Path("grown")) == "tiny2"
    assert architecture_of(old.state_dict(), Path("old")) == "tiny"
    new = build_detector("tiny2").eval()
    new.load_state_dict(state)
    new.roi_heads.evidence.gain.zero_()  # type: ignore[union-attr, operator]
    new.roi_heads.evidence.doubt.zero_()  # type: ignore[union-attr, operator]
    text, context = (F.normalize(torch.randn(7, 128), dim=1) for _ in range(2))
    images = ImageBatch(pixels=torch.randn(1, 3, 64, 96), sizes_hw=[(64, 96)])
    options = DetectionOptions(score_threshold=0.0)
    before, after = (
        detector(images, words, options)[0]
        for detector, words in ((old, text), (new, torch.cat((text, context), 1) / 2**0.5))
    )
    torch.testing.assert_close(after.scores, before.scores)
    torch.testing.assert_close(after.boxes_xyxy, before.boxes_xyxy, atol=1e-3, rtol=1e-4)


def test_evidence_is_the_best_probability_inside_a_region() -> None:
    evidence = ClassEvidence(2, 3)
    maps = [torch.zeros(1, 5, 16, 16), *(torch.zeros(1, 5, side, side) for side in (8, 4, 2))]
    maps[1][0, 3, 2, 2] = 0.5  # the first name, at the pixels 16..24
    maps[2][0, 4, 2:, 2:] = 0.9  # the second, at stride 16: the lower right quarter
    levels = evidence.map_of(maps)
    assert levels.shape == (1, 2, 8, 8)
    assert float(levels[0, 0, 2, 2]) == 0.5
    assert torch.equal(levels[0, 1] > 0, (torch.arange(8) > 3)[:, None] & (torch.arange(8) > 3))
    boxes = torch.tensor([[0.0, 0, 40, 40], [40, 40, 64, 64], [40, 0, 64, 24]])
    pooled = evidence.pool(levels, [boxes])
    assert pooled.shape == (3, 2)
    assert 0.3 < float(pooled[0, 0]) <= 0.5
    assert float(pooled[1, 1]) == pytest.approx(0.9)
    assert not pooled[2].any()


@torch.no_grad()
def test_names_take_the_evidence_of_those_they_are_near() -> None:
    evidence = ClassEvidence(2, 2)
    evidence.names.copy_(torch.eye(2))
    evidence.gain.fill_(10.0)
    evidence.doubt.fill_(2.0)
    angle = 0.85  # half way between NEAR and 1
    text = torch.tensor([[1.0, 0.0], [angle, (1 - angle**2) ** 0.5], [0.6, 0.8], [-1.0, 0.0], [0.0, 0.0]])
    pooled = torch.tensor([[0.5, 0.25]])
    logits = evidence(torch.zeros(1, 5), pooled, text)
    # the same name; half of it; (0.8 - 0.7) / 0.3 of the second name; no name; a vector of zeros
    wanted = [10 * 0.5 - 2, 10 * 0.25 - 1, (10 * 0.25 - 2) / 3, 0.0, 0.0]
    torch.testing.assert_close(logits, torch.tensor([wanted]))


@torch.no_grad()
def test_quality_moves_scores_and_nothing_else() -> None:
    torch.manual_seed(0)
    detector = build_detector("tiny2").eval()
    text = F.normalize(torch.randn(5, 256), dim=1)
    images = ImageBatch(pixels=torch.randn(1, 3, 64, 64), sizes_hw=[(64, 64)])
    options = DetectionOptions(score_threshold=0.0, nms_iou=1.0, max_detections=10**6)
    before = detector(images, text, options)[0]
    detector.roi_heads.stages[0].quality.bias.fill_(-2.0)
    after = detector(images, text, options)[0]
    assert len(after.scores) == len(before.scores)
    assert after.scores.max() < before.scores.max()
    assert torch.equal(after.boxes_xyxy.unique(dim=0), before.boxes_xyxy.unique(dim=0))
