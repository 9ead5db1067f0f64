"""Predict every image of a data set and score it."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from vlpart.data.readers.values import Id
from vlpart.data.upright import check_size
from vlpart.errors import EvaluationError
from vlpart.evaluation import engine
from vlpart.evaluation.average_precision import Checked, check, score
from vlpart.evaluation.benchmarks import Benchmark
from vlpart.evaluation.dataset import Dataset, groups_of, open_dataset
from vlpart.evaluation.identity import file_id
from vlpart.evaluation.pairs import pair_precision
from vlpart.evaluation.part_iou import part_iou
from vlpart.evaluation.recall import box_recall, predict_proposals
from vlpart.evaluation.scores import Evaluation, Rule
from vlpart.evaluation.shards import Predictions, ShardFolder
from vlpart.evaluation.truth import NOTES, is_part
from vlpart.evaluation.vocabularies import categories_of_classes, dataset_vocabulary
from vlpart.files import write_file
from vlpart.jobs import Progress
from vlpart.models.config import get_architecture
from vlpart.runtime import World

if TYPE_CHECKING:
    from vlpart.results.result import Result
    from vlpart.text.vocabulary import Vocabulary

#: So large a share of images at the limit of detections is worth a note.
FULL = 0.5

EXTRAS = ("pairs", "part_iou", "recall")
"""What can be asked for besides AP; see `Evaluation`."""


class Predicts(Protocol):
    """The part of `vlpart.inference.predictor.Predictor` that evaluation needs."""

    def read(self, source: Any, *, short_side: int | None = None, max_side: int | None = None) -> Any:
        """An image for `detect`."""

    def detect(
        self,
        images: Sequence[Any],
        vocabulary: Any = None,
        *,
        score_threshold: float | None = None,
        max_detections: int | None = None,
    ) -> Sequence[Any]:
        """A `Result` for every image."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a model is asked.

    Attributes:
        vocabulary: other names than those of the data set.
        classes: for every name the category id it stands for, or None; found out if not given.
        score_threshold: detections must score above it; None takes the benchmark's, or else the model's own.
        short_side, max_side: size in pixels at which images are looked at; None takes the benchmark's.
        proposals: also keep the class-agnostic proposals, for their recall.
        output: folder for the predictions as they are made; None keeps them in memory.
        key: further facts that predictions of the folder depend on.
    """

    vocabulary: Vocabulary | None = None
    classes: Sequence[int | None] | None = None
    score_threshold: float | None = None
    short_side: int | None = None
    max_side: int | None = None
    proposals: bool = False
    output: Path | None = None
    key: Mapping[str, Any] | None = None


def predict(
    predictor: Predicts,
    dataset: Dataset,
    options: Options | None = None,
    *,
    group: World | None = None,
    label: str = "predicting",
    progress: Progress | None = None,
) -> Predictions | None:
    """Predictions of every image; with several processes each does its share, and only the first gets the result.

    `progress` is told under `label` about every image of this process.

    Raises:
        DataError: an image is missing, or the vocabulary does not fit.
        EvaluationError: the output folder belongs to another run.
        OutputError: the output cannot be written.
    """
    asked, together = options or Options(), group or World()
    names, classes = _names(dataset, asked)
    settings = settings_of(predictor, dataset.benchmark, asked)
    key = {
        "model": getattr(predictor, "name", type(predictor).__name__),
        "weights": None if asked.output is None else _weights_digest(predictor),
        "vocabulary": names.content_hash,
        **vars(settings),
        "proposals": asked.proposals,
        "first_image": file_id(dataset.truth["images"][0]),
        "last_image": file_id(dataset.truth["images"][-1]),
        **(asked.key or {}),
    }
    folder = ShardFolder(asked.output, dataset.truth["images"], key)
    folder.open(together)

    limits: dict[str, Any] = {
        key: getattr(settings, key)
        for key in ("score_threshold", "max_detections")
        if getattr(settings, key) is not None
    }
    sides: dict[str, Any] = {
        key: getattr(settings, key) for key in ("short_side", "max_side") if getattr(settings, key) is not None
    }
    id_of = {category["id"]: file_id(category) for category in dataset.truth["categories"]}
    file_classes = [None if number is None else id_of[number] for number in classes]

    def line_of(image: Mapping[str, Any]) -> dict[str, Any]:
        """The record of an image: its detections, and proposals where they are asked for."""
        read = predictor.read(dataset.pixels_or_path(image), **sides)
        (result,) = predictor.detect([read], names, **limits)
        _check_frame(result, image)
        detections = detections_of(result, file_id(image), file_classes, "masks" in dataset.benchmark.kinds)
        line: dict[str, Any] = {"image_id": file_id(image), "detections": list(detections)}
        if asked.proposals:
            line["proposals"] = predict_proposals(predictor, read)  # type: ignore[arg-type]
        return line

    folder.predict(line_of, together, None if progress is None else partial(progress, label))
    return folder.merge(together)


def _check_frame(result: Any, image: Mapping[str, Any]) -> None:
    """Refuse answers about an image of another size than the annotations say: their boxes would be silently wrong."""
    height, width = getattr(result, "image_size", (None, None))
    stated = (image.get("height"), image.get("width"))
    if None not in stated and height is not None and (height, width) != stated:
        check_size(Path(str(image.get("file_name") or file_id(image))), (height, width), stated)  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a model is asked with; None = its own. As in `Predictor.predict`."""

    score_threshold: float | None
    max_detections: int
    short_side: int | None
    max_side: int | None


def settings_of(predictor: Predicts, benchmark: Benchmark, options: Options) -> Settings:
    """What is asked for, else what the benchmark says; the size of a benchmark is not for models of smaller images."""

    def first(asked: Any, known: Any) -> Any:
        return known if asked is None else asked

    architecture = getattr(predictor, "architecture", None)
    smaller = (
        architecture is not None
        and benchmark.short_side is not None
        and get_architecture(architecture).short_side < benchmark.short_side
    )
    sides = (None, None) if smaller or options.short_side is not None else (benchmark.short_side, benchmark.max_side)
    return Settings(
        score_threshold=first(options.score_threshold, benchmark.score_threshold),
        max_detections=benchmark.max_detections,
        short_side=first(options.short_side, sides[0]),
        max_side=first(options.max_side, sides[1]),
    )


def fitted(dataset: Dataset, predictor: Predicts | None) -> Dataset:
    """The data set, scored on boxes only where the model has no mask head."""
    if "masks" not in dataset.benchmark.kinds or getattr(predictor, "mask_on", True):
        return dataset
    return replace(dataset, benchmark=dataset.benchmark.on_boxes())


def _weights_digest(predictor: Predicts) -> str | None:
    """A hash of the weights of a model, so that predictions of other weights are not taken for its own."""
    detector = getattr(predictor, "detector", None)
    if detector is None:
        return getattr(predictor, "digest", None)
    import torch

    digest = hashlib.blake2b(digest_size=16)
    for name, value in detector.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _names(dataset: Dataset, options: Options) -> tuple[Vocabulary, Sequence[int | None]]:
    """(what is asked for, the category of every name)."""
    names = options.vocabulary
    if names is None:
        names = dataset_vocabulary(dataset.truth, dataset.benchmark.vocabulary)
    return names, options.classes or categories_of_classes(dataset.truth, names)


def score_predictions(
    dataset: Dataset, detections: Iterable[Mapping[str, Any]], *, extras: Sequence[str] = ()
) -> Evaluation:
    """Score detections of any origin under the protocol of the data set.

    Args:
        dataset: the images are not needed.
        detections: COCO-style.
        extras: any of `EXTRAS`.

    Raises:
        DataError, EvaluationError: see `vlpart.evaluation.average_precision.score_detections`.
    """
    return score_all(dataset, Predictions(detections=[dict(each) for each in detections], proposals={}), extras=extras)[
        0
    ]


def score_all(dataset: Dataset, predictions: Predictions, *, extras: Sequence[str] = ()) -> tuple[Evaluation, Checked]:
    """`score_predictions`, and what was scored, for the report."""
    if unknown := set(extras) - set(EXTRAS):
        raise EvaluationError(f"unknown extra {min(unknown)!r}: use {', '.join(EXTRAS)}")
    benchmark = dataset.benchmark
    checked = check(
        dataset.truth,
        predictions.detections,
        rule=benchmark.rule,
        max_detections=benchmark.max_detections,
        kinds=benchmark.kinds,
    )
    groups, split = groups_of(dataset)
    result = score(checked, kinds=benchmark.kinds, groups=groups)
    with_parts = "masks" in benchmark.kinds and any(is_part(c) for c in dataset.truth["categories"])
    if "pairs" in extras and with_parts:
        result = replace(result, pairs=pair_precision(checked))
    if "part_iou" in extras and with_parts and (ious := part_iou(checked, split=split)) is not None:
        result = replace(result, part_iou=ious[0], part_iou_in_objects=ious[1])
    if "recall" in extras:
        result = replace(result, recall=box_recall(checked, predictions.proposals or None))
    return replace(result, notes=_notes(dataset, predictions, result)), checked


def _notes(dataset: Dataset, predictions: Predictions, result: Evaluation) -> tuple[str, ...]:
    notes = [*dataset.truth.get(NOTES, ()), *predictions.notes]
    if note := dataset.orientation_note():
        notes.append(f"{note}.")
    counts = Counter(detection["image_id"] for detection in predictions.detections)
    full = sum(count >= result.max_detections for count in counts.values()) / result.images
    if full >= FULL:
        notes.append(
            f"{full:.0%} of the images have as many detections as count ({result.max_detections}): with many names a "
            "higher limit (--max-detections) may find more."
        )
    if result.rule == "lvis":
        notes.append(
            "Only the classes annotated in an image (and its verified absent ones) count; unmatched detections of "
            "classes that are not exhaustively annotated are ignored."
        )
    if result.recall is not None and result.recall.source == "detections":
        notes.append("Class-agnostic recall is that of the detections, not of the proposals of the model.")
    without = sum(not a["segmentation"] and not a["iscrowd"] for a in dataset.truth["annotations"])
    if "masks" in dataset.benchmark.kinds and without:
        notes.append(
            f"Masks are scored over the annotations that have one; {without} have a box only, and detections in these "
            "boxes count neither way for masks."
        )
    crowds = sum(a["iscrowd"] for a in dataset.truth["annotations"])
    if crowds and (result.rule == "lvis" or crowds == len(dataset.truth["annotations"])):
        every = "All annotations are" if crowds == len(dataset.truth["annotations"]) else f"{crowds} annotations are"
        notes.append(
            f"{every} crowd regions (iscrowd 1), which are no ground truth: detections there count neither way."
        )
    if not result.detections:
        notes.append("There is no detection that counts.")
    return tuple(notes)


def evaluate(
    predictor: Predicts,
    annotations: Path | str,
    images: Path | str,
    *,
    vocabulary: Vocabulary | None = None,
    annotated_classes_only: bool = False,
    max_detections: int = 100,
    score_threshold: float | None = 0.01,
    max_images: int | None = None,
    kinds: Sequence[str] = ("masks", "boxes"),
    extras: Sequence[str] = (),
    output: Path | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Predict the images of a COCO file with its own categories as vocabulary, and score. In this process alone.

    Args:
        predictor: `vlpart.load(...)`.
        annotations: COCO JSON.
        images: folder of its images.
        vocabulary: other wordings of the file's category names, in ascending category id.
        annotated_classes_only, max_detections, kinds: see `vlpart.evaluation.average_precision.score_detections`.
        score_threshold: detections below it are not asked for.
        max_images: only an evenly spaced subset of so many images.
        extras: any of `EXTRAS`.
        output: folder for the predictions; an interrupted evaluation goes on from there.
        progress: called after every image.

    Raises:
        DataError: the file or an image is missing or malformed.
        EvaluationError: the predictor gave something that cannot be scored, or the metric library is missing.
    """
    engine.library()
    dataset = open_dataset(annotations, images, max_images=max_images)
    rule: Rule = "lvis" if annotated_classes_only else "coco"
    benchmark = replace(dataset.benchmark, rule=rule, max_detections=max_detections, kinds=tuple(kinds))
    dataset = fitted(replace(dataset, benchmark=benchmark), predictor)
    options = Options(vocabulary=vocabulary, score_threshold=score_threshold, output=output)
    predictions = predict(predictor, dataset, options, progress=progress)
    assert predictions is not None  # a group of one
    return score_all(dataset, predictions, extras=extras)[0]


def detections_of(
    result: Result, image_id: Id, classes: Sequence[Id | None], with_masks: bool = True
) -> Iterator[dict[str, Any]]:
    """A `Result` as COCO detections; class k of the result is category `classes[k]`, None leaves it out."""
    rles = result.masks.rles() if with_masks and result.masks is not None else None
    for i in range(len(result)):
        category = classes[int(result.class_ids[i])]
        if category is None:
            continue
        x0, y0, x1, y1 = (float(x) for x in result.boxes_xyxy[i])
        detection: dict[str, Any] = {
            "image_id": image_id,
            "category_id": category,
            "bbox": [x0, y0, x1 - x0, y1 - y0],
            "score": float(result.scores[i]),
        }
        if rles is not None:
            detection["segmentation"] = rles[i]
        yield detection


def write_report(evaluation: Evaluation, path: Path, **facts: Any) -> None:
    """Write the scores as JSON, after `facts` about how they came about.

    Raises:
        OutputError: the file cannot be written.
    """
    write_file(path, (json.dumps({**facts, **evaluation.to_dict()}, indent=1) + "\n").encode())
