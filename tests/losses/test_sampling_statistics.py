"""Subsampled losses over many seeds against the rules of docs/method.md: 256 anchors, at most half of them positive;
512 regions, at most a quarter; 50 federated classes by the square root of their image counts.

What was sampled is seen in the gradient: with logits of 0 a sampled positive pulls up, a sampled negative down.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from tests.statistics_of import check_counts, check_members
from vlpart.losses.boxes_and_masks import classification_loss
from vlpart.losses.matching import sample_regions
from vlpart.losses.options import LossOptions
from vlpart.losses.rpn import rpn_losses
from vlpart.losses.weak_labels import class_mask, federated_classes, frequency_weights
from vlpart.models.rpn import Proposals, RpnOutput
from vlpart.types import Targets

PUBLISHED = LossOptions()
SEEDS = 200
MATCHED, HALF, ELSEWHERE = torch.tensor([[0.0, 0, 100, 100], [0, 0, 50, 100], [200, 200, 300, 300]])


def target() -> Targets:
    """One object of class 1 in a corner."""
    return Targets(
        boxes_xyxy=MATCHED[None],
        labels=torch.tensor([1]),
        masks=None,
        image_labels=torch.zeros(0, dtype=torch.int64),
    )


def candidates(positive: int, ignored: int, negative: int) -> Tensor:
    """Boxes that match the object, that half match it, and that lie elsewhere."""
    return torch.cat((MATCHED.expand(positive, 4), HALF.expand(ignored, 4), ELSEWHERE.expand(negative, 4)))


def sampled_anchors(anchors: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """(A,) bool: which anchors the loss made positive, and which negative."""
    logits = torch.zeros(1, len(anchors), requires_grad=True)
    output = RpnOutput(logits=[logits], deltas=[torch.zeros(1, len(anchors), 4)], anchors_xyxy=[anchors])
    generator = torch.Generator().manual_seed(seed)
    rpn_losses(output, [target()], PUBLISHED, generator)["rpn_objectness"].backward()
    assert logits.grad is not None
    pulled = logits.grad[0] * PUBLISHED.rpn_anchors  # -1/2 where the truth is 1, 1/2 where it is 0
    assert set(pulled.tolist()) <= {-0.5, 0.0, 0.5}
    return pulled < 0, pulled > 0


@pytest.mark.parametrize(
    ("positive", "negative", "expected"),
    [
        (400, 1200, (128, 128)),  # enough of both: half and half
        (30, 1200, (30, 226)),  # negatives fill up
        (400, 60, (128, 60)),  # positives never exceed their half
        (1, 0, (1, 0)),
    ],
)
def test_256_anchors_at_most_half_of_them_positive(positive: int, negative: int, expected: tuple[int, int]) -> None:
    anchors = candidates(positive, 500, negative)
    times_positive, times_negative = torch.zeros(len(anchors)), torch.zeros(len(anchors))
    for seed in range(SEEDS):
        up, down = sampled_anchors(anchors, seed)
        assert (int(up.sum()), int(down.sum())) == expected
        times_positive += up
        times_negative += down
    assert times_positive[positive:].sum() == 0
    assert times_negative[: positive + 500].sum() == 0
    for times, number, drawn in (
        (times_positive[:positive], positive, expected[0]),
        (times_negative[positive + 500 :], negative, expected[1]),
    ):
        if 0 < drawn < number:
            check_members(times.int().tolist(), SEEDS, drawn / number)
        else:
            assert (times == SEEDS).all()


def test_the_objectness_loss_is_that_of_its_sample_on_average() -> None:
    """Mean over seeds against the exact expectation, within five of its standard errors."""
    anchors = candidates(300, 200, 1500)
    logits = torch.randn(1, len(anchors), generator=torch.Generator().manual_seed(1))
    deltas = torch.randn(1, len(anchors), 4, generator=torch.Generator().manual_seed(2))
    output = RpnOutput(logits=[logits], deltas=[deltas], anchors_xyxy=[anchors])
    found: dict[str, list[float]] = {"rpn_objectness": [], "rpn_box": []}
    for seed in range(SEEDS):
        losses = rpn_losses(output, [target()], PUBLISHED, torch.Generator().manual_seed(seed))
        for name, values in found.items():
            values.append(losses[name].item())
    up = torch.nn.functional.softplus(-logits[0, :300]).mean()
    down = torch.nn.functional.softplus(logits[0, 500:]).mean()
    check_mean(found["rpn_objectness"], float(128 * up + 128 * down) / 256)
    check_mean(found["rpn_box"], float(128 * deltas[0, :300].abs().sum(dim=1).mean()) / 256)


def check_mean(values: list[float], expected: float) -> None:
    mean = sum(values) / len(values)
    spread = math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))
    assert abs(mean - expected) <= 5 * spread / math.sqrt(len(values))
    assert spread < 0.1 * expected  # otherwise the line above says nothing


@pytest.mark.parametrize(
    ("positive", "negative", "expected"),
    [
        (400, 1600, (128, 384)),  # a quarter
        (20, 1600, (21, 491)),  # the truth itself is one of the positives
        (400, 100, (128, 100)),
        (0, 100, (1, 100)),
    ],
)
def test_512_regions_at_most_a_quarter_of_them_positive(
    positive: int, negative: int, expected: tuple[int, int]
) -> None:
    boxes = candidates(positive, 0, negative)
    boxes[:, 0] += torch.arange(1, len(boxes) + 1) * 1e-3  # told apart by their left side
    place = {round(left, 3): number for number, left in enumerate(boxes[:, 0].tolist())}
    place[0.0] = len(boxes)  # the truth, which joins the proposals
    proposals = [Proposals(boxes_xyxy=boxes, logits=torch.zeros(len(boxes)))]
    times = [0] * (len(boxes) + 1)
    for seed in range(SEEDS):
        (regions,) = sample_regions(proposals, [target()], 3, PUBLISHED, torch.Generator().manual_seed(seed))
        foreground = regions.foreground
        assert (int(foreground.sum()), int((~foreground).sum())) == expected
        assert set(regions.labels[foreground].tolist()) == {1}
        assert set(regions.labels[~foreground].tolist()) == {3}
        for left in regions.boxes_xyxy[:, 0].tolist():
            times[place[round(left, 3)]] += 1
    for members, drawn in (([*times[:positive], times[-1]], expected[0]), (times[positive:-1], expected[1])):
        if drawn < len(members):
            check_members(members, SEEDS, drawn / len(members))
        else:
            assert set(members) == {SEEDS}


def test_the_classification_loss_is_that_of_its_sample_on_average() -> None:
    boxes = candidates(300, 0, 1500)
    proposals = [Proposals(boxes_xyxy=boxes, logits=torch.zeros(len(boxes)))]
    up, down = torch.tensor([0.3, -1.2, 0.8]), torch.tensor([-0.5, 1.1, -2.0])
    values = []
    for seed in range(SEEDS):
        (regions,) = sample_regions(proposals, [target()], 3, PUBLISHED, torch.Generator().manual_seed(seed))
        logits = torch.where(regions.foreground[:, None], up, down)
        values.append(classification_loss(logits, regions.labels).item())
    softplus = torch.nn.functional.softplus
    positive = softplus(up).sum() - up[1]
    assert values == [pytest.approx(float(128 * positive + 384 * softplus(down).sum()) / 512, rel=1e-5)] * SEEDS


# ---- federated classes


def test_one_more_class_is_drawn_by_the_square_root_of_its_image_count() -> None:
    counts = [1, 4, 25, 100, 400, 1600, 2500, 3600, 4900, 10000]
    weights = frequency_weights(counts)
    labels = torch.tensor([2, 7, 10, 10, 2])  # two classes and background
    drawn = [0] * len(counts)
    for seed in range(6000):
        chosen = federated_classes(labels, weights, 4, torch.Generator().manual_seed(seed)).tolist()
        assert len(chosen) == len(set(chosen)) == 4
        assert {2, 7, 10} < set(chosen)
        drawn[next(c for c in chosen if c not in (2, 7, 10))] += 1
    free = [c for c in range(len(counts)) if c not in (2, 7)]
    total = sum(math.sqrt(counts[c]) for c in free)
    check_counts([drawn[c] for c in free], [6000 * math.sqrt(counts[c]) / total for c in free])


def test_several_classes_are_drawn_one_after_the_other_without_replacement() -> None:
    """Two of ten: the probability of every pair, in closed form."""
    weights = frequency_weights([1, 4, 9, 16, 25, 36, 49, 64, 81, 100])
    shares = (weights / weights.sum()).tolist()
    pairs = {(i, j): 0 for i in range(10) for j in range(i + 1, 10)}
    for seed in range(5000):
        chosen = federated_classes(torch.tensor([10]), weights, 3, torch.Generator().manual_seed(seed)).tolist()
        first, second = sorted(c for c in chosen if c != 10)
        pairs[first, second] += 1
    expected = [
        5000 * (shares[i] * shares[j] / (1 - shares[i]) + shares[j] * shares[i] / (1 - shares[j])) for i, j in pairs
    ]
    check_counts(list(pairs.values()), expected)


def test_fifty_classes_count_in_a_step() -> None:
    weights = frequency_weights([1 + i % 50 for i in range(1203)])
    assert PUBLISHED.federated_classes == 50
    for labels, columns in (([1203], 49), ([5, 6, 1203], 49), ([5, 6], 50), (list(range(80)), 80)):
        for seed in range(20):
            chosen = federated_classes(
                torch.tensor(labels), weights, PUBLISHED.federated_classes, torch.Generator().manual_seed(seed)
            )
            mask = class_mask(chosen, 1203)
            assert mask.shape == (1203,)
            assert int(mask.sum()) == columns
            assert mask[[label for label in labels if label < 1203]].all()
