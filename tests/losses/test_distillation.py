"""What holds a student to its teacher: values, gradients, and that nothing is lost where both agree."""

from __future__ import annotations

import math

import pytest
import torch

from vlpart.losses.by_kind import compute_losses
from vlpart.losses.distillation import Teacher, distillation_loss, kept_objectness
from vlpart.losses.options import LossOptions
from vlpart.losses.rpn import rpn_losses
from vlpart.models.build import build_detector
from vlpart.models.config import ARCHITECTURES
from vlpart.models.rpn import RpnOutput
from vlpart.types import AnnotationKind, Batch, ImageBatch, Targets


def test_the_loss_is_the_divergence_of_the_probabilities() -> None:
    student, teacher = torch.tensor([[0.0, 0.0]]), torch.tensor([[math.log(3.0), 0.0]])
    p, q = 0.75, 0.5
    expected = p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
    assert distillation_loss(student, teacher, 1.0).item() == pytest.approx(expected, rel=1e-5)
    warm = distillation_loss(3 * student, 3 * teacher, 3.0).item()
    assert warm == pytest.approx(9 * expected, rel=1e-5)
    assert distillation_loss(student.repeat(5, 1), teacher.repeat(5, 1), 1.0).item() == pytest.approx(
        expected, rel=1e-5
    )


def test_equal_answers_and_no_names_cost_nothing() -> None:
    logits = torch.linspace(-30, 30, 12).reshape(3, 4).requires_grad_()
    loss = distillation_loss(logits, logits.detach())
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None and logits.grad.abs().max() < 1e-7
    assert distillation_loss(torch.zeros(3, 0), torch.zeros(3, 0)).item() == 0
    assert distillation_loss(torch.zeros(0, 4), torch.zeros(0, 4)).item() == 0


def test_the_gradient_flows_to_the_student_only() -> None:
    student, teacher = torch.zeros(2, 3, requires_grad=True), torch.ones(2, 3, requires_grad=True)
    distillation_loss(student, teacher, 2.0).backward()
    assert teacher.grad is None
    torch.testing.assert_close(student.grad, 2 * (0.5 - torch.full((2, 3), 0.5).sigmoid()) / 2)


def test_objects_of_the_teacher_keep_their_objectness() -> None:
    kept = kept_objectness(torch.tensor([[-3.0, -0.01, 0.0, 2.0]]))
    torch.testing.assert_close(kept, torch.tensor([[0.0, 0.0, 0.5, torch.tensor(2.0).sigmoid()]]))
    anchors = torch.tensor([[0.0, 0, 10, 10], [50, 50, 60, 60], [80, 80, 90, 90]])
    logits = torch.zeros(1, 3, requires_grad=True)
    output = RpnOutput(logits=[logits], deltas=[torch.zeros(1, 3, 4)], anchors_xyxy=[anchors])
    target = Targets(
        boxes_xyxy=anchors[:1].clone(),
        labels=torch.zeros(1, dtype=torch.int64),
        masks=None,
        image_labels=torch.zeros(0, dtype=torch.int64),
    )
    wanted = torch.tensor([[0.0, 0.5, 0.0]])  # the annotation wins over the teacher; the second anchor is held at 0.5
    rpn_losses(output, [target], LossOptions(rpn_anchors=4), None, wanted)["rpn_objectness"].backward()
    torch.testing.assert_close(logits.grad, torch.tensor([[-0.5, 0.0, 0.5]]) / 4)


@pytest.mark.parametrize("architecture", ["tiny", "swin_b_cascade"])
def test_every_stage_is_held(architecture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    sizes = replace(ARCHITECTURES[architecture], backbone="efficientnet_lite0", channels=16, box_width=16)
    torch.manual_seed(0)
    student, frozen = (build_detector(replace(sizes, mask_width=16, text_dim=8)) for _ in range(2))
    frozen.load_state_dict(student.state_dict())
    frozen.eval().requires_grad_(False)
    target = Targets(
        boxes_xyxy=torch.tensor([[8.0, 8, 40, 40]]),
        labels=torch.zeros(1, dtype=torch.int64),
        masks=None,
        image_labels=torch.zeros(0, dtype=torch.int64),
    )
    images = ImageBatch(pixels=torch.randn(1, 3, 64, 64), sizes_hw=[(64, 64)])
    batch = Batch(images=images, targets=[target], source="a", kind=AnnotationKind.PARTS)
    teacher = Teacher(detector=frozen, text=torch.randn(5, 8), weight=2.0)
    options = LossOptions(proposals_before_nms=20, proposals=10, roi_regions=8)

    def losses(held: Teacher | None) -> dict[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(1)
        return compute_losses(student, batch, torch.ones(2, 8), options, generator=generator, teacher=held)

    plain, equal = losses(None), losses(teacher)
    names = ["distillation"] if architecture == "tiny" else [f"distillation_{i}" for i in range(3)]
    assert sorted(set(equal) - set(plain)) == names
    assert all(equal[name].item() == pytest.approx(0, abs=1e-5) for name in names)
    for name in set(plain) - {"rpn_objectness"}:  # the product with more names may be summed in another order
        torch.testing.assert_close(plain[name], equal[name], rtol=1e-5, atol=1e-6)
    for parameter in student.roi_heads.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    moved, half = losses(teacher), losses(Teacher(detector=frozen, text=teacher.text, weight=1.0))
    assert all(moved[name] > 1e-3 for name in names)
    torch.testing.assert_close(moved[names[0]], 2 * half[names[0]])
    sum(moved.values()).backward()
    assert all(parameter.grad is None for parameter in frozen.parameters())
