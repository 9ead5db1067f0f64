"""The embedded model, second edition: more sets, pseudo labels, a trunk trained on COCO, losses on order."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from vlpart.data.source import Source
from vlpart.losses.options import LossOptions
from vlpart.recipes.tiny import small_source
from vlpart.training.recipe import EvaluationSet, Recipe
from vlpart.types import AnnotationKind

#: Images of every data set that the periodic evaluation looks at.
PERIODIC_IMAGES = 60

#: The trunk, and what sees small patches: names are learnt in the later stages, which cost little at their resolution.
FROZEN = (
    "backbone.trunk",
    "backbone.stem",
    "backbone.stages.0.",
    "backbone.stages.1.",
    "backbone.stages.2.",
    "fpn.lateral.0",
    "fpn.output.0",
    "roi_heads.evidence.sides",
)

#: Share of images shown beside others where a set shows its main object large: more names a step, and smaller ones.
MOSAIC = 0.3

#: Sizes that cost less than those of `tiny`: the shorter side is drawn from a range, the longer one has a limit.
SIDES, MAX_SIDE = (256, 352), 448

LOSSES = LossOptions(
    proposals_before_nms=500,
    proposals=300,
    roi_regions=128,
    ranking_weight=0.25,
    quality_weight=0.5,
    mask_regions=12,
)

#: Lists whose objects join every batch as negatives, where they are unlike what the image shows.
NOUNS = ("lvis_v1", "imagenet_1k", "paco")


def tiny2(data_root: Path) -> Recipe:
    """`tiny2` on fourteen small sets, most of them with pseudo boxes of COCO's objects; train splits only.

    It goes on from `grown.safetensors` in the data folder: the weights of `tiny` beside the frozen trunk
    (`scripts/import_csp_trunk.py`, `scripts/grow_tiny.py`). `scripts/merge_pseudo_labels.py` makes the training files.
    Pseudo boxes teach what is there, not its outline; names that the detector of the pseudo boxes was unsure of are
    unknown in an image, all other names are absent. See `docs/model_cards/tiny.md`.

    Command: `vlpart train tiny2 --data ROOT --output RUN` (ROOT holds one folder per data set).

    Args:
        data_root: holds the folders named below, each with `images/` and `train.json`, some with `val.json`.
    """
    root = Path(data_root)
    return Recipe(
        name="tiny2",
        architecture="tiny2",
        text_encoder="phrase",
        init=str(root / "grown.safetensors"),
        sources=_sources(root),
        evaluate_on=tuple(
            EvaluationSet(
                name=name,
                annotations=root / name / "val.json",
                images=root / name / "images",
                annotated_classes_only=name == "ade_parts",
                max_images=PERIODIC_IMAGES,
            )
            for name in ("car_parts", "faces", "ade_parts", "coco_more")
        ),
        learning_rate=3e-4,
        weight_decay=1e-2,
        schedule="cosine",
        warmup_iterations=100,
        warmup_factor=1e-2,
        final_factor=0.02,
        iterations=5000,
        precision="float32",
        clip_norm=5.0,
        ema_decay=0.995,
        non_finite="skip",
        losses=LOSSES,
        distractors=300,
        negative_vocabularies=NOUNS,
        frozen=FROZEN,
        channels_last=True,
        checkpoint_every=100,
        log_every=10,
        seed=0,
    )


def _sources(root: Path) -> tuple[Source, ...]:
    """All sets, with how often each is drawn."""
    parts, boxes = AnnotationKind.PARTS, AnnotationKind.BOXES
    return (
        _source(root, "ade_parts", 36, (0.6, 1.4), parts),
        _source(root, "car_parts", 18, (0.7, 1.3), parts, unlabelled="absent", negative_names="all", flip_swaps=True),
        _source(root, "faces", 14, (0.5, 1.2), parts, unlabelled="absent", negative_names="all"),
        _source(root, "clothes", 18, (0.6, 1.3), parts, mosaic=MOSAIC / 2),
        _source(root, "coco_more", 8, (0.6, 1.5), boxes, unlabelled="absent", mosaic=MOSAIC),
        _source(root, "coco128", 2, (0.6, 1.5), boxes, unlabelled="absent"),
        _source(root, "animals", 5, (0.5, 1.3), boxes, mosaic=MOSAIC),
        _source(root, "cats", 3, (0.6, 1.6), boxes, unlabelled="absent"),
        _source(root, "tools", 16, (0.5, 1.3), boxes, unlabelled="absent", mosaic=MOSAIC),
        _source(root, "furniture", 4, (0.5, 1.3), boxes, mosaic=MOSAIC),
        _source(root, "handles", 3, (0.7, 1.5), parts),
        _source(root, "facades", 2, (0.8, 1.6), parts),
        _source(root, "faces_free", 1, (0.5, 1.2), parts, unlabelled="absent"),
        _source(
            root,
            "imagenet_samples",
            4,
            (0.6, 1.1),
            boxes,
            unlabelled="absent",
            negative_names="none",
            mosaic=2 * MOSAIC,
        ),
    )


def _source(
    root: Path,
    name: str,
    ratio: float,
    scale_jitter: tuple[float, float],
    kind: AnnotationKind,
    *,
    unlabelled: Literal["absent", "unknown"] = "unknown",
    **options: Any,
) -> Source:
    """A source of `tiny`, at sizes that cost less, with pseudo boxes, and not exhaustive unless it is said to be."""
    return small_source(
        root,
        name,
        ratio,
        scale_jitter,
        kind,
        sides=SIDES,
        max_side=MAX_SIDE,
        unlabelled=unlabelled,
        scored_annotations="pseudo",
        **options,
    )
