"""Which names a teacher holds, and that it is a copy."""

from __future__ import annotations

import torch

from vlpart.models.build import build_detector
from vlpart.training.teacher import TeacherSource


def test_names_of_the_data_are_left_to_the_data():
    student = build_detector("tiny")
    vocabulary = torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 3.0], [0.95, 0.1], [1.0, 1.0]])
    source = TeacherSource(student, vocabulary, {"a": torch.tensor([[3.0, 0.0]])}, count=5, weight=0.5)
    assert source.names.tolist() == [[0.0, 2.0], [1.0, 3.0]]
    teacher = source.draw(None)
    assert (len(teacher.text), teacher.weight) == (2, 0.5)


def test_draws_follow_the_generator_and_change():
    names = torch.eye(128)[:40]
    source = TeacherSource(build_detector("tiny"), names, {"a": torch.eye(128)[100:]}, count=6, weight=1.0)
    generator = torch.Generator().manual_seed(3)
    state = generator.get_state()
    first, second = source.draw(generator).text, source.draw(generator).text
    assert not torch.equal(first, second)
    generator.set_state(state)
    assert torch.equal(source.draw(generator).text, first)


def test_the_teacher_is_a_frozen_copy():
    student = build_detector("tiny").train()
    source = TeacherSource(student, torch.eye(128), {"a": torch.eye(128)[:1]}, count=6, weight=1.0)
    frozen = source.draw(None).detector
    before = frozen.rpn.conv.weight.clone()
    student.rpn.conv.weight.data.zero_()
    assert torch.equal(frozen.rpn.conv.weight, before)
    assert student.training and not frozen.training
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
