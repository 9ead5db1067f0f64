"""Every key of every manifest is used exactly once, and every tensor of ours is filled."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from vlpart.errors import WeightsError
from vlpart.models.build import build_detector
from vlpart.zoo.published_names import convert, is_published, our_name

MANIFESTS = (
    "r50_pascalpart",
    "r50_lvis_paco",
    "r50_lvis_paco_pascalpart_partimagenet_inparsed",
    "swinbase_cascade_pascalpart",
    "swinbase_cascade_lvis_paco",
    "swinbase_cascade_lvis_paco_pascalpart_partimagenet_inparsed",
)


@pytest.mark.parametrize("manifest", MANIFESTS)
def test_every_key_is_used_once(shared: Path, manifest: str) -> None:
    shapes = json.loads((shared / "parity" / "manifests" / f"{manifest}.json").read_text())
    with torch.device("meta"):
        detector = build_detector("swin_b_cascade" if manifest.startswith("swin") else "r50_mask_rcnn")
    ours = {key: list(value.shape) for key, value in detector.state_dict().items()}
    names = {key: our_name(key) for key in shapes}
    loaded = [name for name in names.values() if name is not None]
    assert len(loaded) == len(set(loaded))
    assert set(loaded) == set(ours)
    assert all(ours[name] == shapes[key][0] for key, name in names.items() if name is not None)
    assert is_published(shapes)


def test_unknown_key_is_refused() -> None:
    with pytest.raises(WeightsError, match="module.encoder"):
        our_name("module.encoder.weight")


def test_our_own_names_are_not_published() -> None:
    with torch.device("meta"):
        assert not is_published(build_detector("r50_mask_rcnn").state_dict())


def test_embeddings_of_the_saved_vocabulary_come_without_background() -> None:
    weight = torch.cat((torch.eye(4)[:, :3], torch.zeros(4, 1)), dim=1)
    converted = convert({"roi_heads.box_predictor.cls_score.zs_weight": weight})
    assert converted.state == {}
    assert converted.text_embeddings is not None
    assert torch.equal(converted.text_embeddings, torch.eye(4)[:3])


def test_two_keys_for_one_tensor_are_refused() -> None:
    bias = torch.zeros(1024)
    with pytest.raises(WeightsError, match="two tensors"):
        convert({"roi_heads.box_head.fc1.bias": bias, "roi_heads.box_head.0.fc1.bias": bias})
