"""The embedded model out of a run: weights in half precision, their size and hash in the catalogue.

    python scripts/export_tiny.py RUN            # a run folder of the recipe tiny2, or a weight file

Writes `vlpart/assets/models/tiny.safetensors` (the moving average of the run) and the entry of `tiny` in
`vlpart/zoo/models.json`. `--bias B` adds B to the bias of the classifier, which moves all scores, so that a threshold
of 0.5 means the same from one training to the next.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

import torch
from safetensors.torch import save_file

from vlpart.models.build import build_detector
from vlpart.zoo.catalogue import ASSETS, CATALOGUE
from vlpart.zoo.download import sha256_of
from vlpart.zoo.run_folder import open_run
from vlpart.zoo.weights import load_state_dict


def main() -> None:
    """Read, check, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--bias", type=float, default=0.0)
    parser.add_argument("--output", type=Path, default=ASSETS / "tiny.safetensors")
    options = parser.parse_args()
    state = open_run(options.run).state() if options.run.is_dir() else load_state_dict(options.run)
    detector = build_detector("tiny2")
    detector.load_state_dict(state)
    classifier = detector.roi_heads.stages[0].classifier  # type: ignore[union-attr]
    with torch.no_grad():
        classifier.bias += options.bias  # type: ignore[operator]
    half = {name: value.half().contiguous() for name, value in detector.state_dict().items()}
    broken = [name for name, value in half.items() if not value.isfinite().all()]
    if broken:
        raise SystemExit(f"{broken[0]} is not finite in half precision")
    save_file(half, options.output)
    if options.output.resolve() != (ASSETS / "tiny.safetensors").resolve():
        return
    facts = {
        "architecture": "tiny2",
        "recipe": "tiny2",
        "text_encoder": "phrase",
        "size": options.output.stat().st_size,
        "sha256": sha256_of(options.output),
    }
    text = CATALOGUE.read_text(encoding="utf-8")
    begin = text.index('"name": "tiny"')
    entry, rest = text[begin:].split('"training_time"', 1)
    for key, value in facts.items():
        entry = re.sub(rf'"{key}": [^,]+,', f'"{key}": {json.dumps(value)},', entry)
    CATALOGUE.write_text(f'{text[:begin]}{entry}"training_time"{rest}', encoding="utf-8")


if __name__ == "__main__":
    main()
