"""Parts of the objects that a labelled data set lists, image by image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vlpart.data.images import ReadImage
from vlpart.errors import DataError, ImageError
from vlpart.inference.base import BasePredictor
from vlpart.inference.given import GivenObjects, part_entries
from vlpart.masks.stack import MaskStack
from vlpart.names import plain
from vlpart.results.result import Result
from vlpart.text.vocabulary import Vocabulary

if TYPE_CHECKING:
    from vlpart.data.readers.dataset import LabelledPicture, LabelledSet


class PartsOfGiven:
    """A predictor of the parts of the objects in a labelled data set, for `vlpart.predict_to_folder`.

    Args:
        predictor: what finds the parts.
        objects: a COCO file or a data set of any other form that `vlpart.data.readers.detect` knows, or its path.
        vocabulary: the parts to look for; None takes the predictor's own.
        keep_nested, iou: as of `vlpart.predict_to_folder`, for the parts of one object; given objects all stay.

    Raises:
        DataError: no such file, or no object in it of which the vocabulary has parts.
    """

    def __init__(
        self,
        predictor: BasePredictor,
        objects: LabelledSet | Path | str,
        vocabulary: Vocabulary | None = None,
        *,
        keep_nested: bool = True,
        iou: float | None = None,
    ) -> None:
        from vlpart.data.readers.dataset import LabelledSet
        from vlpart.data.readers.detect import read_any

        data = objects if isinstance(objects, LabelledSet) else read_any(Path(objects))
        self.source = data.format if isinstance(objects, LabelledSet) else str(objects)
        self.vocabulary = vocabulary or predictor.vocabulary
        self._predictor, self._keep_nested, self._iou = predictor, keep_nested, iou
        self._names = {plain(self.vocabulary.object_name(i)) for i in part_entries(self.vocabulary)}
        if not any(plain(region.name) in self._names for region in data.regions()):
            raise DataError(
                f"{self.source} has no object that the vocabulary has parts of: it has "
                f"{', '.join(data.names[:12]) or 'no classes'}, the vocabulary has parts of "
                f"{', '.join(sorted(self._names)[:12]) or 'nothing'}"
            )
        self._pictures: dict[str, LabelledPicture | None] = {}
        for picture in data.pictures:
            for key in {
                str(picture.path.resolve()) if picture.path else "",
                picture.file_name,
                _last(picture.file_name),
            }:
                self._pictures[key] = None if key in self._pictures else picture  # None: two of that name

    def _picture(self, path: str) -> LabelledPicture | None:
        keys = (str(Path(path).resolve()), path, _last(path))
        return next((found for key in keys if (found := self._pictures.get(key)) is not None), None)

    def read(self, source: Any, **options: Any) -> ReadImage:
        """Read an image, see `Predictor.read`.

        Raises:
            ImageError: it cannot be read, or its objects are not given.
        """
        image = self._predictor.read(source, **options)
        picture = None if image.path is None else self._picture(image.path)
        if picture is None:
            raise ImageError(f"{self.source} does not list {image.path or 'the image'}: its objects are not known")
        if (picture.height, picture.width) != image.pixels.shape[:2]:
            raise ImageError(
                f"{self.source} is about another {picture.file_name}: of {picture.width}x{picture.height} pixels, not "
                f"{image.pixels.shape[1]}x{image.pixels.shape[0]}"
            )
        return image

    def detect(self, images: Sequence[ReadImage], vocabulary: Any = None, **options: Any) -> list[Result]:
        """Parts of the given objects, and these; arguments as of `Predictor.detect`."""
        return [self._detect(image, vocabulary or self.vocabulary, options) for image in images]

    def _detect(self, image: ReadImage, vocabulary: Vocabulary, options: dict[str, Any]) -> Result:
        picture = self._picture(str(image.path))
        assert picture is not None  # `read` saw to it
        regions = [region for region in picture.regions if plain(region.name) in self._names and not region.crowd]
        masks = None
        if regions and all(region.mask is not None for region in regions):
            masks = MaskStack.from_rles([picture.rle(region) for region in regions], (picture.height, picture.width))
        return self._predictor.detect_parts(
            image,
            GivenObjects.of(
                (picture.height, picture.width),
                np.array([region.box_xyxy for region in regions]).reshape(-1, 4),
                masks,
                [region.name for region in regions],
            ),
            vocabulary,
            tidy=self._tidy,
            **options,
        )

    def _tidy(self, parts: Result) -> Result:
        parts = parts if self._keep_nested else parts.without_nested()
        return parts if self._iou is None else parts.without_overlapping(self._iou)


def _last(path: str) -> str:
    return path.replace("\\", "/").rpartition("/")[2]
