"""`Recipe`: everything that defines a training run, as one frozen dataclass; and what becomes of its learning rate and
step counts when the total batch is another. Imports no torch.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from enum import Enum
from pathlib import Path
from typing import Any, Literal, get_args

from vlpart.checks import check_fields, typed, whole
from vlpart.data.source import Source
from vlpart.errors import TrainingError
from vlpart.losses.options import LossOptions
from vlpart.text.prompts import Prompt

Schedule = Literal["multi_step", "cosine"]
Precision = Literal["auto", "float32", "bf16", "fp16"]
Sampling = Literal["weighted", "epochs"]
NonFinite = Literal["stop", "skip"]
Scaling = Literal["linear", "sqrt", "none"]


@dataclass(frozen=True, kw_only=True)
class EvaluationSet:
    """A dataset to score during or after training.

    Attributes:
        name: how it is called in logs.
        annotations: COCO-style JSON.
        images: folder of its images.
        benchmark: name in `vlpart.evaluation.benchmarks`, whose rule, limit of detections, kind (masks or boxes) and
            names are used. None = COCO's rule, on masks where the file has them, else on boxes.
        annotated_classes_only: without a benchmark, count only the classes annotated in each image (its
            `pos_category_ids`).
        validation_split: only the images that a source with this `validation_split` leaves out; 0 = all.
        max_images: score an evenly spaced subset of this many images (periodic evaluation); None = all.

    Raises:
        DataError: no such benchmark.
        TrainingError: a benchmark has its own rule on classes; no images.
        TypeError: a value of another kind.
    """

    name: str
    annotations: Path
    images: Path
    benchmark: str | None = None
    annotated_classes_only: bool = False
    validation_split: float = 0.0
    max_images: int | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if self.max_images is not None and self.max_images < 1:
            raise TrainingError(f"evaluation set {self.name!r}: max_images {self.max_images} must be >= 1, or None")
        if self.benchmark is None:
            return
        from vlpart.evaluation.benchmarks import get_benchmark

        get_benchmark(self.benchmark)
        if self.annotated_classes_only:
            raise TrainingError(f"evaluation set {self.name!r}: leave out annotated_classes_only, or the benchmark")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A complete training run (docs/method.md, 'Training path'). Defaults are the published ones.

    Batch semantics: one *step* updates the weights once. It sees `accumulate` batches on every process, each of one
    source and of that source's `batch_size` images; the gradient is the mean over those batches and over the processes.
    `iterations`, `warmup_iterations`, `steps`, and every `*_every` count steps.

    Attributes:
        name: recipe name, kept in checkpoints; a checkpoint of another recipe is refused.
        family: group of related recipes.
        architecture: argument of `vlpart.models.build.build_detector`.
        text_encoder: argument of `vlpart.text.encoders.get_text_encoder`.
        prompt: how names become phrases, in training and afterwards: "name" = the encoder's usual prompt around a class
            name; "part_of_object" = "wheel of a car".
        mask_on: with a mask head; False trains a detector of boxes only.
        inference_vocabulary: list that the trained model looks for unless another is asked for; None = the sources'.
        model_classes: classes the published model was built for. Nothing here depends on it: the classifier is text,
            and the background of a source comes right after its own classes (docs/method.md, 'Matching and sampling').
        init: "imagenet" (backbone weights of the architecture), "none", the name of a model of the zoo, or a file.
        sources: one per training source; names are unique.
        sampling: "weighted" draws with replacement, or shuffled "epochs" of a single source, see
            `vlpart.data.sampling`.
        same_source_on_all_ranks: all processes draw the same source in the same step, hence the same annotation kind.
        evaluate_on: sets scored every `evaluate_every` steps.
        learning_rate, weight_decay: AdamW, the decay on every parameter.
        schedule: after a linear warm-up from `warmup_factor`, either /10 at each of `steps`, or half a cosine down to
            `final_factor` at `iterations`.
        reference_batch: images of the first source in one step that `learning_rate` and the step counts are meant for;
            None = any. See `vlpart.training.recipe`.
        batch_scaling: what another total batch does to the learning rate: "linear", "sqrt", or "none" (and then the
            step counts stay, too).
        precision: "bf16" and "fp16" run the forward pass under autocast; "fp16" scales the loss; "auto" is bf16 where
            the device has instructions for it, else float32, see `vlpart.runtime.training_precision`.
        activation_checkpointing: compute the blocks of a Swin backbone twice instead of keeping their activations.
        clip_norm: largest total gradient norm, or None.
        ema_decay: decay of the moving average of the weights, or None.
        non_finite: "stop" at a non-finite loss or gradient (the batch is saved), or "skip" such a step.
        losses: sampling, matching, and the weights of the losses.
        distractors: names of other sources that join a batch as negatives, see `vlpart.training.distractors`.
        negative_vocabularies: lists (what `Vocabulary.load` takes) whose objects may join a batch as negatives, too.
        channels_last: memory layout of the convolutions; None = in half precision only. On CPUs it saves a quarter of
            a frozen backbone's time.
        frozen: beginnings of the names of parameters that do not train ("backbone.stem").
        teacher_loss_weight: factor of the loss that holds the model to its first weights on names that the data does
            not teach, see `vlpart.training.distillation`; 0 = no teacher.
        teacher_names: names that are held in one batch.
        teacher_vocabulary: which names: what `Vocabulary.load` takes; the vocabulary of the first weights.
        image_size: shorter side, and longest allowed, in pixels, at which the trained model looks at images; None =
            those of the architecture.
        patience: evaluations in a row that are no better than the best before the run ends; None = never.
        initial_share: part of the first weights in those that are evaluated and exported (0 = none): their weighted
            mean with the trained ones, as in "Robust fine-tuning of zero-shot models" (Wortsman et al., CVPR 2022).
        score_threshold, detections_per_image: of the evaluation.

    Raises:
        TrainingError: values that do not fit together, or that no training could use.
        TypeError: a value of another kind.
    """

    name: str
    architecture: str
    text_encoder: str
    sources: tuple[Source, ...]
    iterations: int
    family: str = ""
    prompt: Prompt = "name"
    mask_on: bool = True
    inference_vocabulary: str | None = None
    model_classes: int | None = None
    init: str = "imagenet"
    same_source_on_all_ranks: bool = False
    sampling: Sampling = "weighted"
    evaluate_on: tuple[EvaluationSet, ...] = ()
    learning_rate: float = 5e-5
    weight_decay: float = 1e-4
    schedule: Schedule = "multi_step"
    steps: tuple[int, ...] = ()
    warmup_iterations: int = 1000
    warmup_factor: float = 1e-3
    final_factor: float = 0.0
    accumulate: int = 1
    reference_batch: int | None = None
    batch_scaling: Scaling = "linear"
    precision: Precision = "float32"
    activation_checkpointing: bool = False
    clip_norm: float | None = None
    ema_decay: float | None = None
    non_finite: NonFinite = "stop"
    checkpoint_every: int = 5000
    evaluate_every: int | None = None
    log_every: int = 20
    seed: int = 0
    losses: LossOptions = field(default_factory=LossOptions)
    distractors: int = 0
    negative_vocabularies: tuple[str, ...] = ()
    channels_last: bool | None = None
    frozen: tuple[str, ...] = ()
    teacher_loss_weight: float = 0.0
    teacher_names: int = 64
    teacher_vocabulary: str | None = None
    initial_share: float = 0.0
    image_size: tuple[int, int] | None = None
    patience: int | None = None
    score_threshold: float = 0.05
    detections_per_image: int = 100

    def __post_init__(self) -> None:
        check_fields(self)
        for problem, broken in {**self._wrong_numbers(), **self._wrong_choices()}.items():
            if broken:
                raise TrainingError(f"recipe {self.name!r} {problem}")

    def _wrong_numbers(self) -> dict[str, bool]:
        names = [source.name for source in self.sources]
        return {
            "needs at least one source": not names,
            "has two sources of one name": len(set(names)) != len(names),
            "needs iterations >= 1": self.iterations < 1,
            "draws epochs of a single source only": self.sampling == "epochs" and len(names) > 1,
            "needs accumulate >= 1": self.accumulate < 1,
            "needs a positive learning_rate": not self.learning_rate > 0,
            "needs warmup_iterations >= 0": self.warmup_iterations < 0,
            "needs log_every and checkpoint_every >= 1": min(self.log_every, self.checkpoint_every) < 1,
            "needs evaluate_every >= 1 or None": self.evaluate_every is not None and self.evaluate_every < 1,
            "needs reference_batch >= 1 or None": self.reference_batch is not None and self.reference_batch < 1,
            "needs steps in rising order": list(self.steps) != sorted(self.steps),
            "needs 0 <= ema_decay < 1": self.ema_decay is not None and not 0 <= self.ema_decay < 1,
            "needs a positive clip_norm": self.clip_norm is not None and not self.clip_norm > 0,
            "needs distractors >= 0, and 0 with federated sources": self.distractors < 0
            or (self.distractors > 0 and any(source.federated for source in self.sources)),
            "needs distractors for negative_vocabularies": bool(self.negative_vocabularies) and not self.distractors,
            "needs teacher_loss_weight >= 0 and teacher_names >= 1": self.teacher_loss_weight < 0
            or self.teacher_names < 1,
            "needs patience >= 1 or None": self.patience is not None and self.patience < 1,
            "needs an image_size of at least 1 x 1, shorter side first": self.image_size is not None
            and not 1 <= self.image_size[0] <= self.image_size[1],
            "needs 0 <= initial_share < 1": not 0 <= self.initial_share < 1,
            "needs teacher_vocabulary, and first weights of a detector, for a teacher": self.teacher_loss_weight > 0
            and (self.teacher_vocabulary is None or self.init == "imagenet"),
            "needs first weights of a detector for initial_share": self.initial_share > 0 and self.init == "imagenet",
        }

    @property
    def remembers(self) -> bool:
        """Whether the first weights matter after the first step: as a teacher, or as a share of the result."""
        return self.teacher_loss_weight > 0 or self.initial_share > 0

    def _wrong_choices(self) -> dict[str, bool]:
        choices = {
            "schedule": (self.schedule, Schedule),
            "sampling": (self.sampling, Sampling),
            "precision": (self.precision, Precision),
            "non_finite": (self.non_finite, NonFinite),
            "batch_scaling": (self.batch_scaling, Scaling),
            "prompt": (self.prompt, Prompt),
        }
        return {
            f"has {name} {value!r}: use one of {', '.join(get_args(known))}": value not in get_args(known)
            for name, (value, known) in choices.items()
        }

    def changed(self, **options: Any) -> Recipe:
        """A copy with those fields replaced whose value is not None.

        Raises:
            TrainingError: no such field, or the new value is refused.
        """
        unknown = set(options) - {known.name for known in fields(self)}
        if unknown:
            raise TrainingError(f"a recipe has no field {', '.join(sorted(unknown))}")
        return replace(self, **{key: value for key, value in options.items() if value is not None})

    @typed()
    def with_batch_size(self, images: int) -> Recipe:
        """The first source gets batches of so many images, the others keep their proportion to it (at least 1)."""
        images = whole("images", images, 1, 10**9)
        factor = images / self.sources[0].batch_size
        sources = tuple(replace(s, batch_size=max(1, round(s.batch_size * factor))) for s in self.sources)
        return replace(self, sources=sources)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: paths and enums become strings, tuples become lists."""
        plain = json.loads(json.dumps(asdict(self), default=_plain))
        assert isinstance(plain, dict)
        return plain


#: Fields that must agree between a checkpoint and the recipe that resumes it.
IDENTITY = (
    *("name", "architecture", "mask_on", "text_encoder", "prompt", "seed", "accumulate", "precision"),
    *("teacher_loss_weight", "teacher_names", "initial_share"),
)


def check_same_recipe(recipe: Recipe, saved: Mapping[str, Any]) -> list[str]:
    """Compare a recipe with the `to_dict()` in a checkpoint; returns the names of harmless fields that changed.

    Raises:
        TrainingError: the checkpoint belongs to another recipe, seed, teacher, share of the first weights, or set of
            sources.
    """
    now = recipe.to_dict()
    saved = {**_defaults(), **saved}  # a checkpoint from before a field was there was made with its default
    for key in IDENTITY:
        if saved.get(key) != now[key]:
            raise TrainingError(
                f"the checkpoint was made with {key}={saved.get(key)!r}, this run has {now[key]!r}: "
                "use the same options, or another output folder"
            )
    before, after = ([source["name"] for source in side.get("sources", [])] for side in (saved, now))
    if before != after:
        raise TrainingError(f"the checkpoint was made with the sources {before}, this run has {after}")
    return [key for key in now if saved.get(key) != now[key]]


def _defaults() -> dict[str, Any]:
    """The defaults of a recipe as `to_dict` writes them."""
    known = {f.name: f.default for f in fields(Recipe) if f.default is not MISSING}
    known |= {f.name: f.default_factory() for f in fields(Recipe) if f.default_factory is not MISSING}
    plain = json.loads(json.dumps(known, default=_plain))
    assert isinstance(plain, dict)
    return plain


def _plain(value: object) -> object:
    if isinstance(value, LossOptions):
        return asdict(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, frozenset):
        return sorted(value)
    raise TypeError(f"cannot write {type(value).__name__} as JSON")


COUNTS = ("iterations", "warmup_iterations", "checkpoint_every", "evaluate_every")


@dataclass(frozen=True, kw_only=True)
class ScaledRecipe:
    """A recipe for the batch that it really gets, and what was changed, in words (empty = nothing)."""

    recipe: Recipe
    changes: tuple[str, ...]


def images_per_step(recipe: Recipe, world_size: int) -> int:
    """Images of the first source that one step sees on all processes."""
    return recipe.sources[0].batch_size * recipe.accumulate * world_size


def scaled(recipe: Recipe, world_size: int = 1) -> ScaledRecipe:
    """Adapt learning rate, iterations, warm-up, decay steps and intervals to the total batch.

    Args:
        recipe: as published; with `reference_batch` None, or `batch_scaling` "none", nothing changes.
        world_size: number of training processes.
    """
    total, reference = images_per_step(recipe, world_size), recipe.reference_batch
    if reference is None or total == reference:
        return ScaledRecipe(recipe=recipe, changes=())
    sees = (
        f"one step sees {total} images ({recipe.sources[0].batch_size} per batch, {recipe.accumulate} accumulated, "
        f"{world_size} process{'es' if world_size > 1 else ''}) instead of {reference}"
    )
    if recipe.batch_scaling == "none":
        return ScaledRecipe(recipe=recipe, changes=(f"{sees}; nothing is scaled, as asked for",))
    factor = total / reference
    rate = recipe.learning_rate * (factor if recipe.batch_scaling == "linear" else math.sqrt(factor))
    new: dict[str, object] = {"learning_rate": rate}
    for name in COUNTS:
        if (count := getattr(recipe, name)) is not None:
            new[name] = _divided(count, factor)
    new["steps"] = tuple(_divided(step, factor) for step in recipe.steps)
    changes = [f"{name}: {before} -> {new[name]}" for name in new if (before := getattr(recipe, name)) != new[name]]
    return ScaledRecipe(recipe=recipe.changed(**new), changes=(sees, *changes, _alternative(recipe, world_size)))


def with_iterations(recipe: Recipe, iterations: int) -> Recipe:
    """Another length: decay steps keep their place in the run, the warm-up takes at most a tenth of it."""
    factor = recipe.iterations / iterations
    return recipe.changed(
        iterations=iterations,
        steps=tuple(_divided(step, factor) for step in recipe.steps),
        warmup_iterations=min(recipe.warmup_iterations, iterations // 10),
    )


def _divided(count: int, factor: float) -> int:
    """A step count of at least 1 (0 stays 0)."""
    return max(min(count, 1), round(count / factor))


def _alternative(recipe: Recipe, world_size: int) -> str:
    """How to keep the published numbers."""
    reference = recipe.reference_batch or 1
    each = recipe.sources[0].batch_size * world_size
    if reference % each == 0 and reference > each:
        return f"with --accumulate {reference // each} nothing would change; --scaling none keeps the numbers anyway"
    return "--scaling none keeps the numbers of the recipe anyway"
