"""Parts of bus and dog without their masks: what objects, labels and parsed parts add."""

from __future__ import annotations

from pathlib import Path

from vlpart.recipes.published import R50, joint, published_recipe, single, with_losses
from vlpart.training.recipe import Recipe
from vlpart.types import AnnotationKind


def r50_pascalpart_of(data_root: Path) -> Recipe:
    """Pascal Part with prompts like "wheel of a car" in place of "a car wheel".

    Command: `vlpart train r50_pascalpart_of`
    No published checkpoint: an ablation of the paper.
    """
    return published_recipe(
        "r50_pascalpart_of",
        "pascal_part_ablation",
        data_root,
        sources=single(data_root, "pascal_part_train"),
        iterations=10_000,
        steps=(6_000, 8_000),
        checkpoint_every=2_000,
        evaluate_on="pascal_part_val",
        inference_vocabulary="pascal_part",
        model_classes=93,
        prompt="part_of_object",
        **R50,
    )


def r50_pascalpartbase(data_root: Path) -> Recipe:
    """Pascal Part without bus and dog: 77 base parts; all 93 are looked for.

    Command: `vlpart train r50_pascalpartbase`
    Published: 1 h on 8 V100; Pascal Part all 93 parts AP 15.0, AP50 33.4; base AP 17.8, AP50 39.6; novel AP 1.5,
        AP50 3.7; dog head 6.1; dog torso 7.9; dog leg 2.9; dog paw 13.8; dog tail 3.2.
    """
    return published_recipe(
        "r50_pascalpartbase",
        "pascal_part_ablation",
        data_root,
        sources=single(data_root, "pascal_part_base_train"),
        iterations=10_000,
        steps=(6_000, 8_000),
        checkpoint_every=2_000,
        evaluate_on="pascal_part_val",
        inference_vocabulary="pascal_part",
        model_classes=77,
        **R50,
    )


def r50_pascalpartbase_voc(data_root: Path) -> Recipe:
    """Base parts, with the 20 objects of VOC 2007 ("VOC object").

    Command: `vlpart train r50_pascalpartbase_voc`
    Published: 1.5 h on 8 V100; Pascal Part all 93 parts AP 16.8, AP50 36.8; base AP 19.9, AP50 43.3; novel AP 2.1,
        AP50 5.9; dog head 29.9; dog torso 22.6; dog leg 3.2; dog paw 12.4; dog tail 2.1.
    """
    return published_recipe(
        "r50_pascalpartbase_voc",
        "pascal_part_ablation",
        data_root,
        sources=(
            joint(data_root, "pascal_part_base_train", 1, kind=AnnotationKind.PARTS),
            joint(data_root, "voc_2007_train", 1),
        ),
        iterations=20_000,
        steps=(12_000, 16_000),
        evaluate_on="pascal_part_val",
        inference_vocabulary="pascal_part",
        model_classes=77,
        **R50,
    )


def r50_pascalpartbase_voc_ins20(data_root: Path) -> Recipe:
    """Base parts and VOC objects, with labelled ImageNet images of the 20 objects ("IN-S20 label").

    Command: `vlpart train r50_pascalpartbase_voc_ins20`
    Published: 3 h on 8 V100; Pascal Part all 93 parts AP 17.4, AP50 37.5; base AP 20.8, AP50 44.7; novel AP 1.1,
        AP50 3.1; dog head 12.8; dog torso 17.8; dog leg 2.0; dog paw 5.9; dog tail 0.9.
    """
    return published_recipe(
        "r50_pascalpartbase_voc_ins20",
        "pascal_part_ablation",
        data_root,
        sources=(
            joint(data_root, "pascal_part_base_train", 1, kind=AnnotationKind.PARTS),
            joint(data_root, "voc_2007_train", 1),
            joint(data_root, "imagenet_voc", 4),
        ),
        init="r50_pascalpartbase_voc",
        iterations=40_000,
        steps=(30_000, 35_000),
        evaluate_on="pascal_part_val",
        inference_vocabulary="pascal_part",
        model_classes=93,
        **with_losses(R50, image_label_weight=0.1),
    )


def r50_pascalpartbase_voc_ins20_ins20parsed(data_root: Path) -> Recipe:
    """As `r50_pascalpartbase_voc_ins20`, with parsed parts of the same images ("IN-S20 parsed").

    Command: `vlpart train r50_pascalpartbase_voc_ins20_ins20parsed`
    Published: 4.5 h on 8 V100; Pascal Part all 93 parts AP 18.4, AP50 39.4; base AP 21.3, AP50 45.3; novel AP 4.2,
        AP50 11.0; dog head 28.7; dog torso 34.8; dog leg 17.2; dog paw 5.7; dog tail 14.3.
    """
    return published_recipe(
        "r50_pascalpartbase_voc_ins20_ins20parsed",
        "pascal_part_ablation",
        data_root,
        sources=(
            joint(data_root, "pascal_part_base_train", 1, kind=AnnotationKind.PARTS),
            joint(data_root, "voc_2007_train", 1),
            joint(data_root, "imagenet_voc", 4),
            joint(data_root, "imagenet_voc_parsed", 4, batch_size=4),
        ),
        init="r50_pascalpartbase_voc",
        iterations=40_000,
        steps=(30_000, 35_000),
        evaluate_on="pascal_part_val",
        inference_vocabulary="pascal_part",
        model_classes=93,
        **with_losses(R50, image_label_weight=0.1),
    )


def r50_pascalpartbase_voc_ins20parsed(data_root: Path) -> Recipe:
    """Base parts and VOC objects, with parsed parts but without the labels of ImageNet images.

    Command: `vlpart train r50_pascalpartbase_voc_ins20parsed`
    No published checkpoint: an ablation of the paper.
    """
    return published_recipe(
        "r50_pascalpartbase_voc_ins20parsed",
        "pascal_part_ablation",
        data_root,
        sources=(
            joint(data_root, "pascal_part_base_train", 1, kind=AnnotationKind.PARTS),
            joint(data_root, "voc_2007_train", 1),
            joint(data_root, "imagenet_voc_parsed", 4, batch_size=4),
        ),
        init="r50_pascalpartbase_voc",
        iterations=40_000,
        steps=(30_000, 35_000),
        evaluate_on="pascal_part_val",
        inference_vocabulary="pascal_part",
        model_classes=93,
        **R50,
    )
