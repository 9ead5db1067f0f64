"""From a recipe to a `Trainer`: data, model, text and losses put together; and what its run folder says of itself."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from vlpart.checks import typed
from vlpart.data.indexing import load_source
from vlpart.data.loader import make_loader
from vlpart.data.source import LoadedSource, Source, missing_data
from vlpart.errors import OutputError, TrainingError
from vlpart.files import write_file
from vlpart.jobs import Progress
from vlpart.losses.by_kind import compute_losses
from vlpart.losses.weak_labels import frequency_weights
from vlpart.models.build import build_detector
from vlpart.names import did_you_mean
from vlpart.runtime import World, choose_device, choose_precision
from vlpart.text.encoders import TextEncoder, encode_vocabulary, get_text_encoder
from vlpart.text.prompts import Prompt
from vlpart.text.vocabulary import Entry, Vocabulary
from vlpart.training.callbacks import Callback
from vlpart.training.checkpoint import list_checkpoints, save_weights
from vlpart.training.distillation import TeacherSource
from vlpart.training.distractors import Distractors
from vlpart.training.initial_weights import initialise
from vlpart.training.loop import Trainer
from vlpart.training.recipe import Recipe
from vlpart.training.step import LossFunction
from vlpart.types import Batch
from vlpart.zoo.run_folder import (
    HELD_VOCABULARY,
    INITIAL_WEIGHTS,
    KNOWN_VOCABULARY,
    RECIPE,
    VOCABULARY,
    WEIGHTS,
    entry_of_recipe,
)
from vlpart.zoo.weights import interpolated

if TYPE_CHECKING:
    from vlpart.models.detector import Detector


@dataclass(frozen=True, kw_only=True)
class Assembly:
    """Everything a run needs, built from a recipe.

    Attributes:
        sources: the loaded data, in the order of the recipe.
        text: (C, D) float32 text embeddings by source name.
        detector: initialised, on the device of the process, in training mode.
        loader: endless batches of this process.
        compute: forward pass and losses of one batch.
        initial: the first weights, on the CPU, where the run still needs them (`Recipe.remembers`), else None.
        generator: what `compute` draws from; None = torch's own of the device.
        teacher: what holds the names that the data does not teach, or None.
        held: the vocabulary of the teacher, or None.
    """

    recipe: Recipe
    sources: tuple[LoadedSource, ...]
    text: Mapping[str, Tensor]
    detector: Detector
    loader: Any
    compute: LossFunction
    initial: Mapping[str, Tensor] | None
    generator: torch.Generator | None
    teacher: TeacherSource | None
    held: Vocabulary | None


def assemble(
    recipe: Recipe,
    *,
    workers: int = 1,
    world: World | None = None,
    progress: Progress | None = None,
    initial_file: Path | None = None,
    held_file: Path | None = None,
) -> Assembly:
    """Load the data, build and initialise the model, embed the vocabularies.

    Args:
        recipe: the run.
        workers: processes that read and augment images; 0 does it in this one.
        world: the training processes.
        progress: told about the bytes of initial weights that have to be downloaded.
        initial_file: where the first weights of a resumed run are, instead of `recipe.init`, which may be another file
            by now.
        held_file: where the vocabulary of the teacher of a resumed run is, instead of `recipe.teacher_vocabulary`.

    Raises:
        DataError: a source cannot be read.
        WeightsError: the initial weights are missing or do not fit.
        TextEncoderError: the text encoder is not available.
        TrainingError: the recipe cannot run on this device, or leaves its teacher nothing to hold.
        VocabularyError: the vocabulary of the teacher cannot be read.
    """
    world = world or World()
    if recipe.precision == "fp16" and world.device.startswith("cpu"):
        raise TrainingError("fp16 needs a GPU: use --precision bf16 or float32 on this device")
    check_files(recipe.sources)
    torch.manual_seed(recipe.seed)
    sources = tuple(load_source(source) for source in recipe.sources)
    encoder = get_text_encoder(recipe.text_encoder)
    text = {s.name: embed(encoder, s.vocabulary, recipe.prompt).to(world.device) for s in sources}
    detector = build_detector(recipe.architecture, mask_on=recipe.mask_on)
    initialise(detector, recipe.init if initial_file is None else str(initial_file), recipe.architecture, progress)
    initial = {k: v.clone() for k, v in detector.state_dict().items()} if recipe.remembers else None
    freeze(detector, recipe.frozen)
    detector.to(world.device).train()
    generator = _seeded(recipe, world)
    frequencies = {s.name: None if (f := class_frequencies(s)) is None else f.to(world.device) for s in sources}
    distractors = None
    if recipe.distractors:
        more = [Vocabulary.load(name) for name in recipe.negative_vocabularies]
        distractors = Distractors(sources, text, encoder, recipe.distractors, more)
    held = teacher_vocabulary(recipe, held_file)
    teachers = None if held is None else make_teacher(recipe, held, detector, encoder, text)

    def compute(batch: Batch) -> dict[str, Tensor]:
        """The losses of a batch."""
        name = batch.source
        words = text[name]
        if distractors is not None:
            batch, words = distractors.add(batch, words, generator)
        teacher = None if teachers is None else teachers.draw(generator)
        return compute_losses(
            detector, batch, words, recipe.losses, frequencies=frequencies[name], generator=generator, teacher=teacher
        )

    loader = make_loader(
        sources,
        seed=recipe.seed,
        workers=workers,
        sampling=recipe.sampling,
        rank=world.rank,
        world_size=world.size,
        same_source=recipe.same_source_on_all_ranks,
    )
    return Assembly(
        recipe=recipe,
        sources=sources,
        text=text,
        detector=detector,
        loader=loader,
        compute=compute,
        initial=initial,
        generator=generator,
        teacher=teachers,
        held=held,
    )


def freeze(model: nn.Module, beginnings: Sequence[str]) -> None:
    """Take the parameters whose names begin so out of the training.

    Raises:
        TrainingError: no parameter begins with one of them.
    """
    for beginning in beginnings:
        frozen = [p for name, p in model.named_parameters() if name.startswith(beginning)]
        if not frozen:
            known = [name for name, _ in model.named_modules() if name and name.count(".") < 2]
            hint = did_you_mean(beginning.rstrip("."), known) or f"it has {', '.join(n for n in known if '.' not in n)}"
            raise TrainingError(f"there is no parameter {beginning.rstrip('.')!r} to freeze in this model: {hint}")
        for parameter in frozen:
            parameter.requires_grad_(False)


def _seeded(recipe: Recipe, world: World) -> torch.Generator | None:
    """The generator that samples are drawn from, seeded for this process; None = torch's own, then seeded.

    Samples of anchors and regions are drawn on the CPU, federated classes where the weights are: one generator can
    serve both on the CPU only.
    """
    on_cpu = world.device.startswith("cpu")
    if not (world.is_main and on_cpu):
        torch.manual_seed(world.seed(recipe.seed))
    return torch.Generator().manual_seed(world.seed(recipe.seed)) if on_cpu else None


def teacher_vocabulary(recipe: Recipe, held_file: Path | None = None) -> Vocabulary | None:
    """The names that a teacher may hold; None without a teacher.

    Args:
        recipe: the run.
        held_file: the copy of a resumed run, instead of `recipe.teacher_vocabulary`.

    Raises:
        VocabularyError: it cannot be read.
    """
    if not recipe.teacher_loss_weight:
        return None
    assert recipe.teacher_vocabulary is not None
    return Vocabulary.load(recipe.teacher_vocabulary if held_file is None else held_file)


def make_teacher(
    recipe: Recipe, held: Vocabulary, detector: Detector, encoder: TextEncoder, text: Mapping[str, Tensor]
) -> TeacherSource:
    """The detector as it is now as teacher of the run.

    Args:
        recipe: the run.
        held: the names that the first weights came with.
        detector: with its first weights, on the device of the process.
        encoder: of the names.
        text: (C, D) embeddings of each source's names, by source name.

    Raises:
        TrainingError: the data teaches all of them.
    """
    known = embed(encoder, held, recipe.prompt)
    device = next(iter(text.values())).device
    return TeacherSource(
        detector, known.to(device), text, count=recipe.teacher_names, weight=recipe.teacher_loss_weight
    )


def check_evaluation(recipe: Recipe, world: World) -> None:
    """Look through the sets of the periodic evaluation, in the first process, before anything slow starts.

    Raises:
        DataError: one of them cannot be scored.
    """
    if recipe.evaluate_every is not None and recipe.evaluate_on and world.is_main:
        from vlpart.evaluation.session import check_sets

        check_sets(recipe.evaluate_on, recipe.detections_per_image)


def check_files(sources: Sequence[Source]) -> None:
    """Look for the files of all sources before anything slow starts.

    Raises:
        DataError: some are missing; all of them are named, each with the command that helps.
    """
    missing: dict[Path, str] = {}
    for source in sources:
        for path, command in (
            (Path(source.annotations), source.annotations_from),
            (Path(source.images), source.images_from),
        ):
            if not path.exists():
                missing.setdefault(path, command)
    if missing:
        raise missing_data(missing)


def embed(encoder: TextEncoder, vocabulary: Vocabulary, prompt: Prompt) -> Tensor:
    """(C, D) float32 text embeddings of a vocabulary, writable."""
    return torch.from_numpy(np.array(encode_vocabulary(encoder, vocabulary, prompt=prompt), dtype=np.float32))


def class_frequencies(source: LoadedSource) -> Tensor | None:
    """(C,) sampling weights of a federated source, image_count^0.5; None for other sources.

    The published image counts of the vocabulary are used where every class has one, else those of the loaded data.
    """
    if not source.source.federated:
        return None
    published = [entry.image_count for entry in source.vocabulary.entries if entry.image_count is not None]
    complete = len(published) == len(source.vocabulary)
    return frequency_weights(published if complete else source.image_counts.tolist())


@typed()
def build_trainer(
    recipe: Recipe,
    output: Path,
    *,
    workers: int = 1,
    world: World | None = None,
    log_to: Sequence[str] = (),
    progress: Progress | None = None,
    callbacks: Sequence[Callback] = (),
) -> tuple[Trainer, Assembly]:
    """A trainer over the real data and model of a recipe, not yet resumed or started.

    What the command line has of plan and pictures are `vlpart.training.plan.standard_callbacks`.

    Raises:
        DataError: an evaluation set of the recipe cannot be scored.
        DataError, WeightsError, TextEncoderError, TrainingError, VocabularyError: see `assemble`.
    """
    world = world or World()
    check_evaluation(recipe, world)
    begun = bool(list_checkpoints(output / "checkpoints"))  # then it goes on with what it began with
    kept, held = (
        path if begun and (path := output / name).is_file() else None for name in (INITIAL_WEIGHTS, HELD_VOCABULARY)
    )
    parts = assemble(recipe, workers=workers, world=world, progress=progress, initial_file=kept, held_file=held)

    def evaluate(model: nn.Module) -> dict[str, float]:
        """The figures of the weights as they would be exported."""
        weights = model.state_dict()
        if parts.initial is not None:
            weights = interpolated(weights, parts.initial, recipe.initial_share)
        return evaluate_weights(recipe, weights, output, world.device)

    trainer = Trainer(
        recipe,
        parts.detector,
        parts.loader,
        parts.compute,
        output,
        generator=parts.generator,
        evaluate=evaluate if recipe.evaluate_on else None,
        world=world,
        log_to=log_to,
        callbacks=callbacks,
    )
    return trainer, parts


def evaluate_weights(recipe: Recipe, weights: Mapping[str, Tensor], output: Path, device: str) -> dict[str, float]:
    """Score weights on the recipe's evaluation sets: a detector of its own, asked as the recipe trains it.

    Args:
        recipe: the run.
        weights: of its detector, by name.
        output: folder of the run, for messages.
        device: where to compute.

    Raises:
        EvaluationError, DataError: see `vlpart.evaluation.session.evaluate_sets`.
    """
    from vlpart.evaluation.session import evaluate_sets
    from vlpart.inference.predictor import Predictor
    from vlpart.models.load import detector_of
    from vlpart.zoo.catalogue import model_like

    like = model_like(recipe.architecture)
    entry = entry_of_recipe(recipe.to_dict(), recipe.name, like.vocabulary)
    loaded = detector_of(weights, output, recipe.architecture, mask_on=recipe.mask_on)
    chosen = choose_device(device)
    return evaluate_sets(
        Predictor(entry, loaded, chosen, choose_precision("auto", chosen)),
        recipe.evaluate_on,
        score_threshold=recipe.score_threshold,
        max_detections=recipe.detections_per_image,
    )


@typed()
def describe_run(recipe: Recipe, parts: Assembly, output: Path) -> None:
    """Write the recipe, the vocabulary, and what is still needed of the first weights (see `vlpart.zoo.run_folder`).

    Raises:
        OutputError, TrainingError: a file cannot be written.
    """
    taught = joined((source.vocabulary for source in parts.sources), recipe.name)
    _write(output / RECIPE, recipe.to_dict())
    _write(output / VOCABULARY, taught.to_dict())
    if parts.held is not None:
        _write(output / KNOWN_VOCABULARY, joined((taught, parts.held), recipe.name).to_dict())
        _write(output / HELD_VOCABULARY, parts.held.to_dict())
    if parts.initial is not None and not list_checkpoints(output / "checkpoints"):  # a resumed run has them already
        save_weights(output / INITIAL_WEIGHTS, parts.initial)


def set_aside_weights(output: Path, step: int) -> Path | None:
    """Rename the weights exported at `step` before training goes on: a run answers with them while they are there.

    Returns:
        Their new path, or None if there are none.

    Raises:
        OutputError: they cannot be renamed.
    """
    exported = output / WEIGHTS
    aside = exported.with_stem(f"{exported.stem}_{step:08d}")
    try:
        exported.replace(aside)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise OutputError(f"cannot rename {exported} to {aside.name}: {error.strerror}; move it away") from error
    return aside


def joined(vocabularies: Iterable[Vocabulary], title: str) -> Vocabulary:
    """All names, each once (case does not count), in the order of their first occurrence; ids count from 1."""
    entries: dict[str, Entry] = {}
    for vocabulary in vocabularies:
        for entry in vocabulary.entries:
            entries.setdefault(entry.name.casefold(), entry)
    return Vocabulary(tuple(replace(e, id=i) for i, e in enumerate(entries.values(), 1)), title=title)


def _write(path: Path, content: Any) -> None:
    write_file(path, (json.dumps(content, indent=1) + "\n").encode())
