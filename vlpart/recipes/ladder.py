"""The paper's ladder in small: what objects, image labels and parsed parts add for objects without part annotations.

All on `ade_parts` with OV-PARTS' split into 33 base and 11 novel objects. No recipe but the oracle sees parts of novel
objects annotated. Every arm goes on from `ladder_base` for the same steps; `docs/ladder.md` has the results.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from vlpart.data.source import Source
from vlpart.losses.options import LossOptions
from vlpart.training.recipe import EvaluationSet, Recipe
from vlpart.types import AnnotationKind

#: OV-PARTS' novel objects of ADE20K (`info.ov_parts_zero_shot` of the annotation files).
NOVEL_OBJECTS = frozenset(
    {"bench", "bus", "desk", "fan", "kitchen island", "ottoman", "oven", "stool", "swivel chair", "truck", "van"}
)

#: Where `vlpart train` leaves the weights that the next run starts from; `--init` names others.
FIRST_PHASE = "runs/ladder_start/weights.safetensors"
START = "runs/ladder_base/weights.safetensors"

#: More than there are: every name of the other sources joins a batch (`negative_names="at_matches"`).
ALL_NAMES = 300

#: What the two parsers make of the novel objects; `docs/ladder.md` has the commands.
PARSED = "runs/ladder_parsed.json"
PARSED_AS_PUBLISHED = "runs/ladder_parsed_published.json"


def ladder_start(data_root: Path) -> Recipe:
    """First phase of the common start: parts of base objects, from a backbone trained on ImageNet.

    Command: `vlpart train ladder_start --data ROOT`.
    """
    return _recipe(
        "ladder_start",
        data_root,
        _base_parts(data_root),
        init="imagenet",
        learning_rate=3e-4,
        warmup_iterations=100,
        iterations=1800,
    )


def ladder_base(data_root: Path) -> Recipe:
    """Second phase of the common start, at half the rate, so that more of the same hardly helps any more.

    Command: `vlpart train ladder_base --data ROOT`, after `ladder_start`.
    """
    return _recipe(
        "ladder_base",
        data_root,
        _base_parts(data_root),
        init=FIRST_PHASE,
        learning_rate=1.5e-4,
        warmup_iterations=50,
        iterations=1400,
    )


def ladder_parts(data_root: Path) -> Recipe:
    """(a) Parts of base objects only.

    Command: `vlpart train ladder_parts --data ROOT`, after `ladder_base`.
    """
    return _arm("ladder_parts", data_root, _base_parts(data_root))


def ladder_objects(data_root: Path) -> Recipe:
    """(b) = (a) and whole objects, the novel ones included.

    Command: `vlpart train ladder_objects --data ROOT`, after `ladder_base`.
    """
    return _arm("ladder_objects", data_root, *_base(data_root), _novel_objects(data_root, 1.0))


def ladder_labels(data_root: Path) -> Recipe:
    """(c) = (b) and images of ImageNet with image labels.

    Command: `vlpart train ladder_labels --data ROOT`, after `ladder_base`.
    """
    others = (_novel_objects(data_root, 1.0), _image_labels(data_root))
    return _arm("ladder_labels", data_root, *_base(data_root), *others)


def ladder_parsed(data_root: Path) -> Recipe:
    """(d) = (c), and the novel objects have the parts that our parser found: with masks, trained on like annotations.

    Command: `vlpart train ladder_parsed --data ROOT`, after `ladder_base` and the parser.
    """
    parsed = replace(_novel(data_root, "parsed"), annotations=Path(PARSED), reader="parsed")
    return _arm("ladder_parsed", data_root, *_base(data_root), parsed, _image_labels(data_root))


def ladder_parsed_published(data_root: Path) -> Recipe:
    """(d) as published: boxes of the published parser teach classification only.

    Command: `vlpart train ladder_parsed_published --data ROOT`, after `ladder_base` and the parser.
    """
    parsed = replace(
        _novel(data_root, "parsed", kind=AnnotationKind.PARSED_PARTS, take="parts", ratio=0.5),
        annotations=Path(PARSED_AS_PUBLISHED),
        reader="parsed",
    )
    others = (_novel_objects(data_root, 0.5), _image_labels(data_root))
    return _arm("ladder_parsed_published", data_root, *_base(data_root), *others, parsed)


def ladder_oracle(data_root: Path) -> Recipe:
    """What annotated parts of novel objects would give: the truth in the place of (d)'s parsed parts.

    Command: `vlpart train ladder_oracle --data ROOT`, after `ladder_base`.
    """
    truth = _novel(data_root, "novel_parts")
    return _arm("ladder_oracle", data_root, *_base(data_root), truth, _image_labels(data_root))


def _arm(name: str, data_root: Path, *sources: Source) -> Recipe:
    """One rung: the same start, steps and schedule for all."""
    return _recipe(name, data_root, *sources, init=START, learning_rate=2e-4, warmup_iterations=50, iterations=1500)


def _recipe(
    name: str,
    data_root: Path,
    *sources: Source,
    init: str,
    learning_rate: float,
    warmup_iterations: int,
    iterations: int,
) -> Recipe:
    """What all runs of the ladder share: the embedded model's architecture, sizes and optimiser."""
    root = Path(data_root) / "ade_parts"
    return Recipe(
        name=name,
        family="ladder",
        architecture="tiny",
        text_encoder="static",
        init=init,
        sources=sources,
        evaluate_on=(
            EvaluationSet(
                name="ade_parts",
                annotations=root / "val.json",
                images=root / "images",
                annotated_classes_only=True,
                max_images=200,
            ),
        ),
        learning_rate=learning_rate,
        weight_decay=1e-2,
        schedule="cosine",
        warmup_factor=1e-2,
        final_factor=0.01,
        precision="auto",
        clip_norm=5.0,
        ema_decay=0.998,
        non_finite="skip",
        losses=LossOptions(proposals_before_nms=500, proposals=300, roi_regions=128),
        distractors=ALL_NAMES,
        checkpoint_every=100,
        warmup_iterations=warmup_iterations,
        iterations=iterations,
    )


def _base_parts(data_root: Path, **options: object) -> Source:
    """Parts of the base objects."""
    return _source(data_root, "base_parts", exclude_objects=NOVEL_OBJECTS, take="parts", **options)


def _base(data_root: Path) -> tuple[Source, Source]:
    """Parts of the base objects, and the same objects as wholes, as two sources like the paper's part and object data.

    In one source a part that fills most of its object would have to be one of both, and parts that are not annotated
    would lie on an annotated object, and so count as background. Six of seven draws are images of base parts: with
    three of four, base AP of (d) fell behind that of (a) (`docs/ladder.md`).
    """
    whole = _source(
        data_root, "base_objects", exclude_objects=NOVEL_OBJECTS, take="objects", ratio=0.5, inside_objects="unknown"
    )
    return _base_parts(data_root, ratio=10.0, negative_names="at_matches"), whole


def _novel_objects(data_root: Path, ratio: float) -> Source:
    """Whole novel objects."""
    return _novel(data_root, "novel_objects", take="objects", ratio=ratio)


def _novel(data_root: Path, name: str, **options: object) -> Source:
    """Novel objects. Parts that a file calls not exhaustively annotated are unknown, not absent.

    Names of base objects are none of theirs, and the other way round. Rare ones are drawn more often.
    """
    rules = {"negative_names": "at_matches", "inside_objects": "unknown", "repeat_threshold": 0.1}
    return _source(data_root, name, only_objects=NOVEL_OBJECTS, **rules, **options)


def _image_labels(data_root: Path) -> Source:
    """One image of each class of ImageNet."""
    root = Path(data_root) / "imagenet_samples"
    return replace(
        _source(data_root, "image_labels", kind=AnnotationKind.IMAGE_LABELS, ratio=0.15, unlabelled="absent"),
        annotations=root / "image_labels.json",
        images=root / "images",
        scale_jitter=None,
    )


def _source(data_root: Path, name: str, **options: object) -> Source:
    """`ade_parts` with the sizes and augmentation of the embedded model."""
    root = Path(data_root) / "ade_parts"
    common = Source(
        name=name,
        annotations=root / "train.json",
        images=root / "images",
        kind=AnnotationKind.PARTS,
        batch_size=4,
        short_sides=(256, 384),
        short_side_sampling="range",
        max_side=512,
        scale_jitter=(0.6, 1.4),
        color_jitter=0.3,
        unlabelled="unknown",
    )
    return replace(common, **options)  # type: ignore[arg-type]
