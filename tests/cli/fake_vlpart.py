"""The `vlpart` command with a slow predictor that needs no model: run as a script by `test_predict.py`."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

sys.path.append(str(Path(__file__).resolve().parents[2]))

from tests.fakes import FakePredictor
from vlpart.cli.main import main
from vlpart.zoo import resolve

predictor = ModuleType("vlpart.inference.predictor")
predictor.load = lambda *args, **options: FakePredictor(seconds=0.2)  # type: ignore[attr-defined]
sys.modules["vlpart.inference.predictor"] = predictor
resolve.download_model = lambda *args, **options: Path()  # type: ignore[assignment]

if __name__ == "__main__":
    main()
