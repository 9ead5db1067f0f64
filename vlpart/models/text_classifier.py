"""The open-vocabulary classifier: the cosine between a region's feature and the embedding of each name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import ref

import torch.nn.functional as F
from torch import Tensor, nn

from vlpart.models.convolution import predicts_on_cpu


class Kept:
    """What a function makes of tensors, kept until one of them is another or has changed.

    Of thousands of names it is as much work as classifying the regions of a photo, and the next photo has the same
    names. Only where a network predicts on a CPU.
    """

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make
        self._last: tuple[list[tuple[Any, int]], Any] | None = None

    def __call__(self, *tensors: Tensor) -> Any:
        """The value of the function."""
        if not all(predicts_on_cpu(t) and not t.is_inference() for t in tensors):  # the latter do not count changes
            return self._make(*tensors)
        last = self._last  # once: other threads may set it meanwhile
        if last is not None and all(
            known() is t and version == t._version for (known, version), t in zip(last[0], tensors, strict=True)
        ):
            return last[1]
        value = self._make(*tensors)
        self._last = [(ref(t), t._version) for t in tensors], value
        return value

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy keeps nothing yet."""
        return Kept, (self._make,)


def unit_rows(text: Tensor) -> Tensor:
    """(C, D) float32 embeddings with rows of length 1."""
    return F.normalize(text.float(), dim=1)


class TextClassifier(nn.Module):
    """logits = scale * cos(linear(x), text_c) + bias.

    The published models have `scale` 50 and no bias (docs/method.md, 'Text classifier'). A text space whose names
    average to nothing needs the learned bias: no direction is far from all names at once, so background could not score
    low everywhere.

    Args:
        features: width of the region feature.
        text_dim: width D of the text embeddings.
        scale: factor on the cosine.
        initial_bias: start of the learned bias, or None for none.
    """

    def __init__(self, features: int, text_dim: int, *, scale: float = 50.0, initial_bias: float | None = None) -> None:
        super().__init__()
        self.linear = nn.Linear(features, text_dim)
        self.scale = scale
        self._unit_rows = Kept(unit_rows)
        self.bias: nn.Parameter | None = None
        if initial_bias is not None:
            self.bias = nn.Parameter(self.linear.weight.new_tensor(initial_bias))

    def embed(self, x: Tensor) -> Tensor:
        """(N, D) float32 region features in the space of the text, rows of length 1."""
        return F.normalize(self.linear(x).float(), dim=1)

    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        """(N, C) float32 logits.

        Args:
            x: (N, features) region features.
            text: (C, D) text embeddings, normalised here.
        """
        logits: Tensor = self.scale * self.embed(x) @ self._unit_rows(text).T
        if self.bias is None:
            return logits
        return logits.add_(self.bias) if predicts_on_cpu(logits) else logits + self.bias
