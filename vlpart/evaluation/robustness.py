"""How much the figures drop when the same classes are asked for in other words, or among names that are not there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vlpart.checks import natural
from vlpart.errors import EvaluationError
from vlpart.evaluation.dataset import Dataset
from vlpart.evaluation.run import Options, Predicts, predict, score_all
from vlpart.evaluation.scores import Evaluation, Scores
from vlpart.evaluation.vocabularies import (
    categories_of_classes,
    dataset_vocabulary,
    paraphrased,
    with_distractors,
)
from vlpart.files import read_json, why
from vlpart.jobs import Progress
from vlpart.runtime import World
from vlpart.text.vocabulary import Vocabulary

DEFAULT_WORDINGS = Path(__file__).with_name("paraphrases.json")
DISTRACTOR_LIST = "lvis_v1"
"""Where distractors are taken from if only their number is given."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """The evaluation under another vocabulary.

    Attributes:
        name: "paraphrased" or "distractors".
        about: what was changed.
        evaluation: its scores.
        headline, drop: the figures of the benchmark's headline, and how much lower they are than with the plain names.
        worst: the classes that lost most AP50, most first: (name, plain, now).
    """

    name: str
    about: str
    evaluation: Evaluation
    headline: Mapping[str, float]
    drop: Mapping[str, float]
    worst: tuple[tuple[str, float, float], ...]


def read_wordings(path: Path) -> dict[str, str]:
    """A JSON file {"wheel": "tyre", "hood": "bonnet"}.

    Raises:
        EvaluationError: missing, or not of that form.
    """
    try:
        content = read_json(path)
    except (OSError, ValueError) as error:
        raise EvaluationError(f"cannot read the wordings {path}: {why(error)}") from error
    if not isinstance(content, dict) or not all(isinstance(v, str) and v.strip() for v in content.values()):
        raise EvaluationError(f'{path} is not of the form {{"wheel": "tyre", "hood": "bonnet"}}')
    return content


def distractor_names(text: str, vocabulary: Vocabulary) -> list[str]:
    """Names to add: a number takes so many of the list `lvis_v1`, evenly spaced; else a list or file as for `load`.

    Raises:
        EvaluationError: the number is below 1.
        VocabularyError: neither a list nor a file.
    """
    count = natural(text)
    if count is None:
        return list(Vocabulary.load(text).names)
    if count < 1:
        raise EvaluationError("--distractors needs a number of names, 1 or more")
    known = {name.casefold() for name in vocabulary.names}
    names = [n.replace("_", " ") for n in Vocabulary.load(DISTRACTOR_LIST).names]
    free = [name for name in names if name.casefold() not in known]
    return [free[i * len(free) // min(count, len(free))] for i in range(min(count, len(free)))]


def vocabulary_variants(
    dataset: Dataset, options: Options, wordings: Mapping[str, str] | None, distractors: str | None
) -> dict[str, tuple[str, Options]]:
    """Name -> (what is changed, options) of the variants asked for.

    Raises:
        EvaluationError: the wordings change nothing, or nothing is left to add.
    """
    plain = options.vocabulary or dataset_vocabulary(dataset.truth, dataset.benchmark.vocabulary)
    classes = list(options.classes or categories_of_classes(dataset.truth, plain))
    variants: dict[str, tuple[str, Options]] = {}
    if wordings is not None:
        other = paraphrased(plain, wordings)
        changed = sum(a.name != b.name for a, b in zip(plain.entries, other.entries, strict=True))
        about = f"{changed} of {len(plain)} names in other words"
        variants["paraphrased"] = about, replace(options, vocabulary=other, classes=classes)
    if distractors is not None:
        other = with_distractors(plain, distractor_names(distractors, plain))
        added = len(other) - len(plain)
        about = f"{added} names added that are not in the data"
        variants["distractors"] = about, replace(options, vocabulary=other, classes=classes + [None] * added)
    return variants


def evaluate_variant(
    predictor: Predicts,
    dataset: Dataset,
    plain: Evaluation | None,
    variant: tuple[str, tuple[str, Options]],
    *,
    group: World,
    progress: Progress | None = None,
) -> Variant | None:
    """Predict and score one variant; None on all but the first process, which alone has the `plain` scores."""
    name, (about, options) = variant
    predictions = predict(predictor, dataset, options, group=group, label=name, progress=progress)
    if predictions is None or plain is None:
        return None
    evaluation = score_all(dataset, predictions)[0]
    return compare(name, about, dataset, plain, evaluation)


def compare(name: str, about: str, dataset: Dataset, plain: Evaluation, evaluation: Evaluation) -> Variant:
    """The drop from one evaluation to another of the same data."""
    before = dataset.benchmark.headline_figures(plain)
    now = dataset.benchmark.headline_figures(evaluation)
    return Variant(
        name=name,
        about=about,
        evaluation=evaluation,
        headline=now,
        drop={label: before[label] - now[label] for label in before},
        worst=_worst(_main(plain), _main(evaluation)),
    )


def _main(evaluation: Evaluation) -> Scores:
    scores = evaluation.masks or evaluation.boxes
    assert scores is not None
    return scores


def _worst(plain: Scores, now: Scores, count: int = 10) -> tuple[tuple[str, float, float], ...]:
    pairs = [(name, value.ap50, now.per_class[name].ap50) for name, value in plain.per_class.items()]
    order: Callable[[tuple[str, float, float]], float] = lambda row: row[2] - row[1]  # noqa: E731
    lost: Sequence[tuple[str, float, float]] = [row for row in sorted(pairs, key=order) if row[2] < row[1]]
    return tuple(lost[:count])
