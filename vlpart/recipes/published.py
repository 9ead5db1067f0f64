"""What the published recipes share: two models, two kinds of sources, and 16 images a step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from vlpart.data.source import Source
from vlpart.losses.options import LossOptions
from vlpart.recipes.datasets import evaluation_set, get_dataset
from vlpart.recipes.parsed import annotations_command
from vlpart.training.recipe import Recipe
from vlpart.types import AnnotationKind

#: 8 processes of 2 images.
IMAGES_PER_STEP = 16

R50: dict[str, Any] = {
    "architecture": "r50_mask_rcnn",
    "precision": "float32",
    "losses": LossOptions(),
}
SWIN_B: dict[str, Any] = {
    "architecture": "swin_b_cascade",
    "precision": "fp16",
    "losses": LossOptions(proposals=2000, parsed_part_assignment="max_score"),
}

_REPEAT_THRESHOLD = 0.001


def with_losses(model: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """`R50` or `SWIN_B` with some fields of its `LossOptions` replaced."""
    return {**model, "losses": replace(model["losses"], **changes)}


def single(root: Path, dataset: str) -> tuple[Source]:
    """The only source of a recipe: the shorter side is one of six sizes; empty images are left out."""
    found = get_dataset(dataset)
    return (
        Source(
            name=dataset,
            annotations=root / found.annotations,
            images=root / found.images,
            reader=found.reader,
            vocabulary=found.vocabulary,
            kind=found.kind,
            batch_size=2,
            short_sides=(640, 672, 704, 736, 768, 800),
            short_side_sampling="choice",
            max_side=1333,
            repeat_threshold=_REPEAT_THRESHOLD if found.federated else None,
            federated=found.federated,
            filter_empty=True,
            boxes_from_masks=False,
            annotations_from=annotations_command(dataset, root),
            images_from=found.prepare_command(root),
        ),
    )


def joint(
    root: Path,
    dataset: str,
    ratio: float,
    *,
    batch_size: int | None = None,
    kind: AnnotationKind | None = None,
    strong_augmentation: bool = False,
) -> Source:
    """One of several sources: the shorter side lies between 640 and 800, or is 400 where there are labels only.

    Args:
        root: data root.
        dataset: published name.
        ratio: weight among the sources.
        batch_size: images on one process; by default 8 with image labels, else 2.
        kind: another name for the same annotations ("part" for parts), as published.
        strong_augmentation: colours, blur and erasing.
    """
    found = get_dataset(dataset)
    labels_only = found.kind is AnnotationKind.IMAGE_LABELS
    return Source(
        name=dataset,
        annotations=root / found.annotations,
        images=root / found.images,
        reader=found.reader,
        vocabulary=found.vocabulary,
        kind=kind or found.kind,
        ratio=ratio,
        batch_size=batch_size or (8 if labels_only else 2),
        short_sides=(400, 400) if labels_only else (640, 800),
        short_side_sampling="range",
        max_side=667 if labels_only else 1333,
        repeat_threshold=_REPEAT_THRESHOLD if found.federated else None,
        federated=found.federated,
        filter_empty=False,
        boxes_from_masks=False,
        strong_augmentation=strong_augmentation,
        annotations_from=annotations_command(dataset, root),
        images_from=found.prepare_command(root),
    )


def published_recipe(name: str, family: str, root: Path, *, evaluate_on: str, **options: Any) -> Recipe:
    """A recipe of the original: CLIP text, AdamW at 5e-5, warm-up and two decays, 16 images a step."""
    return Recipe(
        name=name,
        family=family,
        text_encoder="clip_rn50",
        evaluate_on=(evaluation_set(root, evaluate_on),),
        reference_batch=IMAGES_PER_STEP,
        sampling="epochs" if len(options["sources"]) == 1 else "weighted",
        **options,
    )
