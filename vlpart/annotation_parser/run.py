"""The parser over data sets: assembled from names and paths, it builds a reference bank, and parses labelled images
into a COCO-format file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlpart.annotation_parser.bank import (
    HEADER,
    ReferenceBank,
    pack_token,
    unpack_token,
    write_bank,
)
from vlpart.annotation_parser.detector import DetectorOptions, PartDetector, check_aspect
from vlpart.annotation_parser.features.base import FeatureExtractor, check_describable
from vlpart.annotation_parser.features.load import load_features
from vlpart.annotation_parser.image_parser import ImageParser, ParserOptions
from vlpart.annotation_parser.labelled_images import AnnotatedObject, LabelledImage, digest
from vlpart.annotation_parser.object_parser import ObjectParser, VotingOptions, object_image
from vlpart.annotation_parser.output import ParsedPart, image_record, is_parsed, settings_of, write_coco
from vlpart.annotation_parser.references import BaseData, Reference
from vlpart.annotation_parser.rename import Renamer
from vlpart.checks import one_of
from vlpart.data.resize import resize_shorter_side
from vlpart.data.upright import read_annotated
from vlpart.errors import DataError, ImageError, OutputError, VlpartError
from vlpart.files import is_file, is_folder, is_there
from vlpart.jobs import SKIPPED, Job, Progress, Record, rank_and_world
from vlpart.runtime import choose_device, choose_precision
from vlpart.text.vocabulary import Vocabulary


def open_image_parser(
    bank: ReferenceBank | None,
    options: ParserOptions,
    *,
    names: Vocabulary | None = None,
    model: str = "tiny",
    weights: Path | None = None,
    parts: Vocabulary | None = None,
    score_threshold: float = 0.7,
    feature_weights: Path | None = None,
    device: str | None = None,
    precision: str = "float32",
) -> ImageParser:
    """The published parser, with the features that its bank was built with, and the detector if it needs one.

    Args:
        bank: of images; None if all labels are base objects.
        options: how an image is parsed.
        names: the part names to write; None takes every part as it comes.
        model, weights: the detector, as for `vlpart.load`.
        parts: the part names that the detector looks for on base objects; None takes the model's own vocabulary.
        score_threshold: lowest score of the parts of base objects.
        feature_weights: local weight file of the features.
        device, precision: where to run; see `choose_device` and `choose_precision`.

    Raises:
        DataError: the bank was built with other weights or of objects, or there is none and it is needed.
        DownloadError, WeightsError: weights are missing; the message says what to do.
        VocabularyError, TextEncoderError: the vocabulary does not fit the model.
        VlpartError: the device is not here, or there is no such precision.
    """
    from vlpart.inference.predictor import load
    from vlpart.models.config import get_architecture

    one_of("bank", bank, ReferenceBank, type(None))
    one_of("options", options, ParserOptions)
    where = choose_device(device)
    precision = choose_precision(precision, where)
    if bank is None and options.base_objects == frozenset():
        raise DataError("a parser needs a reference bank, or labels that are base objects")
    features = None
    if bank is not None:
        features = load_features(bank.features, weights=feature_weights, device=where, precision=precision)
        bank = bank.to(where)
    detector = None
    if options.needs_detector:
        predictor = load(model, weights=weights, device=where, precision=precision)
        short_side = get_architecture(predictor.architecture).short_side
        detector_options = DetectorOptions(short_side=short_side, score_threshold=score_threshold)
        detector = PartDetector.of(predictor, parts or predictor.vocabulary, detector_options)
    return ImageParser(features, bank, detector, Renamer(names), options)


def open_object_parser(
    bank: ReferenceBank,
    options: VotingOptions,
    *,
    names: Vocabulary | None = None,
    model: str = "tiny",
    weights: Path | None = None,
    feature_weights: Path | None = None,
    device: str | None = None,
    precision: str = "float32",
) -> ObjectParser:
    """The parser of annotated objects, with the features of its bank, and the detector if it has a share.

    The arguments are those of `open_image_parser`, for a bank of objects.

    Raises:
        DataError, DownloadError, WeightsError, VlpartError: see `open_image_parser`.
    """
    from vlpart.inference.predictor import load

    one_of("bank", bank, ReferenceBank)
    one_of("options", options, VotingOptions)
    where = choose_device(device)
    precision = choose_precision(precision, where)
    features = load_features(bank.features, weights=feature_weights, device=where, precision=precision)
    predictor = None
    if options.detector_share > 0:
        predictor = load(model, weights=weights, device=where, precision=precision)
    return ObjectParser(features, bank.to(where), predictor, Renamer(names), options)


OnFailure = Callable[[str, VlpartError], None]
"""Called with the file name of an image that was skipped, and why."""


@dataclass(frozen=True, kw_only=True)
class ParserRun:
    """What a call did.

    Attributes:
        written: the result, if this process wrote it (another one may be the last to finish).
        items: images of the result; skipped: those of them that could not be used; parts: annotations written.
    """

    written: Path | None
    items: int = 0
    skipped: int = 0
    parts: int = 0


def build_bank(
    folder: Path,
    data: BaseData,
    images: Path,
    features: FeatureExtractor,
    *,
    short_side: int | None = None,
    max_side: int | None = None,
    batch: int = 1,
    overwrite: bool = False,
    progress: Progress | None = None,
    on_failure: OnFailure | None = None,
) -> ParserRun:
    """Describe every base image by its class token and write the bank.

    Args:
        folder: the bank to write.
        data: the base images, see `read_base_data`.
        images: folder of their files.
        features: describes them.
        short_side, max_side: size in pixels at which they are described; None takes what `features` is good at.
        batch: images read at a time; those of one size run as one batch.
        overwrite: replace a bank that is there.

    Raises:
        OutputError: there is a bank already, the folder cannot be written, or there is unfinished work of other
            settings.
        DataError: there is no folder of that name, or not one image can be used.
    """
    short, longest = short_side or features.short_side, max_side or features.max_side
    references = data.references
    settings = {
        "features": features.name,
        "fingerprint": features.fingerprint,
        "precision": features.precision,
        "short_side": short,
        "max_side": longest,
        "images": str(images.absolute()),
    }
    if references[0].object_box_xyxy is not None:
        settings["unit"] = "objects"  # short_side is then the longer side of a cut-out object
    if is_file(folder / HEADER) and not overwrite:
        if rank_and_world()[1] > 1 and settings.items() <= ReferenceBank(folder).header.items():
            return ParserRun(written=None, items=len(references))  # another process was the last to finish
        raise OutputError(f"there is a reference bank in {folder} already: name another folder, or use --overwrite")
    _check_folder(images)
    listing = digest([_labelled(reference) for reference in references])
    job = Job(
        folder=_work_folder(folder),
        settings=settings | {"pictures": listing},
        total=len(references),
        label="describing",
        restart=overwrite,
    )
    work = _Describing(folder, settings, references, images, features, short, longest, batch, on_failure)
    finished = job.run(work.compute, work.write, progress, work.is_described)
    return ParserRun(written=folder if finished else None, items=len(references), skipped=work.skipped)


@dataclass
class _Describing:
    """The work of `build_bank`: class tokens of references, and the bank of them."""

    folder: Path
    settings: Mapping[str, Any]
    references: Sequence[Reference]
    images: Path
    features: FeatureExtractor
    short: int
    longest: int
    batch: int
    on_failure: OnFailure | None
    skipped: int = 0
    lengths: set[int] = field(default_factory=set)

    def compute(self, indices: list[int]) -> Iterator[tuple[int, Record]]:
        """A record for every reference."""
        references = self.references
        for chunk in _chunks(indices, self.batch):
            good = _readable(chunk, self._shown, lambda i: references[i].file_name, self.on_failure)
            described = self.features.describe(list(good.values()))
            tokens = {i: each.class_token for i, each in zip(good, described, strict=True)}
            for i in chunk:
                yield i, {"token": pack_token(tokens[i])} if i in tokens else {SKIPPED: references[i].file_name}

    def write(self, records: Iterator[Record]) -> None:
        """The bank of all references that could be described."""
        write_bank(self.folder, self._entries(records), self.settings)

    def is_described(self, record: Record) -> bool:
        """Whether a record of an earlier run is a token, and as long as the others."""
        try:
            token = unpack_token(record["token"])
        except (KeyError, TypeError, ValueError):
            return False
        self.lengths.add(len(token))
        return len(self.lengths) == 1 and bool(np.isfinite(token).all())

    def _entries(self, records: Iterator[Record]) -> Iterator[tuple[Reference, NDArray[np.float32]]]:
        for reference, record in zip(self.references, records, strict=True):
            if "token" in record:
                yield reference, unpack_token(record["token"])
            else:
                self.skipped += 1

    def _shown(self, index: int) -> NDArray[np.uint8]:
        """What is described of a reference whose image and annotations can be used."""
        reference = self.references[index]
        image = read_annotated(self.images / reference.file_name, reference.cut_from)
        reference.part_bitmaps()  # `find` needs them
        if reference.object_box_xyxy is not None:
            shown = object_image(image, reference, self.short)
        else:
            check_aspect(image)  # `find` describes it without a limit for its longer side
            shown = resize_shorter_side(image, self.short, self.longest)
        check_describable(shown, self.features)
        return shown


def find_parts(
    output: Path,
    labelled: Sequence[LabelledImage],
    images: Path,
    parser: ImageParser | ObjectParser,
    *,
    vocabulary: Vocabulary | None = None,
    batch: int = 1,
    overwrite: bool = False,
    progress: Progress | None = None,
    on_failure: OnFailure | None = None,
) -> ParserRun:
    """Parse labelled images and write a COCO-format file of their parts.

    Args:
        output: the file to write.
        labelled: what to parse.
        images: folder of their files.
        parser: parses them.
        vocabulary: the categories of the file, with their ids; None makes one of every name that was found.
        batch: images read at a time; those of one size are described as one batch.
        overwrite: replace a file that is there.

    Raises:
        OutputError: the file is there already, or cannot be written, or unfinished work of other settings is beside it.
        DataError: there is no folder of that name, not one image can be used, a reference image is missing, or
            `check_labels` of the parser refuses a label.
    """
    settings = parser.settings() | {
        "images": str(images.absolute()),
        "pictures": digest(labelled),
        "vocabulary": None if vocabulary is None else vocabulary.content_hash,
    }
    if is_folder(output):
        raise OutputError(f"{output} is a folder: name the file to write")
    if is_there(output) and not overwrite:
        if rank_and_world()[1] > 1 and settings_of(output) == settings:
            return ParserRun(written=None, items=len(labelled))  # another process was the last to finish
        raise OutputError(f"{output} is there already: name another file, or use --overwrite")
    _check_folder(images)
    parser.check_labels({label for image in labelled for label in image.labels})
    job = Job(folder=_work_folder(output), settings=settings, total=len(labelled), label="parsing", restart=overwrite)
    work = _Parsing(parser, labelled, images, batch, on_failure)
    counts: dict[str, int] = {}
    finished = job.run(
        work.compute,
        lambda records: counts.update(write_coco(output, records, vocabulary, settings)),
        progress,
        is_parsed,
    )
    return ParserRun(
        written=output if finished else None,
        items=len(labelled),
        skipped=counts.get("skipped", 0),
        parts=counts.get("annotations", 0),
    )


@dataclass(frozen=True)
class _Parsing:
    """The work of `find_parts`: the parts of labelled images."""

    parser: ImageParser | ObjectParser
    labelled: Sequence[LabelledImage]
    images: Path
    batch: int
    on_failure: OnFailure | None

    def compute(self, indices: list[int]) -> Iterator[tuple[int, Record]]:
        """A record for every image."""
        labelled = self.labelled
        for chunk in _chunks(indices, self.batch):
            read = _readable(chunk, self._read, lambda i: labelled[i].file_name, self.on_failure)
            parts = self._parse(list(read), read)
            for i in chunk:
                done = i in parts
                yield i, image_record(labelled[i], read[i], parts[i]) if done else {SKIPPED: labelled[i].file_name}

    def _read(self, index: int) -> NDArray[np.uint8]:
        """An image that fits its annotations."""
        image = read_annotated(self.images / self.labelled[index].file_name, self.labelled[index].size_hw)
        for each in self.labelled[index].objects:
            each.bitmap(*image.shape[:2])
        return image

    def _parse(self, indices: Sequence[int], read: Mapping[int, NDArray[np.uint8]]) -> dict[int, list[ParsedPart]]:
        """Parts by image; where an image cannot be parsed, only that one is left out."""
        try:
            parsed = self.parser.parse_labelled([read[i] for i in indices], [self.labelled[i] for i in indices])
            return dict(zip(indices, parsed, strict=True))
        except ImageError as error:
            if len(indices) > 1:
                return {i: parts for index in indices for i, parts in self._parse([index], read).items()}
            if self.on_failure is not None:
                self.on_failure(str(self.images / self.labelled[indices[0]].file_name), error)
            return {}


def _readable(
    indices: Sequence[int],
    read: Callable[[int], NDArray[np.uint8]],
    name: Callable[[int], str],
    on_failure: OnFailure | None,
) -> dict[int, NDArray[np.uint8]]:
    """The images that can be used, with their annotations, by index."""
    pixels: dict[int, NDArray[np.uint8]] = {}
    for index in indices:
        try:
            pixels[index] = read(index)
        except (ImageError, DataError) as error:
            if on_failure is not None:
                on_failure(name(index), error)
    return pixels


def _check_folder(images: Path) -> None:
    """One error instead of one for every image."""
    if not is_folder(images):
        raise DataError(f"there is no folder {images}: name the folder of the images with --images")


def _labelled(reference: Reference) -> LabelledImage:
    """A reference as an image with a label, and with a place where it has one: unfinished work is good for it only."""
    objects: tuple[AnnotatedObject, ...] = ()
    if reference.object_box_xyxy is not None:
        box, segmentation = reference.object_box_xyxy, reference.object_segmentation
        objects = (AnnotatedObject(label=reference.object, box_xyxy=box, segmentation=segmentation),)
    return LabelledImage(
        image_id=reference.image_id, file_name=reference.file_name, labels=(reference.object,), objects=objects
    )


def _work_folder(output: Path) -> Path:
    """Beside the output, hidden from a glance; named so that its owner is known."""
    place = output.resolve()  # "." has no name
    if not place.name:
        raise OutputError(f"{output} cannot be written: name a file or folder of its own")
    return place.with_name(re.sub(r"^\.*", ".", place.name) + ".parts")


def _chunks(indices: Sequence[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(indices), size):
        yield list(indices[start : start + size])
