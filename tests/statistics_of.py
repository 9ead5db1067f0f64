"""Whether many draws look like what a rule says. Seeds of tests are fixed, so a test that passes once always passes;
the bounds are so wide that a right implementation misses one of them with one choice of seeds in a hundred thousand.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch

SIGMAS = 5.0


def recorded_draws() -> pytest.MarkDecorator:
    """For tests of recorded random draws: older versions of torch draw other numbers from the same seed."""
    drawn = torch.multinomial(torch.arange(1.0, 41.0), 5, generator=torch.Generator().manual_seed(0))
    other = drawn.tolist() != [33, 22, 32, 29, 24]
    reason = f"torch {torch.__version__} draws other numbers than those that were recorded (torch.multinomial)"
    return pytest.mark.skipif(other, reason=reason)


def check_share(hits: int, draws: int, probability: float) -> None:
    """`hits` of `draws` independent draws that each hit with this probability."""
    spread = math.sqrt(draws * probability * (1 - probability))
    assert abs(hits - draws * probability) <= SIGMAS * spread, f"{hits} of {draws}, {probability:g} expected"


def check_counts(counts: Sequence[int], expected: Sequence[float]) -> None:
    """Counts of the outcomes of independent draws (chi-square)."""
    statistic = sum((found - wanted) ** 2 / wanted for found, wanted in zip(counts, expected, strict=True))
    _check_chi_square(statistic, len(counts) - 1)


def check_members(counts: Sequence[int], samples: int, share: float) -> None:
    """How often each member of a set was in a random sample without replacement, over independent samples.

    Args:
        counts: for every member.
        samples: how many samples were drawn.
        share: part of the members in a sample.
    """
    spread = samples * share * (1 - share)
    number = len(counts)
    statistic = sum((found - samples * share) ** 2 for found in counts) / spread * (number - 1) / number
    _check_chi_square(statistic, number - 1)


def check_uniform(values: Sequence[float], low: float, high: float, resolution: float = 0.0) -> None:
    """Values of a uniform distribution (Kolmogorov-Smirnov), which also come close to both of its bounds.

    Args:
        values: independent.
        low, high: its bounds.
        resolution: how finely values were measured, in the same unit.
    """
    places = sorted((value - low) / (high - low) for value in values)
    slack = resolution / (high - low)
    assert -slack <= places[0] and places[-1] <= 1 + slack, (places[0], places[-1])
    number = len(places)
    assert max(places[0], 1 - places[-1]) <= 12 / number + slack, (places[0], places[-1])
    largest = max(max(abs((i + 1) / number - p), abs(p - i / number)) for i, p in enumerate(places))
    assert largest <= 2.5 / math.sqrt(number) + slack, largest  # exceeded with probability 7e-6


def _check_chi_square(statistic: float, freedom: int) -> None:
    """The cube root of a chi-square variable is nearly normal (Wilson and Hilferty)."""
    spread = math.sqrt(2 / (9 * freedom))
    away = ((statistic / freedom) ** (1 / 3) - (1 - 2 / (9 * freedom))) / spread
    assert abs(away) <= SIGMAS, f"chi-square {statistic:.1f} with {freedom} degrees of freedom"
