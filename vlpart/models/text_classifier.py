"""The open-vocabulary classifier: the cosine between a region's feature and the embedding of each name."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


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
        logits = self.scale * self.embed(x) @ F.normalize(text.float(), dim=1).T
        return logits if self.bias is None else logits + self.bias
