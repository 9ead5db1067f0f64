"""The embedded model: small enough for a CPU, trained on four small sets of real part annotations."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from vlpart.data.source import Source
from vlpart.losses.options import LossOptions
from vlpart.training.recipe import EvaluationSet, Recipe
from vlpart.types import AnnotationKind

#: Images of every data set that the periodic evaluation looks at.
PERIODIC_IMAGES = 60


def tiny(data_root: Path) -> Recipe:
    """`tiny` on `car_parts`, `faces`, `ade_parts` and `coco128`, train splits only.

    `ade_parts` labels an object's parts on one object only, so what is not annotated there is unknown, not absent.
    Left and right parts of a car change places in a flipped image. Every source has its own vocabulary.

    Command: `vlpart train tiny --data ROOT --output RUN` (ROOT holds one folder per data set).
    Time: about 75 minutes on 2 CPU cores with bf16 matrix units.
    Aim, mask AP50 on the val splits: parts of `car_parts` and `faces` 0.60, `ade_parts` 0.10 (annotated classes only).

    Args:
        data_root: holds `car_parts`, `faces`, `ade_parts`, `coco128`, each with `images/`, `train.json`, `val.json`.
    """
    root, parts, boxes = Path(data_root), AnnotationKind.PARTS, AnnotationKind.BOXES
    return Recipe(
        name="tiny",
        architecture="tiny",
        text_encoder="static",
        init="imagenet",
        sources=(
            small_source(
                root, "car_parts", 1.0, (0.7, 1.3), AnnotationKind.PARTS, negative_names="all", flip_swaps=True
            ),
            small_source(root, "faces", 0.8, (0.5, 1.2), parts, negative_names="all"),
            small_source(root, "ade_parts", 3.0, (0.6, 1.4), parts, unlabelled="unknown"),
            small_source(root, "coco128", 0.6, (0.8, 1.6), boxes),
        ),
        evaluate_on=tuple(
            EvaluationSet(
                name=name,
                annotations=root / name / "val.json",
                images=root / name / "images",
                annotated_classes_only=name == "ade_parts",
                max_images=PERIODIC_IMAGES,
            )
            for name in ("car_parts", "faces", "ade_parts")
        ),
        learning_rate=3e-4,
        weight_decay=1e-2,
        schedule="cosine",
        warmup_iterations=100,
        warmup_factor=1e-2,
        final_factor=0.01,
        iterations=4200,
        precision="auto",
        clip_norm=5.0,
        ema_decay=0.998,
        non_finite="skip",
        losses=LossOptions(proposals_before_nms=500, proposals=300, roi_regions=128),
        distractors=64,
        checkpoint_every=100,
        log_every=20,
        seed=0,
    )


def small_source(
    root: Path,
    name: str,
    ratio: float,
    scale_jitter: tuple[float, float],
    kind: AnnotationKind,
    *,
    sides: tuple[int, int] = (256, 384),
    max_side: int = 512,
    flip_swaps: bool = False,
    unlabelled: Literal["absent", "unknown"] = "absent",
    negative_names: Literal["none", "own_objects", "all"] = "own_objects",
    scored_annotations: Literal["exact", "pseudo"] = "exact",
    mosaic: float = 0.0,
) -> Source:
    """One data set with the augmentation that the sources of both editions share.

    Args:
        root: holds a folder of that name, with `images/` and `train.json`.
        name, ratio, kind, scale_jitter, unlabelled, negative_names, scored_annotations, mosaic: see `Source`.
        sides, max_side: the shorter side is drawn from this range; limit of the longer one.
        flip_swaps: left and right in names change places in mirrored images.
    """
    return Source(
        name=name,
        annotations=root / name / "train.json",
        images=root / name / "images",
        kind=kind,
        ratio=ratio,
        batch_size=4,
        short_sides=sides,
        short_side_sampling="range",
        max_side=max_side,
        scale_jitter=scale_jitter,
        color_jitter=0.3,
        flip_swaps_left_right=flip_swaps,
        unlabelled=unlabelled,
        scored_annotations=scored_annotations,
        negative_names=negative_names,
        mosaic=mosaic,
    )
