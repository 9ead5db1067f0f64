"""Augmentation over many seeds against the rules of docs/method.md, 'Augmentation'."""

from __future__ import annotations

import colorsys
from collections import Counter
from itertools import combinations
from math import prod

import numpy as np
import pytest
from PIL import Image, ImageFilter

from tests.statistics_of import check_counts, check_share, check_uniform
from vlpart.data import colours
from vlpart.data.colours import erase, erase_some, jitter_colors, strong_colours
from vlpart.data.source import Source
from vlpart.data.transforms import sample_geometry

SEEDS = 3000
ERASINGS = ((0.7, 0.05, 0.2, 0.3, 3.3), (0.5, 0.02, 0.2, 0.1, 6.0), (0.3, 0.02, 0.2, 0.05, 8.0))


def source(**options: object) -> Source:
    return Source(name="a", annotations="a.json", images="a", **options)  # type: ignore[arg-type]


# ---- size and mirror


def test_one_of_six_sizes_and_half_of_the_images_mirrored() -> None:
    sides = (640, 672, 704, 736, 768, 800)
    drawn, mirrored = Counter[int](), 0
    for seed in range(SEEDS):
        geometry = sample_geometry(source(), 1000, 1500, np.random.default_rng(seed))
        assert geometry.window == (0, 0, 1500, 1000)
        drawn[geometry.size[0]] += 1
        mirrored += geometry.mirrored
    assert set(drawn) == set(sides)
    check_counts([drawn[side] for side in sides], [SEEDS / 6] * 6)
    check_share(mirrored, SEEDS, 0.5)


def test_any_size_between_two_both_included() -> None:
    joint = source(short_sides=(640, 800), short_side_sampling="range")
    sizes = [sample_geometry(joint, 1000, 1500, np.random.default_rng(seed)).size[0] for seed in range(SEEDS)]
    assert (min(sizes), max(sizes)) == (640, 800)
    counts = Counter((size - 640) * 7 // 161 for size in sizes)  # 161 sizes in seven groups of 23
    check_counts([counts[group] for group in range(7)], [SEEDS / 7] * 7)


def test_the_longer_side_has_a_limit() -> None:
    for seed in range(50):
        height, width = sample_geometry(source(), 500, 2000, np.random.default_rng(seed)).size
        assert (height, width) == (333, 1333)
    labels = source(short_sides=(400, 400), short_side_sampling="range", max_side=667)
    assert sample_geometry(labels, 500, 800, np.random.default_rng(0)).size == (400, 640)
    assert sample_geometry(labels, 500, 1000, np.random.default_rng(0)).size == (334, 667)


# ---- what happens how often


class Steps:
    """Takes the place of the steps of the strong augmentation, and writes down what each was asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.jitters: list[tuple[float, float | None]] = []
        self.sigmas: list[float] = []
        self.erasings: list[tuple[float, float]] = []
        self.greys = 0
        blur, convert = ImageFilter.GaussianBlur, Image.Image.convert

        def jitter(image, strength, rng, hue=None):  # type: ignore[no-untyped-def]
            self.jitters.append((strength, hue))
            return image

        def blurred(sigma):  # type: ignore[no-untyped-def]
            self.sigmas.append(sigma)
            return blur(sigma)

        def erased(pixels, area, ratio, rng):  # type: ignore[no-untyped-def]
            self.erasings.append((area, ratio))

        def converted(image, mode, *rest, **options):  # type: ignore[no-untyped-def]
            self.greys += mode == "L"
            return convert(image, mode, *rest, **options)

        monkeypatch.setattr(colours, "jitter_colors", jitter)
        monkeypatch.setattr(colours, "erase", erased)
        monkeypatch.setattr(ImageFilter, "GaussianBlur", blurred)
        monkeypatch.setattr(Image.Image, "convert", converted)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bool, bool, bool, int]]:
    """For every seed: jitter, grey, blur, number of erasings; what they were asked for is in `steps`."""
    return run_all(Steps(monkeypatch))


def run_all(steps: Steps) -> list[tuple[bool, bool, bool, int]]:
    image = Image.new("RGB", (9, 7), (200, 100, 50))
    found = []
    for seed in range(SEEDS):
        before = len(steps.jitters), steps.greys, len(steps.sigmas), len(steps.erasings)
        rng = np.random.default_rng(seed)
        erase_some(np.array(strong_colours(image, rng)).transpose(2, 0, 1), rng)
        after = len(steps.jitters), steps.greys, len(steps.sigmas), len(steps.erasings)
        jitter, grey, blur, erasings = (now - then for now, then in zip(after, before, strict=True))
        found.append((bool(jitter), bool(grey), bool(blur), erasings))
    return found


def test_how_often_each_step_happens(runs: list[tuple[bool, bool, bool, int]]) -> None:
    for place, probability in enumerate((0.8, 0.2, 0.5)):
        check_share(sum(bool(run[place]) for run in runs), SEEDS, probability)
    rates = [rate for rate, *_ in ERASINGS]
    expected = [0.0] * 4
    for chosen in range(4):
        for happening in combinations(range(3), chosen):
            expected[chosen] += prod(rates[i] if i in happening else 1 - rates[i] for i in range(3))
    counts = Counter(run[3] for run in runs)
    check_counts([counts[number] for number in range(4)], [SEEDS * share for share in expected])


def test_the_steps_do_not_depend_on_each_other(runs: list[tuple[bool, bool, bool, int]]) -> None:
    events = np.array([(jitter, grey, blur, erasings > 1) for jitter, grey, blur, erasings in runs], dtype=float)
    correlation = np.corrcoef(events.T) - np.eye(4)
    assert np.abs(correlation).max() < 5 / np.sqrt(SEEDS)


def test_what_the_steps_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = Steps(monkeypatch)
    run_all(steps)
    assert set(steps.jitters) == {(0.4, 0.1)}
    check_uniform(steps.sigmas, 0.1, 2.0)
    for area, ratio in steps.erasings:
        assert any(low <= area <= high and flat <= ratio <= tall for _, low, high, flat, tall in ERASINGS)
    total = sum(rate for rate, *_ in ERASINGS)
    small = sum(area < 0.05 for area, _ in steps.erasings)  # of the first erasing none is so small
    check_share(small, len(steps.erasings), (0.5 + 0.3) / total * 0.03 / 0.18)
    flattest = sum(ratio < 0.1 for _, ratio in steps.erasings)  # of the third alone
    check_share(flattest, len(steps.erasings), 0.3 / total * np.log(2) / np.log(8 / 0.05))


# ---- what the steps do


def test_jitter_is_uniform_in_its_ranges() -> None:
    """Brightness, contrast and saturation in 0.6..1.4, hue within 0.1, all four measured in the pictures.

    Two grey levels show brightness (their mean) and contrast (their distance); a coloured patch saturation and hue.
    The grey levels are balanced around the patch's own brightness, which contrast turns around.
    """
    red = (104, 72, 72)
    pixels = np.zeros((40, 40, 3), dtype=np.uint8)
    pixels[:20], pixels[20:] = 60, 100
    pixels[18:22, 18:22] = red
    image = Image.fromarray(pixels)
    brightness, contrast, saturation, hue = [], [], [], []
    for seed in range(1000):
        found = np.asarray(jitter_colors(image, 0.4, np.random.default_rng(seed), hue=0.1)).astype(float)
        dark, light, patch = found[2, 2].mean(), found[37, 37].mean(), found[20, 20]
        brightness.append((dark + light) / 160)
        contrast.append((light - dark) / 40 / brightness[-1])
        saturation.append((patch.max() - patch.min()) / 32 / brightness[-1] / contrast[-1])
        turned = colorsys.rgb_to_hsv(*(patch / 255))[0]
        hue.append(turned if turned < 0.5 else turned - 1)
    check_uniform(brightness, 0.6, 1.4, resolution=0.015)
    check_uniform(contrast, 0.6, 1.4, resolution=0.06)
    check_uniform(saturation, 0.6, 1.4, resolution=0.12)
    check_uniform(hue, -0.1, 0.1, resolution=0.03)
    table = np.array([brightness, contrast, saturation, hue])
    assert np.abs(np.corrcoef(table) - np.eye(4)).max() < 5 / np.sqrt(1000)


def test_the_order_of_the_four_is_random(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every one of the 24 orders as often as the others."""
    order: list[int] = []

    def recorded(image: Image.Image, step: colours.Step, mean: int) -> Image.Image:
        order.append(step[0])
        return image

    monkeypatch.setattr(colours, "change", recorded)
    image = Image.new("RGB", (2, 2), (90, 80, 70))
    for seed in range(SEEDS):
        jitter_colors(image, 0.4, np.random.default_rng(seed))
    orders = Counter(tuple(order[i : i + 4]) for i in range(0, len(order), 4))
    assert len(orders) == 24
    check_counts(list(orders.values()), [SEEDS / 24] * 24)


def test_erased_rectangles_lie_anywhere() -> None:
    tops, lefts = [], []
    for seed in range(1000):
        pixels = np.zeros((3, 50, 60), dtype=np.uint8)
        erase(pixels, 0.05, 1.5, np.random.default_rng(seed))
        filled = pixels.any(axis=0)
        tops.append(int(filled.any(axis=1).argmax()))
        lefts.append(int(filled.any(axis=0).argmax()))
    tall, wide = 15, 10
    for starts, room in ((tops, 50 - tall), (lefts, 60 - wide)):
        assert (min(starts), max(starts)) == (0, room)
        counts = Counter(starts)
        check_counts([counts[start] for start in range(room + 1)], [1000 / (room + 1)] * (room + 1))
