"""COCO 2017: objects with boxes and masks."""

from __future__ import annotations

from pathlib import Path

from vlpart.recipes.published import R50, SWIN_B, published_recipe, single
from vlpart.training.recipe import Recipe


def r50_coco(data_root: Path) -> Recipe:
    """ResNet-50 Mask R-CNN on COCO 2017, 80 objects.

    Command: `vlpart train r50_coco`
    Published: 6.5 h on 8 V100; COCO AP 38.0, AP50 60.8.
    """
    return published_recipe(
        "r50_coco",
        "coco",
        data_root,
        sources=single(data_root, "coco_2017_train"),
        iterations=90_000,
        steps=(60_000, 80_000),
        evaluate_on="coco_2017_val",
        inference_vocabulary="coco",
        model_classes=80,
        **R50,
    )


def swinbase_cascade_coco(data_root: Path) -> Recipe:
    """Swin-B Cascade Mask R-CNN on COCO 2017, 80 objects.

    Command: `vlpart train swinbase_cascade_coco`
    Published: 39 h on 8 V100; COCO AP 52.5, AP50 72.0.
    """
    return published_recipe(
        "swinbase_cascade_coco",
        "coco",
        data_root,
        sources=single(data_root, "coco_2017_train"),
        iterations=270_000,
        steps=(210_000, 250_000),
        checkpoint_every=10_000,
        evaluate_on="coco_2017_val",
        inference_vocabulary="coco",
        model_classes=80,
        **SWIN_B,
    )
