from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.annotation_parser.conftest import BLUE, CAT, RED, ColourFeatures, paint
from vlpart.annotation_parser.bank import ReferenceBank
from vlpart.annotation_parser.image_parser import ImageParser, ParserOptions, shrink_reference
from vlpart.annotation_parser.references import read_base_data
from vlpart.annotation_parser.rename import Renamer
from vlpart.annotation_parser.run import build_bank
from vlpart.errors import DataError
from vlpart.text.vocabulary import Vocabulary

TARGET = {BLUE: (8, 24, 32, 40), RED: (32, 16, 44, 28)}  # a cat elsewhere: body, head
PAINTED = ParserOptions(short_side=48, max_side=144, foreground=0.1, use_proposals=False)


class FixedDetector:
    """Proposes what it is told; detects one part of a car."""

    vocabulary = Vocabulary.parse("car: wheel, door")

    def __init__(self, *proposals: tuple[float, float, float, float]) -> None:
        self.proposals = torch.tensor(proposals).view(-1, 4)

    def refined_proposals(self, target: NDArray[np.uint8]) -> torch.Tensor:
        return self.proposals

    def base_parts(self, target: NDArray[np.uint8], image_hw: tuple[int, int]) -> SimpleNamespace:
        boxes, scores = torch.tensor([[1.0, 2, 3, 4], [0, 0, 9, 9]]), torch.tensor([0.9, 0.8])
        return SimpleNamespace(boxes_xyxy=boxes, scores=scores, labels=torch.tensor([1, 0]))


@pytest.fixture
def bank(base_data: Path, features: ColourFeatures, tmp_path: Path) -> ReferenceBank:
    build_bank(tmp_path / "bank", read_base_data(base_data), base_data.parent, features)
    return ReferenceBank(tmp_path / "bank")


def test_parts_are_where_they_look_alike(bank: ReferenceBank, features: ColourFeatures) -> None:
    parser = ImageParser(features, bank, None, Renamer(None), PAINTED)
    (found,) = parser.parse([paint(TARGET)], [["tiger"]])
    assert [(p.name, p.found_as, p.score) for p in found] == [
        ("tiger:body", "cat:body", 1.0),
        ("tiger:head", "cat:head", 1.0),
    ]
    for part, box in zip(found, TARGET.values(), strict=True):
        assert np.abs(np.subtract(part.box_xyxy, box)).max() <= 2  # bilinear growth of a mask of 4-pixel patches


def test_boxes_are_in_pixels_of_the_image(bank: ReferenceBank, features: ColourFeatures) -> None:
    parser = ImageParser(features, bank, None, Renamer(None), PAINTED)
    large = paint(TARGET).repeat(2, axis=0).repeat(2, axis=1)
    small, big = (parser.parse([p], [["tiger"]])[0] for p in (paint(TARGET), large))
    np.testing.assert_allclose([p.box_xyxy for p in big], 2 * np.array([p.box_xyxy for p in small]))


def test_proposals_replace_boxes_or_drop_them(bank: ReferenceBank, features: ColourFeatures) -> None:
    detector = FixedDetector((9, 25, 31, 39), (0, 0, 64, 48), (33, 17, 37, 20))
    options = ParserOptions(short_side=48, max_side=144, foreground=0.1)
    parser = ImageParser(features, bank, detector, Renamer(None), options)  # type: ignore[arg-type]
    (found,) = parser.parse([paint(TARGET)], [["tiger"]])
    assert [(p.name, p.box_xyxy) for p in found] == [("tiger:body", (9, 25, 31, 39))]
    transfer = parser.transfer(paint(TARGET), "tiger")
    assert (len(transfer.parts.masks), transfer.chosen.tolist(), float(transfer.overlaps)) == (2, [0], found[0].score)


def test_a_image_is_detected_and_a_batch_searched_once(
    bank: ReferenceBank, features: ColourFeatures, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    class Counting(FixedDetector):
        def refined_proposals(self, target: NDArray[np.uint8]) -> torch.Tensor:
            calls.append("proposals")
            return super().refined_proposals(target)

        def base_parts(self, target: NDArray[np.uint8], image_hw: tuple[int, int]) -> SimpleNamespace:
            calls.append("parts")
            return super().base_parts(target, image_hw)

    search = bank.search
    monkeypatch.setattr(bank, "search", lambda *given, **more: calls.append("search") or search(*given, **more))
    options = replace(PAINTED, use_proposals=True, base_objects=frozenset({"car", "van"}))
    parser = ImageParser(features, bank, Counting((9, 25, 31, 39)), Renamer(None), options)  # type: ignore[arg-type]
    labels = [["tiger", "car", "lion", "van"], ["tiger"]]
    found = parser.parse([paint(TARGET), paint(TARGET)], labels)
    assert sorted(calls) == ["parts", "proposals", "proposals", "search"]
    assert {part.name.partition(":")[0] for part in found[0]} == {"tiger", "car", "lion", "van"}
    assert [part.box_xyxy for part in found[1]] == [(9, 25, 31, 39)]


def test_names_that_the_vocabulary_lacks_are_dropped(bank: ReferenceBank, features: ColourFeatures) -> None:
    parser = ImageParser(features, bank, None, Renamer(Vocabulary.parse("tiger: torso, paw")), PAINTED)
    (found,) = parser.parse([paint(TARGET)], [["tiger"]])
    assert [(p.name, p.found_as) for p in found] == [("tiger:torso", "cat:body")]


def test_sources_of_a_label(bank: ReferenceBank, features: ColourFeatures) -> None:
    options = ParserOptions(**{**vars(PAINTED), "sources": {"Tiger": ("car",)}})
    parser = ImageParser(features, bank, None, Renamer(None), options)
    assert parser.transfer(paint(TARGET), "tiger").reference.object == "car"
    assert parser.transfer(paint(TARGET), "lion").reference.object == "cat"


def test_base_objects_go_to_the_detector(bank: ReferenceBank, features: ColourFeatures) -> None:
    options = ParserOptions(**{**vars(PAINTED), "base_objects": frozenset({"Car"})})
    parser = ImageParser(features, bank, FixedDetector(), Renamer(Vocabulary.parse("car: wheel")), options)  # type: ignore[arg-type]
    features.batches.clear()
    (found,) = parser.parse([paint(TARGET)], [["car"]])
    assert [(p.name, p.box_xyxy, p.score) for p in found] == [  # a whole object that the vocabulary has stays
        ("car:wheel", (1, 2, 3, 4), pytest.approx(0.9)),
        ("car", (0, 0, 9, 9), pytest.approx(0.8)),
    ]
    assert features.batches == []


def test_images_of_a_batch_are_described_together(bank: ReferenceBank, features: ColourFeatures) -> None:
    parser = ImageParser(features, bank, None, Renamer(None), PAINTED)
    features.batches.clear()
    both = parser.parse([paint(TARGET), paint(CAT)], [["tiger"], ["lion"]])
    assert features.batches == [2, 1]  # the targets, then the one reference of both
    assert [[p.name for p in parts] for parts in both] == [["tiger:body", "tiger:head"], ["lion:body", "lion:head"]]


def test_masks_are_kept_on_request(bank: ReferenceBank, features: ColourFeatures) -> None:
    options = ParserOptions(**{**vars(PAINTED), "keep_masks": True})
    (found,) = ImageParser(features, bank, None, Renamer(None), options).parse([paint(TARGET)], [["tiger"]])
    assert found[0].mask is not None
    inside = np.all(paint(TARGET) == BLUE, axis=2)
    assert (found[0].mask & inside).sum() == inside.sum()


def test_other_features_than_those_of_the_bank(bank: ReferenceBank) -> None:
    other = ColourFeatures()
    other.fingerprint = "another"
    with pytest.raises(DataError, match="built with colours features of the weights painted, not colours of another"):
        ImageParser(other, bank, None, Renamer(None), PAINTED)


def test_what_is_missing_is_said(features: ColourFeatures) -> None:
    with pytest.raises(DataError, match="need a detector"):
        ImageParser(features, None, None, Renamer(None), ParserOptions())
    parser = ImageParser(features, None, None, Renamer(None), PAINTED)
    with pytest.raises(DataError, match="need a reference bank"):
        parser.parse([paint(CAT)], [["cat"]])


def test_a_image_without_an_object_has_no_parts(bank: ReferenceBank, features: ColourFeatures) -> None:
    parser = ImageParser(features, bank, None, Renamer(None), PAINTED)
    assert parser.parse([paint({})], [["tiger"]]) == [[]]
    assert parser.parse([], []) == []


def test_references_shrink_with_truncated_sizes() -> None:
    assert shrink_reference(np.zeros((300, 451, 3), np.uint8), 224).shape == (224, 336, 3)  # 336.7 before
    assert shrink_reference(np.zeros((451, 300, 3), np.uint8), 224).shape == (336, 224, 3)


def test_a_reference_that_is_gone(bank: ReferenceBank, features: ColourFeatures, tmp_path: Path) -> None:
    moved = ReferenceBank(bank.folder, tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"cat\.png\): name its folder with --base-images"):
        ImageParser(features, moved, None, Renamer(None), PAINTED).transfer(paint(TARGET), "tiger")
