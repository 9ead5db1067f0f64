"""A predictor on an exported file. Imports no torch (but for TorchScript and the CLIP text encoder)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vlpart.checks import typed
from vlpart.data.images import ReadImage
from vlpart.data.resize import PIXEL_MEAN, PIXEL_STD
from vlpart.errors import VocabularyError, WeightsError
from vlpart.export.engines import Engine, open_engine
from vlpart.files import local_path
from vlpart.inference.base import BasePredictor, Defaults
from vlpart.masks.stack import MaskStack
from vlpart.results.result import Result
from vlpart.text.encoders import encode_vocabulary, get_text_encoder
from vlpart.text.vocabulary import Vocabulary
from vlpart.types import DetectionOptions

_STRIDE = 32


class ExportedPredictor(BasePredictor):
    """A loaded file. Threads may share it.

    Attributes:
        architecture: of the model that was exported.
        engine: "onnxruntime", "openvino" or "torch".
        device: where it computes.
    """

    device = "cpu"

    def __init__(self, engine: Engine) -> None:
        facts, self._path = engine.facts, engine.path
        self.name, self.architecture, self.mask_on, self.engine = (
            facts.name,
            facts.architecture,
            facts.mask_on,
            engine.name,
        )
        self.vocabulary = Vocabulary.from_dict(facts.vocabulary)
        self.defaults = Defaults(
            short_side=facts.short_side,
            max_side=facts.max_side,
            score_threshold=facts.score_threshold,
            max_detections=facts.max_detections,
        )
        self.text_encoder = facts.text_encoder
        self._facts, self._run = facts, engine.run
        self._texts: dict[str, NDArray[np.float32]] = {}

    def __repr__(self) -> str:
        return f"ExportedPredictor({self.name!r}, engine={self.engine!r})"

    @property
    def digest(self) -> str:
        """A hash of the file, and of the weights beside it."""
        files = (each for each in (self._path, self._path.with_suffix(".bin")) if each.is_file())
        return hashlib.blake2b(b"".join(each.read_bytes() for each in files), digest_size=16).hexdigest()

    def _text(self, vocabulary: Vocabulary) -> NDArray[np.float32] | None:
        if not self._facts.text_input:
            if vocabulary.names != self.vocabulary.names:
                raise VocabularyError(
                    f"{self.name} was exported for the vocabulary {self.vocabulary.title!r} alone: export it with "
                    "--text-input to ask for others"
                )
            return None
        key = vocabulary.content_hash
        if key not in self._texts:
            encoder = get_text_encoder(self._facts.text_encoder)
            encoded = encode_vocabulary(encoder, vocabulary, prompt=self._facts.prompt)  # type: ignore[arg-type]
            self._texts = {key: np.array(encoded, dtype=np.float32)}  # the last one
            return self._texts[key]
        return self._texts[key]

    def _detect(
        self,
        images: Sequence[ReadImage],
        names: Vocabulary,
        text: NDArray[np.float32] | None,
        options: DetectionOptions,
    ) -> list[Result]:
        return [self._detect_one(image, names, text, options) for image in images]

    def _detect_one(
        self, image: ReadImage, names: Vocabulary, text: NDArray[np.float32] | None, options: DetectionOptions
    ) -> Result:
        size, input_size = image.pixels.shape[:2], image.resized.shape[:2]
        threshold = np.array(options.score_threshold, dtype=np.float32)
        inputs = [network_input(image.resized), np.array(input_size, dtype=np.float32), threshold]
        boxes, scores, labels, *masks = self._run(inputs if text is None else [*inputs, text])
        if len(labels) and not 0 <= labels.min() <= labels.max() < len(names):
            raise WeightsError(f"{self.name} is damaged: it finds names that it was not asked for: export it again")
        scale = np.array([size[1] / input_size[1], size[0] / input_size[0]] * 2, dtype=np.float32)
        boxes = np.clip(boxes * scale, 0, np.array([size[1], size[0]] * 2, dtype=np.float32))
        keep = np.flatnonzero((boxes[:, 2:] > boxes[:, :2]).all(axis=1) & (scores > options.score_threshold))
        keep = keep[np.argsort(-scores[keep], kind="stable")][: options.max_detections]
        return Result(
            image_size=size,
            boxes_xyxy=boxes[keep],
            scores=scores[keep].clip(0, 1),
            class_ids=labels[keep],
            masks=MaskStack(masks[0][keep], boxes[keep], size) if masks else None,
            vocabulary=names,
            image=image.pixels,
            path=image.path,
        )


@typed()
def network_input(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(1, 3, H, W) float32 of a resized (h, w, 3) uint8 RGB image: normalised, then zeros on the right and below up to
    multiples of 32, as `vlpart.data.preprocess.to_batch`.
    """
    height, width = image.shape[:2]
    pixels = np.zeros((1, 3, -(-height // _STRIDE) * _STRIDE, -(-width // _STRIDE) * _STRIDE), dtype=np.float32)
    mean, deviation = (np.array(each, dtype=np.float32) for each in (PIXEL_MEAN, PIXEL_STD))
    normalised = (image.astype(np.float32) - mean) / deviation
    pixels[0, :, :height, :width] = normalised.transpose(2, 0, 1)
    return pixels


@typed()
def load_exported(path: str | Path, engine: str | None = None, *, threads: int | None = None) -> ExportedPredictor:
    """Load what `vlpart export` wrote.

    Args:
        path: .onnx, .xml (with its .bin beside it) or .torchscript.
        engine: "onnxruntime", "openvino" (also for .onnx) or "torch"; None takes that of the ending.
        threads: processor threads; None leaves it to the engine.

    Raises:
        WeightsError: no such file, damaged, or not exported by this package.
        VlpartError: the engine does not run such files, or is not installed.
    """
    return ExportedPredictor(open_engine(local_path(path), engine, threads))
