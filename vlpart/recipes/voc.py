"""Pascal VOC 2007: boxes of 20 objects."""

from __future__ import annotations

from pathlib import Path

from vlpart.recipes.published import R50, SWIN_B, published_recipe, single
from vlpart.training.recipe import Recipe


def r50_voc(data_root: Path) -> Recipe:
    """ResNet-50 Mask R-CNN on Pascal VOC 2007, 20 objects.

    Command: `vlpart train r50_voc`
    Published: 2 h on 8 V100; VOC AP 35.9, AP50 69.7.
    """
    return published_recipe(
        "r50_voc",
        "voc",
        data_root,
        sources=single(data_root, "voc_2007_train"),
        iterations=30_000,
        steps=(20_000, 25_000),
        evaluate_on="voc_2007_val",
        inference_vocabulary="voc",
        model_classes=20,
        mask_on=False,
        **R50,
    )


def swinbase_cascade_voc(data_root: Path) -> Recipe:
    """Swin-B Cascade Mask R-CNN on Pascal VOC 2007, 20 objects.

    Command: `vlpart train swinbase_cascade_voc`
    Published: 4 h on 8 V100; VOC AP 59.0, AP50 82.0.
    """
    return published_recipe(
        "swinbase_cascade_voc",
        "voc",
        data_root,
        sources=single(data_root, "voc_2007_train"),
        iterations=30_000,
        steps=(20_000, 25_000),
        evaluate_on="voc_2007_val",
        inference_vocabulary="voc",
        model_classes=20,
        mask_on=False,
        **SWIN_B,
    )
