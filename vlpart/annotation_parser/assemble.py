"""A parser from names and paths."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlpart.annotation_parser.detections import DetectorOptions, PartDetector
from vlpart.annotation_parser.features import FeatureExtractor, load_features
from vlpart.annotation_parser.object_parser import ObjectParser, VotingOptions
from vlpart.annotation_parser.parser import Parser, ParserOptions
from vlpart.annotation_parser.reference_bank import ReferenceBank
from vlpart.annotation_parser.rename import Renamer
from vlpart.errors import DataError
from vlpart.models.devices import choose_device, choose_precision
from vlpart.text.vocabulary import Vocabulary

if TYPE_CHECKING:
    from torch import device as Device


@dataclass(frozen=True, kw_only=True)
class ParserSetup:
    """What a parser is made of. The numbers that are not here are the published ones.

    Attributes:
        bank: folder of the reference bank, and `base_images` where its pictures are now, if elsewhere.
        model, weights: the detector, as for `vlpart.load`.
        parts: the part names that the detector looks for on base objects; None takes the model's own vocabulary.
        names: the part names to write; None takes every part as it comes.
        base_objects, sources, use_proposals, keep_masks, min_iou: see `ParserOptions`.
        references, detector_share, min_confidence: see `VotingOptions`; None takes its defaults.
        score_threshold: lowest score of the parts of base objects.
        foreground: None takes the one of the feature extractor.
        short_side, max_side: None takes those of the bank.
        detector_short_side: shorter side of the detector's input; None takes the one that the model was made for.
        feature_weights: local weight file of the feature extractor.
        device, precision: where to run; see `choose_device` and `choose_precision`.
    """

    bank: Path | None = None
    base_images: Path | None = None
    model: str = "tiny"
    weights: Path | None = None
    parts: Vocabulary | None = None
    names: Vocabulary | None = None
    base_objects: Iterable[str] = ()
    sources: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    use_proposals: bool = True
    keep_masks: bool = False
    min_iou: float = 0.3
    references: int | None = None
    detector_share: float | None = None
    min_confidence: float | None = None
    score_threshold: float = 0.7
    foreground: float | None = None
    short_side: int | None = None
    max_side: int | None = None
    detector_short_side: int | None = None
    feature_weights: Path | None = None
    device: str | None = None
    precision: str = "float32"


def open_parser(setup: ParserSetup) -> Parser | ObjectParser:
    """Load the bank, the features that it was built with, and the detector.

    A bank of pictures gives the published parser, a bank of objects the one that parses annotated objects.

    Raises:
        DataError: the bank is missing, damaged, or was built with other weights.
        DownloadError, WeightsError: weights are missing; the message says what to do.
        VocabularyError, TextEncoderError: the vocabulary does not fit the model.
        VlpartError: the device is not here, or there is no such precision.
    """
    device = choose_device(setup.device)
    precision = choose_precision(setup.precision, device)
    bank = None if setup.bank is None else ReferenceBank(setup.bank, setup.base_images)
    features: FeatureExtractor | None = None
    if bank is not None:
        name = str(bank.header["features"])
        features = load_features(name, weights=setup.feature_weights, device=device, precision=precision)
        bank = bank.to(device)
        if bank.of_objects:
            return _object_parser(setup, features, bank, device)
    base_objects = frozenset(setup.base_objects)
    if bank is None and not base_objects:
        raise DataError("a parser needs a reference bank, or labels that are base objects")
    foreground = setup.foreground
    if foreground is None:
        foreground = 0.05 if features is None else features.foreground
    options = ParserOptions(
        short_side=setup.short_side or (224 if bank is None else int(bank.header["short_side"])),
        max_side=setup.max_side or (672 if bank is None else int(bank.header["max_side"])),
        foreground=foreground,
        min_iou=setup.min_iou,
        use_proposals=setup.use_proposals,
        keep_masks=setup.keep_masks,
        base_objects=base_objects,
        sources=setup.sources,
    )
    needs_detector = bool(base_objects) or setup.use_proposals
    detector = _open_detector(setup, device) if needs_detector else None
    return Parser(features, bank, detector, Renamer(setup.names), options)


def _object_parser(setup: ParserSetup, features: FeatureExtractor, bank: ReferenceBank, device: Device) -> ObjectParser:
    from vlpart.predictor import load

    if setup.base_objects:
        raise DataError(
            f"the reference bank {bank.folder} is one of objects, whose detector is evidence for every label: "
            "leave --base-objects out, or use a bank of pictures"
        )
    given: dict[str, Any] = {
        "references": setup.references,
        "detector_share": setup.detector_share,
        "min_confidence": setup.min_confidence,
        "long_side": setup.short_side or int(bank.header["short_side"]),
    }
    options = VotingOptions(
        sources=setup.sources, **{name: value for name, value in given.items() if value is not None}
    )
    predictor = None
    if options.detector_share > 0:
        predictor = load(str(setup.model), weights=setup.weights, device=device, precision=setup.precision)
    return ObjectParser(features, bank, predictor, Renamer(setup.names), options)


def _open_detector(setup: ParserSetup, device: Device) -> PartDetector:
    from vlpart.models.build import get_architecture
    from vlpart.predictor import load

    predictor = load(setup.model, weights=setup.weights, device=device, precision=setup.precision)
    short_side = setup.detector_short_side or get_architecture(predictor.architecture).short_side
    options = DetectorOptions(short_side=short_side, score_threshold=setup.score_threshold)
    return PartDetector.of(predictor, setup.parts or predictor.vocabulary, options)
