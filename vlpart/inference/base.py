"""What every predictor does, whatever computes: images in, `Result`s out, one by one, in lists and in streams.

`Predictor` computes with torch, `vlpart.export.predictor.ExportedPredictor` with another engine. No torch is imported.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, overload

from vlpart.checks import in_range, one_of, typed, whole
from vlpart.data.image_files import is_url, list_images
from vlpart.data.images import MAX_PIXELS, ReadImage, Tiling, read_image
from vlpart.data.resize import resize_shorter_side, resized_size
from vlpart.errors import ImageError
from vlpart.inference.given import GivenObjects, find_parts
from vlpart.inference.slices import MIN_SIDE, detect_in_tiles
from vlpart.inference.stream import in_batches, read_ahead
from vlpart.results.result import Result
from vlpart.text.vocabulary import Vocabulary
from vlpart.types import DetectionOptions
from vlpart.web import shown

_NMS_IOU = 0.5
_MAX_INPUT_PIXELS = 50_000_000  # of one image after resizing: beyond, systems end the process for want of memory

AnyVocabulary = Vocabulary | str | Path | Sequence[str] | Mapping[str, Sequence[str]]


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """What a model does unless a call says otherwise.

    Attributes:
        short_side, max_side: of the network input in pixels.
        score_threshold: scores above it are kept.
        max_detections: the most detections of an image.
    """

    short_side: int
    max_side: int
    score_threshold: float
    max_detections: int


class BasePredictor(ABC):
    """A loaded model. Threads may share it, each with its own vocabulary: a call changes nothing that another sees.

    Attributes:
        name: of the model.
        vocabulary: what is looked for unless a call says otherwise.
        mask_on: whether it has a mask head; without one the `masks` of its results are None.
        defaults: sizes, threshold and limit unless a call says otherwise.
        text_encoder: what makes vectors of names.
    """

    name: str
    vocabulary: Vocabulary
    mask_on: bool
    defaults: Defaults
    text_encoder: str

    @abstractmethod
    def _text(self, vocabulary: Vocabulary) -> Any:
        """The (C, D) embeddings of a vocabulary, in the form that `_detect` takes.

        Raises:
            VocabularyError: the vocabulary does not fit the model.
            TextEncoderError: the text encoder is needed and not to be had.
        """

    @abstractmethod
    def _detect(
        self, images: Sequence[ReadImage], names: Vocabulary, text: Any, options: DetectionOptions
    ) -> list[Result]:
        """What the network finds in whole images."""

    def _default_vocabulary(self) -> Vocabulary:
        return self.vocabulary

    @overload
    def predict(
        self,
        image: list[Any] | tuple[Any, ...],
        vocabulary: AnyVocabulary | None = None,
        score_threshold: float | None = None,
        short_side: int | None = None,
        max_side: int | None = None,
        max_detections: int | None = None,
        *,
        max_pixels: int | None = MAX_PIXELS,
        slices: int | None = None,
    ) -> list[Result]: ...
    @overload
    def predict(
        self,
        image: Any,
        vocabulary: AnyVocabulary | None = None,
        score_threshold: float | None = None,
        short_side: int | None = None,
        max_side: int | None = None,
        max_detections: int | None = None,
        *,
        max_pixels: int | None = MAX_PIXELS,
        slices: int | None = None,
    ) -> Result: ...
    def predict(
        self,
        image: Any,
        vocabulary: AnyVocabulary | None = None,
        score_threshold: float | None = None,
        short_side: int | None = None,
        max_side: int | None = None,
        max_detections: int | None = None,
        *,
        max_pixels: int | None = MAX_PIXELS,
        slices: int | None = None,
    ) -> Result | list[Result]:
        """Objects and parts of one image, or of every image of a list.

        Images of a list that have the same size after resizing run together, as many as memory surely holds; the
        results are those of single calls.

        Examples:
            >>> predictor = load("tiny")
            >>> result = predictor.predict("photo.jpg", vocabulary="person: hair, eye", score_threshold=0.3)
            >>> sorted({result.vocabulary.names[i] for i in result.class_ids} - {"person", "person:hair", "person:eye"})
            []
            >>> [each.image_size for each in predictor.predict(["photo.jpg", "photo.jpg"])]
            [(512, 512), (512, 512)]

        Args:
            image: a path, URL, bytes, file object, PIL image, numpy array (H, W, 3) uint8 RGB or torch tensor, or a
                list or tuple of them.
            vocabulary: a `Vocabulary`, the name of a list, a file, "car: wheel, door; person", a sequence of names, or
                {"car": ["wheel", "door"], "person": []}; None takes the model's own.
            score_threshold: keep detections with a score strictly above it; None takes the model's own.
            short_side: resize the shorter side of the image to so many pixels; None takes the model's own.
            max_side: limit of the longer side after resizing; None takes the model's own, larger in the proportion in
                which `short_side` is larger than the model's own.
            max_detections: keep the best so many; None takes the model's own.
            max_pixels: refuse larger images; None refuses nothing.
            slices: side in pixels of overlapping tiles that are looked at besides the whole image, for large images
                with small objects (`vlpart.inference.slices`).

        Raises:
            ImageError: an image cannot be read, or the sides asked for make it too large to compute.
            VocabularyError: the vocabulary is malformed or does not fit the model.
            TextEncoderError: the text encoder is needed and not to be had.
            ValueError: a threshold, size or count that is no number, not whole, or out of range.
        """
        many = isinstance(image, list | tuple)
        request = self._request(vocabulary, score_threshold, max_detections)  # before an image is read in vain
        sources = image if many else [image]
        read = partial(self.read, short_side=short_side, max_side=max_side, max_pixels=max_pixels, slices=slices)
        results = self._answer([read(each) for each in sources], *request)
        return results if many else results[0]

    __call__ = predict

    @typed("images", "batch_size", "on_failure")
    def stream(
        self,
        images: Iterable[Any] | str | os.PathLike[str],
        vocabulary: AnyVocabulary | None = None,
        score_threshold: float | None = None,
        short_side: int | None = None,
        max_side: int | None = None,
        max_detections: int | None = None,
        *,
        max_pixels: int | None = MAX_PIXELS,
        slices: int | None = None,
        batch_size: int = 1,
        on_failure: Callable[[Any, ImageError], object] | None = None,
    ) -> Iterator[Result]:
        """One result after the other for any iterable of images, endless ones too, in constant memory.

        The next images are taken and read in a thread of its own, `2 * batch_size` ahead at most, while the current
        ones are computed. What is asked for is checked at the call, before the first image is taken.

        Examples:
            >>> predictor = load("tiny")
            >>> [len(result.image_size) for result in predictor.stream(iter(["photo.jpg", "photo.jpg"]))]
            [2, 2]

        Args:
            images: whatever `predict` takes as an image, one at a time; or the name of a folder, a pattern or a file,
                for the images that `vlpart.list_images` finds there.
            vocabulary, score_threshold, short_side, max_side, max_detections, max_pixels, slices: see `predict`.
            batch_size: images per forward pass, at most.
            on_failure: called with an image that cannot be read, and why; it then has no result. None = such an image
                ends the stream with its error.

        Raises:
            ImageError: in the stream, see `on_failure`; at the call, for a folder or pattern without images.
            VocabularyError, TextEncoderError, ValueError: at the call, see `predict`.
        """
        if isinstance(images, (str, os.PathLike)):  # an iterable, too: of letters
            images = list_images(images)
        size = whole("batch_size", batch_size, 1, 10**6)
        request = self._request(vocabulary, score_threshold, max_detections)
        read = partial(self.read, short_side=short_side, max_side=max_side, max_pixels=max_pixels, slices=slices)
        return self._stream(images, read, request, size, on_failure)

    def _stream(
        self,
        images: Iterable[Any],
        read: Callable[[Any], ReadImage],
        request: tuple[Vocabulary, Any, DetectionOptions],
        size: int,
        on_failure: Callable[[Any, ImageError], object] | None,
    ) -> Iterator[Result]:
        with closing(read_ahead(_readings(images, read), depth=2 * size)) as ahead:
            for batch in in_batches(ahead, size):
                results = iter(self._answer([each for _, each in batch if isinstance(each, ReadImage)], *request))
                for source, each in batch:
                    if isinstance(each, ReadImage):
                        yield next(results)
                    elif on_failure is None:
                        raise each
                    else:
                        on_failure(source, each)

    def read(
        self,
        source: Any,
        *,
        short_side: int | None = None,
        max_side: int | None = None,
        max_pixels: int | None = MAX_PIXELS,
        slices: int | None = None,
    ) -> ReadImage:
        """Read one image for `detect`. Any thread may do it; the arguments are those of `predict`.

        Raises:
            ImageError: it cannot be read, or the sides asked for make it too large to compute.
            ValueError: a size that is no number, not whole, or out of range.
        """
        short, longest = self._sides(short_side, max_side)
        pixels = read_image(source, max_pixels=max_pixels)
        path = None if not isinstance(source, str | Path) else shown(str(source)) if is_url(source) else str(source)
        height, width = resized_size(pixels.shape[0], pixels.shape[1], short, longest)
        if height * width > _MAX_INPUT_PIXELS:
            raise ImageError(
                f"{path or 'the image'} would be computed at {width}x{height}, more than {_MAX_INPUT_PIXELS:,} pixels: "
                "choose a smaller --short-side or --max-side (arguments short_side, max_side)"
            )
        tiling = None
        if slices is not None and max(pixels.shape[:2]) > _whole("slices", slices, 1, 10**6, low=MIN_SIDE):
            tiling = Tiling(side=int(slices), short_side=short, max_side=longest)
        resized = resize_shorter_side(pixels, short, longest)
        return ReadImage(pixels=pixels, resized=resized, path=path, tiling=tiling)

    @typed("images")
    def detect(
        self,
        images: Sequence[ReadImage],
        vocabulary: AnyVocabulary | None = None,
        *,
        score_threshold: float | None = None,
        max_detections: int | None = None,
    ) -> list[Result]:
        """Objects and parts of images that were read; the arguments are those of `predict`.

        Raises:
            VocabularyError, TextEncoderError, ValueError: see `predict`.
        """
        return self._answer(images, *self._request(vocabulary, score_threshold, max_detections))

    def parts(
        self,
        image: Any,
        boxes: Any = None,
        masks: Any = None,
        *,
        names: Sequence[str] | str | None = None,
        scores: Any = None,
        vocabulary: AnyVocabulary | None = None,
        score_threshold: float | None = None,
        short_side: int | None = None,
        max_side: int | None = None,
        max_detections: int | None = None,
        max_pixels: int | None = MAX_PIXELS,
    ) -> Result:
        """Parts of objects that are given, by another detector or a person, grouped under them.

        Each object is looked at alone, enlarged where it is small (`vlpart.inference.given`). What is found counts if
        at least half of it lies in the given region. The given objects are in the result, with their own masks; those
        of boxes come from the model, or are the box.

        Examples:
            >>> result = load("tiny").parts("photo.jpg", boxes=[[100, 0, 400, 500]], vocabulary="person: hair, eye")
            >>> [(group.name, group.score) for group in result.objects]
            [('person', 1.0)]

        Args:
            image: see `predict`.
            boxes: (K, 4) x0, y0, x1, y1 in pixels of the image.
            masks: (K, H, W) of bool, a `MaskStack` or K COCO RLEs, instead of boxes or with them.
            names: what the objects are, one for each or one for all; needed where the vocabulary has parts of several.
            scores: of the objects, 0..1; 1 without.
            vocabulary: the parts to look for, "car: wheel, door", or names alone; None takes the model's own.
            score_threshold, short_side, max_side, max_pixels: see `predict`; the sides are those of an object.
            max_detections: of each object, itself included.

        Raises:
            DataError: no region, or one that is empty or not in the image.
            VocabularyError: the vocabulary has no parts of an object, or of several where no names are given.
            ImageError, TextEncoderError, ValueError: see `predict`.
        """
        read = self.read(image, short_side=short_side, max_side=max_side, max_pixels=max_pixels)
        height, width = read.pixels.shape[:2]
        objects = GivenObjects.of((height, width), boxes, masks, names, scores)
        sides = self._sides(short_side, max_side)
        return self.detect_parts(
            read, objects, vocabulary, score_threshold=score_threshold, max_detections=max_detections, sides=sides
        )

    @typed("image", "objects", "sides", "tidy")
    def detect_parts(
        self,
        image: ReadImage,
        objects: GivenObjects,
        vocabulary: AnyVocabulary | None = None,
        *,
        score_threshold: float | None = None,
        max_detections: int | None = None,
        sides: tuple[int, int] | None = None,
        tidy: Callable[[Result], Result] = lambda parts: parts,
    ) -> Result:
        """`parts` of an image that was read.

        Args:
            image, objects, vocabulary, score_threshold, max_detections: see `parts`.
            sides: the shorter and the longest side that objects are resized to; None takes the model's own.
            tidy: leaves out what is not wanted of the parts of one object, in the pixels of its window.

        Raises:
            VocabularyError, TextEncoderError, ValueError: see `parts`.
        """
        names = self._default_vocabulary() if vocabulary is None else Vocabulary.of(vocabulary)
        options = self._options(score_threshold, max_detections)

        def look(pieces: list[ReadImage], asked: Vocabulary) -> list[Result]:
            return self._detect(pieces, asked, self._text(asked), options)

        sides = sides or self._sides(None, None)
        return find_parts(image, objects, names, look, sides, options.max_detections, tidy)

    def _sides(self, short_side: int | None, max_side: int | None) -> tuple[int, int]:
        """Shorter and longest side of the network input."""
        short = _whole("short_side", short_side, self.defaults.short_side, 10**5)
        grown = round(self.defaults.max_side * max(1, short / self.defaults.short_side))
        return short, _whole("max_side", max_side, min(grown, 10**5), 10**5)

    def _answer(
        self, images: Sequence[ReadImage], names: Vocabulary, text: Any, options: DetectionOptions
    ) -> list[Result]:
        """What is in images, those in pieces merged; whole ones run together."""
        for image in images:
            one_of("an image for detect", image, ReadImage)
        uncut = iter(self._detect([image for image in images if image.tiling is None], names, text, options))
        look = partial(self._detect, names=names, text=text, options=options)
        return [next(uncut) if image.tiling is None else detect_in_tiles(image, look) for image in images]

    def _request(
        self, vocabulary: AnyVocabulary | None, score_threshold: float | None, max_detections: int | None
    ) -> tuple[Vocabulary, Any, DetectionOptions]:
        """What is looked for, its (C, D) embeddings, and what of it is kept."""
        names = self._default_vocabulary() if vocabulary is None else Vocabulary.of(vocabulary)
        options = self._options(score_threshold, max_detections)
        return names, self._text(names), options

    def _options(self, score_threshold: float | None, max_detections: int | None) -> DetectionOptions:
        return DetectionOptions(
            score_threshold=_in_range("score_threshold", score_threshold, self.defaults.score_threshold, 0, 1),
            nms_iou=_NMS_IOU,
            max_detections=_whole("max_detections", max_detections, self.defaults.max_detections, 10**6),
        )


def _readings(images: Iterable[Any], read: Callable[[Any], ReadImage]) -> Iterator[tuple[Any, ReadImage | ImageError]]:
    for image in images:
        try:
            reading: ReadImage | ImageError = read(image)
        except ImageError as error:
            reading = error
        yield image, reading


def _in_range(name: str, value: float | None, default: float, low: float, high: float) -> float:
    return in_range(name, default if value is None else value, low, high)


def _whole(name: str, value: int | None, default: int, high: int, low: int = 1) -> int:
    return whole(name, default if value is None else value, low, high)
