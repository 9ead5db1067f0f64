"""Computing what was asked for: models by name, images to answers. All of it runs in the thread of the queue."""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vlpart.data.image_headers import open_image
from vlpart.data.images import ReadImage, read_image
from vlpart.errors import ImageError, ModelNotFoundError, VlpartError, VocabularyError
from vlpart.export.engines import check_engine, is_exported
from vlpart.export.predictor import load_exported
from vlpart.files import encode_image
from vlpart.inference.base import BasePredictor
from vlpart.inference.batch import readable_threshold
from vlpart.inference.predictor import load
from vlpart.masks.stack import MaskStack
from vlpart.names import did_you_mean
from vlpart.results.result import Result
from vlpart.serve.metrics import Metrics
from vlpart.serve.schema import Options
from vlpart.serve.settings import ServeSettings
from vlpart.text.encoders import get_text_encoder
from vlpart.text.phrase import PhraseTextEncoder
from vlpart.text.vocabulary import Vocabulary
from vlpart.zoo.resolve import ResolvedModel, resolve


class TooLargeError(VlpartError):
    """Something that was sent has more of something than the server takes."""


@dataclass(frozen=True)
class Request:
    """What to find in one image.

    Attributes:
        image: the bytes of its file.
        model: its name among the models of the server.
        vocabulary: what to look for; None = the model's own.
        options: as they were sent.
    """

    image: bytes
    model: str
    vocabulary: Vocabulary | None
    options: Options

    @property
    def key(self) -> Hashable:
        """Requests with the same key can be computed together."""
        names = None if self.vocabulary is None else self.vocabulary.content_hash
        options = self.options
        return self.model, names, options.threshold, options.max_detections, options.short_side


class Models:
    """The models of a server, loaded when they are first asked for. Threads may share it."""

    def __init__(self, settings: ServeSettings) -> None:
        self._device, self._engine = settings.device, settings.engine
        self._found: dict[str, ResolvedModel | Path] = {}
        for given in settings.models:
            check_engine(given, settings.engine)
            found = Path(given) if is_exported(given) else resolve(given)
            entry = None if isinstance(found, Path) else found.entry
            name = Path(given).stem if entry is None else entry.name
            self._found[name if name not in self._found else str(given)] = found
        self._loaded: dict[str, BasePredictor] = {}
        self._lock = threading.Lock()

    @property
    def names(self) -> list[str]:
        """What may be asked for, the default first."""
        return list(self._found)

    def named(self, name: str | None) -> str:
        """`name` if there is such a model; the default for None.

        Raises:
            ModelNotFoundError: there is none.
        """
        if name is None:
            return self.names[0]
        if name not in self._found:
            hint = did_you_mean(name, self.names) or f"it serves {', '.join(self.names)}."
            raise ModelNotFoundError(f"this server has no model {name!r}; {hint}")
        return name

    def get(self, name: str) -> BasePredictor:
        """The model of that name, loaded; takes a second or more the first time.

        Raises:
            VlpartError: its weights are missing or damaged.
        """
        with self._lock:
            if name not in self._loaded:
                found = self._found[name]
                if isinstance(found, Path):
                    self._loaded[name] = load_exported(found, self._engine)
                else:
                    self._loaded[name] = load(found, device=self._device)
            return self._loaded[name]

    def unknown_words(self, name: str, vocabulary: Vocabulary) -> list[str]:
        """Objects and parts of a vocabulary that the text encoder of a model does not know; empty where it cannot
        tell (CLIP takes any letters), and for the lists of the package."""
        loaded = self._loaded.get(name)
        encoder = None if loaded is None else get_text_encoder(loaded.text_encoder)
        if not isinstance(encoder, PhraseTextEncoder) or vocabulary.title in Vocabulary.available():
            return []
        words = dict.fromkeys(
            word
            for i, entry in enumerate(vocabulary.names)
            for word in (vocabulary.object_name(i), vocabulary.part_name(i) or entry)
        )
        return [word for word in words if word and not encoder.knows(word)]

    def info(self) -> list[dict[str, Any]]:
        """What `schema.ModelInfo` says of each."""
        return [self._about(name) for name in self._found]

    def _about(self, name: str) -> dict[str, Any]:
        found, loaded = self._found[name], self._loaded.get(name)
        about = {"name": name, "loaded": loaded is not None, "default": name == self.names[0]}
        if isinstance(found, Path):  # what it looks for stands in the file
            title = None if loaded is None else loaded.vocabulary.title
            named = title if title in Vocabulary.available() else None
            return {**about, "vocabulary": named, "masks": None if loaded is None else loaded.mask_on}
        if found.entry is None:
            return {**about, "vocabulary": None, "masks": None}
        return {
            **about,
            "vocabulary": None if found.run is not None else found.entry.vocabulary,
            "masks": found.entry.mask_on,
        }


class Engine:
    """Answers requests in batches.

    Args:
        models: what there is.
        settings: the bounds.
        metrics: where images and detections are counted.
    """

    def __init__(self, models: Models, settings: ServeSettings, metrics: Metrics) -> None:
        self.models, self._settings, self._metrics = models, settings, metrics

    def predict(self, requests: Sequence[Request]) -> list[bytes | Exception]:
        """The answers (JSON, `schema.Prediction`) to requests of one key, or what is wrong with each."""
        first = requests[0]
        try:
            predictor = self.models.get(first.model)
            vocabulary = first.vocabulary or predictor.vocabulary
            threshold = first.options.threshold
            threshold = readable_threshold(len(vocabulary)) if threshold is None else threshold
        except VlpartError as error:
            return [error] * len(requests)
        read = [self._read(predictor, request) for request in requests]
        images = [each for each in read if isinstance(each, ReadImage)]
        most = min(first.options.max_detections or self._settings.max_detections, self._settings.max_detections)
        results = iter(predictor.detect(images, vocabulary, score_threshold=threshold, max_detections=most))
        answers: list[bytes | Exception] = []
        for request, each in zip(requests, read, strict=True):
            if isinstance(each, VlpartError):
                answers.append(each)
                continue
            answer = answer_of(next(results), request.options)
            self._metrics.images.inc()
            self._metrics.detections.inc(len(answer["detections"]))
            answer |= {"model": request.model, "threshold": threshold}
            answer["default_threshold"] = readable_threshold(len(vocabulary))
            answers.append(json.dumps(answer, ensure_ascii=False, allow_nan=False).encode())
        return answers

    def _read(self, predictor: BasePredictor, request: Request) -> ReadImage | VlpartError:
        try:
            return predictor.read(
                request.image, short_side=request.options.short_side, max_pixels=self._settings.max_pixels
            )
        except VlpartError as error:
            return error


def vocabulary_of(value: str | list[str] | None, most: int) -> Vocabulary | None:
    """What a client looks for: the name of a list, text or names; never a file of the server.

    Args:
        value: as it was sent.
        most: names.

    Raises:
        VocabularyError: it is malformed, or has too many names.
    """
    if value is None:
        return None
    if isinstance(value, str):
        named = value.strip() in Vocabulary.available()
        vocabulary = Vocabulary.load(value.strip()) if named else Vocabulary.parse(value)
    else:
        vocabulary = Vocabulary.from_names(value)
    if len(vocabulary) > most:
        raise VocabularyError(f"the vocabulary has {len(vocabulary)} names, and this server takes {most}")
    return vocabulary


def pixels_of(image: bytes, most: int) -> int:
    """How many pixels an image has, from its header.

    Raises:
        ImageError: it is no image.
        TooLargeError: it has more than `most`.
    """
    try:
        with open_image(io.BytesIO(image), "the image", None) as opened:
            width, height = opened.size
    except ImageError:
        raise
    except Exception:  # noqa: BLE001  the one reading of images knows what to say
        read_image(image, max_pixels=most)
        raise ImageError("the image cannot be read") from None
    if width * height > most:
        raise TooLargeError(f"the image has {width * height:,} pixels ({width}x{height}), more than {most:,}")
    return width * height


def answer_of(result: Result, options: Options) -> dict[str, Any]:
    """A result as `schema.Prediction` has it, but for the model and the threshold."""
    if not options.keep_nested:
        result = result.without_nested()
    replaced = result.replaced_by(options.iou) if options.iou < 1 else np.full(len(result), -1)
    kept = np.flatnonzero((replaced < 0) | ((replaced != np.arange(len(result))) & options.keep_replaced))
    limits = [float(str(result.scores[k])) if k >= 0 else None for k in replaced[kept].tolist()]
    result = result[kept]
    answer = result.to_dict()
    owners = _owners(result) if options.keep_replaced else []
    for i, detection in enumerate(answer["detections"]):
        if options.keep_replaced:
            detection["replaced_below"] = limits[i]
            detection["owners"] = owners[i]
        if "rle" not in options.masks:
            detection.pop("mask", None)
        if result.masks is not None:
            detection |= _forms(result.masks, i, options.masks)
    answer["objects"] = [
        {"index": group.index, "name": group.name, "score": group.score, "parts": group.parts}
        for group in result.objects
    ]
    answer["loose_parts"] = result.loose_parts
    answer["summary"] = result.summary()
    return answer


def _owners(result: Result) -> list[list[int]]:
    """For each detection the objects that it is a part of as the threshold rises, in order.

    The first of them is its object among all; as soon as a threshold hides that one, the next, found among what has a
    better score.
    """
    better: dict[int, list[int]] = {len(result): result.owners.tolist()}
    found: list[list[int]] = []
    for i in range(len(result)):
        chain: list[int] = []
        limit = len(result)
        while limit > i and (owner := better[limit][i]) >= 0:
            chain.append(owner)
            limit = owner
            if limit > i and limit not in better:
                better[limit] = result[:limit].owners.tolist()
        found.append(chain)
    return found


def _forms(masks: MaskStack, i: int, forms: Sequence[str]) -> dict[str, Any]:
    """A mask in the forms that its answer has besides RLE."""
    found: dict[str, Any] = {}
    for form, outlines in (("polygons", masks.polygons), ("rings", masks.rings)):
        if form in forms:
            found[form] = [outline.round(2).reshape(-1).tolist() for outline in outlines(i)]
    if "png" in forms:
        x, y, bitmap = masks.crop(i)
        image = Image.fromarray(bitmap.astype(np.uint8) * 255) if bitmap.size else None
        data = b"" if image is None else encode_image(image, "PNG", "mask")
        found["png"] = {"x": x, "y": y, "data": base64.b64encode(data).decode("ascii")}
    return found
