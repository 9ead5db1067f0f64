"""Our detector against outputs of the original implementation under the same weights (parity fixtures).

The limits are those of the project: proposals and detections matched as sets, boxes within 0.02 px, scores within 2e-5,
class logits within 1e-3, pasted masks at IoU 0.999.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.parity.reference import deterministic_detector, fixture, text_embeddings
from vlpart.data.preprocess import to_batch
from vlpart.data.resize import resize_shorter_side
from vlpart.masks.stack import MaskStack
from vlpart.models import boxes
from vlpart.models.detector import Detector
from vlpart.models.postprocess import rescale
from vlpart.models.roi_align import pool_regions
from vlpart.models.rpn import select_proposals
from vlpart.types import DetectionOptions

CASES = (  # fixture, vocabulary, detection options of its recipe
    ("r50_pascalpart__astronaut__small", "pascal_part", DetectionOptions()),
    ("r50_pascalpart__chelsea__small", "pascal_part", DetectionOptions()),
    ("r50_lvis_paco__chelsea__small", "paco", DetectionOptions(max_detections=300)),
    ("swinbase_cascade_pascalpart__astronaut__small", "pascal_part", DetectionOptions()),
    ("swinbase_cascade_pascalpart__chelsea__small", "pascal_part", DetectionOptions()),
)

_detector = lru_cache(maxsize=1)(deterministic_detector)


@pytest.fixture(params=CASES, ids=lambda case: case[0])
def case(
    request: pytest.FixtureRequest, shared: Path
) -> tuple[Detector, dict[str, np.ndarray], torch.Tensor, DetectionOptions]:
    name, vocabulary, options = request.param
    detector = _detector(shared, name.split("__")[0])
    return detector, fixture(shared, name), text_embeddings(shared, vocabulary), options


def assert_same_boxes(ours: torch.Tensor, theirs: np.ndarray, tolerance: float = 0.02) -> None:
    """The boxes are equal as sets: each has its own partner within `tolerance` pixels."""
    reference = torch.from_numpy(theirs)
    assert len(ours) == len(reference)
    distance = (ours[:, None] - reference[None]).abs().amax(dim=2)
    nearest, partner = distance.min(dim=1)
    assert nearest.max() < tolerance
    assert len(set(partner.tolist())) == len(reference)


@pytest.mark.slow  # about 4 s (R50) and 8 s (Swin) per image
@torch.no_grad()
def test_published_outputs(case: tuple[Detector, dict[str, np.ndarray], torch.Tensor, DetectionOptions]) -> None:
    detector, expected, text, options = case
    image = resize_shorter_side(expected["orig_image"], 256, 427)
    assert np.array_equal(image.transpose(2, 0, 1), expected["image"])
    images = to_batch([image])
    assert list(images.pixels.shape[1:]) == list(expected["input_shape"])[-3:]

    pyramid = detector.pyramid(images.pixels)
    for level, name in zip(pyramid, ("p2", "p3", "p4", "p5", "p6"), strict=True):
        np.testing.assert_allclose(level.mean((0, 2, 3)), expected[f"{name}_chmean"], atol=1e-4, rtol=1e-4)
    proposals = select_proposals(detector.rpn(pyramid), images.sizes_hw, detector.proposal_options)
    assert_same_boxes(proposals[0].boxes_xyxy, expected["proposal_boxes"])

    regions = torch.from_numpy(expected["stage0_in_boxes"])
    for number, stage in enumerate(detector.roi_heads.stages):
        logits, deltas = stage(pool_regions(pyramid, [regions], 7), text)
        stride = int(expected[f"stage{number}_cls_logits_rowstride"])
        theirs = torch.from_numpy(expected[f"stage{number}_cls_logits"])
        assert (logits[::stride] - theirs[:, :-1]).abs().max() < 1e-3
        regions = boxes.clip(stage.refine(regions, deltas), images.sizes_hw[0])

    found = detector(images, text, options)[0]
    ours = rescale(found, images.sizes_hw[0], expected["orig_image"].shape[:2])
    assert len(ours.scores) == len(expected["out_scores"])
    reference = MaskStack.from_rles(json.loads(str(expected["out_rle"])))
    masks = MaskStack(ours.mask_logits.sigmoid().numpy(), ours.boxes_xyxy.numpy(), expected["orig_image"].shape[:2])
    used: set[int] = set()
    for index in range(len(ours.scores)):
        same_class = np.flatnonzero(expected["out_classes"] == int(ours.labels[index]))
        distance = np.abs(expected["out_boxes"][same_class] - ours.boxes_xyxy[index].numpy()).max(axis=1)
        partner = int(same_class[distance.argmin()])
        assert distance.min() < 0.02
        assert partner not in used
        used.add(partner)
        assert abs(float(ours.scores[index]) - float(expected["out_scores"][partner])) < 2e-5
        theirs_mask = reference[partner]
        union = (masks[index] | theirs_mask).sum()
        assert union == 0 or (masks[index] & theirs_mask).sum() / union >= 0.999
