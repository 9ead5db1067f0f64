"""Published checkpoint keys and ours.

The published files name their tensors after the modules of the original implementation. The table below pairs them with
our names by rule; every published key is either paired or listed as derived, which a test holds against all manifests.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vlpart.errors import WeightsError

if TYPE_CHECKING:
    from torch import Tensor

_COMMON = (  # (published pattern, our name), first match wins
    (r"backbone\.fpn_lateral([2-5])\.(weight|bias)", lambda m: f"fpn.lateral.{int(m[1]) - 2}.{m[2]}"),
    (r"backbone\.fpn_output([2-5])\.(weight|bias)", lambda m: f"fpn.output.{int(m[1]) - 2}.{m[2]}"),
    (r"backbone\.bottom_up\.base\.(.+)", lambda m: f"backbone.{m[1]}"),
    (r"backbone\.bottom_up\.layers\.(\d)\.downsample\.(.+)", lambda m: f"backbone.downsamples.{m[1]}.{m[2]}"),
    (r"backbone\.bottom_up\.norm(\d)\.(.+)", lambda m: f"backbone.norms.{m[1]}.{m[2]}"),
    (r"backbone\.bottom_up\.(.+)", lambda m: f"backbone.{m[1]}"),
    (r"proposal_generator\.rpn_head\.conv\.(.+)", lambda m: f"rpn.conv.{m[1]}"),
    (r"proposal_generator\.rpn_head\.objectness_logits\.(.+)", lambda m: f"rpn.objectness.{m[1]}"),
    (r"proposal_generator\.rpn_head\.anchor_deltas\.(.+)", lambda m: f"rpn.deltas.{m[1]}"),
    (r"roi_heads\.box_head\.(?:(\d)\.)?(fc[12])\.(.+)", lambda m: f"roi_heads.stages.{m[1] or 0}.{m[2]}.{m[3]}"),
    (
        r"roi_heads\.box_predictor\.(?:(\d)\.)?cls_score\.linear\.(.+)",
        lambda m: f"roi_heads.stages.{m[1] or 0}.classifier.linear.{m[2]}",
    ),
    (
        r"roi_heads\.box_predictor\.(?:(\d)\.)?bbox_pred\.0\.(.+)",
        lambda m: f"roi_heads.stages.{m[1] or 0}.delta_hidden.{m[2]}",
    ),
    (
        r"roi_heads\.box_predictor\.(?:(\d)\.)?bbox_pred\.2\.(.+)",
        lambda m: f"roi_heads.stages.{m[1] or 0}.deltas.{m[2]}",
    ),
    (r"roi_heads\.mask_head\.mask_fcn([1-4])\.(.+)", lambda m: f"roi_heads.mask_head.convs.{int(m[1]) - 1}.{m[2]}"),
    (r"roi_heads\.mask_head\.(deconv|predictor)\.(.+)", lambda m: f"roi_heads.mask_head.{m[1]}.{m[2]}"),
)

_DERIVED = re.compile(
    r".*\.num_batches_tracked"  # frozen norms do not count
    r"|.*\.relative_position_index"  # a constant of the window size
    r"|.*\.zs_weight(?:_\d+|_inference)?"  # text embeddings; `convert` keeps those of a single vocabulary apart
    r"|.*\.freq_weight(?:_\d+)?"  # counts of the training set
    r"|pixel_(?:mean|std)|.*anchor_generator\..*"
)


@dataclass(frozen=True, kw_only=True)
class ConvertedWeights:
    """A published file in our names.

    Attributes:
        state: our state dict.
        text_embeddings: (C, D) float32 embeddings of the vocabulary the file was saved with, without the background
            column, or None where the file has none.
    """

    state: dict[str, Tensor]
    text_embeddings: Tensor | None


def our_name(published: str) -> str | None:
    """Our name of a published key; None where the tensor is derived and not loaded.

    Raises:
        WeightsError: a key that no rule knows.
    """
    if _DERIVED.fullmatch(published):
        return None
    for pattern, name in _COMMON:
        match = re.fullmatch(pattern, published)
        if match:
            return name(match)
    raise WeightsError(f"unknown tensor {published!r}: this is not a checkpoint of the published model zoo")


def is_published(keys: Iterable[str]) -> bool:
    """Whether a state dict has published names (ours begin with `backbone`, `fpn`, `rpn`, `roi_heads.stages`)."""
    return any(key.startswith(("proposal_generator.", "roi_heads.box_head.")) for key in keys)


def convert(published: Mapping[str, Tensor]) -> ConvertedWeights:
    """Rename a published state dict.

    Raises:
        WeightsError: an unknown key, or two keys for one tensor.
    """
    state: dict[str, Tensor] = {}
    embeddings: Tensor | None = None
    for key, value in published.items():
        name = our_name(key)
        if name is None:
            if key.endswith(".zs_weight") and embeddings is None:
                embeddings = value[:, :-1].T.float().contiguous()  # the last column is the constant background
            continue
        if name in state:
            raise WeightsError(f"two tensors for {name!r}, the second is {key!r}: the checkpoint is not of one model")
        state[name] = value
    return ConvertedWeights(state=state, text_embeddings=embeddings)
