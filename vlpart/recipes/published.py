"""The 35 detectors of the paper as a table: a row says what is different, and derives from another one with `replace`.

Figures and hours of a row are those of its checkpoint in `vlpart/zoo/models.json`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vlpart.data.source import Source
from vlpart.evaluation.benchmarks import get_benchmark
from vlpart.losses.options import LossOptions, ParsedPartAssignment
from vlpart.recipes.datasets import evaluation_set, get_dataset
from vlpart.recipes.parsed import annotations_command
from vlpart.text.prompts import Prompt
from vlpart.training.recipe import Recipe
from vlpart.types import AnnotationKind
from vlpart.zoo.catalogue import list_models

#: 8 processes of 2 images.
IMAGES_PER_STEP = 16
REPEAT_THRESHOLD = 0.001
IMAGE_LABEL_WEIGHT = 0.1

#: The two models: how the fields of a recipe differ between them.
MODELS: dict[str, dict[str, Any]] = {
    "r50": {"architecture": "r50_mask_rcnn", "precision": "float32", "losses": LossOptions()},
    "swinbase_cascade": {
        "architecture": "swin_b_cascade",
        "precision": "fp16",
        "losses": LossOptions(proposals=2000, parsed_part_assignment="max_score"),
    },
}


@dataclass(frozen=True, kw_only=True)
class Draw:
    """A data set among the sources of a row.

    Attributes:
        dataset: name in `vlpart.recipes.datasets`.
        ratio: its weight among several.
        batch_size: images on one process; None = 8 with image labels, else 2.
        kind: another name for the same annotations ("part" for parts), as published.
        strong_augmentation: colours, blur and erasing.
    """

    dataset: str
    ratio: float = 1
    batch_size: int | None = None
    kind: AnnotationKind | None = None
    strong_augmentation: bool = False


@dataclass(frozen=True, kw_only=True)
class Row:
    """A published detector. What all of them share is in `to_recipe`.

    Attributes:
        name: of the recipe and of its checkpoint; it begins with a key of `MODELS`.
        about: what it is, in one line.
        family: folder of the published configuration.
        draws: the sources.
        evaluate_on: name in `vlpart.recipes.datasets`; its vocabulary is what the model looks for.
        classes: see `Recipe.model_classes`.
        iterations, steps, checkpoint_every, init, prompt, mask_on: as in a `Recipe`.
        score_threshold: of the evaluation; None = the benchmark's.
        parsed_parts: which regions learn a parsed part; None = as usual for the model.
    """

    name: str
    about: str
    family: str
    draws: tuple[Draw, ...]
    evaluate_on: str
    classes: int
    iterations: int
    steps: tuple[int, int]
    checkpoint_every: int = 5_000
    init: str = "imagenet"
    prompt: Prompt = "name"
    mask_on: bool = True
    score_threshold: float | None = None
    parsed_parts: ParsedPartAssignment | None = None

    def to_recipe(self, root: Path) -> Recipe:
        """The recipe below a data root: CLIP text, AdamW at 5e-5, warm-up, two decays, 16 images a step."""
        model = MODELS[next(name for name in MODELS if self.name.startswith(name))]
        losses = model["losses"]
        if any(get_dataset(draw.dataset).kind is AnnotationKind.IMAGE_LABELS for draw in self.draws):
            losses = replace(losses, image_label_weight=IMAGE_LABEL_WEIGHT)
        if self.parsed_parts is not None:
            losses = replace(losses, parsed_part_assignment=self.parsed_parts)
        alone = len(self.draws) == 1
        evaluated = get_dataset(self.evaluate_on)
        benchmark = get_benchmark(str(evaluated.benchmark))
        threshold = benchmark.score_threshold if self.score_threshold is None else self.score_threshold
        assert threshold is not None
        return Recipe(
            name=self.name,
            family=self.family,
            architecture=model["architecture"],
            precision=model["precision"],
            losses=losses,
            text_encoder="clip_rn50",
            prompt=self.prompt,
            mask_on=self.mask_on,
            inference_vocabulary=evaluated.vocabulary,
            model_classes=self.classes,
            init=self.init,
            sources=tuple(single(root, draw) if alone else joint(root, draw) for draw in self.draws),
            sampling="epochs" if alone else "weighted",
            evaluate_on=(evaluation_set(root, self.evaluate_on),),
            iterations=self.iterations,
            steps=self.steps,
            checkpoint_every=self.checkpoint_every,
            reference_batch=IMAGES_PER_STEP,
            score_threshold=threshold,
            detections_per_image=benchmark.max_detections,
        )

    def describe(self) -> str:
        """What it is, its command, and the published hours and figures, in lines."""
        lines = [self.about, "", f"Command: `vlpart train {self.name}`"]
        entry = next((entry for entry in list_models() if entry.recipe == self.name), None)
        if entry is None:
            return "\n".join([*lines, "No published checkpoint: an ablation of the paper."])
        lines.append(f"Published: {entry.training_time}, with the recipes that it starts from first")
        for result in entry.published:
            for metric, value in result.metrics.items():
                figures = " / ".join(map(str, value)) if isinstance(value, tuple) else value
                lines.append(f"  {result.table}: {metric} {figures}")
        return "\n".join(lines)


def single(root: Path, draw: Draw) -> Source:
    """The only source of a recipe: the shorter side is one of six sizes; empty images are left out."""
    return replace(
        _source(root, draw),
        short_sides=(640, 672, 704, 736, 768, 800),
        short_side_sampling="choice",
        max_side=1333,
        filter_empty=True,
    )


def joint(root: Path, draw: Draw) -> Source:
    """One of several sources: the shorter side lies between 640 and 800, or is 400 where there are labels only."""
    labels_only = get_dataset(draw.dataset).kind is AnnotationKind.IMAGE_LABELS
    return replace(
        _source(root, draw),
        short_sides=(400, 400) if labels_only else (640, 800),
        short_side_sampling="range",
        max_side=667 if labels_only else 1333,
        filter_empty=False,
    )


def _source(root: Path, draw: Draw) -> Source:
    """What both kinds share."""
    entry = get_dataset(draw.dataset)
    labels_only = entry.kind is AnnotationKind.IMAGE_LABELS
    return Source(
        name=draw.dataset,
        annotations=root / entry.annotations,
        images=root / entry.images,
        reader=entry.reader,
        vocabulary=entry.vocabulary,
        kind=draw.kind or entry.kind,
        ratio=draw.ratio,
        batch_size=draw.batch_size or (8 if labels_only else 2),
        repeat_threshold=REPEAT_THRESHOLD if entry.federated else None,
        federated=entry.federated,
        boxes_from_masks=False,
        strong_augmentation=draw.strong_augmentation,
        annotations_from=annotations_command(draw.dataset, root),
        images_from=entry.prepare_command(root),
    )


# ---- the table


def _on_swin(row: Row, **changes: Any) -> Row:
    """The twin of a row of the R50 model; it starts from the twin of what that one starts from."""
    twin = {
        "name": row.name.replace("r50_", "swinbase_cascade_"),
        "init": row.init.replace("r50_", "swinbase_cascade_"),
        "about": row.about.replace("ResNet-50 Mask R-CNN", "Swin-B Cascade Mask R-CNN").replace("ResNet-50", "Swin-B"),
    }
    return replace(row, **{**twin, **changes})


def _one_data_set() -> Iterator[Row]:
    """The dataset-specific models."""
    longer: dict[str, Any] = {"iterations": 270_000, "steps": (210_000, 250_000), "checkpoint_every": 10_000}
    coco = Row(
        name="r50_coco",
        about="ResNet-50 Mask R-CNN on COCO 2017, 80 objects.",
        family="coco",
        draws=(Draw(dataset="coco_2017_train"),),
        evaluate_on="coco_2017_val",
        classes=80,
        iterations=90_000,
        steps=(60_000, 80_000),
    )
    yield from (coco, _on_swin(coco, **longer))
    lvis = replace(
        coco,
        name="r50_lvis",
        about="ResNet-50 Mask R-CNN on LVIS v1, 1203 objects, federated.",
        family="lvis",
        draws=(Draw(dataset="lvis_v1_train"),),
        evaluate_on="lvis_v1_minival",
        classes=1203,
    )
    yield from (lvis, _on_swin(lvis, **longer))
    paco = replace(
        lvis,
        name="r50_paco",
        about="ResNet-50 Mask R-CNN on PACO-LVIS, 75 objects and 456 parts of them, federated.",
        family="paco",
        draws=(Draw(dataset="paco_lvis_v1_train"),),
        evaluate_on="paco_lvis_v1_val",
        classes=531,
    )
    yield from (paco, _on_swin(paco, iterations=180_000, steps=(120_000, 160_000), checkpoint_every=10_000))
    partimagenet = replace(
        coco,
        name="r50_partimagenet",
        about="ResNet-50 Mask R-CNN on PartImageNet, 40 parts.",
        family="partimagenet",
        draws=(Draw(dataset="partimagenet_train"),),
        evaluate_on="partimagenet_val",
        classes=40,
        iterations=30_000,
        steps=(20_000, 25_000),
    )
    yield from (partimagenet, _on_swin(partimagenet))
    pascal_part = replace(
        partimagenet,
        name="r50_pascalpart",
        about="ResNet-50 Mask R-CNN on Pascal Part, 93 parts.",
        family="pascal_part",
        draws=(Draw(dataset="pascal_part_train"),),
        evaluate_on="pascal_part_val",
        classes=93,
        iterations=10_000,
        steps=(6_000, 8_000),
        checkpoint_every=2_000,
    )
    yield from (pascal_part, _on_swin(pascal_part))
    voc = replace(
        partimagenet,
        name="r50_voc",
        about="ResNet-50 Mask R-CNN on Pascal VOC 2007, 20 objects.",
        family="voc",
        draws=(Draw(dataset="voc_2007_train"),),
        evaluate_on="voc_2007_val",
        classes=20,
        mask_on=False,
    )
    yield from (voc, _on_swin(voc))


_LVIS_PACO_PASCAL = (
    Draw(dataset="lvis_v1_train", ratio=4),
    Draw(dataset="paco_lvis_v1_train", ratio=2),
    Draw(dataset="pascal_part_train"),
)
_ALL_FOUR = (*_LVIS_PACO_PASCAL, Draw(dataset="partimagenet_train"))


def _together() -> Iterator[Row]:
    """Objects and parts together: the second stages start from "joint", the third from "joint**"."""
    first = Row(
        name="r50_lvis_paco",
        about='ResNet-50 on LVIS and PACO ("joint").',
        family="joint",
        draws=(Draw(dataset="lvis_v1_train", ratio=2), Draw(dataset="paco_lvis_v1_train")),
        evaluate_on="paco_lvis_v1_val",
        classes=1203,
        iterations=180_000,
        steps=(120_000, 160_000),
        score_threshold=0.05,
    )
    pascal = replace(
        first,
        name="r50_lvis_paco_pascalpart",
        about='ResNet-50, from "joint" on, with Pascal Part ("joint*").',
        draws=_LVIS_PACO_PASCAL,
        evaluate_on="pascal_part_val",
        init=first.name,
        iterations=30_000,
        steps=(20_000, 25_000),
    )
    both = replace(
        pascal,
        name="r50_lvis_paco_pascalpart_partimagenet",
        about='ResNet-50, from "joint" on, with Pascal Part and PartImageNet ("joint**").',
        draws=_ALL_FOUR,
        evaluate_on="partimagenet_val",
        iterations=40_000,
        steps=(30_000, 35_000),
    )
    yield from (first, pascal, both)
    yield _on_swin(first, iterations=360_000, steps=(300_000, 340_000), checkpoint_every=10_000)
    yield from (_on_swin(pascal), _on_swin(both))
    labels = replace(
        both,
        name=f"{both.name}_in",
        about='ResNet-50, from "joint**" on, with labelled ImageNet images ("IN label").',
        family="joint_in",
        draws=(*_ALL_FOUR, Draw(dataset="imagenet_golden", ratio=8)),
        init=both.name,
    )
    parsed = replace(
        labels,
        name=f"{both.name}_inparsed",
        about='ResNet-50, from "joint**" on, with ImageNet labels and parsed parts ("IN parsed").',
        draws=_with_parsed_golden(""),
        iterations=60_000,
        steps=(40_000, 50_000),
    )
    yield from (labels, parsed, _on_swin(labels))
    yield _on_swin(parsed, draws=_with_parsed_golden("_swinbase"), iterations=90_000, steps=(60_000, 80_000))


def _with_parsed_golden(suffix: str) -> tuple[Draw, ...]:
    """All four data sets, golden labels, and what a detector found on the golden images."""
    kinds = (*(f"{kind}_parsed{suffix}" for kind in ("pascal", "partimagenet", "paco")), "addition_parsed")
    parsed = (Draw(dataset=f"imagenet_golden_{kind}", strong_augmentation=True) for kind in kinds)
    return (*_ALL_FOUR, Draw(dataset="imagenet_golden", ratio=4), *parsed)


_PASCAL_PARTS = Draw(dataset="pascal_part_train", kind=AnnotationKind.PARTS)
_BASE_AND_VOC = (Draw(dataset="pascal_part_base_train", kind=AnnotationKind.PARTS), Draw(dataset="voc_2007_train"))


def _partimagenet_ablation(rows: dict[str, Row]) -> Iterator[Row]:
    """Parts of PartImageNet without its masks: what labels and parsed parts of its images add."""
    family = "partimagenet_ablation"
    yield replace(
        rows["r50_partimagenet"],
        name="r50_partimagenet_of",
        about='PartImageNet with prompts like "head of a quadruped" in place of "a quadruped head".',
        family=family,
        prompt="part_of_object",
    )
    labels = replace(
        rows["r50_pascalpart"],
        name="r50_pascalpart_ins11",
        about='Pascal Part, with labelled PartImageNet images ("IN-S11 label").',
        family=family,
        draws=(_PASCAL_PARTS, Draw(dataset="partimagenet_supercat")),
        evaluate_on="partimagenet_val",
        init="r50_pascalpart",
        iterations=20_000,
        steps=(12_000, 16_000),
        checkpoint_every=5_000,
    )
    parsed = replace(
        labels,
        name="r50_pascalpart_ins11_ins11parsed",
        about='As `r50_pascalpart_ins11`, with parsed parts of the same images ("IN-S11 parsed").',
        draws=(*labels.draws, Draw(dataset="partimagenet_parsed", batch_size=4)),
        iterations=30_000,
        steps=(20_000, 25_000),
    )
    learned = "As `r50_pascalpart_ins11_ins11parsed`, but each part is learned by the {} region."
    yield from (labels, parsed)
    yield replace(
        parsed,
        name="r50_pascalpart_ins11_ins11maxscore",
        about=learned.format("best-scoring"),
        parsed_parts="max_score",
    )
    yield replace(
        parsed, name="r50_pascalpart_ins11_ins11maxsize", about=learned.format("largest"), parsed_parts="max_size"
    )
    labels = replace(
        rows["r50_lvis_paco_pascalpart_partimagenet"],
        name="r50_lvis_paco_pascalpart_ins11",
        about='LVIS, PACO and Pascal Part, with labelled PartImageNet images ("IN-S11 label").',
        family=family,
        draws=(*_LVIS_PACO_PASCAL, Draw(dataset="partimagenet_supercat", ratio=2)),
        init="r50_lvis_paco_pascalpart",
    )
    yield labels
    yield replace(
        labels,
        name="r50_lvis_paco_pascalpart_ins11_ins11parsed",
        about='As `r50_lvis_paco_pascalpart_ins11`, with parsed parts of the same images ("IN-S11 parsed").',
        draws=(*labels.draws, Draw(dataset="partimagenet_parsed", ratio=2, batch_size=4)),
    )


def _pascal_part_ablation(rows: dict[str, Row]) -> Iterator[Row]:
    """Parts of bus and dog without their masks: what objects, labels and parsed parts add."""
    pascal_part = replace(rows["r50_pascalpart"], family="pascal_part_ablation")
    yield replace(
        pascal_part,
        name="r50_pascalpart_of",
        about='Pascal Part with prompts like "wheel of a car" in place of "a car wheel".',
        prompt="part_of_object",
    )
    base = replace(
        pascal_part,
        name="r50_pascalpartbase",
        about="Pascal Part without bus and dog: 77 base parts; all 93 are looked for.",
        draws=(Draw(dataset="pascal_part_base_train"),),
        classes=77,
    )
    objects = replace(
        base,
        name="r50_pascalpartbase_voc",
        about='Base parts, with the 20 objects of VOC 2007 ("VOC object").',
        draws=_BASE_AND_VOC,
        iterations=20_000,
        steps=(12_000, 16_000),
        checkpoint_every=5_000,
    )
    labels = replace(
        objects,
        name="r50_pascalpartbase_voc_ins20",
        about='Base parts and VOC objects, with labelled ImageNet images of the 20 objects ("IN-S20 label").',
        draws=(*_BASE_AND_VOC, Draw(dataset="imagenet_voc", ratio=4)),
        classes=93,
        init=objects.name,
        iterations=40_000,
        steps=(30_000, 35_000),
    )
    parsed = Draw(dataset="imagenet_voc_parsed", ratio=4, batch_size=4)
    yield from (base, objects, labels)
    yield replace(
        labels,
        name="r50_pascalpartbase_voc_ins20_ins20parsed",
        about='As `r50_pascalpartbase_voc_ins20`, with parsed parts of the same images ("IN-S20 parsed").',
        draws=(*labels.draws, parsed),
    )
    yield replace(
        labels,
        name="r50_pascalpartbase_voc_ins20parsed",
        about="Base parts and VOC objects, with parsed parts but without the labels of ImageNet images.",
        draws=(*_BASE_AND_VOC, parsed),
    )


def _by_name(rows: Iterable[Row]) -> dict[str, Row]:
    return {row.name: row for row in rows}


_MAIN = _by_name((*_one_data_set(), *_together()))
PUBLISHED: dict[str, Row] = {
    **_MAIN,
    **_by_name(_partimagenet_ablation(_MAIN)),
    **_by_name(_pascal_part_ablation(_MAIN)),
}
