"""PACO-LVIS: objects and their parts on images of COCO."""

from __future__ import annotations

from pathlib import Path

from vlpart.recipes.published import R50, SWIN_B, published_recipe, single
from vlpart.training.recipe import Recipe


def r50_paco(data_root: Path) -> Recipe:
    """ResNet-50 Mask R-CNN on PACO-LVIS, 75 objects and 456 parts of them, federated.

    Command: `vlpart train r50_paco`
    Published: 7 h on 8 V100; PACO AP 10.6, AP50 21.7.
    """
    return published_recipe(
        "r50_paco",
        "paco",
        data_root,
        sources=single(data_root, "paco_lvis_v1_train"),
        iterations=90_000,
        steps=(60_000, 80_000),
        evaluate_on="paco_lvis_v1_val",
        inference_vocabulary="paco",
        model_classes=531,
        detections_per_image=300,
        score_threshold=0.001,
        **R50,
    )


def swinbase_cascade_paco(data_root: Path) -> Recipe:
    """Swin-B Cascade Mask R-CNN on PACO-LVIS, 75 objects and 456 parts of them, federated.

    Command: `vlpart train swinbase_cascade_paco`
    Published: 26 h on 8 V100; PACO AP 15.2, AP50 29.4.
    """
    return published_recipe(
        "swinbase_cascade_paco",
        "paco",
        data_root,
        sources=single(data_root, "paco_lvis_v1_train"),
        iterations=180_000,
        steps=(120_000, 160_000),
        checkpoint_every=10_000,
        evaluate_on="paco_lvis_v1_val",
        inference_vocabulary="paco",
        model_classes=531,
        detections_per_image=300,
        score_threshold=0.001,
        **SWIN_B,
    )
