"""The path of one image with annotated objects: boxes or masks in, parts out; beyond the published parser.

Where images of novel objects carry whole-object boxes or masks, the parser need not guess where the object is. Every
object is compared with base objects, each cut out like it. A part is where the votes of several references
(`voting.py`) and the detector, asked for the part of the base objects, agree; both are score maps. Masks are kept.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from vlpart.annotation_parser.bank import ReferenceBank, check_features, check_sources
from vlpart.annotation_parser.correspondence import normalised, tight_box
from vlpart.annotation_parser.features.base import FeatureExtractor, fingerprint
from vlpart.annotation_parser.labelled_images import AnnotatedObject, LabelledImage
from vlpart.annotation_parser.output import ParsedPart
from vlpart.annotation_parser.references import Reference
from vlpart.annotation_parser.rename import Renamer
from vlpart.annotation_parser.voting import Witness, coverage, region, spread, votes
from vlpart.checks import check_fields, in_range, whole
from vlpart.data.upright import read_annotated
from vlpart.errors import DataError, WeightsError
from vlpart.names import check_names, plain
from vlpart.text.vocabulary import Vocabulary

if TYPE_CHECKING:
    from vlpart.inference.predictor import Predictor
    from vlpart.results.result import Result

REFERENCES_KEPT = 400  # about 3 MB each with the embedded features
MARGIN = 0.1
"""What is shown around an object, as a fraction of its box on each side."""


@dataclass(frozen=True, kw_only=True)
class VotingOptions:
    """How objects are parsed.

    Attributes:
        long_side: longer side of a cut-out object in pixels; None takes that of the bank.
        references: base objects that vote on a part, the most similar ones that have it annotated.
        neighbours: their patches that vote for a patch.
        detector_share: weight of the detector's score map beside that of the votes; 0 needs no detector.
        sure_score: detections of this score on count fully, those below it in proportion.
        threshold: a part is where the score map is above this fraction of its maximum.
        smallest: pieces of a part below this fraction of its largest piece are dropped.
        min_confidence: parts with a lower mean score are dropped.
        sources: for a label, the base objects that may vote; labels that are not in it may take any.

    Raises:
        TypeError, ValueError: a value of another kind, or out of range.
    """

    long_side: int | None = None
    references: int = 8
    neighbours: int = 20
    detector_share: float = 0.5
    sure_score: float = 0.5
    threshold: float = 0.4
    smallest: float = 0.15
    min_confidence: float = 0.2
    sources: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_fields(self)
        whole("long_side", 1 if self.long_side is None else self.long_side, 1, 10**5)
        for name in ("references", "neighbours"):
            whole(name, getattr(self, name), 1, 10**6)
        for name in ("detector_share", "sure_score", "threshold", "smallest", "min_confidence"):
            in_range(name, getattr(self, name), 0, 1)


@dataclass(frozen=True, kw_only=True)
class CutOut:
    """An object cut out of an image.

    Attributes:
        window: x0, y0, x1, y1 in whole pixels of the image.
        descriptors: (N, D) rows of length 1; class_token (T,); grid: rows and columns.
        inside: (N,) float32, how much of a patch the object covers.
        parts: for a reference, cover (N,) of every annotated part by its name.
    """

    window: tuple[int, int, int, int]
    descriptors: Tensor
    class_token: Tensor
    grid: tuple[int, int]
    inside: Tensor
    parts: Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class ObjectTransfer:
    """Everything between an annotated object and its parts, for looking at.

    Attributes:
        reference: the base object most similar to it, and its similarity (cosine of class tokens); others vote, too.
        source, target: the two, cut out.
        reference_image, target_image: (H, W, 3) uint8 RGB: what is in their windows.
        parts: all that scores anywhere, in pixels of the image of the target, whatever their score.
    """

    reference: Reference
    similarity: float
    source: CutOut
    target: CutOut
    reference_image: NDArray[np.uint8]
    target_image: NDArray[np.uint8]
    parts: list[ParsedPart]


@dataclass(frozen=True, kw_only=True)
class _Detected:
    """What the detector sees in an image, and for every class that it was asked for the name to write."""

    result: Result
    written: list[str]


class ObjectParser:
    """Finds the parts of annotated objects.

    Args:
        features: the extractor that the bank was built with.
        bank: of base objects (`read_base_objects`).
        predictor: the detector; None where `detector_share` is 0.
        renamer: from base part to the names to write.
        options: numbers.

    Raises:
        DataError: the bank was built with other features or of whole images, or the detector is missing.
        WeightsError: the detector has no mask head.
    """

    def __init__(
        self,
        features: FeatureExtractor,
        bank: ReferenceBank,
        predictor: Predictor | None,
        renamer: Renamer,
        options: VotingOptions,
    ) -> None:
        check_features(bank, features)
        if not bank.of_objects:
            raise DataError(f"the reference bank {bank.folder} is one of images: use vlpart parse find")
        if predictor is None and options.detector_share > 0:
            raise DataError("a detector share above 0 needs a detector: name a model")
        if predictor is not None and not predictor.mask_on:
            raise WeightsError(f"{predictor.name} has no mask head, and objects are parsed by masks: use another model")
        self.features, self.bank, self.predictor = features, bank, predictor
        self.renamer, self.options = renamer, options
        self._long_side = options.long_side or int(bank.header["short_side"])
        self._sources = {plain(label): names for label, names in options.sources.items()}
        self._parts_of = bank.parts_by_object()
        self._references: OrderedDict[int, CutOut] = OrderedDict()

    def settings(self) -> dict[str, Any]:
        """Whatever the parts depend on, as JSON data."""
        options = asdict(self.options) | {"long_side": self._long_side}
        options["sources"] = {label: list(names) for label, names in sorted(self.options.sources.items())}
        return {
            "precision": self.features.precision,
            "bank": self.bank.settings(),
            "detector": None if self.predictor is None else fingerprint(self.predictor.detector),
            "options": options,
            **self.renamer.settings(),
        }

    def parse_labelled(
        self, pixels: Sequence[NDArray[np.uint8]], images: Sequence[LabelledImage]
    ) -> list[list[ParsedPart]]:
        """Parts of all annotated objects of (H, W, 3) uint8 RGB images; masks are (H, W) of the image.

        Raises:
            DataError: no base object may vote on a label, or a reference image cannot be read.
        """
        parts_by_image = []
        for seen, image in zip(pixels, images, strict=True):
            detected = cache(partial(self._detected, seen))  # objects of one label share a pass of the detector
            parts_by_image.append(
                [
                    replace(part, object_index=index)
                    for index, each in enumerate(image.objects)
                    for part in self.parse_object(seen, each, detected)
                ]
            )
        return parts_by_image

    def check_labels(self, labels: Iterable[str]) -> None:
        """Refuse `sources` of labels or base objects that there are not.

        Raises:
            DataError: there are some.
        """
        check_sources(self.options.sources, labels, self.bank)

    def parse_object(
        self,
        image: NDArray[np.uint8],
        target: AnnotatedObject,
        detected: Callable[[str], _Detected | None] | None = None,
    ) -> list[ParsedPart]:
        """Parts of one annotated object; `detected` gives what the detector sees for a label, None asks it.

        Raises:
            DataError: a malformed segmentation, or a reference image that cannot be read.
        """
        names = self._names(target.label)
        bitmap = target.bitmap(*image.shape[:2])
        cut = self._cut_out(image, bitmap, {}) if names else None
        if cut is None:
            return []
        see = detected or partial(self._detected, image)
        seen = self._seen(see(target.label), bitmap, cut.window)
        return self.sure_of(self._placed(cut, bitmap, names, self._ranked(cut, target.label), seen))

    def sure_of(self, parts: Iterable[ParsedPart]) -> list[ParsedPart]:
        """Those with the score that a part needs to be written."""
        return [part for part in parts if part.score >= self.options.min_confidence]

    def transfer(self, image: NDArray[np.uint8], target: AnnotatedObject) -> ObjectTransfer:
        """The parsing of one annotated object with what it came from, for looking at.

        Raises:
            DataError: a malformed segmentation, nothing of the object is in the image, or a reference image cannot
                be read.
        """
        names = self._names(target.label)
        bitmap = target.bitmap(*image.shape[:2])
        cut = self._cut_out(image, bitmap, {})
        if cut is None:
            raise DataError(f"nothing of the {target.label} is in the image")
        seen = self._seen(self._detected(image, target.label), bitmap, cut.window)
        searched = self.bank.search(cut.class_token[None], objects=self._sources.get(plain(target.label)))
        index = int(searched.indices[0, 0])
        reference, source = self.bank.reference(index), self._reference(index)
        if source is None:
            raise DataError(f"nothing of the reference {reference.object} is in {reference.file_name}")
        return ObjectTransfer(
            reference=reference,
            similarity=float(searched.similarities[0, 0]),
            source=source,
            target=cut,
            reference_image=_window(self._read(reference), source.window),
            target_image=_window(image, cut.window),
            parts=self._placed(cut, bitmap, names, self._ranked(cut, target.label), seen),
        )

    def _placed(
        self,
        cut: CutOut,
        bitmap: NDArray[np.bool_],
        names: Mapping[str, set[tuple[str, str]]],
        ranked: Sequence[int],
        seen: Mapping[str, NDArray[np.float32]],
    ) -> list[ParsedPart]:
        """Every part that scores anywhere, by votes and detector."""
        x0, y0, x1, y1 = cut.window
        size, inside = (y1 - y0, x1 - x0), bitmap[y0:y1, x0:x1]
        share, placed_parts = self.options.detector_share, []
        for name, base_parts in names.items():
            score_map = np.zeros(size, dtype=np.float32)
            if (said := self._votes(cut, ranked, base_parts)) is not None:
                score_map += (1 - share) * spread(said, cut.grid, size)
            if name in seen:
                score_map += share * seen[name]
            placed = region(score_map, inside, threshold=self.options.threshold, smallest=self.options.smallest)
            if placed is None:
                continue
            mask = np.zeros(bitmap.shape, dtype=bool)
            mask[y0:y1, x0:x1] = placed[0]
            left, top, right, bottom = tight_box(mask)
            placed_parts.append(
                ParsedPart(
                    name=name,
                    found_as=", ".join(sorted(f"{base}:{part}" for base, part in base_parts)),
                    box_xyxy=(left + 0.5, top + 0.5, right + 0.5, bottom + 0.5),  # from pixel centres to edges
                    score=placed[1],
                    mask=mask,
                )
            )
        return placed_parts

    def _names(self, label: str) -> dict[str, set[tuple[str, str]]]:
        """Names to write -> the base parts (object, part) that they may come from."""
        allowed = self._sources.get(plain(label))
        bases = None if allowed is None else {plain(name) for name in allowed}
        if allowed is not None:
            check_names(allowed, self._parts_of, f"the reference bank {self.bank.folder} has no")
        names: dict[str, set[tuple[str, str]]] = {}
        for base, parts in self._parts_of.items():
            if bases is not None and plain(base) not in bases:
                continue
            for part in parts:
                if (name := self.renamer(label, part)) is not None:
                    names.setdefault(name, set()).add((base, part))
        return names

    def _ranked(self, target: CutOut, label: str) -> list[int]:
        """All references that may vote on a label, the most similar one first."""
        matches = self.bank.search(target.class_token[None], k=len(self.bank), objects=self._sources.get(plain(label)))
        return [int(index) for index in matches.indices[0].tolist()]

    def _votes(self, target: CutOut, ranked: Sequence[int], base_parts: set[tuple[str, str]]) -> Tensor | None:
        """(N,) votes of the first references that have a part annotated; None where there are none."""
        pairs = {(plain(base), plain(part)) for base, part in base_parts}
        witnesses: list[Witness] = []
        for index in ranked:
            if not pairs & self.bank.parts_of(index):
                continue
            reference = self._reference(index)
            if reference is None:
                continue
            covers = [cover for part, cover in reference.parts.items() if any(part == p for _, p in pairs)]
            cover = torch.stack(covers).amax(dim=0)
            if not cover.any():  # the part lies outside of its object
                continue
            witnesses.append(Witness(descriptors=reference.descriptors, cover=cover, inside=reference.inside > 0.3))
            if len(witnesses) == self.options.references:
                break
        return votes(target.descriptors, witnesses, self.options.neighbours) if witnesses else None

    def _detected(self, image: NDArray[np.uint8], label: str) -> _Detected | None:
        """What the detector sees, asked for the parts of a label and the base parts that they may come from."""
        if self.predictor is None or self.options.detector_share == 0:
            return None
        asked: dict[tuple[str, ...], tuple[str, str]] = {}  # case and spaces aside, each once
        for name, base_parts in self._names(label).items():
            for phrase in (*(f"{base}:{part}" for base, part in sorted(base_parts)), name):
                asked[tuple(plain(piece) for piece in phrase.partition(":")[::2])] = (phrase, name)
        vocabulary = Vocabulary.from_categories({"id": i, "name": p} for i, (p, _) in enumerate(asked.values(), 1))
        threshold = self.options.sure_score / 10
        result = self.predictor.predict(image, vocabulary=vocabulary, score_threshold=threshold)
        return _Detected(result=result, written=[name for _, name in asked.values()])

    def _seen(
        self, detected: _Detected | None, bitmap: NDArray[np.bool_], window: tuple[int, int, int, int]
    ) -> dict[str, NDArray[np.float32]]:
        """(H, W) score maps of the detector in the window of an object, by the name to write."""
        seen: dict[str, NDArray[np.float32]] = {}
        if detected is None:
            return seen
        result = detected.result
        x0, y0, x1, y1 = window
        assert result.masks is not None
        for number, (class_id, score) in enumerate(zip(result.class_ids.tolist(), result.scores.tolist(), strict=True)):
            mask = result.masks[number]
            if 2 * np.count_nonzero(mask & bitmap) < np.count_nonzero(mask) or not mask.any():
                continue  # of another object
            weight = min(1.0, score / self.options.sure_score)
            before = seen.setdefault(detected.written[class_id], np.zeros((y1 - y0, x1 - x0), dtype=np.float32))
            np.maximum(before, weight * mask[y0:y1, x0:x1], out=before)
        return seen

    def _reference(self, index: int) -> CutOut | None:
        """A base object, cut out and described; the last ones are kept. None where nothing of it is in its image."""
        if index not in self._references:
            reference = self.bank.reference(index)
            image = self._read(reference)
            parts: dict[str, NDArray[np.bool_]] = {}
            for part, bitmap in zip(reference.parts, reference.part_bitmaps(), strict=True):
                name = plain(part.part)
                parts[name] = parts[name] | bitmap if name in parts else bitmap
            cut = self._cut_out(image, reference.object_bitmap(), parts)
            if cut is None:
                return None
            self._references[index] = cut
        self._references.move_to_end(index)
        while len(self._references) > REFERENCES_KEPT:
            self._references.popitem(last=False)
        return self._references[index]

    def _read(self, reference: Reference) -> NDArray[np.uint8]:
        """The whole image of a base object."""
        try:
            return read_annotated(self.bank.images / reference.file_name, reference.cut_from)
        except DataError as error:
            raise DataError(f"a reference cannot be read ({error}): name its folder with --base-images") from error

    def _cut_out(
        self, image: NDArray[np.uint8], bitmap: NDArray[np.bool_], parts: Mapping[str, NDArray[np.bool_]]
    ) -> CutOut | None:
        window = window_of(bitmap)
        if window is None:
            return None
        (described,) = self.features.describe([shrink(_window(image, window), self._long_side)])
        return CutOut(
            window=window,
            descriptors=normalised(described.descriptors).cpu(),
            class_token=described.class_token.cpu(),
            grid=described.grid,
            inside=coverage(_window(bitmap, window), described.grid),
            parts={name: coverage(_window(part, window), described.grid) for name, part in parts.items()},
        )


def object_image(image: NDArray[np.uint8], reference: Reference, long_side: int) -> NDArray[np.uint8]:
    """A base object cut out of its image, as its class token sees it.

    Raises:
        DataError: a malformed segmentation, or one of which nothing is in the image.
    """
    window = window_of(reference.object_bitmap())
    if window is None:
        raise DataError(f"nothing of the annotated {reference.object} is in the image")
    return shrink(_window(image, window), long_side)


def _window(pixels: NDArray[Any], window: tuple[int, int, int, int]) -> NDArray[Any]:
    x0, y0, x1, y1 = window
    return pixels[y0:y1, x0:x1]


def window_of(bitmap: NDArray[np.bool_]) -> tuple[int, int, int, int] | None:
    """x0, y0, x1, y1 around the True pixels of a (H, W) bitmap, with a margin; None where there are none."""
    if not bitmap.any():
        return None
    left, top, right, bottom = tight_box(bitmap)
    across, down = MARGIN * (right - left) + 4, MARGIN * (bottom - top) + 4
    height, width = bitmap.shape
    return (
        max(0, int(left - across)),
        max(0, int(top - down)),
        min(width, int(right + across)),
        min(height, int(bottom + down)),
    )


def shrink(image: NDArray[np.uint8], long_side: int) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 with the longer side resized to `long_side`, bilinear; the shorter one has at least 8 pixels."""
    height, width = image.shape[:2]
    scale = long_side / max(height, width)
    size = (max(8, round(width * scale)), max(8, round(height * scale)))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
