from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from vlpart.annotation_parser.features.vit import VisionTransformer, load_weights
from vlpart.errors import WeightsError


@pytest.fixture(scope="module")
def small() -> VisionTransformer:
    torch.manual_seed(0)
    model = VisionTransformer(width=24, depth=2, heads=6, patch=8, stride=4, table=3).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


@torch.no_grad()
def test_last_block_equals_the_whole_computation(small: VisionTransformer) -> None:
    pixels = torch.randn(2, 3, 21, 30)
    output = small(pixels)
    assert output.grid == (4, 6)

    patches, grid = small.patch_embed(pixels)
    x = torch.cat((small.cls_token.expand(2, -1, -1), patches), dim=1) + small.positions(grid)
    x = small.blocks[0](x)
    last = small.blocks[1]
    torch.testing.assert_close(output.class_tokens, last(x)[:, 0], atol=1e-5, rtol=1e-5)
    qkv = last.attn.qkv(last.norm1(x))
    q, k = qkv[..., :24].view(2, -1, 6, 4), qkv[..., 24:48].view(2, -1, 6, 4)
    for head in range(6):  # head-minor: the channels of a head are every sixth one
        torch.testing.assert_close(output.keys[..., head::6], k[:, 1:, head], atol=1e-5, rtol=1e-5)
        logits = (q[:, :1, head] @ k[:, :, head].transpose(1, 2))[:, 0] / math.sqrt(4)
        torch.testing.assert_close(output.attention[:, head], logits.softmax(1)[:, 1:], atol=1e-5, rtol=1e-5)


def test_saliency_spans_the_range_of_each_image(small: VisionTransformer) -> None:
    saliency = small(torch.randn(2, 3, 24, 24)).saliency()
    assert saliency.amin(1).tolist() == [0, 0]
    assert saliency.amax(1).tolist() == [1, 1]


def cubic(x: float) -> float:
    """Keys' kernel with a = -0.75."""
    x, a = abs(x), -0.75
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0


def weights_of(size: int, table: int) -> np.ndarray:
    """(size, table) resampling weights for DINO's scale, (size + 0.1) / table; borders are repeated."""
    matrix = np.zeros((size, table))
    for i in range(size):
        place = (i + 0.5) * table / (size + 0.1) - 0.5
        for j in range(math.floor(place) - 1, math.floor(place) + 3):
            matrix[i, min(max(j, 0), table - 1)] += cubic(place - j)
    return matrix


@torch.no_grad()
def test_positions_follow_the_published_rule(small: VisionTransformer) -> None:
    table = small.pos_embed[0, 1:].view(3, 3, 24).numpy()
    expected = np.einsum("ia,jb,abc->ijc", weights_of(4, 3), weights_of(7, 3), table)
    found = small.positions((4, 7))
    np.testing.assert_allclose(found[0, 1:].view(4, 7, 24).numpy(), expected, atol=1e-5)
    assert torch.equal(found[:, 0], small.pos_embed[:, 0])
    assert small.positions((3, 3)) is small.pos_embed


def test_weights_of_another_model_are_refused(small: VisionTransformer) -> None:
    state = small.state_dict() | {"head.weight": torch.zeros(2)}
    load_weights(small, state, "file")
    with pytest.raises(WeightsError, match=r"f\.pth holds no DINO.*pos_embed is \(1, 5, 24\), not \(1, 10, 24\)"):
        load_weights(small, state | {"pos_embed": torch.zeros(1, 5, 24)}, "f.pth")
    del state["blocks.1.attn.qkv.bias"]
    with pytest.raises(WeightsError, match="qkv.bias is missing"):
        load_weights(small, state, "f.pth")


@pytest.mark.slow  # about 5 s: timm and two passes of ViT-S/8
@torch.no_grad()
def test_agrees_with_timm_where_both_do_the_same() -> None:
    import timm

    torch.manual_seed(0)
    theirs = timm.create_model("vit_small_patch8_224", num_classes=0).eval()
    ours = VisionTransformer(stride=8).eval()
    load_weights(ours, theirs.state_dict(), "timm")
    pixels = torch.randn(1, 3, 224, 224)
    token = theirs.get_intermediate_layers(pixels, n=1, return_prefix_tokens=True, norm=False)[0][1][:, 0]
    torch.testing.assert_close(ours(pixels).class_tokens, token, atol=1e-4, rtol=1e-4)
