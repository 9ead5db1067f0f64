"""PartImageNet: 40 parts of 11 kinds of things, on ImageNet images."""

from __future__ import annotations

from pathlib import Path

from vlpart.recipes.published import R50, SWIN_B, published_recipe, single
from vlpart.training.recipe import Recipe


def r50_partimagenet(data_root: Path) -> Recipe:
    """ResNet-50 Mask R-CNN on PartImageNet, 40 parts.

    Command: `vlpart train r50_partimagenet`
    Published: 2 h on 8 V100; PartImageNet AP 29.7, AP50 54.1.
    """
    return published_recipe(
        "r50_partimagenet",
        "partimagenet",
        data_root,
        sources=single(data_root, "partimagenet_train"),
        iterations=30_000,
        steps=(20_000, 25_000),
        evaluate_on="partimagenet_val",
        inference_vocabulary="partimagenet",
        model_classes=40,
        **R50,
    )


def swinbase_cascade_partimagenet(data_root: Path) -> Recipe:
    """Swin-B Cascade Mask R-CNN on PartImageNet, 40 parts.

    Command: `vlpart train swinbase_cascade_partimagenet`
    Published: 4.5 h on 8 V100; PartImageNet AP 41.7, AP50 68.7.
    """
    return published_recipe(
        "swinbase_cascade_partimagenet",
        "partimagenet",
        data_root,
        sources=single(data_root, "partimagenet_train"),
        iterations=30_000,
        steps=(20_000, 25_000),
        evaluate_on="partimagenet_val",
        inference_vocabulary="partimagenet",
        model_classes=40,
        **SWIN_B,
    )
