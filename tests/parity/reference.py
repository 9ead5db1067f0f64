"""Reading the parity fixtures: weights that anybody can regenerate, and what the original computed with them."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from vlpart.models.build import build_detector
from vlpart.models.detector import Detector
from vlpart.zoo.published_names import convert

EMBEDDINGS = {  # the vocabulary a recipe is evaluated with
    "pascal_part": "pascal_part_clip_RN50_a+cname.npy",
    "paco": "paco_clip_RN50_a+cname.npy",
    "lvis_v1": "lvis_v1_clip_RN50_a+cname.npy",
    "golden": "imagenet_golden_clip_RN50_a+cname.npy",
}


def weight_rule(shared: Path) -> ModuleType:
    """The module that draws a tensor from its name."""
    spec = importlib.util.spec_from_file_location(
        "deterministic_weights", shared / "parity" / "deterministic_weights.py"
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def published_state(shared: Path, manifest: str) -> dict[str, Tensor]:
    """A state dict under published names with deterministic values."""
    rule = weight_rule(shared)
    shapes = json.loads((shared / "parity" / "manifests" / f"{manifest}.json").read_text())
    values = {key: rule.value(key, shape) for key, (shape, _) in shapes.items()}
    return {key: torch.from_numpy(np.ascontiguousarray(v)) for key, v in values.items() if v is not None}


def deterministic_detector(shared: Path, manifest: str) -> Detector:
    """The detector of a manifest with deterministic weights, in evaluation mode."""
    detector = build_detector("swin_b_cascade" if manifest.startswith("swin") else "r50_mask_rcnn")
    detector.load_state_dict(convert(published_state(shared, manifest)).state)
    return detector.eval()


def text_embeddings(shared: Path, vocabulary: str) -> Tensor:
    """(C, 1024) float32 published text embeddings of a vocabulary."""
    return torch.from_numpy(np.load(shared / "clip_rn50" / EMBEDDINGS[vocabulary]).astype(np.float32))


def fixture(shared: Path, name: str) -> dict[str, np.ndarray]:
    """All arrays of a fixture."""
    with np.load(shared / "parity" / f"{name}.npz") as arrays:
        return {key: arrays[key] for key in arrays.files}
