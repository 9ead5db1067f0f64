"""Bulk jobs in this process, with a predictor that needs no model."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.fakes import FakePredictor

pytest.importorskip("pyarrow", reason='pyarrow is missing: pip install "vlpart[ray]"')


@pytest.fixture
def predictor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakePredictor:
    """The model of every job of the test."""
    fake = FakePredictor()
    weights = tmp_path / "weights.bin"
    weights.write_bytes(b"weights")
    monkeypatch.setattr("vlpart.bulk.run.weight_file", lambda model, path: weights)
    monkeypatch.setattr("vlpart.bulk.worker.load_model", lambda request: fake)
    monkeypatch.setattr("vlpart.bulk.worker.PAUSE", 0.0)
    return fake


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of seven photos of different sizes, two of them in a folder below, and one that is none."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    for i in range(7):
        image = np.full((20 + i, 30, 3), 30 * i, dtype=np.uint8)
        Image.fromarray(image).save(folder / ("more" if i > 4 else "") / f"{i}.png")
    (folder / "3b.jpg").write_bytes(b"no image")
    (folder / "notes.md").write_text("not an image")
    (folder / ".hidden.png").write_bytes(b"")
    return folder


def hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of the Parquet files that a job wrote."""
    files = [path for table in ("images", "detections", "failed") for path in sorted((folder / table).iterdir())]
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
