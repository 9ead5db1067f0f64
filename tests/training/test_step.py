"""One step: parameters that no loss reaches, fp16, activation checkpointing, and what torch tells of dead workers."""

from __future__ import annotations

import pytest
import torch
from killable import make_recipe, make_trainer
from torch import nn

from vlpart.errors import TrainingError
from vlpart.models.backbones.swin import Stage
from vlpart.runtime import World
from vlpart.training.step import Stepper, set_activation_checkpointing
from vlpart.types import AnnotationKind, Batch, ImageBatch


class TwoHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.boxes = nn.Linear(3, 1)
        self.labels = nn.Linear(3, 1)


def batch(kind: AnnotationKind, value: float = 1.0) -> Batch:
    images = ImageBatch(pixels=torch.full((1, 3, 4, 4), value), sizes_hw=[(4, 4)])
    return Batch(images=images, targets=[], source="a", kind=kind)


def two_heads(**options) -> tuple[TwoHeads, Stepper]:
    model = TwoHeads()

    def compute(b: Batch) -> dict[str, torch.Tensor]:
        head = model.boxes if b.kind is AnnotationKind.BOXES else model.labels
        return {"loss": head(b.images.pixels.mean(dim=(2, 3))).square().mean()}

    return model, Stepper(make_recipe(**({"learning_rate": 0.1} | options)), model, compute, World())


def test_parameters_that_no_loss_reaches_have_a_gradient_of_zero():
    """As published, where losses of other kinds are zeros: momentum and decay go on for every parameter."""
    model, stepper = two_heads(weight_decay=0.5)
    stepper([batch(AnnotationKind.BOXES)])
    before = model.boxes.weight.detach().clone()
    unused = model.labels.weight.detach().clone()
    stepper([batch(AnnotationKind.IMAGE_LABELS)])
    assert not torch.equal(model.boxes.weight, before * (1 - 0.1 * 0.5))  # momentum of the step before
    assert not torch.equal(model.labels.weight, unused)
    assert {int(state["step"]) for state in stepper.optimizer.state.values()} == {2}


def test_fp16_lowers_the_scale_instead_of_stopping(tmp_path):
    trainer = make_trainer(tmp_path / "a", make_recipe(precision="fp16", ema_decay=None))
    trainer.run()
    scaler = trainer.stepper.scaler
    assert scaler is not None and scaler.get_scale() <= 65536.0
    assert all(value.isfinite().all() for value in trainer.model.parameters())
    model, stepper = two_heads(precision="fp16")
    stepper.scaler._init_scale = 2.0**120
    kept = model.boxes.weight.detach().clone()
    result = stepper([batch(AnnotationKind.BOXES, 10.0)])
    assert (result.finite, result.overflow, result.culprit) == (False, True, None)
    assert torch.equal(model.boxes.weight, kept)
    assert stepper.scaler.get_scale() == 2.0**119


def test_the_loss_scale_is_resumed(tmp_path):
    recipe = make_recipe(precision="fp16", ema_decay=None)
    trainer = make_trainer(tmp_path, recipe)
    trainer.stepper.scaler._init_scale = 512.0
    trainer.run(0.0)
    again = make_trainer(tmp_path, recipe)
    again.resume()
    again.stepper.scaler._lazy_init_scale_growth_tracker(torch.device("cpu"))
    assert again.stepper.scaler.get_scale() == 512.0


def test_activation_checkpointing_gives_the_same_gradients():
    torch.manual_seed(0)
    stage = Stage(dim=16, heads=2, drop_paths=[0.3, 0.3])
    x = torch.randn(2, 9, 10, 16)
    gradients = []
    for wanted in (False, True):
        set_activation_checkpointing(stage, wanted)
        assert stage.activation_checkpointing is wanted
        stage.zero_grad()
        torch.manual_seed(1)  # drop-path draws
        stage(x).square().mean().backward()
        gradients.append([p.grad.clone() for p in stage.parameters()])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(recomputed, plain)
    with pytest.raises(TrainingError, match="only Swin"):
        set_activation_checkpointing(TwoHeads(), True)


def test_a_dead_worker_is_one_line_wherever_torch_tells_of_it(tmp_path):
    trainer = make_trainer(tmp_path)

    def die(batch):
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")

    trainer.stepper.compute = die
    with pytest.raises(TrainingError, match=r"killed at step 1 .*fewer --workers"):
        trainer.run()
