"""Parts of PartImageNet without its masks: what labels and parsed parts of its images add."""

from __future__ import annotations

from pathlib import Path

from vlpart.recipes.published import R50, joint, published_recipe, single, with_losses
from vlpart.training.recipe import Recipe
from vlpart.types import AnnotationKind


def r50_lvis_paco_pascalpart_ins11(data_root: Path) -> Recipe:
    """Objects and parts of LVIS, PACO and Pascal Part, with labelled PartImageNet images ("IN-S11 label").

    Command: `vlpart train r50_lvis_paco_pascalpart_ins11`
    Published: 3 h on 8 V100; PartImageNet, masks never seen: AP 8.8; quadruped head 26.3; quadruped body 3.7;
        quadruped foot 0.4; quadruped tail 1.0.
    """
    return published_recipe(
        "r50_lvis_paco_pascalpart_ins11",
        "partimagenet_ablation",
        data_root,
        sources=(
            joint(data_root, "lvis_v1_train", 4),
            joint(data_root, "paco_lvis_v1_train", 2),
            joint(data_root, "pascal_part_train", 1),
            joint(data_root, "partimagenet_supercat", 2),
        ),
        init="r50_lvis_paco_pascalpart",
        iterations=40_000,
        steps=(30_000, 35_000),
        evaluate_on="partimagenet_val",
        inference_vocabulary="partimagenet",
        model_classes=1203,
        **with_losses(R50, image_label_weight=0.1),
    )


def r50_lvis_paco_pascalpart_ins11_ins11parsed(data_root: Path) -> Recipe:
    """As `r50_lvis_paco_pascalpart_ins11`, with parsed parts of the same images ("IN-S11 parsed").

    Command: `vlpart train r50_lvis_paco_pascalpart_ins11_ins11parsed`
    Published: 3 h on 8 V100; PartImageNet, masks never seen: AP 11.8; quadruped head 47.5; quadruped body 13.4;
        quadruped foot 4.5; quadruped tail 14.8.
    """
    return published_recipe(
        "r50_lvis_paco_pascalpart_ins11_ins11parsed",
        "partimagenet_ablation",
        data_root,
        sources=(
            joint(data_root, "lvis_v1_train", 4),
            joint(data_root, "paco_lvis_v1_train", 2),
            joint(data_root, "pascal_part_train", 1),
            joint(data_root, "partimagenet_supercat", 2),
            joint(data_root, "partimagenet_parsed", 2, batch_size=4),
        ),
        init="r50_lvis_paco_pascalpart",
        iterations=40_000,
        steps=(30_000, 35_000),
        evaluate_on="partimagenet_val",
        inference_vocabulary="partimagenet",
        model_classes=1203,
        **with_losses(R50, image_label_weight=0.1),
    )


def r50_partimagenet_of(data_root: Path) -> Recipe:
    """PartImageNet with prompts like "head of a quadruped" in place of "a quadruped head".

    Command: `vlpart train r50_partimagenet_of`
    No published checkpoint: an ablation of the paper.
    """
    return published_recipe(
        "r50_partimagenet_of",
        "partimagenet_ablation",
        data_root,
        sources=single(data_root, "partimagenet_train"),
        iterations=30_000,
        steps=(20_000, 25_000),
        evaluate_on="partimagenet_val",
        inference_vocabulary="partimagenet",
        model_classes=40,
        prompt="part_of_object",
        **R50,
    )


def r50_pascalpart_ins11(data_root: Path) -> Recipe:
    """Pascal Part, with labelled PartImageNet images ("IN-S11 label").

    Command: `vlpart train r50_pascalpart_ins11`
    Published: 1.5 h on 8 V100; PartImageNet, masks never seen: AP 5.4; quadruped head 23.6; quadruped body 3.4;
        quadruped foot 0.8; quadruped tail 1.2.
    """
    return published_recipe(
        "r50_pascalpart_ins11",
        "partimagenet_ablation",
        data_root,
        sources=(
            joint(data_root, "pascal_part_train", 1, kind=AnnotationKind.PARTS),
            joint(data_root, "partimagenet_supercat", 1),
        ),
        init="r50_pascalpart",
        iterations=20_000,
        steps=(12_000, 16_000),
        evaluate_on="partimagenet_val",
        inference_vocabulary="partimagenet",
        model_classes=93,
        **with_losses(R50, image_label_weight=0.1),
    )


def r50_pascalpart_ins11_ins11maxscore(data_root: Path) -> Recipe:
    """As `r50_pascalpart_ins11_ins11parsed`, but each part is learned by the best-scoring proposal.

    Command: `vlpart train r50_pascalpart_ins11_ins11maxscore`
    No published checkpoint: an ablation of the paper.
    """
    return published_recipe(
        "r50_pascalpart_ins11_ins11maxscore",
        "partimagenet_ablation",
        data_root,
        sources=(
            joint(data_root, "pascal_part_train", 1, kind=AnnotationKind.PARTS),
            joint(data_root, "partimagenet_supercat", 1),
            joint(data_root, "partimagenet_parsed", 1, batch_size=4),
        ),
        init="r50_pascalpart",
        iterations=30_000,
        steps=(20_000, 25_000),
        evaluate_on="partimagenet_val",
        inference_vocabulary="partimagenet",
        model_classes=93,
        **with_losses(R50, image_label_weight=0.1, parsed_part_assignment="max_score"),
    )


def r50_pascalpart_ins11_ins11maxsize(data_root: Path) -> Recipe:
    """As `r50_pascalpart_ins11_ins11parsed`, but each part is learned by the largest proposal.

    Command: `vlpart train r50_pascalpart_ins11_ins11maxsize`
    No published checkpoint: an ablation of the paper.
    """
    return published_recipe(
        "r50_pascalpart_ins11_ins11maxsize",
        "partimagenet_ablation",
        data_root,
        sources=(
            joint(data_root, "pascal_part_train", 1, kind=AnnotationKind.PARTS),
            joint(data_root, "partimagenet_supercat", 1),
            joint(data_root, "partimagenet_parsed", 1, batch_size=4),
        ),
        init="r50_pascalpart",
        iterations=30_000,
        steps=(20_000, 25_000),
        evaluate_on="partimagenet_val",
        inference_vocabulary="partimagenet",
        model_classes=93,
        **with_losses(R50, image_label_weight=0.1, parsed_part_assignment="max_size"),
    )


def r50_pascalpart_ins11_ins11parsed(data_root: Path) -> Recipe:
    """As `r50_pascalpart_ins11`, with parsed parts of the same images ("IN-S11 parsed").

    Command: `vlpart train r50_pascalpart_ins11_ins11parsed`
    Published: 3 h on 8 V100; PartImageNet, masks never seen: AP 7.8; quadruped head 35.0; quadruped body 15.2;
        quadruped foot 3.5; quadruped tail 8.9.
    """
    return published_recipe(
        "r50_pascalpart_ins11_ins11parsed",
        "partimagenet_ablation",
        data_root,
        sources=(
            joint(data_root, "pascal_part_train", 1, kind=AnnotationKind.PARTS),
            joint(data_root, "partimagenet_supercat", 1),
            joint(data_root, "partimagenet_parsed", 1, batch_size=4),
        ),
        init="r50_pascalpart",
        iterations=30_000,
        steps=(20_000, 25_000),
        evaluate_on="partimagenet_val",
        inference_vocabulary="partimagenet",
        model_classes=93,
        **with_losses(R50, image_label_weight=0.1),
    )
