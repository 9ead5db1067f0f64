"""A predictor that needs no model, for the tests of what goes on around it."""

from __future__ import annotations

import gc
import time
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vlpart.data.images import ReadImage, read_image
from vlpart.errors import ImageError
from vlpart.masks.stack import MaskStack
from vlpart.results.result import Result
from vlpart.text.vocabulary import Vocabulary


def size_of(path: Path) -> tuple[int, int]:
    """(width, height) of an image file."""
    with Image.open(path) as image:
        return image.size


def read_labels(path: Path) -> np.ndarray:
    """The values of a label map."""
    with Image.open(path) as image:
        return np.array(image)


def files_of(folder: Path) -> list[str]:
    """Every file below a folder, hidden ones too, relative to it."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


VOCABULARY = Vocabulary.parse("car: wheel")


class FakePredictor:
    """Finds a car with a wheel in every image; remembers what it was called with and how many images are alive."""

    def __init__(self, *, interrupt_at: int | None = None, seconds: float = 0.0) -> None:
        self.vocabulary = VOCABULARY
        self.interrupt_at = interrupt_at
        self.seconds = seconds
        self.calls: list[dict[str, Any]] = []
        self.sizes: list[dict[str, Any]] = []
        self.batches: list[int] = []
        self.alive: weakref.WeakSet[Any] = weakref.WeakSet()
        self.most_alive = 0
        self.fetched: list[str] = []
        self.loaded: tuple[tuple[object, ...], dict[str, object]] | None = None

    def read(self, source: Any, *, max_pixels: int | None = None, **sizes: Any) -> ReadImage:
        """The image at its own size; `sizes` are remembered."""
        self.sizes.append(sizes)
        pixels = read_image(source, max_pixels=max_pixels)
        if pixels.shape[0] == 1:
            raise ImageError("too flat")
        return ReadImage(pixels=pixels, resized=pixels, path=source if isinstance(source, str) else None)

    def detect(self, images: Sequence[ReadImage], **options: Any) -> list[Result]:
        """The car and its wheel; `options` are remembered."""
        self.calls.append(options)
        self.batches.append(len(images))
        time.sleep(self.seconds * len(images))
        if self.interrupt_at is not None and sum(self.batches) > self.interrupt_at:
            raise KeyboardInterrupt
        results = [fake_result(image.pixels, image.path) for image in images]
        self.alive.update(results)
        gc.collect()
        self.most_alive = max(self.most_alive, len(self.alive))
        return results


def fake_result(image: np.ndarray, path: str | None = None) -> Result:
    height, width = image.shape[:2]
    bitmaps = np.zeros((2, height, width), dtype=bool)
    bitmaps[0, 2:-2, 2:-2] = True
    bitmaps[1, 4:8, 4:9] = True
    return Result(
        image_size=(height, width),
        boxes_xyxy=[[2, 2, width - 2, height - 2], [4, 4, 9, 8]],
        scores=[0.9, 0.5],
        class_ids=[0, 1],
        masks=MaskStack.from_bitmaps(bitmaps),
        vocabulary=VOCABULARY,
        image=image,
        path=path,
    )
