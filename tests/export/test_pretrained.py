"""Models as folders."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import vlpart
from vlpart.errors import DownloadError, ModelNotFoundError, WeightsError
from vlpart.inference.predictor import load


def test_a_model_goes_through_a_folder_and_the_hub(
    tiny_weights: Path, photo_array: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = load("tiny", device="cpu")
    predictor.vocabulary = vlpart.Vocabulary.parse("car: wheel")
    folder = vlpart.save_pretrained(predictor, tmp_path / "mine")
    assert "library_name: vlpart" in (folder / "README.md").read_text(encoding="utf-8")
    again = vlpart.from_pretrained(folder, device="cpu")
    assert (again.name, again.vocabulary.names, again.defaults) == ("tiny", ("car", "car:wheel"), predictor.defaults)
    first, second = (each(photo_array, score_threshold=0.01, short_side=96) for each in (predictor, again))
    assert first.names == second.names
    np.testing.assert_allclose(first.boxes_xyxy, second.boxes_xyxy, atol=1e-2)

    asked = []
    hub = ModuleType("huggingface_hub")
    hub.snapshot_download = lambda name, **options: asked.append((name, options)) or str(folder)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    assert vlpart.from_pretrained("me/mine", device="cpu", revision="v1").name == "tiny"
    assert asked == [("me/mine", {"revision": "v1", "allow_patterns": ["model.safetensors", "README.md"]})]


def test_what_is_no_model(tmp_path: Path, tiny_weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelNotFoundError, match="owner/name"):
        vlpart.from_pretrained("nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DownloadError, match=r"no model\.safetensors"):
        vlpart.from_pretrained("empty")
    (tmp_path / "empty" / "model.safetensors").write_bytes(tiny_weights.read_bytes())
    with pytest.raises(WeightsError, match="was not exported by vlpart"):
        vlpart.from_pretrained("empty")
