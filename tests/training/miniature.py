"""The published data sets in miniature, where the recipes look for them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from tests.data.prepare.conftest import voc_xml, write_list
from vlpart.recipes.datasets import DATASETS
from vlpart.text.vocabulary import Vocabulary
from vlpart.types import AnnotationKind


def write_miniature(root: Path, dataset: str, images: int = 4) -> None:
    """Images of both orientations with two boxes each of the first three categories (polygons where training uses
    masks), or a label; in the format of the data set.
    """
    found = DATASETS[dataset]
    rng = np.random.default_rng(0)
    (root / found.images).mkdir(parents=True, exist_ok=True)
    (root / found.annotations).parent.mkdir(parents=True, exist_ok=True)
    everything = Vocabulary.load(found.vocabulary).entries
    entries = everything[:3]
    content: dict[str, list] = {"images": [], "annotations": []}
    content["categories"] = [{"id": e.id, "name": e.name} for e in everything]
    for number in range(1, images + 1):
        name = f"{dataset}_{number}.jpg"
        width, height = (96, 64) if number % 2 else (64, 96)
        Image.fromarray(rng.integers(0, 255, (height, width, 3), dtype=np.uint8)).save(root / found.images / name)
        image = {"id": number, "file_name": name, "width": width, "height": height, "neg_category_ids": []}
        image["not_exhaustive_category_ids"] = []
        if found.kind is AnnotationKind.IMAGE_LABELS:
            image["pos_category_ids"] = [entries[number % 3].id]
        content["images"].append(image)
        for i in range(0 if found.kind is AnnotationKind.IMAGE_LABELS else 2):
            x, y, w, h = 5 + 10 * i, 8, 40, 30
            annotation = {"id": 2 * number + i, "image_id": number, "category_id": entries[(number + i) % 3].id}
            annotation |= {"bbox": [x, y, w, h], "area": w * h, "iscrowd": 0}
            if found.kind is AnnotationKind.BOXES:
                annotation["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
            content["annotations"].append(annotation)
    if found.reader == "voc":
        write_voc(root, dataset, content, {entry.id: entry.name for entry in entries})
    else:
        (root / found.annotations).write_text(json.dumps(content))


def write_voc(root: Path, dataset: str, content: dict[str, list], names: dict[int, str]) -> None:
    """The same as XML files and the list of a split."""
    stems = []
    for image in content["images"]:
        stem = Path(image["file_name"]).stem
        stems.append(stem)
        boxes = [a for a in content["annotations"] if a["image_id"] == image["id"]]
        objects = []
        for annotation in boxes:
            x, y, w, h = annotation["bbox"]
            name = names[annotation["category_id"]].replace(" ", "")
            objects.append((name, (x + 1, y + 1, x + w, y + h), 0))
        path = root / "VOC2007" / "Annotations" / f"{stem}.xml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(voc_xml(objects, (image["height"], image["width"])))
    write_list(root / DATASETS[dataset].annotations, stems)
