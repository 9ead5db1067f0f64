"""What no exporter can translate by itself: suppression, as torch operators with an ONNX form.

Their shapes are known beforehand, except for the number of detections, so the graph stays free of conditions. For
TorchScript the same functions are traced as they stand.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vlpart.models.operators import batched_nms, load_operators

_CANDIDATES = 1024  # beyond 16 per detection; only better ones of the same name can suppress a candidate


def unsuppressed(boxes_xyxy: Tensor, scores: Tensor, groups: Tensor, iou_threshold: float) -> Tensor:
    """(N,) bool: which boxes greedy suppression within each group leaves.

    Args:
        boxes_xyxy: (N, 4) float32.
        scores: (N,) float32.
        groups: (N,) float32 whole numbers.
        iou_threshold: see `batched_nms`.
    """
    load_operators()
    sides = torch.cat((boxes_xyxy.flatten(), boxes_xyxy.new_zeros(1)))  # there may be no box
    span = (sides.max() - sides.min()).double() + 1
    apart = boxes_xyxy.double() + (groups.double() * span)[:, None]
    kept = torch.ops.torchvision.nms(apart, scores.double(), iou_threshold)
    return torch.zeros_like(scores).index_fill(0, kept, 1.0) > 0.5


def chosen(
    scores: Tensor, boxes_xyxy: Tensor, threshold: Tensor, iou_threshold: float, max_detections: int
) -> tuple[Tensor, Tensor]:
    """Rows and columns of the best scores above a threshold after class-wise suppression, best first.

    Args:
        scores: (P, C) float32.
        boxes_xyxy: (P, 4) float32.
        threshold: () float32.
        iou_threshold: see `batched_nms`.
        max_detections: M at most.

    Returns:
        (M,) int64 each.
    """
    row, label = (scores > threshold).nonzero(as_tuple=True)
    order = scores[row, label].sort(descending=True, stable=True).indices[: 16 * max_detections + _CANDIDATES]
    row, label = row[order], label[order]
    kept = unsuppressed(boxes_xyxy[row], scores[row, label], label.float(), iou_threshold).nonzero().squeeze(1)
    return row[kept][:max_detections], label[kept][:max_detections]


def best_first(scores: Tensor, threshold: Tensor) -> Tensor:
    """(K,) int64: the places of (M,) scores above a threshold, best first."""
    order = scores.sort(descending=True).indices  # exporters know no sort that is said to be stable
    return order[scores[order] > threshold]


@torch.library.custom_op("vlpart::unsuppressed", mutates_args=())
def unsuppressed_operator(boxes_xyxy: Tensor, scores: Tensor, groups: Tensor, iou_threshold: float) -> Tensor:
    """`unsuppressed` as one node of a graph."""
    kept = batched_nms(boxes_xyxy, scores, groups.long(), iou_threshold)
    return torch.zeros_like(scores).index_fill(0, kept, 1.0) > 0.5


@unsuppressed_operator.register_fake
def _(boxes_xyxy: Tensor, scores: Tensor, groups: Tensor, iou_threshold: float) -> Tensor:
    return torch.empty_like(scores, dtype=torch.bool)


@torch.library.custom_op("vlpart::chosen", mutates_args=())
def chosen_operator(
    scores: Tensor, boxes_xyxy: Tensor, threshold: Tensor, iou_threshold: float, max_detections: int
) -> tuple[Tensor, Tensor]:
    """`chosen` as one node of a graph."""
    row, label = chosen(scores, boxes_xyxy, threshold, iou_threshold, max_detections)
    return row.clone(), label.clone()


@chosen_operator.register_fake
def _(
    scores: Tensor, boxes_xyxy: Tensor, threshold: Tensor, iou_threshold: float, max_detections: int
) -> tuple[Tensor, Tensor]:
    count = torch.library.get_ctx().new_dynamic_size(min=0)
    return scores.new_empty(count, dtype=torch.int64), scores.new_empty(count, dtype=torch.int64)


def onnx_forms() -> dict[Any, Any]:
    """How the operators, and RoIAlign, are said in ONNX: `NonMaxSuppression`, and what sorts its answer."""
    import torchvision  # noqa: F401  (defines roi_align)
    from onnxscript import opset18 as op

    def constant(*values: int) -> Any:
        return op.Constant(value_ints=list(values))

    def suppress(boxes: Any, scores: Any, most: Any, iou: float, threshold: Any) -> Any:
        """(K, 3) int64: batch, class and box of what non-maximum suppression keeps."""
        return op.NonMaxSuppression(
            op.Unsqueeze(boxes, constant(0)), scores, most, op.Constant(value_floats=[iou]), threshold
        )

    def unsuppressed_form(boxes_xyxy: Any, scores: Any, groups: Any, iou_threshold: float) -> Any:
        """`unsuppressed`, with groups moved apart instead of classes."""
        span = op.Add(op.ReduceMax(boxes_xyxy, keepdims=0), op.Constant(value_float=1.0))
        apart = op.Add(boxes_xyxy, op.Unsqueeze(op.Mul(groups, span), constant(1)))
        lowest = op.Constant(value_floats=[-1e30])
        every = op.Shape(scores)
        found = suppress(apart, op.Unsqueeze(scores, constant(0, 1)), every, iou_threshold, lowest)
        places = op.Squeeze(op.Slice(found, constant(2), constant(3), constant(1)), constant(1))
        none = op.Expand(op.Constant(value_float=0.0), every)
        ones = op.Expand(op.Constant(value_float=1.0), op.Shape(places))
        return op.Greater(op.ScatterElements(none, places, ones, axis=0), op.Constant(value_float=0.5))

    def chosen_form(
        scores: Any, boxes_xyxy: Any, threshold: Any, iou_threshold: float, max_detections: int
    ) -> tuple[Any, Any]:
        """`chosen`."""
        by_name = op.Unsqueeze(op.Transpose(scores, perm=[1, 0]), constant(0))
        found = suppress(
            boxes_xyxy, by_name, constant(max_detections), iou_threshold, op.Unsqueeze(threshold, constant(0))
        )
        label = op.Squeeze(op.Slice(found, constant(1), constant(2), constant(1)), constant(1))
        row = op.Squeeze(op.Slice(found, constant(2), constant(3), constant(1)), constant(1))
        score = op.GatherND(scores, op.Concat(op.Unsqueeze(row, constant(1)), op.Unsqueeze(label, constant(1)), axis=1))
        _, best = op.TopK(score, op.Min(op.Shape(score), constant(max_detections)))
        return op.Gather(row, best), op.Gather(label, best)

    def roi_align_form(
        features: Any, rois: Any, scale: float, height: int, width: int, sampling_ratio: int, aligned: bool
    ) -> Any:
        """`torchvision.ops.roi_align`."""
        images = op.Cast(op.Squeeze(op.Slice(rois, constant(0), constant(1), constant(1)), constant(1)), to=7)  # int64
        return op.RoiAlign(
            features,
            op.Slice(rois, constant(1), constant(5), constant(1)),
            images,
            coordinate_transformation_mode="half_pixel" if aligned else "output_half_pixel",
            mode="avg",
            output_height=height,
            output_width=width,
            sampling_ratio=max(sampling_ratio, 0),
            spatial_scale=scale,
        )

    return {
        torch.ops.torchvision.roi_align.default: roi_align_form,
        torch.ops.vlpart.unsuppressed.default: unsuppressed_form,
        torch.ops.vlpart.chosen.default: chosen_form,
    }
