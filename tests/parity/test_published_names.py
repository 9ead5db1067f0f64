"""Every key of every manifest is used exactly once, and every tensor of ours is filled."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from vlpart.errors import WeightsError
from vlpart.models.build import build_detector
from vlpart.models.load import detector_of
from vlpart.zoo.catalogue import get_model
from vlpart.zoo.published_names import convert, is_published, our_name
from vlpart.zoo.resolve import resolve
from vlpart.zoo.weights import load_state_dict

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


@pytest.fixture(scope="module", params=["r50", pytest.param("swinbase_cascade", marks=pytest.mark.slow)])
def voc_file(request: pytest.FixtureRequest, shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the names and shapes of a VOC checkpoint: those of the same model, 20 classes, no mask head."""
    shapes = json.loads((shared / "parity" / "manifests" / f"{request.param}_pascalpart.json").read_text())
    kept = {key: shape for key, (shape, _) in shapes.items() if not key.startswith("roi_heads.mask_head.")}
    assert len(shapes) - len(kept) == 12  # weights and biases of four convolutions, the deconvolution, the predictor
    state = {
        key: torch.zeros((shape[0], 21) if "zs_weight" in key else shape, dtype=torch.float16)
        for key, shape in kept.items()
    }
    path = tmp_path_factory.mktemp("voc") / f"{request.param}_voc.pth"
    torch.save({"model": state}, path)
    return path


def test_published_voc_files_have_no_mask_head(voc_file: Path) -> None:
    entry = get_model(voc_file.stem)
    assert not entry.mask_on
    state = load_state_dict(voc_file)
    names = [name for key in state if (name := our_name(key)) is not None]
    with torch.device("meta"):
        wanted = build_detector(entry.architecture, mask_on=False).state_dict()
    assert sorted(names) == sorted(wanted)
    loaded = detector_of(state, voc_file, entry.architecture, mask_on=entry.mask_on)
    assert loaded.detector.roi_heads.mask_head is None
    assert loaded.text_embeddings is None or len(loaded.text_embeddings) == 20
    found, note = resolve(voc_file).describe()
    assert (found.name, found.mask_on, found.vocabulary, note) == (voc_file.stem, False, "voc", "")


def test_one_tensor_of_a_mask_head_is_a_damaged_file(voc_file: Path) -> None:
    state = load_state_dict(voc_file)
    state["roi_heads.mask_head.deconv.bias"] = torch.zeros(256)
    with pytest.raises(WeightsError, match=r"lacks 'roi_heads.mask_head"):
        detector_of(state, voc_file)


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
