"""Our losses and gradients against the original's, on its own batches (parity fixtures `train__*`).

Nothing is subsampled there: the RPN batch is 200000 and the ROI batch 8192, drop-path is 0, and the federated classes
are the recorded ones.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.parity.reference import deterministic_detector, fixture, text_embeddings
from tests.statistics_of import recorded_draws
from vlpart.data.preprocess import normalise_and_pad
from vlpart.losses import by_kind
from vlpart.losses.by_kind import LossOptions, compute_losses
from vlpart.losses.weak_labels import federated_classes
from vlpart.models.backbones.swin import Block
from vlpart.types import AnnotationKind, Batch, Targets
from vlpart.zoo.published_names import our_name


@dataclass(frozen=True)
class Case:
    fixture: str
    manifest: str
    vocabulary: str
    kind: AnnotationKind
    recipe: str


CASES = (
    Case("train__r50_pascalpart__box", "r50_pascalpart", "pascal_part", AnnotationKind.BOXES, "r50_pascalpart"),
    Case(
        "train__r50_joint__box_src0_lvis_fed",
        "r50_lvis_paco_pascalpart_partimagenet_inparsed",
        "lvis_v1",
        AnnotationKind.BOXES,
        "r50_lvis_paco_pascalpart_partimagenet_inparsed",
    ),
    Case(
        "train__r50_joint__image_src4_golden",
        "r50_lvis_paco_pascalpart_partimagenet_inparsed",
        "golden",
        AnnotationKind.IMAGE_LABELS,
        "r50_lvis_paco_pascalpart_partimagenet_inparsed",
    ),
    Case(
        "train__r50_joint__ppart_src5_pascal",
        "r50_lvis_paco_pascalpart_partimagenet_inparsed",
        "pascal_part",
        AnnotationKind.PARSED_PARTS,
        "r50_lvis_paco_pascalpart_partimagenet_inparsed",
    ),
    Case(
        "train__swin_pascalpart__box",
        "swinbase_cascade_pascalpart",
        "pascal_part",
        AnnotationKind.BOXES,
        "swinbase_cascade_pascalpart",
    ),
    Case(
        "train__swin_joint__image_src4_golden",
        "swinbase_cascade_lvis_paco_pascalpart_partimagenet_inparsed",
        "golden",
        AnnotationKind.IMAGE_LABELS,
        "swinbase_cascade_lvis_paco_pascalpart_partimagenet_inparsed",
    ),
    Case(
        "train__swin_joint__ppart_src5_pascal",
        "swinbase_cascade_lvis_paco_pascalpart_partimagenet_inparsed",
        "pascal_part",
        AnnotationKind.PARSED_PARTS,
        "swinbase_cascade_lvis_paco_pascalpart_partimagenet_inparsed",
    ),
)

PUBLISHED_LOSSES = {
    "classification": "loss_cls",
    "box": "loss_box_reg",
    "mask": "loss_mask",
    "image_label": "loss_noun",
    "parsed_part": "loss_ppart",
    "rpn_objectness": "loss_rpn_cls",
    "rpn_box": "loss_rpn_loc",
}


def published_loss(name: str) -> str:
    stem, _, stage = name.rpartition("_")
    return f"{PUBLISHED_LOSSES[stem]}_stage{stage}" if stage.isdigit() else PUBLISHED_LOSSES[name]


def options(shared: Path, case: Case) -> LossOptions:
    recipes = {r["name"]: r for r in json.loads((shared / "facts" / "recipes.json").read_text())}
    recipe = recipes[case.recipe]
    swin = case.manifest.startswith("swin")
    return LossOptions(
        proposals=recipe["rpn_post_nms_topk_train"],
        rpn_anchors=200000,
        roi_regions=8192,
        image_label_weight=recipe["image_label_loss_weight"],
        parsed_part_weight=recipe["parsed_part_loss_weight"],
        parsed_part_assignment=recipe["part_loss_type"] if swin else "matched",
    )


def batch(expected: dict[str, np.ndarray], kind: AnnotationKind) -> Batch:
    images, targets = [], []
    for i in range(2):
        images.append(torch.from_numpy(expected[f"im{i}_image"]))
        masks = None
        if f"im{i}_gt_masks_packed" in expected:
            count, height, width = expected[f"im{i}_gt_masks_shape"].tolist()
            bits = np.unpackbits(expected[f"im{i}_gt_masks_packed"], axis=-1)[..., :width]
            masks = torch.from_numpy(bits.reshape(count, height, width).astype(bool))
        targets.append(
            Targets(
                boxes_xyxy=torch.from_numpy(expected[f"im{i}_gt_boxes"]),
                labels=torch.from_numpy(expected[f"im{i}_gt_classes"]),
                masks=masks,
                image_labels=torch.from_numpy(expected[f"im{i}_pos_category_ids"]).long(),
            )
        )
    return Batch(images=normalise_and_pad(images), targets=targets, source="fixture", kind=kind)


@pytest.mark.slow  # about 10 s (R50) to 20 s (Swin) per case
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.fixture)
def test_losses_and_gradients(shared: Path, case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = fixture(shared, case.fixture)
    detector = deterministic_detector(shared, case.manifest).train()
    for module in detector.modules():
        if isinstance(module, Block):
            module.drop_path = 0.0
    frequencies = None
    if "fed_inds_0" in expected:
        frequencies = torch.ones(len(text_embeddings(shared, case.vocabulary)))
        monkeypatch.setattr(by_kind, "federated_classes", lambda *_: torch.from_numpy(expected["fed_inds_0"]))
    losses = compute_losses(
        detector,
        batch(expected, case.kind),
        text_embeddings(shared, case.vocabulary),
        options(shared, case),
        frequencies=frequencies,
    )
    published: dict[str, float] = {k: v for k, v in json.loads(str(expected["losses"])).items() if v != 0}
    ours = {published_loss(name): float(loss.detach()) for name, loss in losses.items()}
    assert set(published) <= set(ours)
    for name, value in ours.items():
        tolerance = 2e-4 if name == "loss_mask" else 1e-4
        assert value == pytest.approx(published.get(name, 0.0), rel=tolerance), name

    sum(losses.values(), torch.zeros(())).backward()
    gradients: dict[str, Any] = json.loads((shared / "parity" / f"{case.fixture}.grads.json").read_text())
    ours_by_name = dict(detector.named_parameters())
    assert gradients
    for key, recorded in gradients.items():
        name = our_name(key)
        assert name is not None
        gradient = ours_by_name[name].grad
        norm = 0.0 if gradient is None else float(gradient.double().norm())
        # One mask target pixel at exactly 0.5 may fall on either side; in the bias of the mask logits, a mean over the
        # pixels of 74 regions, that is 1.7e-5.
        tie = 2e-5 if key == "roi_heads.mask_head.predictor.bias" else 1e-7
        assert norm == pytest.approx(recorded[0] if recorded is not None else 0.0, rel=1e-3, abs=tie), key


@recorded_draws()
@pytest.mark.parametrize("vocabulary", ["lvis", "paco"])
@pytest.mark.parametrize("seed", [0, 1])
def test_federated_classes_are_the_published_draw(shared: Path, vocabulary: str, seed: int) -> None:
    expected = fixture(shared, "fed_loss_unit")
    torch.manual_seed(seed)
    weights = torch.from_numpy(expected[f"{vocabulary}_freq_weight"])
    chosen = federated_classes(torch.from_numpy(expected[f"{vocabulary}_gt"]), weights, 50)
    assert np.array_equal(chosen.numpy(), expected[f"{vocabulary}_inds_seed{seed}"])
