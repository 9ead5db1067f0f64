"""Pascal Part: 93 parts of the objects of VOC 2010."""

from __future__ import annotations

from pathlib import Path

from vlpart.recipes.published import R50, SWIN_B, published_recipe, single
from vlpart.training.recipe import Recipe


def r50_pascalpart(data_root: Path) -> Recipe:
    """ResNet-50 Mask R-CNN on Pascal Part, 93 parts.

    Command: `vlpart train r50_pascalpart`
    Published: 1 h on 8 V100; PartImageNet, masks never seen: AP 4.5; quadruped head 17.4; quadruped body 0.1;
        quadruped foot 0.0; quadruped tail 2.9; Pascal Part AP 19.4, AP50 42.3.
    """
    return published_recipe(
        "r50_pascalpart",
        "pascal_part",
        data_root,
        sources=single(data_root, "pascal_part_train"),
        iterations=10_000,
        steps=(6_000, 8_000),
        checkpoint_every=2_000,
        evaluate_on="pascal_part_val",
        inference_vocabulary="pascal_part",
        model_classes=93,
        **R50,
    )


def swinbase_cascade_pascalpart(data_root: Path) -> Recipe:
    """Swin-B Cascade Mask R-CNN on Pascal Part, 93 parts.

    Command: `vlpart train swinbase_cascade_pascalpart`
    Published: 1.5 h on 8 V100; Pascal Part AP 27.4, AP50 56.1.
    """
    return published_recipe(
        "swinbase_cascade_pascalpart",
        "pascal_part",
        data_root,
        sources=single(data_root, "pascal_part_train"),
        iterations=10_000,
        steps=(6_000, 8_000),
        checkpoint_every=2_000,
        evaluate_on="pascal_part_val",
        inference_vocabulary="pascal_part",
        model_classes=93,
        **SWIN_B,
    )
