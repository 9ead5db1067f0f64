"""A published recipe with every kind of source, from files on disk to losses, on a miniature of its data sets."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from vlpart.recipes import get_recipe
from vlpart.recipes.datasets import DATASETS
from vlpart.text.vocabulary import Vocabulary
from vlpart.training.assemble import build_trainer
from vlpart.training.logging import read_log
from vlpart.types import AnnotationKind

NAME = "r50_lvis_paco_pascalpart_partimagenet_inparsed"
SIDES = (48, 80)


def write_miniature(root: Path, dataset: str) -> None:
    """Four images with two boxes of the first three categories (polygons where training uses masks), or a label."""
    found = DATASETS[dataset]
    rng = np.random.default_rng(0)
    (root / found.images).mkdir(parents=True, exist_ok=True)
    (root / found.annotations).parent.mkdir(parents=True, exist_ok=True)
    entries = Vocabulary.load(found.vocabulary).entries[:3]
    content: dict[str, list] = {"images": [], "annotations": []}
    content["categories"] = [{"id": e.id, "name": e.name} for e in Vocabulary.load(found.vocabulary).entries]
    for number in range(1, 5):
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
    (root / found.annotations).write_text(json.dumps(content))


def test_every_kind_of_source_gives_its_losses(tmp_path):
    root = tmp_path / "datasets"
    recipe = get_recipe(NAME, root)
    for source in recipe.sources:
        write_miniature(root, source.name)
    # the small model on small images, every source alike often; all else as published
    recipe = recipe.changed(
        architecture="tiny",
        text_encoder="static",
        init="none",
        iterations=24,
        sources=tuple(replace(s, short_sides=SIDES, max_side=128, batch_size=1, ratio=1.0) for s in recipe.sources),
    )
    trainer, parts = build_trainer(recipe, tmp_path / "run", workers=0)
    assert {len(source) for source in parts.sources} == {4}
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.run()
    losses: dict[str, set[str]] = {}
    for record in read_log(tmp_path / "run" / "log.jsonl"):
        losses.setdefault(record["sources"][0], set()).update(record["losses"])
    boxes = {"rpn_objectness", "rpn_box", "classification", "box", "mask"}
    expected = {AnnotationKind.BOXES: boxes, AnnotationKind.IMAGE_LABELS: {"image_label"}}
    expected[AnnotationKind.PARSED_PARTS] = {"parsed_part"}
    assert {DATASETS[name].kind for name in losses} == set(expected)
    assert losses == {name: expected[DATASETS[name].kind] for name in losses}
    after = trainer.model.state_dict()
    assert not torch.equal(
        after["roi_heads.mask_head.predictor.weight"], before["roi_heads.mask_head.predictor.weight"]
    )
