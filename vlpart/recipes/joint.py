"""One detector for objects and parts: LVIS and PACO, then Pascal Part and PartImageNet as well."""

from __future__ import annotations

from pathlib import Path

from vlpart.recipes.published import R50, SWIN_B, joint, published_recipe
from vlpart.training.recipe import Recipe


def r50_lvis_paco(data_root: Path) -> Recipe:
    """ResNet-50 on LVIS and PACO ("joint").

    Command: `vlpart train r50_lvis_paco`
    Published: 15 h on 8 V100; VOC AP 44.5, AP50 70.3; COCO AP 29.0, AP50 48.1; LVIS AP 27.3, APr 19.0; PartImageNet
        AP 5.4, AP50 11.3; Pascal Part AP 4.9, AP50 11.3; PACO AP 9.6, AP50 19.5.
    """
    return published_recipe(
        "r50_lvis_paco",
        "joint",
        data_root,
        sources=(
            joint(data_root, "lvis_v1_train", 2),
            joint(data_root, "paco_lvis_v1_train", 1),
        ),
        iterations=180_000,
        steps=(120_000, 160_000),
        evaluate_on="paco_lvis_v1_val",
        inference_vocabulary="paco",
        model_classes=1203,
        detections_per_image=300,
        **R50,
    )


def r50_lvis_paco_pascalpart(data_root: Path) -> Recipe:
    """ResNet-50, from "joint" on, with Pascal Part ("joint*").

    Command: `vlpart train r50_lvis_paco_pascalpart`
    Published: 2.5 h on 8 V100 after 15 h of the recipes it starts from; PartImageNet, masks never seen: AP 7.8;
        quadruped head 22.9; quadruped body 7.1; quadruped foot 0.3; quadruped tail 4.0; VOC AP 42.8, AP50 70.8; COCO AP
        28.6, AP50 48.0; LVIS AP 26.8, APr 20.4; PartImageNet AP 7.8, AP50 15.3; Pascal Part AP 21.6, AP50 46.3; PACO AP
        9.3, AP50 18.9.
    """
    return published_recipe(
        "r50_lvis_paco_pascalpart",
        "joint",
        data_root,
        sources=(
            joint(data_root, "lvis_v1_train", 4),
            joint(data_root, "paco_lvis_v1_train", 2),
            joint(data_root, "pascal_part_train", 1),
        ),
        init="r50_lvis_paco",
        iterations=30_000,
        steps=(20_000, 25_000),
        evaluate_on="pascal_part_val",
        inference_vocabulary="pascal_part",
        model_classes=1203,
        **R50,
    )


def r50_lvis_paco_pascalpart_partimagenet(data_root: Path) -> Recipe:
    """ResNet-50, from "joint" on, with Pascal Part and PartImageNet ("joint**").

    Command: `vlpart train r50_lvis_paco_pascalpart_partimagenet`
    Published: 3 h on 8 V100 after 15 h of the recipes it starts from; VOC AP 40.6, AP50 69.3; COCO AP 28.4, AP50
        47.8; LVIS AP 26.4, APr 16.0; PartImageNet AP 29.1, AP50 52.0; Pascal Part AP 22.6, AP50 47.8; PACO AP 9.3, AP50
        18.9.
    """
    return published_recipe(
        "r50_lvis_paco_pascalpart_partimagenet",
        "joint",
        data_root,
        sources=(
            joint(data_root, "lvis_v1_train", 4),
            joint(data_root, "paco_lvis_v1_train", 2),
            joint(data_root, "pascal_part_train", 1),
            joint(data_root, "partimagenet_train", 1),
        ),
        init="r50_lvis_paco",
        iterations=40_000,
        steps=(30_000, 35_000),
        evaluate_on="partimagenet_val",
        inference_vocabulary="partimagenet",
        model_classes=1203,
        **R50,
    )


def swinbase_cascade_lvis_paco(data_root: Path) -> Recipe:
    """Swin-B on LVIS and PACO ("joint").

    Command: `vlpart train swinbase_cascade_lvis_paco`
    Published: 53 h on 8 V100; VOC AP 55.2, AP50 72.2; COCO AP 41.0, AP50 58.4; LVIS AP 41.3, APr 32.8; PartImageNet
        AP 6.9, AP50 13.7; Pascal Part AP 5.6, AP50 12.5; PACO AP 15.9, AP50 31.9.
    """
    return published_recipe(
        "swinbase_cascade_lvis_paco",
        "joint",
        data_root,
        sources=(
            joint(data_root, "lvis_v1_train", 2),
            joint(data_root, "paco_lvis_v1_train", 1),
        ),
        iterations=360_000,
        steps=(300_000, 340_000),
        checkpoint_every=10_000,
        evaluate_on="paco_lvis_v1_val",
        inference_vocabulary="paco",
        model_classes=1203,
        detections_per_image=300,
        **SWIN_B,
    )


def swinbase_cascade_lvis_paco_pascalpart(data_root: Path) -> Recipe:
    """Swin-B, from "joint" on, with Pascal Part ("joint*").

    Command: `vlpart train swinbase_cascade_lvis_paco_pascalpart`
    Published: 4.5 h on 8 V100 after 53 h of the recipes it starts from; VOC AP 52.6, AP50 72.4; COCO AP 40.4, AP50
        57.9; LVIS AP 39.9, APr 29.8; PartImageNet AP 11.8, AP50 21.8; Pascal Part AP 30.5, AP50 59.3; PACO AP 15.4,
        AP50 30.2.
    """
    return published_recipe(
        "swinbase_cascade_lvis_paco_pascalpart",
        "joint",
        data_root,
        sources=(
            joint(data_root, "lvis_v1_train", 4),
            joint(data_root, "paco_lvis_v1_train", 2),
            joint(data_root, "pascal_part_train", 1),
        ),
        init="swinbase_cascade_lvis_paco",
        iterations=30_000,
        steps=(20_000, 25_000),
        evaluate_on="pascal_part_val",
        inference_vocabulary="pascal_part",
        model_classes=1203,
        **SWIN_B,
    )


def swinbase_cascade_lvis_paco_pascalpart_partimagenet(data_root: Path) -> Recipe:
    """Swin-B, from "joint" on, with Pascal Part and PartImageNet ("joint**").

    Command: `vlpart train swinbase_cascade_lvis_paco_pascalpart_partimagenet`
    Published: 6 h on 8 V100 after 53 h of the recipes it starts from; VOC AP 50.3, AP50 71.6; COCO AP 40.3, AP50
        57.8; LVIS AP 39.6, APr 30.3; PartImageNet AP 40.0, AP50 64.8; Pascal Part AP 31.2, AP50 60.5; PACO AP 15.4,
        AP50 30.3.
    """
    return published_recipe(
        "swinbase_cascade_lvis_paco_pascalpart_partimagenet",
        "joint",
        data_root,
        sources=(
            joint(data_root, "lvis_v1_train", 4),
            joint(data_root, "paco_lvis_v1_train", 2),
            joint(data_root, "pascal_part_train", 1),
            joint(data_root, "partimagenet_train", 1),
        ),
        init="swinbase_cascade_lvis_paco",
        iterations=40_000,
        steps=(30_000, 35_000),
        evaluate_on="partimagenet_val",
        inference_vocabulary="partimagenet",
        model_classes=1203,
        **SWIN_B,
    )
