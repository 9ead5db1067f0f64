"""Pseudo boxes of COCO's 80 objects for any images, by the detector that `import_csp_trunk.py` reads (build time only).

    python scripts/pseudo_boxes.py package/models boxes.jsonl images/*.jpg

One line of JSON per image: {"file", "width", "height", "boxes": [[x0, y0, x1, y1, score, name], ...], "tops": {name:
best score of that name anywhere in the image}}. Boxes are pixels of the image. 0.1 s an image on one core.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from import_csp_trunk import box_branch, read_graph_weights, trunk_state
from PIL import Image
from torch import Tensor
from torchvision.ops import batched_nms

from vlpart.data.resize import PIXEL_MEAN, PIXEL_STD
from vlpart.models.backbones.csp_trunk import CspTrunk
from vlpart.text.vocabulary import Vocabulary

SIDE, BINS, STRIDES = 416, 11, (8, 16, 32)
NOT_WORTH = 0.05  # scores below are not listed


class Teacher:
    """The whole detector: class probabilities and boxes at every cell of three levels."""

    def __init__(self, models: Path) -> None:
        found = read_graph_weights(models)
        self.trunk = CspTrunk()
        self.trunk.load_state_dict(trunk_state(found))
        self.trunk.eval()
        self.sides = box_branch(found)

    @torch.no_grad()
    def __call__(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """(1, 3, 416, 416) normalised pixels -> (N, 80) probabilities and (N, 4) boxes in those pixels."""
        scores, boxes = [], []
        for level, stride in zip(range(3), STRIDES, strict=True):
            hidden = F.leaky_relu(self.trunk.hidden[level](self._necks(pixels)[level]), 0.1)
            scores.append(self.trunk.classes[level](hidden).sigmoid()[0].flatten(1).T)
            bins = F.conv2d(hidden, *self.sides[level])[0].reshape(4, BINS, -1).softmax(1)
            distance = (bins * torch.arange(BINS)[None, :, None]).sum(1) * stride
            count = hidden.shape[-1]
            y, x = torch.meshgrid(torch.arange(hidden.shape[-2]), torch.arange(count), indexing="ij")
            x, y = (x.flatten() + 0.5) * stride, (y.flatten() + 0.5) * stride
            boxes.append(torch.stack((x - distance[0], y - distance[1], x + distance[2], y + distance[3]), 1))
        return torch.cat(scores), torch.cat(boxes)

    def _necks(self, pixels: Tensor) -> list[Tensor]:
        if getattr(self, "_seen", None) is not pixels:
            self._seen, self._levels = pixels, self.trunk.necks(pixels)
        return self._levels


def look(teacher: Teacher, names: tuple[str, ...], path: Path, threshold: float) -> dict[str, object]:
    """The line of one image."""
    with Image.open(path) as opened:
        image = opened.convert("RGB")
    square = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR, reducing_gap=None), np.float32)
    pixels = torch.from_numpy((square - PIXEL_MEAN) / PIXEL_STD).float().permute(2, 0, 1)[None]
    scores, boxes = teacher(pixels)
    boxes = boxes.clamp(0, SIDE) * torch.tensor([image.width, image.height] * 2) / SIDE
    cell, label = (scores >= threshold).nonzero(as_tuple=True)
    kept = batched_nms(boxes[cell], scores[cell, label], label, 0.5)
    tops = scores.amax(0)
    return {
        "file": path.name,
        "width": image.width,
        "height": image.height,
        "boxes": [
            [*(round(v, 1) for v in boxes[c].tolist()), round(float(scores[c, k]), 3), names[k]]
            for c, k in zip(cell[kept].tolist(), label[kept].tolist(), strict=True)
        ],
        "tops": {n: round(float(s), 3) for n, s in zip(names, tops, strict=True) if s >= NOT_WORTH},
    }


def main() -> None:
    """Every image of the command line, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("images", type=Path, nargs="+", help="image files, or @FILE with one path per line")
    parser.add_argument("--threshold", type=float, default=0.25)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    paths = [
        Path(line)
        for item in options.images
        for line in (Path(str(item)[1:]).read_text().splitlines() if str(item).startswith("@") else [str(item)])
    ]
    teacher, names = Teacher(options.models), Vocabulary.load("coco").names
    with options.output.open("w") as lines:
        for path in paths:
            lines.write(json.dumps(look(teacher, names, path, options.threshold)) + "\n")


if __name__ == "__main__":
    main()
