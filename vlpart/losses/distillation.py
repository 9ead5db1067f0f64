"""Holding on to what a model knew: losses that keep a student near a frozen teacher on names the data does not teach.

A data set of cars says nothing about faces, but training on it moves the features that faces are told by. So a few
names of the teacher's vocabulary join the text of a batch, and on the regions of the batch the student has to answer
them as the teacher does (the distillation of "Learning without Forgetting", Li and Hoiem 2016, on an open vocabulary).
An anchor on an object that the teacher finds and the data does not label keeps the teacher's objectness.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vlpart.models.detector import Detector
from vlpart.models.rpn import RpnOutput

#: Logits are divided by it before they are compared: probabilities of names that are not there are all close to 0, and
#: would hide how far apart the answers are (Hinton et al., "Distilling the knowledge in a neural network", 2015).
TEMPERATURE = 4.0

#: The teacher calls an anchor an object from this probability on.
OBJECT = 0.5


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """What a batch is held to.

    Attributes:
        detector: frozen, in evaluation mode, of the student's architecture, on the same device.
        text: (K, D) embeddings of the names that are held in this batch; K may be 0.
        weight: factor of the loss of the names.
    """

    detector: Detector
    text: Tensor
    weight: float

    @torch.no_grad()
    def pyramid(self, pixels: Tensor) -> list[Tensor]:
        """The teacher's p2..p6 of a batch (B, 3, H, W)."""
        return self.detector.pyramid(pixels)

    @torch.no_grad()
    def logits(self, stage: int, pooled: Tensor) -> Tensor:
        """(N, K) float32 answers of the teacher's box stage for its own features (N, C, 7, 7) of the regions."""
        answers: Tensor = self.detector.roi_heads.stages[stage](pooled, self.text)[0]
        return answers

    @torch.no_grad()
    def objectness(self, pyramid: list[Tensor]) -> Tensor:
        """(B, A) float32 targets of negative anchors over all levels, see `kept_objectness`."""
        output: RpnOutput = self.detector.rpn(pyramid)
        return kept_objectness(torch.cat(output.logits, dim=1))


def distillation_loss(student: Tensor, teacher: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """How far the student's answers are from the teacher's: summed over names, divided by the number of regions.

    The BCE to the teacher's probabilities, less the least it can be (0 where both agree), times the square of the
    temperature, so that the gradient does not depend on it much. It flows to the student only.

    Args:
        student, teacher: (N, K) float32 logits on the same regions.
        temperature: what logits are divided by.
    """
    fixed = teacher.detach() / temperature
    probability = fixed.sigmoid()
    loss = F.binary_cross_entropy_with_logits(student / temperature, probability, reduction="none")
    least = F.binary_cross_entropy_with_logits(fixed, probability, reduction="none")
    return temperature**2 * (loss - least).sum() / max(len(student), 1)


def kept_objectness(teacher_logits: Tensor) -> Tensor:
    """The teacher's probability where it finds an object, else 0: what an anchor without an annotation should say."""
    probability = teacher_logits.detach().sigmoid()
    return torch.where(probability >= OBJECT, probability, torch.zeros_like(probability))
