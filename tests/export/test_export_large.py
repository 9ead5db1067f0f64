"""R50 and Swin-B as files, with random weights: the same detections as from torch, at several sizes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import vlpart
from tests.export.test_export import same
from vlpart.export.predictor import load_exported
from vlpart.export.write import FORMATS, export
from vlpart.inference.predictor import load
from vlpart.models.build import build_detector


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("architecture", "format"),
    [
        ("r50_mask_rcnn", "onnx"),
        ("swin_b_cascade", "onnx"),
        ("swin_b_cascade", "torchscript"),
        ("swin_b_cascade", "safetensors"),
    ],
)
def test_large_models_as_files(architecture: str, format: str, tmp_path: Path) -> None:
    if format == "onnx":
        pytest.importorskip("onnxscript", reason='needs pip install "vlpart[export]"')
        pytest.importorskip("onnxruntime", reason='needs pip install "vlpart[export]"')
    torch.manual_seed(0)
    detector = build_detector(architecture)
    save_file(
        {name: value.contiguous() for name, value in detector.state_dict().items()}, tmp_path / "random.safetensors"
    )
    predictor = load(tmp_path / "random.safetensors", device="cpu", precision="float32")
    vectors = np.random.default_rng(0).normal(size=(3, 1024)).astype(np.float32)
    words = vlpart.Vocabulary.from_embeddings(["car", "car:wheel", "dog"], vectors)
    path = export(predictor, tmp_path / f"large{FORMATS[format]}", format, vocabulary=words)
    exported = load(path, device="cpu") if format == "safetensors" else load_exported(path)
    image = np.random.default_rng(1).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    for short_side in (96, 200):
        asked = {"score_threshold": 0.3, "short_side": short_side, "max_detections": 30}
        same(exported.predict(image, words, **asked), predictor.predict(image, words, **asked))
