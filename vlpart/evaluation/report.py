"""What goes on the report page of an evaluation: figures as text, curves, confusion, and the images where the model did
best and worst.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vlpart.data.images import read_image
from vlpart.evaluation import engine
from vlpart.evaluation.absent import Absent
from vlpart.evaluation.average_precision import Checked, class_labels
from vlpart.evaluation.dataset import Dataset
from vlpart.evaluation.operating import ThresholdCounts
from vlpart.evaluation.referring import Answer, Referring
from vlpart.evaluation.robustness import Variant
from vlpart.evaluation.scores import AveragePrecision, Evaluation, PartIou, Scores
from vlpart.evaluation.truth import is_part, ordered_categories
from vlpart.masks.rle import coco_rle
from vlpart.masks.stack import MaskStack
from vlpart.results.result import Result
from vlpart.text.vocabulary import Vocabulary
from vlpart.visualize.draw import draw_result
from vlpart.visualize.page import Bar, BarGroup, Confusion, Curve, ImagePair, Report, Table

if TYPE_CHECKING:
    from PIL import Image


SCORE_THRESHOLD = 0.3
"""Of the detections in the confusion and on the images."""
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
    title: str,
    dataset: Dataset,
    checked: Checked,
    evaluation: Evaluation,
    variants: Sequence[Variant] = (),
    questions: tuple[ThresholdCounts, Referring | None, Absent | None] | None = None,
) -> Report:
    """Collect the page.

    Args:
        title: its heading.
        dataset: for the images; without a folder of images there are none on the page.
        checked: what was scored.
        evaluation: its scores.
        variants: of the vocabulary.
        questions: figures at the threshold, and the answers to questions for parts and for absent names. Where parts
            were asked for, the images of the page are those of the best and the worst answers.

    Raises:
        DataError: an image is missing.
    """
    kind = "masks" if evaluation.masks is not None else "boxes"
    scores = evaluation.masks or evaluation.boxes
    assert scores is not None
    counts = _annotation_counts(checked)
    judge = engine.evaluator(
        checked.index_of(kind),
        checked.table.take(checked.table.scores >= SCORE_THRESHOLD),
        kind,
        federated=evaluation.rule == "lvis",
        limits=(max(evaluation.max_detections, 1),),
    )
    confusion, confused = _confusion(checked, judge)
    worst, best = image_pairs(dataset, checked, judge, kind, SCORE_THRESHOLD)
    if questions is not None and questions[1] is not None and dataset.images is not None:
        worst, best = answer_pairs(dataset, checked, questions[1])
    notes = list(evaluation.notes)
    if dataset.images is None:
        notes.append("No images on this page: the folder of the images was not given.")
    return Report(
        title=title,
        facts=[
            f"{evaluation.images} images",
            f"{evaluation.annotations} annotations",
            f"{evaluation.detections} detections that count",
            {"coco": "COCO rule", "lvis": "LVIS rule (annotated classes only)", "voc": "VOC 2007 rule"}[
                evaluation.rule
            ],
            f"at most {evaluation.max_detections} detections",
        ],
        headline=[(k, _percent(v)) for k, v in dataset.benchmark.headline_figures(evaluation).items()],
        tables=[
            *_precision_tables(evaluation),
            *_more_tables(evaluation),
            *([] if questions is None else _question_tables(*questions)),
            *_variant_tables(variants),
        ],
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
        rows: dict[str, AveragePrecision] = {"all": scores.all, "parts": scores.parts, "objects": scores.objects}
        rows["parts by name"] = scores.parts_by_name
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
    confusion = judge.confusion_matrix(iou_thr=0.5, min_score=SCORE_THRESHOLD)
    matrix = np.asarray(confusion["matrix"], dtype=np.int64)
    ordered = ordered_categories(checked.truth)
    labels = class_labels(checked.truth)
    place = {category_id: k for k, category_id in enumerate(confusion["cat_ids"])}
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


COUNT = 6
_SIDE = 560
_SHOWN = 30  # detections on an image


def image_pairs(
    dataset: Dataset, checked: Checked, judge: Any, kind: str, score_threshold: float
) -> tuple[list[ImagePair], list[ImagePair]]:
    """(worst, best) images by F1 at IoU 0.5 of the detections over the threshold; of equals those with most to find.

    Raises:
        DataError: an image is missing.
        ImageError: an image cannot be read.
    """
    if dataset.images is None:
        return [], []
    counts: dict[int, int] = {}
    for annotation in checked.annotations:
        counts[annotation["image_id"]] = counts.get(annotation["image_id"], 0) + (not annotation["iscrowd"])
    diagnosed = judge.image_diagnostics(iou_thr=0.5, score_thr=score_threshold)["img_summary"]
    judged = {int(image_id): summary for image_id, summary in diagnosed.items() if counts.get(int(image_id))}
    worst = sorted(judged, key=lambda i: (judged[i]["f1"], -counts[i], i))[:COUNT]
    best = sorted(judged, key=lambda i: (-judged[i]["f1"], -counts[i], i))
    best = [image_id for image_id in best if image_id not in worst and judged[image_id]["f1"] > 0][:COUNT]
    images = {image["id"]: image for image in checked.truth["images"]}
    vocabulary = Vocabulary.from_categories(ordered_categories(checked.truth))

    def pair(image_id: int) -> ImagePair:
        """An image with what is annotated, beside it with what was found."""
        image, summary = images[image_id], judged[image_id]
        pixels = read_image(dataset.image_path(image))
        size = (pixels.shape[0], pixels.shape[1])
        known = [a for a in checked.annotations if a["image_id"] == image_id and not a["iscrowd"]]
        rows = np.flatnonzero((checked.table.image_ids == image_id) & (checked.table.scores >= score_threshold))
        rows = rows[np.argsort(-checked.table.scores[rows], kind="stable")][:_SHOWN]
        truth = _result(known, size, vocabulary, kind)
        result = _result([_row(checked, row, kind) for row in rows.tolist()], size, vocabulary, kind)
        judgement = f"{summary['tp']} right, {summary['fp']} wrong, {summary['fn']} missed (F1 {summary['f1']:.2f})"
        return ImagePair(
            caption=f"{image.get('file_name', image_id)}: {judgement}",
            truth=_jpeg(draw_result(pixels, truth, scores=False, legend=False)),
            prediction=_jpeg(draw_result(pixels, result, legend=False)),
        )

    return [pair(image_id) for image_id in worst], [pair(image_id) for image_id in best]


def answer_pairs(dataset: Dataset, checked: Checked, referring: Referring) -> tuple[list[ImagePair], list[ImagePair]]:
    """(worst, best) answers to the questions for parts, one of each image at most: the annotations of the class beside
    the first answer.

    Raises:
        DataError: an image is missing.
        ImageError: an image cannot be read.
    """
    images = {image["id"]: image for image in checked.truth["images"]}
    vocabulary = Vocabulary.from_categories(ordered_categories(checked.truth))

    def pair(answer: Answer) -> ImagePair:
        """An image with what is annotated, beside it with what was found."""
        image = images[answer.image_id]
        pixels = read_image(dataset.image_path(image))
        size = (pixels.shape[0], pixels.shape[1])
        known = [
            a
            for a in checked.annotations
            if (a["image_id"], a["category_id"]) == (answer.image_id, answer.category_id) and not a["iscrowd"]
        ]
        place = vocabulary.index_of_id[answer.category_id]
        masks = answer.mask if answer.mask is not None else MaskStack.from_bitmaps([], size)
        result = Result(
            image_size=size,
            boxes_xyxy=np.array([_bounds(mask) for mask in masks], dtype=np.float64).reshape(-1, 4),
            scores=[answer.score] * len(masks),
            class_ids=np.full(len(masks), place, dtype=np.int64),
            masks=masks,
            vocabulary=vocabulary,
        )
        about = f"IoU {answer.iou:.2f}, best at any rank {answer.any_rank:.2f}"
        return ImagePair(
            caption=f"{answer.name} in {image.get('file_name', answer.image_id)}: {about}",
            truth=_jpeg(draw_result(pixels, _result(known, size, vocabulary, "masks"), scores=False, legend=False)),
            prediction=_jpeg(draw_result(pixels, result, legend=False)),
        )

    def first_of_each_image(answers: Iterable[Answer]) -> list[Answer]:
        """The first answer of each image, for so many images."""
        chosen: dict[int, Answer] = {}
        for answer in answers:
            if len(chosen) < COUNT:
                chosen.setdefault(answer.image_id, answer)
        return list(chosen.values())

    worst = first_of_each_image(sorted(referring.answers, key=lambda a: (a.iou - a.any_rank, a.image_id)))
    best = first_of_each_image(sorted(referring.answers, key=lambda a: (-a.iou, a.image_id)))
    return [pair(answer) for answer in worst], [pair(answer) for answer in best]


def _bounds(mask: NDArray[np.bool_]) -> list[float]:
    """x0, y0, x1, y1 of a bitmap."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return [0.0, 0.0, 1.0, 1.0]
    return [float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)]


def _question_tables(point: ThresholdCounts, referring: Referring | None, absent: Absent | None) -> list[Table]:
    """Figures at the threshold; those of questions where they were asked."""
    rows = [
        [f"precision over {point.threshold:g}", _percent(point.precision)],
        [f"recall over {point.threshold:g}", _percent(point.recall)],
    ]
    if referring is not None:
        rows += [
            ["mean IoU of the first answer", _percent(referring.mean_iou)],
            ["cumulative IoU", _percent(referring.cumulative_iou)],
            ["answers with IoU 0.5 or more", _percent(referring.p50)],
            ["the same, mean over 0.5 to 0.95", _percent(referring.p50_95)],
            ["mean of the best IoU at any rank", _percent(referring.any_rank)],
        ]
    if absent is not None:
        rows += [
            [f"detections of {absent.names} absent nouns per image", f"{absent.per_image:.2f}"],
            [f"random strings found, of {absent.strings}", str(absent.strings_found)],
        ]
    return [Table(title="At the threshold, and asked alone", headings=["figure", "value"], rows=rows)]


def _row(checked: Checked, row: int, kind: str) -> dict[str, Any]:
    table = checked.table
    entry: dict[str, Any] = {
        "category_id": int(table.category_ids[row]),
        "bbox": table.boxes_xywh[row].tolist(),
        "score": float(np.clip(table.scores[row], 0, 1)),
    }
    if kind == "masks" and table.masks is not None:
        entry["segmentation"] = table.masks[row]
    return entry


def _result(entries: Sequence[Mapping[str, Any]], size: tuple[int, int], vocabulary: Vocabulary, kind: str) -> Result:
    """Annotations or detections as a `Result`."""
    boxes = np.array([entry["bbox"] for entry in entries], dtype=np.float64).reshape(-1, 4)
    masks = None
    if kind == "masks":
        rles = [coco_rle(entry["segmentation"], size) for entry in entries]
        masks = MaskStack.from_rles(rles, size) if rles else MaskStack.from_bitmaps([], size)
    return Result(
        image_size=size,
        boxes_xyxy=np.hstack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]]),
        scores=[entry.get("score", 1.0) for entry in entries],
        class_ids=np.array([vocabulary.index_of_id[entry["category_id"]] for entry in entries], dtype=np.int64),
        masks=masks,
        vocabulary=vocabulary,
    )


def _jpeg(image: Image.Image) -> bytes:
    image.thumbnail((_SIDE, _SIDE))
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=76, optimize=True)
    return buffer.getvalue()
