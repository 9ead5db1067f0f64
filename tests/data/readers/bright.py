"""A detector that finds what is bright, for tests that need one that is right."""

from __future__ import annotations

from typing import Any

import numpy as np

from vlpart.data.images import read_image
from vlpart.masks.rle import encode_runs, runs_of_bitmap
from vlpart.masks.stack import MaskStack
from vlpart.results.result import Result
from vlpart.text.vocabulary import Vocabulary


class Bright:
    """Its one detection of every picture is the bright region, as the first name."""

    name = "bright"

    def read(self, source: Any) -> Any:
        """The pixels of an image."""
        return read_image(source)

    def detect(self, images: Any, vocabulary: Any = None, **_: Any) -> list[Result]:
        """A `Result` for every image."""
        return [self._detect(image, vocabulary) for image in images]

    def _detect(self, pixels: Any, vocabulary: Any) -> Result:
        bitmap = pixels.mean(axis=2) > 128
        height, width = bitmap.shape
        rows, columns = np.flatnonzero(bitmap.any(axis=1)), np.flatnonzero(bitmap.any(axis=0))
        box = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        rle = encode_runs(runs_of_bitmap(bitmap, 0, 0, height), (height, width))
        return Result(
            image_size=(height, width),
            boxes_xyxy=[box],
            scores=[0.9],
            class_ids=[0],
            masks=MaskStack.from_rles([rle], (height, width)),
            vocabulary=Vocabulary.of(vocabulary),
        )
