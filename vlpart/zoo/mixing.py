"""The weighted mean of two sets of weights: what was learned last, and a share of what was known before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from vlpart.errors import WeightsError

if TYPE_CHECKING:
    from torch import Tensor


def mixed(trained: Mapping[str, Tensor], initial: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """`(1 - share) * trained + share * initial` of every floating-point tensor, computed in float32.

    Args:
        trained: weights after training, by name; their dtypes and devices are those of the result.
        initial: weights before training, with the same names and shapes.
        share: 0..1, 0 gives `trained`.

    Raises:
        WeightsError: the two are not of one model.
    """
    strangers = sorted(set(trained) ^ set(initial))
    if strangers or any(value.shape != initial[name].shape for name, value in trained.items()):
        raise WeightsError(f"the first weights are of another model than the trained ones: {strangers[:3]}")
    result = {}
    for name, value in trained.items():
        if share and value.is_floating_point():
            before = initial[name].to(device=value.device).float()
            value = value.float().lerp(before, share).to(value.dtype)
        result[name] = value
    return result
