"""What nobody annotated teaches nothing: inside of open objects, and names of other sources away from annotations."""

from __future__ import annotations

import pytest
import torch

from vlpart.losses.boxes_and_masks import known_weights
from vlpart.losses.matching import label_regions, maybe_unlabelled
from vlpart.losses.options import LossOptions
from vlpart.losses.rpn import rpn_losses
from vlpart.models.rpn import RpnOutput
from vlpart.types import Targets

BUS, WHEEL, VAN = 0, 1, 2
OBJECT, ANNOTATED_WHEEL = [0.0, 0, 100, 100], [10.0, 80, 30, 100]
REGIONS = torch.tensor(
    [
        [0.0, 0, 100, 98],  # the bus
        [11.0, 81, 30, 100],  # its annotated wheel
        [60.0, 80, 80, 100],  # inside of the bus, where no part is annotated
        [0.0, 0, 100, 35],  # a poor box of the bus: more than 0.3 of it
        [10.0, 74, 30, 84],  # beside the wheel, a poor box of it, but more than 0.1 of nothing
        [90.0, 0, 190, 20],  # mostly outside
        [200.0, 200, 220, 220],  # far away
    ]
)
INSIDE = [False, False, True, False, True, False, False]


def target(**known: torch.Tensor | None) -> Targets:
    return Targets(
        boxes_xyxy=torch.tensor([OBJECT, ANNOTATED_WHEEL]),
        labels=torch.tensor([BUS, WHEEL]),
        masks=None,
        image_labels=torch.zeros(0, dtype=torch.int64),
        **known,  # type: ignore[arg-type]
    )


OPEN = torch.tensor([True, False])


def maybe(truth: Targets) -> torch.Tensor:
    return maybe_unlabelled(REGIONS, label_regions(REGIONS, truth, 3, 0.5).overlap, truth)


def test_what_may_be_an_unlabelled_part() -> None:
    assert maybe(target(ignore_inside=OPEN)).tolist() == INSIDE
    assert not maybe(target()).any()
    assert not maybe(target(ignore_inside=~OPEN & False)).any()
    nothing = Targets(
        boxes_xyxy=torch.zeros(0, 4),
        labels=torch.zeros(0, dtype=torch.int64),
        masks=None,
        image_labels=torch.zeros(0, dtype=torch.int64),
        ignore_inside=torch.zeros(0, dtype=torch.bool),
    )
    assert maybe(nothing).tolist() == [False] * len(REGIONS)


@pytest.mark.parametrize("is_open", [True, False])
def test_anchors_inside_of_an_open_object_are_no_background(is_open: bool) -> None:
    logits = torch.zeros(1, len(REGIONS), requires_grad=True)
    output = RpnOutput(logits=[logits], deltas=[torch.zeros(1, len(REGIONS), 4)], anchors_xyxy=[REGIONS])
    truth = target(ignore_inside=OPEN if is_open else None)
    rpn_losses(output, [truth], LossOptions(rpn_anchors=64))["rpn_objectness"].backward()
    assert logits.grad is not None
    pulled = torch.sign(logits.grad[0]).tolist()
    # Matched anchors rise; those between both thresholds are left out in any case; the rest falls.
    background = 0 if is_open else 1
    assert pulled == [-1, -1, background, 0, background, 1, 1]


def test_inside_of_an_open_object_classes_of_unknown_presence_do_not_count() -> None:
    unknown = torch.tensor([False, True, False])
    regions = label_regions(REGIONS, target(), 3, 0.5)

    def weights(**known: torch.Tensor) -> list[float]:
        found = known_weights([regions], [target(unknown_labels=unknown, **known)], 0.1)
        assert found is not None
        assert (found[:, [BUS, VAN]] == 1).all()
        return found[:, WHEEL].tolist()

    assert weights() == [1, 1, 0, 1, 1, 0, 0]
    assert weights(ignore_inside=OPEN) == [1, 1, 0, 1, 0, 0, 0]


def test_names_that_count_at_matches_only() -> None:
    names = torch.tensor([False, False, True])
    regions = label_regions(REGIONS, target(), 3, 0.5)
    found = known_weights([regions], [target(only_at_matches=names)], 0.1)
    assert found is not None
    assert (found[:, :VAN] == 1).all()
    assert found[:, VAN].tolist() == regions.foreground.float().tolist() == [1, 1, 0, 0, 0, 0, 0]
    assert known_weights([regions], [target()], 0.1) is None


def test_a_batch_may_mix_images_with_and_without_unknowns() -> None:
    names = torch.tensor([False, False, True])
    regions = label_regions(REGIONS, target(), 3, 0.5)
    found = known_weights([regions, regions], [target(), target(only_at_matches=names)], 0.1)
    assert found is not None
    assert (found[: len(REGIONS)] == 1).all()
    assert (found[len(REGIONS) :] == 0).sum() == (~regions.foreground).sum()
