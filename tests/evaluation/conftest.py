"""Data on disk and a model with random weights, for evaluations from end to end."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.evaluation.made_up import annotation

SIZE = (90, 120)
CATEGORIES = [
    {"id": 1, "name": "car", "object": "car", "part": None},
    {"id": 2, "name": "car:wheel", "object": "car", "part": "wheel"},
    {"id": 3, "name": "car:door", "object": "car", "part": "door"},
]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder with one benchmark, `car_parts`: four images of a red car with a blue wheel and a green door."""
    folder = tmp_path / "data" / "car_parts"
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for image_id in range(1, 5):
        pixels = rng.integers(90, 110, (*SIZE, 3), dtype=np.uint8)
        x, y = int(rng.integers(5, 40)), int(rng.integers(5, 30))
        boxes = {1: (x, y, 60, 40), 2: (x + 5, y + 25, 12, 12), 3: (x + 30, y + 5, 15, 25)}
        for category, colour in ((1, (220, 20, 20)), (2, (20, 20, 220)), (3, (20, 200, 20))):
            u, v, w, h = boxes[category]
            pixels[v : v + h, u : u + w] = colour
            owner = {} if category == 1 else {"object_annotation_id": 3 * image_id - 2}
            number = len(annotations) + 1
            annotations.append(annotation(number, boxes[category], image_id, category, SIZE, **owner))
        Image.fromarray(pixels).save(folder / "images" / f"{image_id}.png")
        images.append({"id": image_id, "file_name": f"{image_id}.png", "height": SIZE[0], "width": SIZE[1]})
        images[-1] |= {"pos_category_ids": [1, 2, 3], "neg_category_ids": [], "not_exhaustive_category_ids": []}
    truth = {"images": images, "annotations": annotations, "categories": CATEGORIES}
    (folder / "val.json").write_text(json.dumps(truth))
    return tmp_path / "data"


@pytest.fixture
def perfect(data: Path, tmp_path: Path) -> Path:
    """A file of detections: the annotations, but for the door of image 2."""
    truth = json.loads((data / "car_parts" / "val.json").read_text())
    kept = ("image_id", "category_id", "bbox", "segmentation")
    found = [{k: a[k] for k in kept} | {"score": 0.9} for a in truth["annotations"] if a["id"] != 6]
    path = tmp_path / "found.json"
    path.write_text(json.dumps(found))
    return path


@pytest.fixture(scope="session")
def random_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A `tiny` with random weights whose classifier says something above the threshold."""
    import torch
    from safetensors.torch import save_file

    from vlpart.models.build import build_detector

    torch.manual_seed(0)
    detector = build_detector("tiny")
    for stage in detector.roi_heads.stages:
        stage.classifier.bias.data.fill_(2.0)
    path = tmp_path_factory.mktemp("weights") / "random.safetensors"
    save_file({name: value.contiguous() for name, value in detector.state_dict().items()}, path)
    return path
