"""Class-agnostic recall of boxes: of the proposals of a model, or of its detections whatever they are called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vlpart.data.readers.values import Id
from vlpart.evaluation import engine
from vlpart.evaluation.average_precision import Checked
from vlpart.evaluation.detections import DetectionTable
from vlpart.evaluation.identity import numbers
from vlpart.evaluation.scores import NAN, Recall

if TYPE_CHECKING:
    from vlpart.data.images import ReadImage
    from vlpart.inference.predictor import Predictor

LIMITS = (100, 300, 1000)


def box_recall(checked: Checked, proposals: Mapping[Id, Sequence[Sequence[float]]] | None = None) -> Recall:
    """Average recall over IoU 0.50:0.95 with the best 100, 300 and 1000 boxes of an image, by size of the annotation.

    Args:
        checked: ground truth and detections.
        proposals: by image id of the file rows of x, y, width, height, score; None takes the detections.
    """
    table = checked.table if proposals is None else _proposal_table(checked, proposals)
    result = engine.evaluator(checked.index, table, "boxes", federated=False, limits=LIMITS, use_categories=False).eval
    recall = np.asarray(result["recall"], dtype=np.float64)[:, 0]  # (10 IoUs, 4 areas, 3 limits)
    means = [{limit: _mean(recall[:, a, m]) for m, limit in enumerate(LIMITS)} for a in range(len(engine.AREAS))]
    source = "detections" if proposals is None else "proposals"
    return Recall(source=source, all=means[0], small=means[1], medium=means[2], large=means[3])


def _mean(values: NDArray[np.float64]) -> float:
    return NAN if (values < 0).any() else float(values.mean())


def _proposal_table(checked: Checked, proposals: Mapping[Id, Sequence[Sequence[float]]]) -> DetectionTable:
    rows = [np.asarray(boxes, dtype=np.float64).reshape(-1, 5) for boxes in proposals.values()]
    boxes = np.concatenate(rows) if rows else np.zeros((0, 5))
    known = numbers(checked.truth["images"])
    ids = np.repeat(np.array([known[key] for key in proposals], dtype=np.int64), [len(each) for each in rows])
    return DetectionTable(
        image_ids=ids,
        category_ids=np.full(len(boxes), checked.index.category_ids[0], dtype=np.int64),
        boxes_xywh=boxes[:, :4],
        scores=boxes[:, 4],
        masks=None,
        mask_areas=None,
    )


def predict_proposals(predictor: Predictor, image: ReadImage, limit: int = LIMITS[-1]) -> list[list[float]]:
    """The best class-agnostic proposals of an image: rows of x, y, width, height in its pixels, and objectness 0..1."""
    import torch

    from vlpart.data.preprocess import to_batch
    from vlpart.models.rpn import ProposalOptions
    from vlpart.runtime import autocast
    from vlpart.types import ImageBatch

    batch = to_batch([image.resized])
    options = ProposalOptions(pre_nms=limit, post_nms=limit)
    with torch.inference_mode(), autocast(predictor.device, predictor.precision):
        inputs = batch.pixels.to(predictor.device).contiguous(memory_format=torch.channels_last)
        images = ImageBatch(pixels=inputs, sizes_hw=batch.sizes_hw)
        pyramid = predictor.detector.pyramid(images.pixels)
        proposals = predictor.detector.propose(pyramid, images.sizes_hw, options)[0]
    height, width = batch.sizes_hw[0]
    scale = np.array([image.pixels.shape[1] / width, image.pixels.shape[0] / height] * 2)
    x0, y0, x1, y1 = (proposals.boxes_xyxy.float().cpu().numpy().astype(np.float64) * scale).T
    scores = proposals.logits.float().sigmoid().cpu().numpy()
    rows = np.stack([x0, y0, x1 - x0, y1 - y0, scores], axis=1)
    return [[round(value, 4) for value in row] for row in rows.tolist()]
