"""Made-up images whose patches are told apart by their colour, so that every transfer has one right answer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from vlpart.annotation_parser.features.base import ImageFeatures

WHITE, RED, BLUE, GREEN, BLACK = (255, 255, 255), (220, 20, 20), (20, 20, 220), (20, 160, 20), (10, 10, 10)
STRIDE = 4
Regions = dict[tuple[int, int, int], tuple[int, int, int, int]]

CAT: Regions = {BLUE: (16, 20, 40, 36), RED: (40, 12, 52, 24)}  # body, head: x0, y0, x1, y1
CAR: Regions = {GREEN: (8, 12, 56, 28), BLACK: (12, 28, 20, 36)}  # door, wheel


def paint(regions: Regions, size: tuple[int, int] = (48, 64)) -> NDArray[np.uint8]:
    """A white (height, width) image with coloured rectangles."""
    image = np.full((*size, 3), 255, dtype=np.uint8)
    for colour, (x0, y0, x1, y1) in regions.items():
        image[y0:y1, x0:x1] = colour
    return image


class ColourFeatures:
    """Describes a patch by its mean colour, and an image by its mean colour where it is not white."""

    name = "colours"
    fingerprint = "painted"
    foreground = 0.1
    smallest_side = 4
    short_side = 48
    max_side = 144
    precision = "float32"

    def __init__(self) -> None:
        self.batches: list[int] = []

    def describe(self, images: Sequence[NDArray[np.uint8]]) -> list[ImageFeatures]:
        self.batches.append(len(images))
        return [self._describe(image) for image in images]

    def _describe(self, image: NDArray[np.uint8]) -> ImageFeatures:
        rows, columns = image.shape[0] // STRIDE, image.shape[1] // STRIDE
        cells = image[: rows * STRIDE, : columns * STRIDE].reshape(rows, STRIDE, columns, STRIDE, 3).mean((1, 3))
        colours = torch.from_numpy(cells.reshape(-1, 3).astype(np.float32)) / 255 - 0.5
        saliency = (1 - (colours + 0.5).mean(dim=1)).clamp(0, 1)
        return ImageFeatures(
            class_token=(colours * (saliency > 0.1)[:, None]).sum(dim=0) + 1e-3,
            descriptors=colours,
            saliency=saliency,
            grid=(rows, columns),
        )


@pytest.fixture
def features() -> ColourFeatures:
    return ColourFeatures()


@pytest.fixture
def base_data(tmp_path: Path) -> Path:
    """`base/train.json` and images: a cat (body, head), a car (door, wheel), and one with both."""
    folder = tmp_path / "base"
    folder.mkdir()
    names = {BLUE: "cat:body", RED: "cat:head", GREEN: "car:door", BLACK: "car:wheel"}
    categories = [{"id": i + 1, "name": name} for i, name in enumerate(["cat", "car", *names.values()])]
    ids = {c["name"]: c["id"] for c in categories}
    images: list[dict[str, object]] = []
    annotations: list[dict[str, object]] = []
    for objects in (["cat"], ["car"], ["cat", "car"]):
        regions = {k: v for name in objects for k, v in (CAT if name == "cat" else CAR).items()}
        name = f"{'_'.join(objects)}.png"
        Image.fromarray(paint(regions)).save(folder / name)
        images.append({"id": len(images) + 1, "file_name": name, "width": 64, "height": 48})
        boxes = [(name, (4, 4, 60, 44)) for name in objects] + [(names[c], box) for c, box in regions.items()]
        for category, (x0, y0, x1, y1) in boxes:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": len(images),
                    "category_id": ids[category],
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "segmentation": [[x0, y0, x1, y0, x1, y1, x0, y1]],
                }
            )
    path = folder / "train.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path
