"""Small COCO data sets on disk, made from a description."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

MakeDataset = Callable[..., dict[str, Any]]

CATEGORIES = [
    {"id": 3, "name": "car"},
    {"id": 5, "name": "car:left mirror"},
    {"id": 7, "name": "car:right mirror"},
    {"id": 8, "name": "dog"},
]


def rectangle(x0: float, y0: float, x1: float, y1: float) -> list[list[float]]:
    """A polygon segmentation."""
    return [[x0, y0, x1, y0, x1, y1, x0, y1]]


@pytest.fixture
def make_dataset(tmp_path: Path) -> MakeDataset:
    """Write images and `train.json`; gives the keyword arguments `name`, `annotations` and `images` of a `Source`.

    `images` are dicts with `size` (height, width) and `annotations`, each a dict with `category_id`, `bbox` and more;
    other keys go to the file as they are. Images are smooth colour gradients.
    """

    def make(
        images: list[dict[str, Any]],
        *,
        name: str = "made",
        categories: list[dict[str, Any]] | None = None,
        write_images: bool = True,
    ) -> dict[str, Any]:
        folder = tmp_path / name / "images"
        folder.mkdir(parents=True)
        content: dict[str, Any] = {"images": [], "annotations": [], "categories": categories or CATEGORIES}
        for number, image in enumerate(images, start=1):
            height, width = image["size"]
            extra = {key: value for key, value in image.items() if key not in ("size", "annotations")}
            entry = {"id": number, "file_name": f"{number:04}.png", "width": width, "height": height, **extra}
            content["images"].append(entry)
            for annotation in image.get("annotations", ()):
                content["annotations"].append(
                    {"id": len(content["annotations"]) + 1, "image_id": entry["id"], **annotation}
                )
            if write_images:
                Image.fromarray(gradient(height, width, number)).save(folder / entry["file_name"])
        path = tmp_path / name / "train.json"
        path.write_text(json.dumps(content))
        return {"name": name, "annotations": path, "images": folder}

    return make


def gradient(height: int, width: int, number: int = 0) -> np.ndarray:
    """(height, width, 3) uint8: red grows to the right, green downwards, blue is the number."""
    y, x = np.mgrid[:height, :width]
    red, green = x * 255 // max(1, width - 1), y * 255 // max(1, height - 1)
    return np.stack([red, green, np.full_like(x, number % 256)], axis=2).astype(np.uint8)


@pytest.fixture
def boxed(make_dataset: MakeDataset) -> dict[str, Any]:
    """Eleven images, landscape and portrait, with one to three boxes and masks each."""
    images = []
    for number in range(11):
        height, width = (40, 60) if number % 3 else (64, 48)
        annotations = [
            {
                "category_id": CATEGORIES[(number + k) % 4]["id"],
                "bbox": [4 + 3 * k, 5 + k, 20, 15],
                "segmentation": rectangle(4 + 3 * k, 5 + k, 24 + 3 * k, 20 + k),
            }
            for k in range(1 + number % 3)
        ]
        images.append({"size": (height, width), "annotations": annotations})
    return make_dataset(images, name="boxed")
