"""From a batch to its losses: what counts depends on the annotation kind of its source
(docs/method.md, 'Annotation kinds')."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor

from vlpart.losses.boxes_and_masks import box_loss, classification_loss, known_weights, mask_loss
from vlpart.losses.distillation import Teacher, distillation_loss
from vlpart.losses.matching import LabelledRegions, exact, label_regions, sample_regions
from vlpart.losses.options import LossOptions, ParsedPartAssignment
from vlpart.losses.ranking import name_ranking_loss, quality_loss, region_ranking_loss
from vlpart.losses.rpn import rpn_losses
from vlpart.losses.weak_labels import class_mask, federated_classes, weak_label_loss
from vlpart.models import boxes
from vlpart.models.detector import Detector
from vlpart.models.evidence import propose_seen
from vlpart.models.roi_align import pool_regions
from vlpart.models.roi_heads import BOX_SIZE, BoxStage
from vlpart.models.rpn import ProposalOptions, Proposals, select_proposals
from vlpart.types import AnnotationKind, Batch

__all__ = ["LossOptions", "ParsedPartAssignment", "compute_losses"]


@dataclass(kw_only=True)
class _Step:
    """What the losses of one batch share."""

    detector: Detector
    batch: Batch
    text: Tensor
    options: LossOptions
    frequencies: Tensor | None
    generator: torch.Generator | None
    teacher: Teacher | None
    pyramid: list[Tensor] = field(default_factory=list)
    teacher_pyramid: list[Tensor] = field(default_factory=list)
    proposals: list[Proposals] = field(default_factory=list)

    @property
    def sizes_hw(self) -> Sequence[tuple[int, int]]:
        return self.batch.images.sizes_hw


def compute_losses(
    detector: Detector,
    batch: Batch,
    text: Tensor,
    options: LossOptions,
    *,
    frequencies: Tensor | None = None,
    generator: torch.Generator | None = None,
    teacher: Teacher | None = None,
) -> dict[str, Tensor]:
    """Every loss of a batch, already weighted; their sum is what is minimised.

    Args:
        detector: in training mode.
        batch: images and ground truth of one source, on the detector's device.
        text: (C, D) embeddings of the vocabulary of the source.
        options: sampling numbers and weights.
        frequencies: (C,) sampling weights of a federated source, else None.
        generator: random numbers of the sampling; None takes torch's own.
        teacher: what batches of boxes and parts are held to, or None.

    Returns:
        Scalars by name. A cascade has one per stage, with the stage's number at the end.
    """
    step = _Step(
        detector=detector,
        batch=batch,
        text=text,
        options=options,
        frequencies=frequencies,
        generator=generator,
        teacher=teacher,
    )
    step.pyramid = detector.pyramid(batch.images.pixels)
    rpn_output = detector.rpn(step.pyramid)
    kept = ProposalOptions(pre_nms=options.proposals_before_nms, post_nms=options.proposals)
    step.proposals = propose_seen(select_proposals(rpn_output, step.sizes_hw, kept), step.pyramid, step.sizes_hw)
    match batch.kind:
        case AnnotationKind.BOXES | AnnotationKind.PARTS:
            unlabelled = None
            if teacher is not None:
                step.teacher_pyramid = teacher.pyramid(batch.images.pixels)
                unlabelled = teacher.objectness(step.teacher_pyramid)
            return {**rpn_losses(rpn_output, batch.targets, options, generator, unlabelled), **_box_losses(step)}
        case AnnotationKind.IMAGE_LABELS:
            labels = [target.image_labels for target in batch.targets]
            return _weak_losses(step, "image_label", labels, "max_size", options.image_label_weight)
        case AnnotationKind.PARSED_PARTS if options.parsed_part_assignment == "matched":
            return _matched_part_losses(step)
        case AnnotationKind.PARSED_PARTS:
            return _chosen_part_losses(step)


def _named(name: str, number: int, stages: int) -> str:
    return name if stages == 1 else f"{name}_{number}"


def _stages(step: _Step) -> Iterator[tuple[int, BoxStage, list[Tensor]]]:
    """Number, stage and the pyramid it sees: each of several stages passes on its share of gradient.

    Source: docs/method.md, 'Losses of the cascade'.
    """
    stages = step.detector.roi_heads.stages
    levels = step.pyramid if len(stages) == 1 else [_scale_gradient(p, 1 / len(stages)) for p in step.pyramid]
    for number, module in enumerate(stages):
        yield number, cast(BoxStage, module), levels


def _scale_gradient(x: Tensor, factor: float) -> Tensor:
    """`x` forward, `factor` times the gradient backward."""
    return x * factor + (x * (1 - factor)).detach()


def _refined(stage: BoxStage, step: _Step, regions: Sequence[Tensor], deltas: Tensor) -> list[Tensor]:
    """Next stage's regions: moved, clipped, not empty; no gradient flows through them."""
    moved = stage.refine(torch.cat(list(regions)), deltas.detach()).split([len(r) for r in regions])
    clipped = [boxes.clip(m, size) for m, size in zip(moved, step.sizes_hw, strict=True)]
    return [c[boxes.nonempty(c)] for c in clipped]


def _class_weights(step: _Step, regions: Sequence[LabelledRegions]) -> Tensor | None:
    weights = known_weights(regions, step.batch.targets, step.options.unknown_below_iou)
    if step.frequencies is None:
        return weights
    labels = torch.cat([r.labels for r in regions])
    chosen = federated_classes(labels, step.frequencies, step.options.federated_classes, step.generator)
    mask = class_mask(chosen, len(step.text))
    return mask if weights is None else weights * mask


def _box_losses(step: _Step) -> dict[str, Tensor]:
    """Classification and box loss of every stage, mask loss on the regions of the first."""
    targets, classes, options = step.batch.targets, len(step.text), step.options
    first = sample_regions(step.proposals, targets, classes, options, step.generator)
    count = len(step.detector.roi_heads.stages)
    labelled, losses = first, {}
    regions: list[Tensor] = []
    for number, stage, pyramid in _stages(step):
        if number > 0:
            labelled = [
                label_regions(r, target, classes, options.stage_ious[number])
                for r, target in zip(regions, targets, strict=True)
            ]
        regions = [r.boxes_xyxy for r in labelled]
        text = step.text if step.teacher is None else torch.cat((step.text, step.teacher.text))
        answers, deltas, correction = stage.judge(pool_regions(pyramid, regions, BOX_SIZE), text)
        logits, held = answers[:, :classes], answers[:, classes:]  # a teacher holds what is learned, not the evidence
        logits = step.detector.roi_heads.with_evidence(logits, pyramid, regions, step.text)
        labels, weights = torch.cat([r.labels for r in labelled]), _class_weights(step, labelled)
        losses[_named("classification", number, count)] = classification_loss(logits, labels, weights)
        if options.ranking_weight:
            by_region, by_name = (f(logits, labelled, weights) for f in (region_ranking_loss, name_ranking_loss))
            losses[_named("region_ranking", number, count)] = options.ranking_weight * by_region
            losses[_named("name_ranking", number, count)] = options.ranking_weight * by_name
        if correction is not None:
            quality = correction + _objectness(step, labelled)
            refined = stage.refine(torch.cat(regions), deltas.detach()).split([len(r) for r in regions])
            losses[_named("quality", number, count)] = options.quality_weight * quality_loss(
                quality, refined, labelled, targets
            )
        if step.teacher is not None:
            pooled = pool_regions(step.teacher_pyramid, regions, BOX_SIZE)
            gap = distillation_loss(held, step.teacher.logits(number, pooled))
            losses[_named("distillation", number, count)] = step.teacher.weight * gap
        losses[_named("box", number, count)] = box_loss(deltas, labelled, targets, stage.delta_weights)
        regions = _refined(stage, step, regions, deltas)
    if step.detector.mask_on and all(target.masks is not None for target in targets):
        losses["mask"] = _mask_loss(step, first)
    return losses


def _objectness(step: _Step, labelled: Sequence[LabelledRegions]) -> Tensor:
    """(N,) objectness logits of sampled regions, without gradient.

    Ground truth that was added to the proposals has no logit of its own: it gets that of the nearest proposal.
    """
    logits = []
    for region, proposal in zip(labelled, step.proposals, strict=True):
        if len(proposal.logits) == 0:
            logits.append(region.overlap.new_zeros(len(region.labels)))
            continue
        logits.append(proposal.logits.detach()[boxes.iou(proposal.boxes_xyxy, region.boxes_xyxy).argmax(dim=0)])
    return torch.cat(logits)


def _mask_loss(step: _Step, labelled: Sequence[LabelledRegions]) -> Tensor:
    matched = [r.take(r.foreground) for r in labelled]
    matched = [r.take(exact(r.truth_index, t)) for r, t in zip(matched, step.batch.targets, strict=True)]
    if step.options.mask_regions is not None:  # they come in the random order of the sampling
        matched = [r.take(torch.arange(min(len(r.labels), step.options.mask_regions))) for r in matched]
    regions = [r.boxes_xyxy for r in matched]
    logits = step.detector.roi_heads.masks(step.pyramid, regions)
    return mask_loss(logits, regions, [r.truth_index for r in matched], step.batch.targets)


def _matched_part_losses(step: _Step) -> dict[str, Tensor]:
    """Parsed boxes teach classification only, through matched and sampled proposals (docs/method.md, 'Losses of parsed
    parts').
    """
    labelled = sample_regions(step.proposals, step.batch.targets, len(step.text), step.options, step.generator)
    labels = torch.cat([r.labels for r in labelled])
    regions = [r.boxes_xyxy for r in labelled]
    known = known_weights(labelled, step.batch.targets, step.options.unknown_below_iou)
    count = len(step.detector.roi_heads.stages)
    losses = {}
    for number, stage, pyramid in _stages(step):
        logits, _ = stage(pool_regions(pyramid, regions, BOX_SIZE), step.text)
        losses[_named("parsed_part", number, count)] = step.options.parsed_part_weight * classification_loss(
            logits, labels, known
        )
    return losses


def _chosen_part_losses(step: _Step) -> dict[str, Tensor]:
    """Parsed parts by score or size: a single stage chooses among the regions that are matched to the parsed boxes and
    sampled (truth included), a cascade among the best proposals (docs/method.md, 'Losses of parsed parts').
    """
    options, targets = step.options, step.batch.targets
    regions = None
    if len(step.detector.roi_heads.stages) == 1:
        sampled = sample_regions(step.proposals, targets, len(step.text), options, step.generator)
        regions = [each.boxes_xyxy for each in sampled]
    labels = [target.labels for target in targets]
    choice, weight = options.parsed_part_assignment, options.parsed_part_weight
    return _weak_losses(step, "parsed_part", labels, choice, weight, regions)


def _weak_losses(
    step: _Step,
    name: str,
    labels: Sequence[Tensor],
    choice: ParsedPartAssignment,
    weight: float,
    regions: list[Tensor] | None = None,
) -> dict[str, Tensor]:
    """Labels without a place: in every stage, the loss chooses among `regions`, by default the best proposals."""
    if regions is None:
        regions = [p.boxes_xyxy[: step.options.image_label_proposals] for p in step.proposals]
    count = len(step.detector.roi_heads.stages)
    losses = {}
    for number, stage, pyramid in _stages(step):
        logits, deltas = stage(pool_regions(pyramid, regions, BOX_SIZE), step.text)
        per_image = logits.split([len(r) for r in regions])
        losses[_named(name, number, count)] = weight * weak_label_loss(per_image, regions, labels, choice)
        if number + 1 < count:
            regions = _refined(stage, step, regions, deltas)
    return losses
