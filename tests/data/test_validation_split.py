"""Held-out images: always the same, as many as asked for, and relatives together."""

from __future__ import annotations

import pytest

from vlpart.data.validation_split import held_out, made_from, original_image

NAMES = {i: f"{i:03}.jpg" for i in range(200)}


@pytest.mark.parametrize("fraction", [0.05, 0.1, 0.5])
def test_as_many_as_asked_for(fraction: float) -> None:
    assert len(held_out(NAMES, fraction)) == round(fraction * 200)


def test_always_the_same_whatever_the_ids_and_their_order() -> None:
    first = {NAMES[i] for i in held_out(NAMES, 0.1)}
    renumbered = {i + 7: name for i, name in reversed(NAMES.items())}
    assert {renumbered[i] for i in held_out(renumbered, 0.1)} == first
    assert held_out(NAMES, 0.1) < held_out(NAMES, 0.2)


def test_relatives_go_together() -> None:
    variants = {i: original_image(None, f"{i // 4}_jpg.rf.{i}.jpg") for i in range(80)}
    held = held_out(variants, 0.2)
    assert 12 <= len(held) <= 20
    assert all({i // 4 * 4 + k for k in range(4)} <= held for i in held)


def test_small_sets_and_none() -> None:
    assert len(held_out({1: "a", 2: "b"}, 0.1)) == 1
    assert len(held_out({1: "a", 2: "b"}, 0.9)) == 1
    assert held_out({1: "a"}, 0.5) == held_out(NAMES, 0) == frozenset()


@pytest.mark.parametrize("many", range(20))  # whatever the hashes
def test_groups_that_are_too_large_are_trained_on(many: int) -> None:
    names = {i: f"scan{many}.jpg" if i < 95 else f"{many}_{i}.jpg" for i in range(100)}
    assert held_out(names, 0.1) == frozenset(range(95, 100))
    three = {i: f"{many}_{min(i // 40, 2)}" for i in range(100)}  # 40, 40 and 20: none fits, the smallest is taken
    assert held_out(three, 0.1) == frozenset(range(80, 100))


def test_the_original_of_a_image() -> None:
    assert original_image(None, "a.jpg") == original_image("", "a.jpg") == original_image("a.jpg", "b.jpg")
    assert original_image(None, "a_jpg.rf.12.jpg") == original_image("a_jpg.rf.3.jpg", "b.jpg") == "a_jpg"
    assert (original_image(7, "a.jpg"), original_image(0, "a.jpg")) == ("7", "0")
    assert (made_from(None, "a.jpg"), made_from("a.jpg", "a.jpg")) == (None, "a.jpg")
