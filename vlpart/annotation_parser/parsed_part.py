"""What a parser finds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class ParsedPart:
    """One part of a picture.

    Attributes:
        name: in the vocabulary that is written.
        found_as: the base part that it was transferred from or detected as ("dog:head").
        box_xyxy: pixels of the picture.
        score: of the detection, or the overlap of the transferred box with its proposal (1 without proposals), or the
            mean evidence of votes and detector.
        object_index: which of the annotated objects of the picture it belongs to, if it was parsed by objects.
        mask: (H, W) bool at the size of the target, if masks are kept and the part was not detected; else None.
    """

    name: str
    found_as: str
    box_xyxy: tuple[float, float, float, float]
    score: float
    object_index: int | None = None
    mask: NDArray[np.bool_] | None = None
