"""Held-out pictures: always the same, as many as asked for, and relatives together."""

from __future__ import annotations

import pytest

from vlpart.data.hold_out import held_out

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
    variants = {i: f"{i // 4}_jpg.rf.{i}.jpg" for i in range(80)}
    held = held_out(variants, 0.2)
    assert 12 <= len(held) <= 20
    assert all({i // 4 * 4 + k for k in range(4)} <= held for i in held)


def test_small_sets_and_none() -> None:
    assert len(held_out({1: "a", 2: "b"}, 0.1)) == 1
    assert len(held_out({1: "a", 2: "b"}, 0.9)) == 1
    assert held_out({1: "a"}, 0.5) == held_out(NAMES, 0) == frozenset()
