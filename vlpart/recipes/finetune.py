"""Fine-tuning on your own data: a recipe made from a folder and the weights to start from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vlpart.checks import typed
from vlpart.data.check.split import Split
from vlpart.data.folder import DataFolder, open_folder
from vlpart.data.readers.values import flag
from vlpart.data.source import Source
from vlpart.data.validation_split import held_out, original_image
from vlpart.errors import TrainingError
from vlpart.losses.options import LossOptions
from vlpart.recipes import tiny2
from vlpart.training.initial_weights import initial_model
from vlpart.training.recipe import EvaluationSet, Precision, Recipe
from vlpart.types import AnnotationKind

#: Part of the images that is held out for evaluation where there is no val split.
HOLD_OUT = 0.1

#: Steps: so many passes over the images, but not fewer and not more steps than these.
PASSES, FEWEST_STEPS, MOST_STEPS = 10, 300, 5000

#: Images that the periodic evaluation looks at.
PERIODIC_IMAGES = 100


@dataclass(frozen=True, kw_only=True)
class _Sizes:
    """What depends on the architecture; the numbers of `tiny2` are those of docs/finetuning.md, 'Twenty photos'."""

    batch_size: int
    learning_rate: float
    short_sides: tuple[int, int]
    max_side: int
    precision: Precision
    losses: LossOptions
    frozen: tuple[str, ...] = ()
    initial_share: float = 0.0


_TINY = _Sizes(
    batch_size=4,
    learning_rate=1e-4,
    short_sides=(256, 384),
    max_side=512,
    precision="auto",
    losses=LossOptions(proposals_before_nms=500, proposals=300, roi_regions=128),
)
_SIZES = {
    "tiny": _TINY,
    "tiny2": _Sizes(
        batch_size=4,
        learning_rate=3e-4,
        short_sides=tiny2.SIDES,
        max_side=tiny2.MAX_SIDE,
        precision="auto",
        losses=tiny2.LOSSES,
        frozen=tiny2.FROZEN,
        initial_share=0.3,
    ),
    "r50_mask_rcnn": _Sizes(
        batch_size=2,
        learning_rate=2e-5,
        short_sides=(640, 800),
        max_side=1333,
        precision="float32",
        losses=LossOptions(),
    ),
    "swin_b_cascade": _Sizes(
        batch_size=2,
        learning_rate=2e-5,
        short_sides=(640, 800),
        max_side=1333,
        precision="auto",
        losses=LossOptions(proposals=2000),
    ),
}


@typed()
def finetune(data: Path, init: str = "tiny", validation_split: float | None = None) -> Recipe:
    """A detector that goes on learning, on the images of one folder, without forgetting the names it knew.

    Command: `vlpart train finetune --data FOLDER --init tiny`.
    Steps: ten passes over the images, at least 300 and at most 5000; with another batch as many more or fewer, and the
    learning rate goes with the root of it.
    Architecture, mask head, text encoder, prompt and image sizes are those of the first weights. A frozen copy of them
    is the teacher of the run (`vlpart.training.distillation`).

    Args:
        data: a folder that `vlpart.data.folder.open_folder` understands: categories are objects or `object:part`.
        init: a model of the zoo, a weight file, or a run folder.
        validation_split: part of the images of a single annotation file that is evaluated on instead of trained on;
            0 = none, and then nothing is evaluated. None = a tenth where there is no val split.

    Raises:
        DataError: the folder cannot be used.
        TrainingError: `init` is no detector, or `validation_split` is given although there is a val split.
        ModelNotFoundError, WeightsError: `init` cannot be used.
    """
    folder, initial = open_folder(Path(data)), initial_model(init)
    if validation_split and folder.val is not None:
        raise TrainingError(f"{folder.val.path} is evaluated on: leave --validation-split away, or move that file")
    held = 0.0 if folder.val is not None else HOLD_OUT if validation_split is None else validation_split
    sizes = _SIZES[initial.architecture]
    name = folder.root.resolve().name.replace("|", "_") or "data"
    trained = set(folder.train.annotations) - _held_out(folder.train, held)
    iterations = steps_for(len(trained), sizes.batch_size)
    return Recipe(
        name="finetune",
        architecture=initial.architecture,
        text_encoder=initial.text_encoder,
        prompt=initial.prompt,
        mask_on=initial.mask_on,
        init=init,
        sources=(_source(name, folder, sizes, held),),
        evaluate_on=_evaluation(name, folder, held),
        learning_rate=sizes.learning_rate,
        weight_decay=1e-2,
        schedule="cosine",
        warmup_iterations=min(50, iterations // 10),
        warmup_factor=1e-2,
        final_factor=0.01,
        iterations=iterations,
        reference_batch=sizes.batch_size,
        batch_scaling="sqrt",
        precision=sizes.precision,
        clip_norm=5.0,
        ema_decay=0.998,
        non_finite="skip",
        losses=sizes.losses,
        frozen=sizes.frozen,
        initial_share=sizes.initial_share,
        teacher_loss_weight=0.1,
        teacher_vocabulary=initial.vocabulary,
        checkpoint_every=100,
        evaluate_every=max(100, iterations // 5),
        score_threshold=initial.score_threshold,
        detections_per_image=initial.detections_per_image,
    )


def steps_for(images: int, batch_size: int) -> int:
    """Steps of a run over so many images."""
    return min(max(round(PASSES * images / batch_size), FEWEST_STEPS), MOST_STEPS)


def _source(name: str, folder: DataFolder, sizes: _Sizes, validation_split: float) -> Source:
    """The train split. Masks are used if most annotations have one, else boxes only."""
    entries = (entry for group in folder.train.annotations.values() for entry in group)
    annotations = [entry for entry in entries if not flag(entry.get("iscrowd"))]
    masks = sum(bool(a.get("segmentation")) for a in annotations)
    return Source(
        name=name,
        annotations=folder.train.path,
        images=_images(folder.train),
        kind=AnnotationKind.PARTS,
        batch_size=sizes.batch_size,
        short_sides=sizes.short_sides,
        short_side_sampling="range",
        max_side=sizes.max_side,
        validation_split=validation_split,
        masks=2 * masks > len(annotations),
        scale_jitter=(0.7, 1.3),
        color_jitter=0.3,
        flip_swaps_left_right=True,
    )


def _evaluation(name: str, folder: DataFolder, validation_split: float) -> tuple[EvaluationSet, ...]:
    """The val split, or what is held out of the train split."""
    split = folder.val or (folder.train if _held_out(folder.train, validation_split) else None)
    if split is None:
        return ()
    return (
        EvaluationSet(
            name=name,
            annotations=split.path,
            images=_images(split),
            validation_split=validation_split,
            max_images=PERIODIC_IMAGES,
        ),
    )


def _held_out(split: Split, fraction: float) -> frozenset[int]:
    names = {i: original_image(image.source_image, image.file_name) for i, image in split.images.items()}
    return held_out(names, fraction)


def _images(split: Split) -> Path:
    assert split.image_root is not None  # `open_folder` finds them or raises
    return split.image_root
