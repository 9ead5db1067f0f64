"""The learning rate schedules, clipping and the moving average against their formulas."""

import math

import pytest
import torch
from killable import SmallModel, make_recipe
from torch import nn

from vlpart.errors import TrainingError
from vlpart.training.optimizer import MovingAverage, gradient_norm, learning_rate_at, make_optimizer, trainable


def test_multi_step_with_warmup_as_published():
    recipe = make_recipe(
        schedule="multi_step", steps=(60000, 80000), iterations=90000, learning_rate=5e-5, warmup_iterations=1000
    )
    expected = {0: 5e-8, 500: 5e-5 * 0.5005, 1000: 5e-5, 59999: 5e-5, 60000: 5e-6, 79999: 5e-6, 80000: 5e-7}
    for step, rate in expected.items():
        assert learning_rate_at(recipe, step) == pytest.approx(rate, rel=1e-6)


def test_cosine():
    recipe = make_recipe(iterations=103, warmup_iterations=3, learning_rate=1.0, final_factor=0.1)
    assert learning_rate_at(recipe, 3) == pytest.approx(1.0)
    assert learning_rate_at(recipe, 53) == pytest.approx(0.55)
    assert learning_rate_at(recipe, 103) == pytest.approx(0.1)
    assert learning_rate_at(recipe, 200) == pytest.approx(0.1)
    rates = [learning_rate_at(recipe, step) for step in range(104)]
    assert rates[:4] == sorted(rates[:4]) and rates[3:] == sorted(rates[3:], reverse=True)


def test_clipping():
    layer = nn.Linear(3, 2)
    with pytest.raises(AssertionError):
        assert gradient_norm(layer.parameters(), None) > 0
    for parameter in layer.parameters():
        parameter.grad = torch.full_like(parameter, 2.0)
    expected = math.sqrt(8 * 4)
    assert gradient_norm(layer.parameters(), None) == pytest.approx(expected)
    assert gradient_norm(layer.parameters(), 100.0) == pytest.approx(expected)
    assert float(layer.bias.grad[0]) == 2.0
    assert gradient_norm(layer.parameters(), 1.0) == pytest.approx(expected)
    assert gradient_norm(layer.parameters(), None) == pytest.approx(1.0)


def test_only_trainable_parameters_are_optimised_all_with_decay():
    model = SmallModel()
    optimizer = make_optimizer(make_recipe(weight_decay=0.3), model)
    assert len(optimizer.param_groups) == 1 and optimizer.param_groups[0]["weight_decay"] == 0.3
    assert len(optimizer.param_groups[0]["params"]) == len(list(model.parameters())) - 1
    model.requires_grad_(False)
    with pytest.raises(TrainingError, match="no parameter"):
        trainable(model)


def test_moving_average_follows_its_formula():
    model = SmallModel()
    average = MovingAverage(model, 0.5)
    expected = model.head.bias.detach().clone()
    for t in range(5):
        with torch.no_grad():
            model.head.bias.add_(1.0)
        average.update(model)
        decay = min(0.5, (1 + t) / (10 + t))
        expected = decay * expected + (1 - decay) * model.head.bias.detach()
    torch.testing.assert_close(average.shadow["head.bias"], expected)
    state = average.averaged_state(model)
    torch.testing.assert_close(state["head.bias"], expected)
    assert torch.equal(state["frozen"], model.frozen) and set(state) == set(model.state_dict())
    other = nn.Linear(2, 2)
    with pytest.raises(TrainingError, match="another model"):
        MovingAverage(other, 0.5).load_state_dict(average.state_dict())
