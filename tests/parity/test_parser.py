"""The annotation parser against the original under the same weights (parity fixtures)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.parity.reference import deterministic_detector, fixture, published_state, text_embeddings
from vlpart.annotation_parser.bank import ReferenceBank
from vlpart.annotation_parser.correspondence import nearest, normalised
from vlpart.annotation_parser.detector import PartDetector
from vlpart.annotation_parser.features.vit import DinoFeatures, VisionTransformer, load_weights
from vlpart.annotation_parser.image_parser import ImageParser, ParserOptions, Transfer
from vlpart.annotation_parser.references import read_base_data
from vlpart.annotation_parser.rename import Renamer
from vlpart.annotation_parser.run import build_bank
from vlpart.data.resize import resize_shorter_side
from vlpart.text.vocabulary import Vocabulary

LABEL = "dog"


@pytest.fixture(scope="module")
def features(shared: Path) -> DinoFeatures:
    model = VisionTransformer()
    load_weights(model, published_state(shared, "dino_vits8"), "the fixture")
    return DinoFeatures(model)


@pytest.fixture(scope="module")
def detector(shared: Path) -> PartDetector:
    network = deterministic_detector(shared, "r50_pascalpart")
    return PartDetector(network, text_embeddings(shared, "pascal_part"), Vocabulary.load("pascal_part"))


def write_base_data(folder: Path, expected: dict[str, np.ndarray]) -> Path:
    """The base images of the fixture and their annotations, all of one made-up object, by Pascal Part's names."""
    annotations = json.loads(str(expected["ann_json"]))
    names = {entry.id: entry.part for entry in Vocabulary.load("pascal_part").entries}
    annotations["categories"] = [
        {"id": c["id"], "name": f"animal:{names[c['id']]} {c['id']}"} for c in annotations["categories"]
    ]
    for image in annotations["images"]:
        stem = Path(image["file_name"]).stem
        image["file_name"] = f"{stem}.png"
        Image.fromarray(expected[f"orig_base_{stem}"]).save(folder / image["file_name"])
    path = folder / "train_one.json"
    path.write_text(json.dumps(annotations))
    return path


@pytest.mark.slow  # about 30 s: DINO at stride 4 on four images
def test_novel_object(shared: Path, tmp_path: Path, features: DinoFeatures, detector: PartDetector) -> None:
    expected = fixture(shared, "parser_novel")
    data = read_base_data(write_base_data(tmp_path, expected))
    build_bank(tmp_path / "bank", data, tmp_path, features)
    bank = ReferenceBank(tmp_path / "bank")
    assert bank.search(normalised(torch.from_numpy(expected["base_token_2008_000002"])[None])).similarities > 1 - 1e-6

    parser = ImageParser(features, bank, detector, Renamer(None), ParserOptions())
    image = expected["orig_novel"]
    transfer = parser.transfer(image, LABEL)
    assert np.array_equal(transfer.target_image.transpose(2, 0, 1), expected["novel_image"])
    assert Path(transfer.reference.file_name).stem == str(expected["nearest"])
    check_features(transfer, expected)
    check_matches(transfer, expected)
    check_parts(transfer, expected)

    found = parser.named(transfer, image.shape[:2], LABEL)
    assert [int(part.name.split()[-1]) for part in found] == expected["res_classes"].tolist()
    assert np.abs(np.array([part.box_xyxy for part in found]) - expected["res_boxes"]).max() < 0.05


def check_features(transfer: Transfer, expected: dict[str, np.ndarray]) -> None:
    """Descriptors and class token within 1e-4 of their size, saliency within 1e-4 of its range."""
    for side, found in (("novel", transfer.target_features), ("base", transfer.reference_features)):
        assert found.grid == tuple(expected[f"{side}_num_patches"])
        reference = expected[f"{side}_desc_sample_stride64"]
        assert np.abs(found.descriptors[::64].numpy() - reference).max() < 1e-4 * np.abs(reference).max()
        assert np.abs(found.saliency.numpy() - expected[f"{side}_saliency"]).max() < 1e-4
    token = expected["novel_cls_token"]
    assert np.abs(transfer.target_features.class_token.numpy() - token).max() < 1e-4 * np.abs(token).max()


def check_matches(transfer: Transfer, expected: dict[str, np.ndarray]) -> None:
    """Nearest neighbours equal where the second best is clearly worse; both ways."""
    clear = expected["nn_2_margin"] > 1e-5
    assert clear.sum() > 4000
    assert np.array_equal(transfer.nearest_patch.numpy()[clear], expected["nn_2"][clear])
    assert np.abs(transfer.patch_similarity.numpy() - expected["sim_2"]).max() < 1e-5
    target, reference = (normalised(f.descriptors) for f in (transfer.target_features, transfer.reference_features))
    back = nearest(reference, target, k=2)
    clear = (back.similarities[:, 0] - back.similarities[:, 1]).numpy() > 1e-5
    assert clear.sum() > 4000
    assert np.array_equal(back.indices[:, 0].numpy()[clear], expected["nn_1"][clear])
    assert np.abs(back.similarities[:, 0].numpy() - expected["sim_1"]).max() < 1e-5


def check_parts(transfer: Transfer, expected: dict[str, np.ndarray]) -> None:
    """Part masks at IoU 0.999, their boxes and the detector's proposals within 0.05 px."""
    shape = tuple(expected["part_masks_shape"])
    masks = np.unpackbits(expected["part_masks_packed"], axis=-1)[..., : shape[2]].astype(bool)
    assert transfer.parts.masks.shape == shape
    for ours, theirs in zip(transfer.parts.masks, masks, strict=True):
        assert (ours & theirs).sum() >= 0.999 * (ours | theirs).sum()
    assert np.abs(transfer.parts.boxes_xyxy - expected["part_boxes"]).max() < 0.05
    proposals = transfer.proposals_xyxy.numpy() * (800 / min(shape[1:]))
    distance = np.abs(proposals[:, None] - expected["top_boxes"][None]).max(axis=2)
    assert len(proposals) == len(expected["top_boxes"])
    assert distance.min(axis=0).max() < 0.05
    assert distance.min(axis=1).max() < 0.05


@pytest.mark.slow  # about 4 s: the detector on one image of 800 pixels
def test_base_object(shared: Path, detector: PartDetector) -> None:
    expected = fixture(shared, "parser_base")
    image = fixture(shared, "parser_novel")["orig_novel"]
    target = resize_shorter_side(image, 224, 672)
    assert np.array_equal(target.transpose(2, 0, 1), expected["novel_image"])
    found = detector.base_parts(target, image.shape[:2])
    assert len(found.scores) == len(expected["scores"])
    used: set[int] = set()
    for box, score, label in zip(found.boxes_xyxy.numpy(), found.scores.numpy(), found.labels.numpy(), strict=True):
        same = np.flatnonzero(expected["classes"] == label)
        distance = np.abs(expected["boxes"][same] - box).max(axis=1)
        assert distance.min() < 0.05
        partner = int(same[distance.argmin()])
        assert partner not in used
        used.add(partner)
        assert abs(expected["scores"][partner] - score) < 2e-5
