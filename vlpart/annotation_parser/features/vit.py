"""DINO ViT-S/8 with overlapping patches: class token, key descriptors and saliency of its last layer.

Sources: Caron et al. 2021 (DINO), Amir et al. 2021 (key descriptors, small patch stride);
docs/method.md, 'Features'.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from vlpart.annotation_parser.features.base import (
    DINO,
    ImageFeatures,
    batches_of_one_size,
    check_describable,
    fingerprint,
)
from vlpart.errors import WeightsError
from vlpart.runtime import autocast, choose_device, choose_precision
from vlpart.zoo.weights import as_float32

if TYPE_CHECKING:
    from torch import device as Device

SALIENT_HEADS = (0, 2, 4, 5)
"""Heads of the last layer whose attention from the class token makes the saliency (docs/method.md, 'Features')."""


@dataclass(frozen=True, kw_only=True)
class DinoOutput:
    """What the last layer says about a batch of equally large images; patches are in row-major order.

    Attributes:
        class_tokens: (B, D) float32, before the final norm, which the parser does not use.
        keys: (B, N, D) float32 key vectors of the patches; channels ordered channel-major, head-minor.
        attention: (B, heads, N) float32 attention from the class token to the patches.
        grid: rows and columns of patches, N = rows * columns.
    """

    class_tokens: Tensor
    keys: Tensor
    attention: Tensor
    grid: tuple[int, int]

    def saliency(self, heads: Sequence[int] = SALIENT_HEADS) -> Tensor:
        """(B, N) float32 in 0..1: mean attention of some heads, scaled so that each image spans the range."""
        mean = self.attention[:, list(heads)].mean(dim=1)
        low, high = mean.amin(dim=1, keepdim=True), mean.amax(dim=1, keepdim=True)
        return (mean - low) / (high - low).clamp(min=1e-12)


class PatchEmbedding(nn.Module):
    """Overlapping patches to tokens."""

    def __init__(self, width: int, patch: int, stride: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch, stride=stride)

    def forward(self, pixels: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """(B, 3, H, W) -> tokens (B, rows * columns, width) and (rows, columns)."""
        tokens = self.proj(pixels)
        return tokens.flatten(2).transpose(1, 2), (tokens.shape[2], tokens.shape[3])


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of (B, L, D) tokens, each (B, heads, L, D / heads)."""
        batch, length, width = x.shape
        qkv = self.qkv(x).view(batch, length, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        return q, k, v

    def merge(self, x: Tensor) -> Tensor:
        """(B, heads, L, d) -> (B, L, D), projected."""
        return self.proj(x.transpose(1, 2).flatten(2))

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, D) -> (B, L, D)."""
        return self.merge(F.scaled_dot_product_attention(*self.split(x)))


class Mlp(nn.Module):
    """Two linear layers around a GELU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, D) -> (B, L, D)."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))

    def last(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The block as the last one, computed only where it is read: keys everywhere, the rest at the class token.

        Returns:
            Class token (B, D), keys (B, heads, L, d), attention from the class token (B, heads, L).
        """
        q, k, v = self.attn.split(self.norm1(x))
        attention = (q[:, :, :1] @ k.transpose(2, 3) / math.sqrt(q.shape[-1])).softmax(dim=-1)
        token = x[:, :1] + self.attn.merge(attention @ v)
        token = token + self.mlp(self.norm2(token))
        return token[:, 0], k, attention[:, :, 0]


class VisionTransformer(nn.Module):
    """ViT with a patch stride that may be smaller than the patch. Tensor names are those of the published DINO weights.

    Args:
        width, depth, heads: of the transformer; ViT-S is 384, 12, 6.
        patch: patch side in pixels.
        stride: distance between patches in pixels.
        table: side of the square grid that the position table was trained on.
    """

    def __init__(
        self, *, width: int = 384, depth: int = 12, heads: int = 6, patch: int = 8, stride: int = 4, table: int = 28
    ) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, table**2 + 1, width))
        self.patch_embed = PatchEmbedding(width, patch, stride)
        self.blocks = nn.ModuleList([Block(width, heads) for _ in range(depth)])
        self._table = table

    @torch.no_grad()
    def forward(self, pixels: Tensor) -> DinoOutput:
        """Describe normalised images.

        Args:
            pixels: (B, 3, H, W) float32, both sides at least one patch. Pixels beyond the last patch are not seen.
        """
        patches, grid = self.patch_embed(pixels)
        x = torch.cat((self.cls_token.expand(len(pixels), -1, -1), patches), dim=1) + self.positions(grid)
        for block in self.blocks[:-1]:
            x = block(x)
        token, keys, attention = cast(Block, self.blocks[-1]).last(x)
        return DinoOutput(
            class_tokens=token,
            keys=keys[:, :, 1:].permute(0, 2, 3, 1).flatten(2),
            attention=attention[:, :, 1:],
            grid=grid,
        )

    def positions(self, grid: tuple[int, int]) -> Tensor:
        """(1, 1 + rows * columns, D) position embeddings for a grid: the trained table, resized bicubically.

        DINO's own rule: the scale factors are (size + 0.1) / table size, and the resampling uses these factors as they
        are instead of the ratio of the sizes (docs/method.md, 'Features'). timm's rule gives other numbers.
        """
        if grid == (self._table, self._table):
            return self.pos_embed
        table = self.pos_embed[:, 1:].view(1, self._table, self._table, -1).permute(0, 3, 1, 2)
        factors = tuple((side + 0.1) / self._table for side in grid)
        resized = F.interpolate(
            table, scale_factor=factors, mode="bicubic", align_corners=False, recompute_scale_factor=False
        )
        return torch.cat((self.pos_embed[:, :1], resized.flatten(2).transpose(1, 2)), dim=1)


def load_weights(model: VisionTransformer, state: Mapping[str, Tensor], where: str) -> None:
    """Fill a model with published weights; a classification head is left out.

    Raises:
        WeightsError: a tensor is missing or of another shape; `where` is named.
    """
    own = model.state_dict()
    for name, weight in own.items():
        if name not in state or state[name].shape != weight.shape:
            state_of = (
                "is missing" if name not in state else f"is {tuple(state[name].shape)}, not {tuple(weight.shape)}"
            )
            raise WeightsError(f"{where} holds no DINO ViT-S/8 backbone ({name} {state_of}): download it again")
    model.load_state_dict(as_float32({name: state[name] for name in own}, where))


class DinoFeatures:
    """DINO ViT-S/8 with patch stride 4, as published (docs/method.md, 'Features').

    Args:
        model: the transformer, with weights.
        device, precision: where to run; see `choose_precision`.

    Raises:
        VlpartError: the device is not here, or there is no such precision.
    """

    name = DINO
    foreground = 0.05
    smallest_side = 8  # a patch
    short_side = 224
    max_side = 672

    def __init__(self, model: nn.Module, device: str | Device = "cpu", precision: str = "float32") -> None:
        self.device = choose_device(device)
        self.precision = choose_precision(precision, self.device)
        self.model = model.to(self.device).eval()

    @property
    def fingerprint(self) -> str:
        """Of the weights."""
        return fingerprint(self.model)

    @torch.inference_mode()
    def describe(self, images: Sequence[NDArray[np.uint8]]) -> list[ImageFeatures]:
        """See `FeatureExtractor.describe`."""
        for image in images:
            check_describable(image, self)
        described: list[ImageFeatures | None] = [None] * len(images)
        for indices, pixels in batches_of_one_size(images, self.device):
            with autocast(self.device, self.precision):
                output = self.model(pixels)
            saliency = output.saliency()
            for row, index in enumerate(indices):
                described[index] = ImageFeatures(
                    class_token=output.class_tokens[row].float(),
                    descriptors=output.keys[row].float(),
                    saliency=saliency[row].float(),
                    grid=output.grid,
                )
        return [features for features in described if features is not None]
