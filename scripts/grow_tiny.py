"""First weights of the architecture `tiny2`: the weights of `tiny`, the trunk trained on COCO, zeros between them.

    python scripts/import_csp_trunk.py package/models trunk.safetensors
    python scripts/grow_tiny.py vlpart/assets/models/tiny.safetensors trunk.safetensors grown.safetensors

The detector gives the answers of `tiny`, up to rounding and but for the evidence of the trunk.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from vlpart.models.build import build_detector
from vlpart.text.phrase import PhraseTextEncoder
from vlpart.text.vocabulary import Vocabulary


def grown(tiny: dict[str, torch.Tensor], trunk: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The state dict of `tiny2`; every tensor of `tiny` is used, larger ones get zeros at the end."""
    wanted = build_detector("tiny2").state_dict()
    state = {
        f"roi_heads.evidence.{name}" if name.startswith("sides.") else f"backbone.trunk.{name}": value.float()
        for name, value in trunk.items()
    }
    for name, value in wanted.items():
        if name in state:
            continue
        state[name] = torch.zeros_like(value)
        if name in tiny:
            state[name][tuple(slice(0, n) for n in tiny[name].shape)] = tiny[name].float()
        elif name.startswith("roi_heads.evidence."):
            state[name] = value
        elif not name.startswith("roi_heads.stages.0.quality."):
            raise SystemExit(f"{name} is neither in tiny nor in the trunk")
    state["roi_heads.evidence.names"] = torch.from_numpy(PhraseTextEncoder().encode(Vocabulary.load("coco").names))
    return state


def main() -> None:
    """Read both, write one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tiny", type=Path)
    parser.add_argument("trunk", type=Path)
    parser.add_argument("output", type=Path)
    options = parser.parse_args()
    state = grown(load_file(options.tiny), load_file(options.trunk))
    build_detector("tiny2").load_state_dict(state)
    save_file(state, options.output)


if __name__ == "__main__":
    main()
