"""Colours stay apart for colour-blind eyes, and words stay legible on them."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from vlpart.visualize.palette import (
    OBJECT_COLOURS,
    RGB,
    class_colour,
    contrast,
    deep,
    from_oklch,
    lighter,
    pale,
    part_colours,
    readable_on,
    to_oklch,
)

# Machado, Oliveira and Fernandes 2009, severity 1.0, for linear RGB.
VISIONS = {
    "normal": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def seen(colour: RGB, vision: str) -> np.ndarray:
    """OKLab coordinates of what an eye makes of a colour."""
    channels = np.array(colour) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    simulated = np.clip(np.array(VISIONS[vision]) @ linear, 0, 1)
    gamma = np.where(simulated <= 0.0031308, 12.92 * simulated, 1.055 * simulated ** (1 / 2.4) - 0.055)
    red, green, blue = np.rint(gamma * 255).astype(int).tolist()
    lightness, chroma, hue = to_oklch((red, green, blue))
    return np.array([lightness, chroma * math.cos(hue), chroma * math.sin(hue)])


@pytest.mark.parametrize("vision", VISIONS)
@pytest.mark.parametrize(("count", "apart"), [(2, 0.18), (4, 0.18), (8, 0.11)])
def test_object_colours_stay_apart(vision: str, count: int, apart: float) -> None:
    """For comparison: the first eight default colours of matplotlib come as near as 0.007 to each other (protan)."""
    coordinates = [seen(colour, vision) for colour in OBJECT_COLOURS[:count]]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(coordinates, 2)) > apart


@pytest.mark.parametrize("colour", OBJECT_COLOURS)
def test_words_are_legible(colour: RGB) -> None:
    assert contrast(readable_on(colour), colour) >= 4.5
    for relative in [colour, *part_colours(colour, 5), *part_colours(colour, 5, 120)]:
        assert contrast(deep(relative), pale(relative)) >= 7
        assert contrast(readable_on(relative), relative) >= 4.5


def _turns(colours: list[RGB], base: RGB) -> list[float]:
    """Degrees from the hue of `base` to those of others, -180..180."""
    return [math.degrees((to_oklch(c)[2] - to_oklch(base)[2] + math.pi) % (2 * math.pi) - math.pi) for c in colours]


@pytest.mark.parametrize("colour", OBJECT_COLOURS)
@pytest.mark.parametrize("count", [2, 3, 6])
def test_parts_of_the_only_object_have_free_hues_far_from_each_other_and_from_its_own(colour: RGB, count: int) -> None:
    turns = sorted(_turns(part_colours(colour, count), colour))
    assert min(abs(turn) for turn in turns) > 25
    around = [*turns, turns[0] + 360]
    assert min(b - a for a, b in itertools.pairwise(around)) > 360 / (count + 1) - 20
    assert to_oklch(lighter(colour))[0] > to_oklch(colour)[0]


@pytest.mark.parametrize("colour", OBJECT_COLOURS)
def test_parts_of_one_of_several_objects_keep_to_an_arc_and_still_differ(colour: RGB) -> None:
    parts = part_colours(colour, 4, 120)
    assert max(abs(turn) for turn in _turns(parts, colour)) < 66
    apart = [np.linalg.norm(seen(a, "normal") - seen(b, "normal")) for a, b in itertools.combinations(parts, 2)]
    assert min(apart) > 0.08


@pytest.mark.parametrize("count", range(12))
def test_parts_next_to_each_other_get_unlike_hues(count: int) -> None:
    colours = part_colours(OBJECT_COLOURS[0], count)
    assert len(set(colours)) == count
    if count > 3:
        turns = np.radians(_turns(colours, OBJECT_COLOURS[0]))
        assert max(np.cos(a - b) for a, b in itertools.pairwise(turns)) < math.cos(math.radians(70))


def test_classes_keep_their_colours() -> None:
    colours = [class_colour(i) for i in range(40)]
    assert colours[:8] == list(OBJECT_COLOURS)
    assert len(set(colours)) == 40


def test_oklch_there_and_back() -> None:
    for colour in [*OBJECT_COLOURS, (0, 0, 0), (255, 255, 255), (255, 0, 0), (1, 2, 3)]:
        assert np.abs(np.array(from_oklch(*to_oklch(colour))) - colour).max() <= 1
    assert to_oklch((255, 0, 0)) == pytest.approx((0.628, 0.2577, math.radians(29.23)), abs=1e-3)
    assert contrast((0, 0, 0), (255, 255, 255)) == pytest.approx(21)
