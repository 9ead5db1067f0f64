"""A published recipe with every kind of source, from files on disk to losses, on a miniature of its data sets."""

from __future__ import annotations

from dataclasses import replace

import torch
from made_up import ARCHITECTURE

from tests.training.miniature import write_miniature
from vlpart.recipes import get_recipe
from vlpart.recipes.datasets import DATASETS
from vlpart.training.assemble import build_trainer
from vlpart.training.logging import read_log
from vlpart.types import AnnotationKind

NAME = "r50_lvis_paco_pascalpart_partimagenet_inparsed"
SIDES = (48, 80)


def test_every_kind_of_source_gives_its_losses(tmp_path):
    root = tmp_path / "datasets"
    recipe = get_recipe(NAME, root)
    for source in recipe.sources:
        write_miniature(root, source.name)
    # the small model on small images, every source alike often; all else as published
    recipe = recipe.changed(
        architecture=ARCHITECTURE,
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
