"""The object that users hold: images in, `Result`s out."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from vlpart.checks import in_range, one_of, typed
from vlpart.data.images import MAX_PIXELS, ReadImage
from vlpart.data.preprocess import to_batch
from vlpart.errors import DataError
from vlpart.inference.base import BasePredictor, Defaults
from vlpart.inference.exemplars import UNNAMED, Exemplar, exemplar_vectors, merge, region_covariance
from vlpart.inference.given import regions_of
from vlpart.masks.stack import MaskStack
from vlpart.models.config import get_architecture
from vlpart.models.load import LoadedDetector, detector_of
from vlpart.models.postprocess import Detections, rescale
from vlpart.results.result import Result
from vlpart.runtime import autocast, choose_device, choose_precision
from vlpart.text.encoders import encode_vocabulary, get_text_encoder
from vlpart.text.prompts import Prompt
from vlpart.text.ready import ready_vectors
from vlpart.text.vocabulary import Vocabulary
from vlpart.types import DetectionOptions, ImageBatch
from vlpart.zoo.catalogue import ModelEntry
from vlpart.zoo.resolve import ResolvedModel, resolve

if TYPE_CHECKING:
    from numpy.typing import NDArray

logger = logging.getLogger("vlpart")

_TEXTS_KEPT = 16  # vocabularies whose embeddings stay in memory
# Of one forward pass: a long list must not need memory without end, and a CPU is slower with large batches.
_BATCH_PIXELS_CPU = 1_000_000
_BATCH_PIXELS = 32_000_000


class Predictor(BasePredictor):
    """A loaded model. Threads may share it, each with its own vocabulary: a call changes nothing that another sees.

    Attributes:
        name: of the model in the catalogue, of the run folder, or of the weight file.
        architecture: `r50_mask_rcnn`, `swin_b_cascade`, `tiny2` or `tiny`.
        device: where it runs.
        precision: "float32" or "bf16".
        detector: the network, in evaluation mode.
        text_encoder, prompt: how names become vectors.

    Args:
        entry: what is known about the model.
        loaded: its network.
        device, precision: see the attributes.
        note: a warning for the log, before the default vocabulary is used for the first time.
    """

    @typed()
    def __init__(
        self, entry: ModelEntry, loaded: LoadedDetector, device: torch.device, precision: str, note: str = ""
    ) -> None:
        self.name = entry.name
        self.architecture = loaded.architecture
        self.mask_on = loaded.detector.mask_on
        self.device = device
        self.precision = precision
        self.vocabulary = Vocabulary.load(entry.vocabulary)
        # Convolutions of a channels-last network are about a third faster on CPUs; the numbers stay.
        self.detector = loaded.detector.to(device).to(memory_format=torch.channels_last)
        self._batch_pixels = _BATCH_PIXELS_CPU if device.type == "cpu" else _BATCH_PIXELS
        self.text_encoder, self.prompt = entry.text_encoder, entry.prompt
        self._note = note
        sizes = get_architecture(loaded.architecture)
        short_side, max_side = entry.image_size or (sizes.short_side, sizes.max_side)
        self.defaults = Defaults(
            short_side=short_side,
            max_side=max_side,
            score_threshold=entry.score_threshold,
            max_detections=entry.detections_per_image,
        )
        self._texts: OrderedDict[str, Tensor] = OrderedDict()
        self._lock = threading.Lock()
        embeddings = loaded.text_embeddings
        if embeddings is not None and embeddings.shape == (len(self.vocabulary), sizes.text_dim):
            self._texts[self.vocabulary.content_hash] = embeddings.to(device)

    def __repr__(self) -> str:
        return f"Predictor({self.name!r}, device={str(self.device)!r}, precision={self.precision!r})"

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the lock, which cannot be copied or sent to another process."""
        with self._lock:
            return {**self.__dict__, "_texts": self._texts.copy(), "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()

    @typed()
    def become(self, vocabulary: Vocabulary, text_encoder: str, prompt: Prompt, defaults: Defaults) -> None:
        """Take over what the file of a model says about it. Before the first call."""
        self.vocabulary, self.defaults, self._note = vocabulary, defaults, ""
        self.text_encoder, self.prompt = text_encoder, prompt
        self._texts.clear()

    def embed(self, vocabulary: Vocabulary | str | Path | Sequence[str]) -> NDArray[np.float32]:
        """(C, D) float32 text embeddings of a vocabulary, as the classifier sees them.

        Examples:
            >>> load("tiny").embed("car: wheel, door").shape
            (3, 256)
        """
        return self._text(Vocabulary.of(vocabulary)).cpu().numpy()

    @typed("mix")
    def like(
        self,
        exemplars: Exemplar | Sequence[Exemplar],
        vocabulary: Vocabulary | str | Path | Sequence[str] | None = None,
        *,
        mix: float = 0.5,
        max_pixels: int | None = MAX_PIXELS,
    ) -> Vocabulary:
        """A vocabulary that looks for more like what regions of photos show (`vlpart.inference.exemplars`).

        Examples:
            >>> from vlpart.inference.exemplars import Exemplar
            >>> predictor = load("tiny")
            >>> eyes = predictor.like(Exemplar(image="photo.jpg", box_xyxy=(200, 100, 230, 120), name="eye"))
            >>> eyes.names, eyes.embeddings.shape
            (('eye',), (1, 256))
            >>> result = predictor("photo.jpg", vocabulary=eyes)

        Args:
            exemplars: what to look for; several of one name are averaged.
            vocabulary: more names to look for; those of exemplars that it has are replaced.
            mix: share of the text of an exemplar's name; 0 = only its looks count, as without a name.
            max_pixels: see `predict`.

        Raises:
            DataError: no exemplar, or a region that is empty or not in its photo.
            ImageError, VocabularyError, TextEncoderError, ValueError: see `predict`.
        """
        listed = [exemplars] if isinstance(exemplars, Exemplar) else list(exemplars)
        if not listed:
            raise DataError("no exemplar is given: pass a photo and a region in it")
        for each in listed:
            one_of("an exemplar", each, Exemplar)
            one_of("the name of an exemplar", each.name, str, type(None))
        share = in_range("mix", mix, 0, 1)
        asked = None if vocabulary is None else Vocabulary.of(vocabulary)
        names, places = merge(asked, [each.name or UNNAMED for each in listed])
        text = self._text(names)
        rows = text.clone()
        if asked is not None and asked.embeddings is not None:
            rows[: len(asked)] = self._text(asked)
        vectors = [
            self._exemplar(each, text[place], share if each.name else 0.0, max_pixels)
            for each, place in zip(listed, places, strict=True)
        ]
        for place in set(places):
            own = [vector for vector, other in zip(vectors, places, strict=True) if other == place]
            rows[place] = torch.stack(own).mean(dim=0)
        return replace(names, embeddings=rows.cpu().numpy())

    def _exemplar(self, exemplar: Exemplar, text: Tensor, share: float, max_pixels: int | None) -> Tensor:
        """(D,) vector of an exemplar."""
        image = self.read(exemplar.image, max_pixels=max_pixels)
        height, width = image.pixels.shape[:2]
        regions, _ = regions_of((height, width), exemplar.box_xyxy, exemplar.mask)
        if len(regions) != 1:
            raise DataError(f"an exemplar is one region, not {len(regions)}")
        batch = to_batch([image.resized])
        scale = np.array([image.resized.shape[1] / width, image.resized.shape[0] / height] * 2, dtype=np.float32)
        pixels = batch.pixels.to(self.device).contiguous(memory_format=torch.channels_last)
        with autocast(self.device, self.precision):
            return exemplar_vectors(
                self.detector,
                ImageBatch(pixels=pixels, sizes_hw=batch.sizes_hw),
                torch.from_numpy(regions * scale).to(self.device),
                text[None],
                [share],
                region_covariance(self.architecture),
            )[0]

    def _default_vocabulary(self) -> Vocabulary:
        note, self._note = self._note, ""
        if note:
            logger.warning(note)
        return self.vocabulary

    def _text(self, vocabulary: Vocabulary) -> Tensor:
        """(C, D) embeddings on the device; the last few vocabularies are kept."""
        key = vocabulary.content_hash
        with self._lock:
            if key in self._texts:
                self._texts.move_to_end(key)
                return self._texts[key]
        encoded = ready_vectors(vocabulary, self.text_encoder, self.prompt)
        if encoded is None:
            encoder = get_text_encoder(self.text_encoder)
            encoded = encode_vocabulary(encoder, vocabulary, prompt=self.prompt)
        text = torch.tensor(encoded, dtype=torch.float32, device=self.device)
        with self._lock:
            self._texts[key] = text
            while len(self._texts) > _TEXTS_KEPT:
                self._texts.popitem(last=False)
        return text

    def _detect(
        self, images: Sequence[ReadImage], names: Vocabulary, text: Tensor, options: DetectionOptions
    ) -> list[Result]:
        """Forward passes over images of the same input size."""
        results: dict[int, Result] = {}
        for indices in _batches([image.resized.shape[:2] for image in images], self._batch_pixels):
            batch = to_batch([images[i].resized for i in indices])
            detections = self._forward(batch, text, options)
            for index, size_hw, of_image in zip(indices, batch.sizes_hw, detections, strict=True):
                image = images[index]
                results[index] = _to_result(image, rescale(of_image, size_hw, image.pixels.shape[:2]), names)
        return [results[i] for i in range(len(images))]

    @torch.inference_mode()
    def _forward(self, images: ImageBatch, text: Tensor, options: DetectionOptions) -> list[Detections]:
        pixels = images.pixels.to(self.device).contiguous(memory_format=torch.channels_last)
        with autocast(self.device, self.precision):
            return self.detector(ImageBatch(pixels=pixels, sizes_hw=images.sizes_hw), text, options)


def _batches(sizes: Sequence[tuple[int, ...]], pixels: int) -> Iterator[list[int]]:
    """Indices of images of one size, in groups of at most `pixels` pixels (but of at least one image)."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for index, size in enumerate(sizes):
        groups.setdefault(size, []).append(index)
    for (height, width), indices in groups.items():
        count = max(1, pixels // (height * width))
        yield from (indices[start : start + count] for start in range(0, len(indices), count))


def _to_result(image: ReadImage, detections: Detections, names: Vocabulary) -> Result:
    boxes = detections.boxes_xyxy.cpu().numpy()
    size, logits = image.pixels.shape[:2], detections.mask_logits
    return Result(
        image_size=size,
        boxes_xyxy=boxes,
        scores=detections.scores.cpu().numpy(),
        class_ids=detections.labels.cpu().numpy(),
        masks=None if logits is None else MaskStack(logits.sigmoid().cpu().numpy(), boxes, size),
        vocabulary=names,
        image=image.pixels,
        path=image.path,
    )


def load(
    name: str | Path | ResolvedModel | None = None,
    weights: str | Path | None = None,
    device: str | torch.device | None = None,
    precision: str = "auto",
) -> Predictor:
    """Load a model.

    Examples:
        >>> predictor = load("tiny", device="cpu")
        >>> predictor
        Predictor('tiny', device='cpu', precision='float32')

    Args:
        name: of the catalogue (`vlpart models list`), a weight file, whose architecture is then found out, or the
            folder of a training run, whose names are then the default vocabulary; or what
            `vlpart.zoo.resolve.resolve` made of one. None = `tiny`, or with `weights` the model that the file holds.
        weights: a local file instead of the download (published `.pth`, or safetensors in our names). Alone, it is the
            model of the catalogue whose name it has (`r50_coco.pth`); under any other name it gets the default
            vocabulary of another model of its architecture, and a warning in the log says which.
        device: "cpu", "cuda", "cuda:1", "mps"; None takes a CUDA device if there is one, else the CPU.
        precision: "float32", "bf16" (autocast), or "auto": bf16 on CUDA devices that have it, else float32.

    Raises:
        ModelNotFoundError: no model of that name, no such file or folder.
        DownloadError: the weights are not here and cannot be fetched; the message says what to do.
        WeightsError: the file is missing, corrupt, refused or of another architecture.
        VlpartError: the device is not there, or there is no such precision.
    """
    chosen = choose_device(device)
    precision = choose_precision(precision, chosen)
    model = name if isinstance(name, ResolvedModel) else resolve(name, weights)
    if model.run is not None and not model.run.finished:
        logger.warning(
            "the training in %s is not finished: its checkpoint %s is used", model.run.folder, model.run.weights.name
        )
    path, state = model.fetch(), model.read()
    loaded = detector_of(state, path, model.expected(state), mask_on=model.mask_on)
    entry, note = model.entry_of(loaded.architecture, mask_on=loaded.detector.mask_on)
    if not loaded.detector.mask_on:
        logger.warning("%s has no mask head: it finds boxes, without masks", entry.name)
    return Predictor(entry, loaded, chosen, precision, note)
