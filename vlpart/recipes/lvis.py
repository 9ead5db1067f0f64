"""LVIS v1: 1203 objects, not labelled exhaustively."""

from __future__ import annotations

from pathlib import Path

from vlpart.recipes.published import R50, SWIN_B, published_recipe, single
from vlpart.training.recipe import Recipe


def r50_lvis(data_root: Path) -> Recipe:
    """ResNet-50 Mask R-CNN on LVIS v1, 1203 objects, federated.

    Command: `vlpart train r50_lvis`
    Published: 7 h on 8 V100; LVIS AP 28.1, APr 20.8.
    """
    return published_recipe(
        "r50_lvis",
        "lvis",
        data_root,
        sources=single(data_root, "lvis_v1_train"),
        iterations=90_000,
        steps=(60_000, 80_000),
        evaluate_on="lvis_v1_minival",
        inference_vocabulary="lvis_v1",
        model_classes=1203,
        detections_per_image=300,
        score_threshold=0.0001,
        **R50,
    )


def swinbase_cascade_lvis(data_root: Path) -> Recipe:
    """Swin-B Cascade Mask R-CNN on LVIS v1, 1203 objects, federated.

    Command: `vlpart train swinbase_cascade_lvis`
    Published: 39 h on 8 V100; LVIS AP 43.1, APr 38.7.
    """
    return published_recipe(
        "swinbase_cascade_lvis",
        "lvis",
        data_root,
        sources=single(data_root, "lvis_v1_train"),
        iterations=270_000,
        steps=(210_000, 250_000),
        checkpoint_every=10_000,
        evaluate_on="lvis_v1_minival",
        inference_vocabulary="lvis_v1",
        model_classes=1203,
        detections_per_image=300,
        score_threshold=0.0001,
        **SWIN_B,
    )
