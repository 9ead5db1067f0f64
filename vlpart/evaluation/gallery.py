"""The pictures of the report: ground truth beside prediction, where the model did best and worst."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from vlpart.data.images import read_image
from vlpart.evaluation.coco import Checked
from vlpart.evaluation.truth import ordered_categories
from vlpart.masks import MaskStack
from vlpart.results import Result
from vlpart.rle import coco_rle
from vlpart.text.vocabulary import Vocabulary
from vlpart.visualize.draw import draw_result
from vlpart.visualize.report import PicturePair

if TYPE_CHECKING:
    from PIL import Image

    from vlpart.evaluation.run import Dataset

COUNT = 6
_SIDE = 560
_SHOWN = 30  # detections on a picture


def picture_pairs(
    dataset: Dataset, checked: Checked, judge: Any, kind: str, score_threshold: float
) -> tuple[list[PicturePair], list[PicturePair]]:
    """(worst, best) pictures by F1 at IoU 0.5 of the detections over the threshold; of equals those with most to find.

    Raises:
        DataError: a picture is missing.
        ImageError: a picture cannot be read.
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

    def pair(image_id: int) -> PicturePair:
        image, summary = images[image_id], judged[image_id]
        pixels = read_image(dataset.picture(image))
        size = (pixels.shape[0], pixels.shape[1])
        known = [a for a in checked.annotations if a["image_id"] == image_id and not a["iscrowd"]]
        rows = np.flatnonzero((checked.table.image_ids == image_id) & (checked.table.scores >= score_threshold))
        rows = rows[np.argsort(-checked.table.scores[rows], kind="stable")][:_SHOWN]
        truth = _result(known, size, vocabulary, kind)
        found = _result([_row(checked, row, kind) for row in rows.tolist()], size, vocabulary, kind)
        judgement = f"{summary['tp']} right, {summary['fp']} wrong, {summary['fn']} missed (F1 {summary['f1']:.2f})"
        return PicturePair(
            caption=f"{image.get('file_name', image_id)}: {judgement}",
            truth=_jpeg(draw_result(pixels, truth, scores=False, legend=False)),
            prediction=_jpeg(draw_result(pixels, found, legend=False)),
        )

    return [pair(image_id) for image_id in worst], [pair(image_id) for image_id in best]


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


def _jpeg(picture: Image.Image) -> bytes:
    picture.thumbnail((_SIDE, _SIDE))
    buffer = BytesIO()
    picture.save(buffer, "JPEG", quality=76, optimize=True)
    return buffer.getvalue()
