"""The first weights as a teacher: which names of the vocabulary they came with are held in a batch.

A name that the data teaches is left to the data, and so are names like it: who learns "car:wheel" answers "bus:wheel"
differently, and should. What "like" means depends on the text encoder (between any two texts CLIP finds a cosine of
about 0.7), so it is measured from the encoder's own background: how near two names are on average. The other names are
drawn anew for every batch, so that in the course of a run all of them are held, on the images of the data set: no
other images are needed.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from vlpart.errors import TrainingError
from vlpart.losses.distillation import Teacher

if TYPE_CHECKING:
    from vlpart.models.detector import Detector

#: From here on learning one name changes the answers to the other: the part of the way from the background cosine of
#: the vocabulary (0) to the same vector (1). For `static`, whose background is 0.06, that is a cosine of 0.4.
SIMILAR = 0.364


class TeacherSource:
    """A frozen detector and the names that it may be asked for.

    Args:
        detector: the student, still with its first weights; it is copied.
        vocabulary: (V, D) embeddings of the names that the first weights came with.
        taught: (C, D) embeddings of each source's names, by source name.
        count: names held in a batch.
        weight: factor of the loss.

    Attributes:
        names: (H, D) embeddings of the names that can be held, H >= 1.

    Raises:
        TrainingError: the data teaches every name, or one like it.
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
        self.names = vocabulary[similarity(vocabulary, torch.cat(list(taught.values()))) < SIMILAR]
        self._known = len(vocabulary)
        if not len(self.names):
            raise TrainingError(
                f"the data teaches all {self._known} names that the first weights came with, or names like them: "
                "there is nothing for a teacher to hold, use --teacher 0"
            )

    def __str__(self) -> str:
        """What is held, for the user."""
        held = min(self._count, len(self.names))
        return f"teacher: {len(self.names)} names of {self._known} are held, {held} a batch"

    def draw(self, generator: torch.Generator | None) -> Teacher:
        """The teacher of one batch.

        Args:
            generator: draws the names, on the CPU; None takes torch's own.
        """
        chosen = torch.randperm(len(self.names), generator=generator)[: self._count]
        return Teacher(detector=self._detector, text=self.names[chosen.to(self.names.device)], weight=self._weight)


def similarity(vocabulary: Tensor, taught: Tensor) -> Tensor:
    """How near each name is to the nearest of the taught ones: 0 = as near as names are on average, 1 = the same.

    Args:
        vocabulary: (V, D) float embeddings; the average is over its pairs (0 if there are none, or if it is negative).
        taught: (C, D) float embeddings, C >= 1.

    Returns:
        (V,) float; below 0 for names that are further apart than on average.
    """
    own, others = F.normalize(vocabulary, dim=1), F.normalize(taught, dim=1)
    count = len(own)
    pairs = max(count * (count - 1), 1)
    background = ((own.sum(dim=0).square().sum() - count) / pairs).clamp(0.0, 0.99)  # 1 = all names are the same
    return ((own @ others.T).amax(dim=1) - background) / (1 - background)
