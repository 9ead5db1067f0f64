"""The frozen trunk beside Lite0: its shapes, that it never trains, that growing `tiny` changes no answer but by the
evidence of the trunk, and what that evidence is.
"""

from __future__ import annotations

import copy
import pickle
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from vlpart.models.backbones.csp_trunk import CLASSES, WIDTH, CspTrunk, LiteWithTrunk
from vlpart.models.build import build_detector
from vlpart.models.evidence import APART, BINS, LOGITS, TOGETHER, ClassEvidence, Levels, Seen, propose_seen
from vlpart.models.load import architecture_of
from vlpart.models.rpn import Proposals
from vlpart.models.text_classifier import Kept, unit_rows
from vlpart.types import DetectionOptions, ImageBatch

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
    for level in range(3):  # a box of no height at every cell: nothing joins the proposals
        trunk |= {f"sides.{level}.weight": torch.zeros(4 * BINS, WIDTH, 1, 1), f"sides.{level}.bias": torch.zeros(44)}
        trunk[f"sides.{level}.bias"].view(4, BINS)[:, 0] = 99.0
    state = grown(old.state_dict(), trunk)
    assert architecture_of(state, Path("grown")) == "tiny2"
    assert architecture_of(old.state_dict(), Path("old")) == "tiny"
    new = build_detector("tiny2").eval()
    new.load_state_dict(state)
    new.roi_heads.evidence.gain.zero_()  # type: ignore[union-attr, operator]
    new.roi_heads.evidence.doubt.zero_()  # type: ignore[union-attr, operator]
    new.mask_confidence = False  # what `tiny2` makes of the masks is no part of what is grown
    text, context = (F.normalize(torch.randn(7, 128), dim=1) for _ in range(2))
    images = ImageBatch(pixels=torch.randn(1, 3, 64, 96), sizes_hw=[(64, 96)])
    options = DetectionOptions(score_threshold=0.0)
    before, after = (
        detector(images, words, options)[0]
        for detector, words in ((old, text), (new, torch.cat((text, context), 1) / 2**0.5))
    )
    torch.testing.assert_close(after.scores, before.scores)
    torch.testing.assert_close(after.boxes_xyxy, before.boxes_xyxy, atol=1e-3, rtol=1e-4)


def seen_cells(cells: list[tuple[int, int, int, int, float]]) -> tuple[ClassEvidence, list[torch.Tensor]]:
    """An evidence of two names whose box branch says 2 strides to every side, and maps of a 64 x 64 image with the
    given (level, row, column, name, probability); levels 1 to 3 have strides 8, 16, 32.
    """
    evidence = ClassEvidence(2, 3, 3)
    for side in evidence.sides:
        side.weight.zero_()  # type: ignore[union-attr, operator]
        side.bias.copy_(torch.full((4, BINS), -50.0).index_fill(1, torch.tensor([2]), 50.0).flatten())  # type: ignore[union-attr, operator]
    maps = [torch.zeros(1, 9, 16, 16), *(torch.zeros(1, 9, side, side) for side in (8, 4, 2))]
    for level, row, column, name, probability in cells:
        maps[level][0, 4 + 3 + name, row, column] = probability
    return evidence, maps


@torch.no_grad()
def test_what_is_seen_has_the_place_of_its_cell() -> None:
    evidence, maps = seen_cells([(1, 2, 3, 0, 0.5), (2, 3, 1, 1, 0.9), (1, 7, 7, 0, 0.01)])
    (seen,) = evidence.look(maps)
    # centres (28, 20) at stride 8 and (24, 56) at stride 16, two strides to every side; 0.01 is not worth a look
    assert seen.boxes_xyxy.tolist() == [[-8, 24, 56, 88], [12, 4, 44, 36]]
    torch.testing.assert_close(seen.probabilities, torch.tensor([[0.0, 0.9], [0.5, 0.0]]))


@torch.no_grad()
def test_cells_of_one_object_are_seen_once() -> None:
    evidence, maps = seen_cells([(3, 0, 0, 0, 0.8), (3, 0, 1, 0, 0.7), (3, 1, 1, 1, 0.6)])
    (seen,) = evidence.look(maps)
    assert len(seen.boxes_xyxy) == 3  # the boxes are 32 pixels apart, IoU 0.6
    for side in evidence.sides:
        side.bias.copy_(torch.full((4, BINS), -50.0).index_fill(1, torch.tensor([10]), 50.0).flatten())  # type: ignore[union-attr, operator]
    (seen,) = evidence.look(maps)
    # 640 pixels wide, 32 apart: the better one of the first name stays, and the one of the other name
    torch.testing.assert_close(seen.probabilities, torch.tensor([[0.8, 0.0], [0.0, 0.6]]))


@torch.no_grad()
def test_a_region_takes_what_was_seen_in_its_place() -> None:
    evidence, _ = seen_cells([])
    boxes = torch.tensor([[0.0, 0, 40, 40], [0, 0, 40, 22], [50, 50, 60, 60]])
    seen = Seen(boxes_xyxy=boxes[:1], probabilities=torch.tensor([[0.6, 0.2]]))
    pooled = evidence.pool([seen], [boxes])
    half = (0.55 - APART) / (TOGETHER - APART)  # IoU 22 / 40
    torch.testing.assert_close(pooled, torch.tensor([[0.6, 0.2], [0.6 * half, 0.2 * half], [0.0, 0.0]]))
    nothing = Seen(boxes_xyxy=torch.zeros(0, 4), probabilities=torch.zeros(0, 2))
    assert evidence.pool([nothing], [boxes]).tolist() == [[0, 0]] * 3


def test_what_is_seen_joins_the_proposals() -> None:
    own = Proposals(boxes_xyxy=torch.tensor([[0.0, 0, 5, 5]]), logits=torch.tensor([1.0]))
    places = torch.tensor([[-8.0, 24, 56, 88], [12, 4, 44, 36], [70, 0, 90, 9]])
    seen = Seen(boxes_xyxy=places, probabilities=torch.tensor([[0.0, 0.81], [0.05, 0.0], [0.0, 0.9]]))
    (joined,) = propose_seen([own], Levels([], [seen]), [(64, 64)])
    # clipped; neither the doubtful one nor the one beyond the image
    assert joined.boxes_xyxy.tolist() == [[0, 0, 5, 5], [0, 24, 56, 64]]
    torch.testing.assert_close(joined.logits, torch.tensor([1.0, torch.tensor(0.9).logit()]))
    assert propose_seen([own], [torch.zeros(1)], [(64, 64)]) == [own]


@torch.no_grad()
def test_names_take_the_evidence_of_those_they_are_near() -> None:
    evidence = ClassEvidence(2, 3, 2)
    evidence.names.copy_(torch.eye(2))
    evidence.gain.fill_(10.0 / LOGITS)
    evidence.doubt.fill_(2.0 / LOGITS)
    angle = 0.85  # half way between NEAR and 1
    text = torch.tensor([[1.0, 0.0], [angle, (1 - angle**2) ** 0.5], [0.6, 0.8], [-1.0, 0.0], [0.0, 0.0]])
    pooled = torch.tensor([[0.5, 0.25]])
    logits = evidence(torch.zeros(1, 5), pooled, text)
    # the same name; half of it; (0.8 - 0.7) / 0.3 of the second name; no name; a vector of zeros
    wanted = [10 * 0.5 - 2, 10 * 0.25 - 1, (10 * 0.25 - 2) / 3, 0.0, 0.0]
    torch.testing.assert_close(logits, torch.tensor([wanted]))


@pytest.mark.parametrize(("others", "block"), [(40, 1 << 17), (40, 50), (0, 1 << 17), (0, 10)])
def test_predicting_computes_evidence_as_training_does(
    others: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where few names have some only for these, in place, and some rows at a time."""
    monkeypatch.setattr("vlpart.models.evidence.BLOCK", block)
    torch.manual_seed(0)
    evidence = ClassEvidence(3, 3, 5)
    evidence.names.copy_(torch.randn(3, 5))
    text = torch.cat((torch.randn(others, 5), evidence.names + 0.1 * torch.randn(3, 5), -evidence.names))
    logits, pooled = torch.randn(6, len(text)), torch.rand(6, 3)
    expected = evidence(logits, pooled, text)
    changed = (expected != logits).any(dim=0)
    assert 3 <= int(changed.sum()) < len(text)
    for _ in range(2):  # the second time what is known of the names is kept
        with torch.no_grad():
            assert torch.equal(evidence(logits.clone(), pooled, text), expected)
    text.neg_()
    with torch.no_grad():
        found = evidence(logits.clone(), pooled, text)
    assert torch.equal(found, evidence(logits, pooled, text))
    assert not torch.equal(found, expected)


def test_what_is_made_of_tensors_is_kept_until_they_change() -> None:
    kept = Kept(unit_rows)
    text = torch.randn(3, 4)
    with torch.no_grad():
        first = kept(text)
        assert kept(text) is first
        text[0] = 1
        assert torch.equal(kept(text), unit_rows(text))
        assert torch.equal(kept(text[1:]), unit_rows(text[1:]))
        assert copy.deepcopy(kept)(text) is not kept(text)
        assert pickle.loads(pickle.dumps(kept))(text) is not kept(text)
    assert kept(text) is not kept(text)  # with gradients


@torch.no_grad()
def test_quality_moves_scores_and_nothing_else() -> None:
    torch.manual_seed(0)
    detector = build_detector("tiny2").eval()
    detector.roi_heads.mask_head = None  # thousands of masks that nobody looks at
    text = F.normalize(torch.randn(5, 256), dim=1)
    images = ImageBatch(pixels=torch.randn(1, 3, 64, 64), sizes_hw=[(64, 64)])
    options = DetectionOptions(score_threshold=0.0, nms_iou=1.0, max_detections=10**6)
    before = detector(images, text, options)[0]
    detector.roi_heads.stages[0].quality.bias.fill_(-2.0)
    after = detector(images, text, options)[0]
    assert len(after.scores) == len(before.scores)
    assert after.scores.max() < before.scores.max()
    assert torch.equal(after.boxes_xyxy.unique(dim=0), before.boxes_xyxy.unique(dim=0))
