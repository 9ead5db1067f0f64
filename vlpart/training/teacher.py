"""The first weights as a teacher: which names of the vocabulary they came with are held in a batch.

A name that the data teaches is left to the data, and so are names like it: who learns "car:wheel" answers "bus:wheel"
differently, and should. The others are drawn anew for every batch, so that in the course of a run all of them are held,
on the pictures of the data set: no other pictures are needed.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from vlpart.losses.teacher import Teacher

if TYPE_CHECKING:
    from vlpart.models.detector import Detector

#: Cosine of two names from which on learning one changes the answers to the other.
SIMILAR = 0.4


class TeacherSource:
    """A frozen detector and the names that it may be asked for.

    Args:
        detector: the student, still with its first weights; it is copied.
        vocabulary: (V, D) embeddings of the names that the first weights came with.
        taught: (C, D) embeddings of each source's names, by source name.
        count: names held in a batch.
        weight: factor of the loss.
    """

    def __init__(
        self,
        detector: Detector,
        vocabulary: Tensor,
        taught: Mapping[str, Tensor],
        *,
        count: int,
        weight: float,
    ) -> None:
        frozen = copy.deepcopy(detector).eval().requires_grad_(False)
        self._detector = frozen.to(memory_format=torch.channels_last)  # faster on CPUs; the numbers stay
        self._count, self._weight = count, weight
        known = F.normalize(torch.cat(list(taught.values())), dim=1)
        self.names = vocabulary[(F.normalize(vocabulary, dim=1) @ known.T).amax(dim=1) < SIMILAR]

    def draw(self, generator: torch.Generator | None) -> Teacher:
        """The teacher of one batch.

        Args:
            generator: draws the names, on the CPU; None takes torch's own.
        """
        chosen = torch.randperm(len(self.names), generator=generator)[: self._count]
        return Teacher(detector=self._detector, text=self.names[chosen.to(self.names.device)], weight=self._weight)
