"""Which names a teacher holds, and that it is a copy."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from vlpart.errors import TrainingError
from vlpart.models.build import build_detector
from vlpart.text.encoders import get_text_encoder
from vlpart.text.vocabulary import Vocabulary
from vlpart.training.assemble import embed
from vlpart.training.distillation import SIMILAR, TeacherSource, similarity


def test_names_of_the_data_are_left_to_the_data():
    student = build_detector("tiny")
    names = [[1.0, 0.0], [0.0, 2.0], [1.0, 3.0], [0.95, 0.1], [1.0, 1.0], [-1.0, 0.0], [0.0, -1.0], [-1.0, -1.0]]
    vocabulary = torch.tensor(names)
    source = TeacherSource(student, vocabulary, {"a": torch.tensor([[3.0, 0.0]])}, count=5, weight=0.5)
    assert source.names.tolist() == [names[i] for i in (1, 2, 5, 6, 7)]
    assert str(source) == "teacher: 5 names of 8 are held, 5 a batch"
    teacher = source.draw(None)
    assert (len(teacher.text), teacher.weight) == (5, 0.5)


def test_what_is_similar_follows_the_background_of_the_encoder(shared):
    """Any two CLIP texts have a cosine near 0.7; of a few taught names the others are no relatives even so."""
    clip = {
        name: torch.from_numpy(np.load(shared / "clip_rn50" / f"{name}_clip_RN50_a+cname.npy")).float()
        for name in ("pascal_part", "lvis_v1", "voc")
    }
    names = Vocabulary.load("pascal_part").names
    car = torch.tensor([name.startswith("car") for name in names])
    near = similarity(clip["pascal_part"], clip["pascal_part"][car])
    assert (near[car] > 0.99).all() and 70 <= int((near < SIMILAR).sum()) <= 85
    bus = [name.startswith("bus:") for name in names]
    assert (near[torch.tensor(bus)] >= SIMILAR).float().mean() > 0.8
    assert 500 < int((similarity(clip["lvis_v1"], clip["voc"]) < SIMILAR).sum()) < 1000

    parts = json.loads((shared / "data" / "car_parts" / "train.json").read_text())
    taught = Vocabulary.from_names([category["name"] for category in parts["categories"]])
    tiny = Vocabulary.load("tiny")
    for encoder in ("static", "phrase"):
        known, cars = (embed(get_text_encoder(encoder), each, "name") for each in (tiny, taught))
        held = {name for name, near in zip(tiny.names, similarity(known, cars), strict=True) if near < SIMILAR}
        assert 280 < len(held) < 300  # of 389: what is no part of a car, and no like part of a thing like one
        assert held >= {"dog", "person:nose", "chair:leg", "airplane:wing", "bus", "shirt:collar"} & set(tiny.names)
        assert not held & {"car", "car:wheel", "car:hood", "van:wheel", "truck:door", "bus:mirror"}


def test_nothing_to_hold_is_said():
    with pytest.raises(TrainingError, match=r"all 3 names .* --teacher 0"):
        TeacherSource(build_detector("tiny"), torch.eye(128)[:3], {"a": torch.eye(128)[:9]}, count=6, weight=1.0)
    with pytest.raises(TrainingError, match="--teacher 0"):  # no background to measure
        TeacherSource(build_detector("tiny"), torch.eye(128)[:1], {"a": torch.eye(128)[:1]}, count=6, weight=1.0)


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
