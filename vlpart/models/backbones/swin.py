"""Swin Transformer for dense prediction (Liu et al., ICCV 2021), exact on every image size (docs/method.md,
'Backbones').
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

WINDOW = 7
_OTHER_REGION = -100.0  # added to the attention logits between tokens that the cyclic shift made neighbours


def _relative_position_index() -> Tensor:
    """(49, 49) int64: which row of the bias table belongs to each pair of positions of a window."""
    y, x = torch.meshgrid(torch.arange(WINDOW), torch.arange(WINDOW), indexing="ij")
    positions = torch.stack((y.flatten(), x.flatten()))
    offset = positions[:, :, None] - positions[:, None, :] + (WINDOW - 1)
    return offset[0] * (2 * WINDOW - 1) + offset[1]


def _padded(size: int) -> int:
    """The next multiple of the window; written so that exporters see that it is one, for any size."""
    return (size + WINDOW - 1) // WINDOW * WINDOW


def _to_windows(x: Tensor) -> Tensor:
    """(B, H, W, C) -> (B * windows, 49, C); H and W are multiples of the window."""
    b, h, w, c = x.shape
    x = x.view(b, h // WINDOW, WINDOW, w // WINDOW, WINDOW, c)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, WINDOW * WINDOW, c)


def _from_windows(windows: Tensor, b: int, h: int, w: int) -> Tensor:
    """The inverse of `_to_windows`."""
    x = windows.view(b, h // WINDOW, w // WINDOW, WINDOW, WINDOW, -1)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(b, h, w, -1)


def shifted_window_mask(height: int, width: int, shift: int, device: torch.device) -> Tensor:
    """(windows, 49, 49) float32: 0 inside a region, -100 between tokens that only the shift brought together."""

    def regions(size: int) -> Tensor:
        """(size,) the number of the region that a row or column is in after the shift."""
        index = torch.arange(size, device=device)
        return (index >= size - WINDOW).float() + (index >= size - shift).float()

    region = 3 * regions(height)[:, None] + regions(width)[None, :]
    tokens = _to_windows(region[None, :, :, None]).squeeze(-1)
    same = tokens[:, None, :] == tokens[:, :, None]
    return torch.where(same, 0.0, _OTHER_REGION)


class WindowAttention(nn.Module):
    """Multi-head attention inside windows of 7 x 7 tokens with a learned relative position bias."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * WINDOW - 1) ** 2, heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        self.register_buffer("relative_position_index", _relative_position_index(), persistent=False)

    def forward(self, windows: Tensor, mask: Tensor | None) -> Tensor:
        """(B * n, 49, C) -> the same shape; `mask` is (n, 49, 49) or None."""
        count, tokens, channels = windows.shape
        q, k, v = self.qkv(windows).view(count, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        index: Tensor = self.relative_position_index  # type: ignore[assignment]
        bias = self.relative_position_bias_table[index.flatten()].view(tokens, tokens, -1).permute(2, 0, 1)
        bias = bias[None] if mask is None else (bias[None] + mask[:, None]).repeat(count // mask.shape[0], 1, 1, 1)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype))
        return self.proj(y.transpose(1, 2).reshape(count, tokens, channels))


class Mlp(nn.Module):
    """Linear, GELU, linear."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, 4 * dim)
        self.fc2 = nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C)."""
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """Attention in (shifted) windows, then an MLP, each around a shortcut that is dropped at random in training."""

    def __init__(self, dim: int, heads: int, shift: int, drop_path: float) -> None:
        super().__init__()
        self.shift = shift
        self.drop_path = drop_path
        self.norm1 = nn.LayerNorm(dim)
        self.attn = WindowAttention(dim, heads)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim)

    def _residual(self, x: Tensor) -> Tensor:
        """Stochastic depth: drop the branch for some images and scale up the others."""
        if not self.training or self.drop_path == 0:
            return x
        keep = torch.rand(len(x), 1, 1, 1, device=x.device) >= self.drop_path
        return x * (keep / (1 - self.drop_path)).to(x.dtype)

    def _attention(self, x: Tensor, mask: Tensor | None) -> Tensor:
        b, h, w, _ = x.shape
        padded_h, padded_w = _padded(h), _padded(w)
        x = F.pad(x, (0, 0, 0, padded_w - w, 0, padded_h - h))
        if self.shift:
            x = torch.roll(x, shifts=(-self.shift, -self.shift), dims=(1, 2))
        x = _from_windows(self.attn(_to_windows(x), mask if self.shift else None), b, padded_h, padded_w)
        if self.shift:
            x = torch.roll(x, shifts=(self.shift, self.shift), dims=(1, 2))
        return x[:, :h, :w]

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, H, W, C) -> the same shape; `mask` is used by shifted blocks."""
        # Zero padding comes after the norm, so padded tokens are zeros and not the norm's bias.
        x = x + self._residual(self._attention(self.norm1(x), mask))
        return x + self._residual(self.mlp(self.norm2(x)))


class PatchMerging(nn.Module):
    """Halve the resolution: concatenate four neighbours, normalise, project to twice the channels."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim)
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, ceil(H / 2), ceil(W / 2), 2 C)."""
        x = F.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
        corners = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.reduction(self.norm(torch.cat(corners, dim=-1)))


class Stage(nn.Module):
    """Blocks at one resolution, every second one shifted by half a window."""

    def __init__(self, dim: int, heads: int, drop_paths: list[float]) -> None:
        super().__init__()
        shifts = (0, WINDOW // 2)
        self.blocks = nn.ModuleList(Block(dim, heads, shifts[i % 2], p) for i, p in enumerate(drop_paths))
        self.activation_checkpointing = False

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> the same shape."""
        mask = shifted_window_mask(_padded(x.shape[1]), _padded(x.shape[2]), WINDOW // 2, x.device)
        for block in self.blocks:
            if self.activation_checkpointing and self.training:
                x = checkpoint(block, x, mask, use_reentrant=False)
            else:
                x = block(x, mask)
        return x


class PatchEmbedding(nn.Module):
    """4 x 4 patches to tokens."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, 4, stride=4)
        self.norm = nn.LayerNorm(dim)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, ceil(H / 4), ceil(W / 4), dim)."""
        height, width = pixels.shape[-2:]
        pixels = F.pad(pixels, (0, -width % 4, 0, -height % 4))
        return self.norm(self.proj(pixels).permute(0, 2, 3, 1))


class SwinBase(nn.Module):
    """Swin-B: maps of strides 4, 8, 16, 32 with `out_channels` = 128, 256, 512, 1024, each after its own LayerNorm.

    Args:
        drop_path: largest stochastic-depth rate; it grows linearly from 0 over the 24 blocks.
    """

    out_channels = (128, 256, 512, 1024)
    depths = (2, 2, 18, 2)
    heads = (4, 8, 16, 32)

    def __init__(self, drop_path: float = 0.3) -> None:
        super().__init__()
        rates = [drop_path * i / (sum(self.depths) - 1) for i in range(sum(self.depths))]
        self.patch_embed = PatchEmbedding(self.out_channels[0])
        self.layers = nn.ModuleList()
        for dim, depth, heads in zip(self.out_channels, self.depths, self.heads, strict=True):
            self.layers.append(Stage(dim, heads, [rates.pop(0) for _ in range(depth)]))
        self.downsamples = nn.ModuleList(PatchMerging(dim) for dim in self.out_channels[:-1])
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for dim in self.out_channels)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """(B, 3, H, W) normalised pixels -> four maps, finest first."""
        x = self.patch_embed(pixels)
        maps = []
        for index, stage in enumerate(self.layers):
            if index > 0:
                x = self.downsamples[index - 1](x)
            x = stage(x)
            maps.append(self.norms[index](x).permute(0, 3, 1, 2).contiguous())
        return maps
