"""The joint detector taken further with ImageNet images: their labels, and parts found by the annotation parser."""

from __future__ import annotations

from pathlib import Path

from vlpart.recipes.published import R50, SWIN_B, joint, published_recipe, with_losses
from vlpart.training.recipe import Recipe


def r50_lvis_paco_pascalpart_partimagenet_in(data_root: Path) -> Recipe:
    """ResNet-50, from "joint**" on, with labelled ImageNet images ("IN label").

    Command: `vlpart train r50_lvis_paco_pascalpart_partimagenet_in`
    Published: 4 h on 8 V100 after 15 + 3 h of the recipes it starts from; VOC AP 38.0, AP50 67.8; COCO AP 28.2,
        AP50 47.8; LVIS AP 26.0, APr 15.9; PartImageNet AP 30.8, AP50 54.4; Pascal Part AP 23.6, AP50 49.2; PACO AP 9.0,
        AP50 18.7.
    """
    return published_recipe(
        "r50_lvis_paco_pascalpart_partimagenet_in",
        "joint_in",
        data_root,
        sources=(
            joint(data_root, "lvis_v1_train", 4),
            joint(data_root, "paco_lvis_v1_train", 2),
            joint(data_root, "pascal_part_train", 1),
            joint(data_root, "partimagenet_train", 1),
            joint(data_root, "imagenet_golden", 8),
        ),
        init="r50_lvis_paco_pascalpart_partimagenet",
        iterations=40_000,
        steps=(30_000, 35_000),
        evaluate_on="partimagenet_val",
        inference_vocabulary="partimagenet",
        model_classes=1203,
        **with_losses(R50, image_label_weight=0.1),
    )


def r50_lvis_paco_pascalpart_partimagenet_inparsed(data_root: Path) -> Recipe:
    """ResNet-50, from "joint**" on, with ImageNet labels and parsed parts ("IN parsed").

    Command: `vlpart train r50_lvis_paco_pascalpart_partimagenet_inparsed`
    Published: 6 h on 8 V100 after 15 + 3 h of the recipes it starts from; VOC AP 38.3, AP50 67.8; COCO AP 28.5,
        AP50 47.8; LVIS AP 26.2, APr 17.8; PartImageNet AP 31.6, AP50 55.7; Pascal Part AP 24.0, AP50 49.8; PACO AP 9.6,
        AP50 20.2.
    """
    return published_recipe(
        "r50_lvis_paco_pascalpart_partimagenet_inparsed",
        "joint_in",
        data_root,
        sources=(
            joint(data_root, "lvis_v1_train", 4),
            joint(data_root, "paco_lvis_v1_train", 2),
            joint(data_root, "pascal_part_train", 1),
            joint(data_root, "partimagenet_train", 1),
            joint(data_root, "imagenet_golden", 4),
            joint(data_root, "imagenet_golden_pascal_parsed", 1, strong_augmentation=True),
            joint(data_root, "imagenet_golden_partimagenet_parsed", 1, strong_augmentation=True),
            joint(data_root, "imagenet_golden_paco_parsed", 1, strong_augmentation=True),
            joint(data_root, "imagenet_golden_addition_parsed", 1, strong_augmentation=True),
        ),
        init="r50_lvis_paco_pascalpart_partimagenet",
        iterations=60_000,
        steps=(40_000, 50_000),
        evaluate_on="partimagenet_val",
        inference_vocabulary="partimagenet",
        model_classes=1203,
        **with_losses(R50, image_label_weight=0.1),
    )


def swinbase_cascade_lvis_paco_pascalpart_partimagenet_in(data_root: Path) -> Recipe:
    """Swin-B, from "joint**" on, with labelled ImageNet images ("IN label").

    Command: `vlpart train swinbase_cascade_lvis_paco_pascalpart_partimagenet_in`
    Published: 8 h on 8 V100 after 53 + 6 h of the recipes it starts from; VOC AP 48.1, AP50 69.7; COCO AP 40.3,
        AP50 57.7; LVIS AP 39.3, APr 28.9; PartImageNet AP 41.2, AP50 66.8; Pascal Part AP 31.7, AP50 61.1; PACO AP
        15.9, AP50 30.8.
    """
    return published_recipe(
        "swinbase_cascade_lvis_paco_pascalpart_partimagenet_in",
        "joint_in",
        data_root,
        sources=(
            joint(data_root, "lvis_v1_train", 4),
            joint(data_root, "paco_lvis_v1_train", 2),
            joint(data_root, "pascal_part_train", 1),
            joint(data_root, "partimagenet_train", 1),
            joint(data_root, "imagenet_golden", 8),
        ),
        init="swinbase_cascade_lvis_paco_pascalpart_partimagenet",
        iterations=40_000,
        steps=(30_000, 35_000),
        evaluate_on="partimagenet_val",
        inference_vocabulary="partimagenet",
        model_classes=1203,
        **with_losses(SWIN_B, image_label_weight=0.1),
    )


def swinbase_cascade_lvis_paco_pascalpart_partimagenet_inparsed(data_root: Path) -> Recipe:
    """Swin-B, from "joint**" on, with ImageNet labels and parsed parts ("IN parsed").

    Command: `vlpart train swinbase_cascade_lvis_paco_pascalpart_partimagenet_inparsed`
    Published: 20 h on 8 V100 after 53 + 6 h of the recipes it starts from; VOC AP 47.8, AP50 69.7; COCO AP 40.5,
        AP50 58.1; LVIS AP 39.6, APr 30.5; PartImageNet AP 42.0, AP50 68.2; Pascal Part AP 31.9, AP50 61.6; PACO AP
        15.6, AP50 30.6.
    """
    return published_recipe(
        "swinbase_cascade_lvis_paco_pascalpart_partimagenet_inparsed",
        "joint_in",
        data_root,
        sources=(
            joint(data_root, "lvis_v1_train", 4),
            joint(data_root, "paco_lvis_v1_train", 2),
            joint(data_root, "pascal_part_train", 1),
            joint(data_root, "partimagenet_train", 1),
            joint(data_root, "imagenet_golden", 4),
            joint(data_root, "imagenet_golden_pascal_parsed_swinbase", 1, strong_augmentation=True),
            joint(data_root, "imagenet_golden_partimagenet_parsed_swinbase", 1, strong_augmentation=True),
            joint(data_root, "imagenet_golden_paco_parsed_swinbase", 1, strong_augmentation=True),
            joint(data_root, "imagenet_golden_addition_parsed", 1, strong_augmentation=True),
        ),
        init="swinbase_cascade_lvis_paco_pascalpart_partimagenet",
        iterations=90_000,
        steps=(60_000, 80_000),
        evaluate_on="partimagenet_val",
        inference_vocabulary="partimagenet",
        model_classes=1203,
        **with_losses(SWIN_B, image_label_weight=0.1),
    )
