"""What goes on the report page of an evaluation: figures as text, curves, confusion, best and worst pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlpart.evaluation import engine
from vlpart.evaluation.coco import Checked, class_labels
from vlpart.evaluation.gallery import picture_pairs
from vlpart.evaluation.robustness import Variant
from vlpart.evaluation.run import Dataset
from vlpart.evaluation.scores import Evaluation, PartIou, Precision, Scores
from vlpart.evaluation.truth import is_part, ordered_categories
from vlpart.visualize.report import BarGroup, Report, Table
from vlpart.visualize.report_charts import Bar, Confusion, Curve

SCORE_THRESHOLD = 0.3
"""Of the detections in the confusion and on the pictures."""
_BARS = 120
_CURVES = 18
_MATRIX = 26
_RULES = {"coco": "COCO rule", "lvis": "LVIS rule (annotated classes only)", "voc": "VOC 2007 rule"}
_PRECISION = {
    "AP": "ap",
    "AP50": "ap50",
    "AP75": "ap75",
    "AP small": "ap_small",
    "AP medium": "ap_medium",
    "AP large": "ap_large",
    "AR": "ar",
}


def build_report(
    title: str, dataset: Dataset, checked: Checked, evaluation: Evaluation, variants: Sequence[Variant] = ()
) -> Report:
    """Collect the page.

    Args:
        title: its heading.
        dataset: for the pictures; without a folder of pictures there are none on the page.
        checked: what was scored.
        evaluation: its scores.
        variants: of the vocabulary.

    Raises:
        DataError: a picture is missing.
    """
    kind = "masks" if evaluation.masks is not None else "boxes"
    scores = evaluation.masks or evaluation.boxes
    assert scores is not None
    counts = _annotation_counts(checked)
    judge = engine.evaluator(
        checked.index,
        checked.table.take(checked.table.scores >= SCORE_THRESHOLD),
        kind,
        federated=evaluation.rule == "lvis",
        limits=(max(evaluation.max_detections, 1),),
    )
    confusion, confused = _confusion(checked, judge)
    worst, best = picture_pairs(dataset, checked, judge, kind, SCORE_THRESHOLD)
    notes = list(evaluation.notes)
    if dataset.images is None:
        notes.append("No pictures on this page: the folder of the images was not given.")
    return Report(
        title=title,
        facts=[
            f"{evaluation.images} pictures",
            f"{evaluation.annotations} annotations",
            f"{evaluation.detections} detections that count",
            {"coco": "COCO rule", "lvis": "LVIS rule (annotated classes only)", "voc": "VOC 2007 rule"}[
                evaluation.rule
            ],
            f"at most {evaluation.max_detections} detections",
        ],
        headline=[(k, _percent(v)) for k, v in dataset.benchmark.headline_figures(evaluation).items()],
        tables=[*_precision_tables(evaluation), *_more_tables(evaluation), *_variant_tables(variants)],
        bars=_bars(scores, counts),
        curves=_curves(scores, counts),
        confusion=confusion,
        confused=confused,
        best=best,
        worst=worst,
        notes=notes,
    )


def _percent(value: float) -> str:
    return "–" if value != value else f"{100 * value:.1f}"


def _annotation_counts(checked: Checked) -> dict[str, int]:
    labels = dict(zip((c["id"] for c in ordered_categories(checked.truth)), class_labels(checked.truth), strict=True))
    return Counter(labels[a["category_id"]] for a in checked.annotations if not a["iscrowd"])


def _precision_tables(evaluation: Evaluation) -> list[Table]:
    """One table for masks, one for boxes."""
    tables = []
    for title, scores in (("Masks", evaluation.masks), ("Boxes", evaluation.boxes)):
        if scores is None:
            continue
        rows: dict[str, Precision] = {"all": scores.all, "parts": scores.parts, "objects": scores.objects}
        rows |= scores.groups
        cells = [
            [name, str(value.classes), *(_percent(getattr(value, field)) for field in _PRECISION.values())]
            for name, value in rows.items()
            if value.classes
        ]
        tables.append(Table(title=title, headings=["", "classes", *_PRECISION], rows=cells))
    return tables


def _more_tables(evaluation: Evaluation) -> list[Table]:
    tables = []
    if (pairs := evaluation.pairs) is not None:
        row = ["object and part", str(pairs.classes), *(_percent(x) for x in (pairs.ap, pairs.ap50, pairs.ap75))]
        about = "Mask AP of parts that must also lie in the right object (its mask found with IoU 0.5 or more)."
        headings = ["", "classes", "AP", "AP50", "AP75"]
        tables.append(Table(title="Parts in the right object", headings=headings, rows=[row], about=about))
    settings = (("all pixels", evaluation.part_iou), ("within objects", evaluation.part_iou_in_objects))
    rows = [_iou_row(name, iou) for name, iou in settings if iou is not None]
    if rows:
        about = "Parts as labels of pixels. Within objects: only pixels with a part; only its object's parts compete."
        tables.append(Table(title="Part IoU", headings=["", "mIoU", "base", "novel", "hIoU"], rows=rows, about=about))
    if (recall := evaluation.recall) is not None:
        rows = [
            [f"best {limit}", *(_percent(x[limit]) for x in (recall.all, recall.small, recall.medium, recall.large))]
            for limit in recall.all
        ]
        headings = ["", "all", "small", "medium", "large"]
        tables.append(Table(title=f"Class-agnostic box recall of {recall.source}", headings=headings, rows=rows))
    return tables


def _iou_row(name: str, iou: PartIou) -> list[str]:
    return [name, *(_percent(value) for value in (iou.miou, iou.base, iou.novel, iou.hiou))]


def _variant_tables(variants: Sequence[Variant]) -> list[Table]:
    tables = []
    for variant in variants:
        rows = [[label, _percent(value), _percent(variant.drop[label])] for label, value in variant.headline.items()]
        rows += [[f"{name} AP50", _percent(now), _percent(plain - now)] for name, plain, now in variant.worst]
        title = f"Vocabulary: {variant.name}"
        tables.append(Table(title=title, headings=["", "now", "drop"], rows=rows, about=f"{variant.about}."))
    return tables


def _bars(scores: Scores, counts: Mapping[str, int]) -> list[BarGroup]:
    """All classes by AP; the best and worst ones where there are very many."""
    bars = [Bar(name=n, ap=p.ap, ap50=p.ap50, count=counts.get(n, 0)) for n, p in scores.per_class.items()]
    bars.sort(key=lambda bar: (-bar.ap, -bar.ap50, bar.name))
    if len(bars) <= _BARS:
        return [BarGroup(title=f"{len(bars)} classes", bars=bars)] if bars else []
    half = _BARS // 2
    return [
        BarGroup(title=f"Best {half} of {len(bars)} classes", bars=bars[:half]),
        BarGroup(title=f"Worst {half} of {len(bars)} classes", bars=bars[-half:]),
    ]


def _curves(scores: Scores, counts: Mapping[str, int]) -> list[Curve]:
    """The mean of all classes, then the classes with most annotations."""
    if not scores.curves:
        return []
    mean = np.mean(list(scores.curves.values()), axis=0)
    chosen = sorted(scores.curves, key=lambda name: -counts.get(name, 0))[:_CURVES]
    named = {f"mean of {len(scores.curves)} classes": mean, **{name: scores.curves[name] for name in chosen}}
    return [Curve(title=name, at50=values[0].tolist(), at75=values[1].tolist()) for name, values in named.items()]


def _confusion(checked: Checked, judge: Any) -> tuple[Confusion | None, Table | None]:
    """The matrix of the parts (of all classes where there are no parts), and the most frequent mistakes."""
    found = judge.confusion_matrix(iou_thr=0.5, min_score=SCORE_THRESHOLD)
    matrix = np.asarray(found["matrix"], dtype=np.int64)
    ordered = ordered_categories(checked.truth)
    labels = class_labels(checked.truth)
    place = {category_id: k for k, category_id in enumerate(found["cat_ids"])}
    order = [place[category["id"]] for category in ordered] + [len(place)]
    matrix = matrix[np.ix_(order, order)]
    part = [is_part(category) for category in ordered]
    rows = [k for k in range(len(ordered)) if part[k] or not any(part)]
    rows = [k for k in rows if matrix[k].sum()]
    if len(rows) < 2:
        return None, None
    shown = sorted(sorted(rows, key=lambda k: -int(matrix[k].sum()))[:_MATRIX])
    return _shown(matrix, shown, labels), _mistakes(matrix, rows, labels)


def _shown(matrix: NDArray[np.int64], shown: Sequence[int], labels: Sequence[str]) -> Confusion:
    """The chosen classes; what was found as any other class is left out of their rows."""
    places = [*shown, len(labels)]
    return Confusion(names=[labels[k] for k in shown], counts=matrix[np.ix_(places, places)].tolist())


def _mistakes(matrix: NDArray[np.int64], rows: Sequence[int], labels: Sequence[str]) -> Table | None:
    pairs = [(int(matrix[i, j]), i, j) for i in rows for j in range(len(labels)) if i != j and matrix[i, j]]
    pairs.sort(key=lambda entry: (-entry[0], entry[1], entry[2]))
    cells = [
        [f"{labels[i]} found as {labels[j]}", str(n), f"{100 * n / matrix[i].sum():.0f}%"] for n, i, j in pairs[:15]
    ]
    return Table(title="Most frequent mistakes", headings=["", "times", "of all"], rows=cells) if cells else None
