from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.annotation_parser.conftest import BLUE, RED, ColourFeatures, paint
from vlpart.annotation_parser.bank import ReferenceBank
from vlpart.annotation_parser.image_parser import ImageParser, ParserOptions, Transfer
from vlpart.annotation_parser.labelled_images import AnnotatedObject
from vlpart.annotation_parser.object_parser import ObjectParser, VotingOptions
from vlpart.annotation_parser.references import read_base_data, read_base_objects
from vlpart.annotation_parser.rename import Renamer
from vlpart.annotation_parser.run import build_bank
from vlpart.annotation_parser.show import correspondences_of, draw_object_transfer, draw_transfer, patch_centres
from vlpart.errors import DataError
from vlpart.text.vocabulary import Vocabulary

TARGET = {BLUE: (8, 24, 32, 40), RED: (32, 16, 44, 28)}


@pytest.fixture
def transfer(base_data: Path, features: ColourFeatures, tmp_path: Path) -> Transfer:
    build_bank(tmp_path / "bank", read_base_data(base_data), base_data.parent, features)
    options = ParserOptions(short_side=48, max_side=144, foreground=0.1, use_proposals=False)
    return ImageParser(features, ReferenceBank(tmp_path / "bank"), None, Renamer(None), options).transfer(
        paint(TARGET), "tiger"
    )


def colour_at(image: np.ndarray, xy: np.ndarray) -> tuple[int, ...]:
    return tuple(image[int(xy[1]), int(xy[0])].tolist())


def test_correspondences_join_what_looks_alike_inside_parts(transfer: Transfer) -> None:
    found = correspondences_of(transfer, per_part=4)
    assert found.part.tolist() == [0] * 4 + [1] * 4
    colours = [BLUE] * 4 + [RED] * 4
    assert [colour_at(transfer.target_image, xy) for xy in found.target_xy] == colours
    assert [colour_at(transfer.reference_image, xy) for xy in found.reference_xy] == colours
    spread = found.target_xy[:4].max(axis=0) - found.target_xy[:4].min(axis=0)
    assert (spread >= [16, 8]).all()  # of a body of 24 x 16 pixels


def test_patch_centres_span_the_image() -> None:
    assert patch_centres((1, 2), (10, 40)).tolist() == [[10, 5], [30, 5]]


def test_the_drawing_shows_four_panels(transfer: Transfer) -> None:
    drawn = np.asarray(draw_transfer(transfer, "tiger", Renamer(None), height=120))
    assert drawn.shape[0] > 120
    assert drawn.shape[1] > 4 * 160
    panels = [drawn[-132:-12, 12 + i * 172 : 172 + i * 172] for i in range(4)]
    bare = [int((panel == RED).all(axis=2).sum()) for panel in panels]
    assert bare[0] == 0  # under its mask and name
    assert bare[1] > 100  # the target as it is, but for lines
    assert bare[2] == 0  # under the mask that was transferred
    assert bare[3] > 100  # in its final box


def test_parts_without_a_name_are_drawn_as_dropped(transfer: Transfer) -> None:
    named = np.asarray(draw_transfer(transfer, "tiger", Renamer(None), height=120)).astype(int)
    unnamed = draw_transfer(transfer, "tiger", Renamer(Vocabulary.parse("tiger: body")), height=120)
    changed = np.flatnonzero(np.abs(named - np.asarray(unnamed)).max(axis=(0, 2)))
    first = 12 + 2 * 172
    assert changed.min() >= first  # reference and correspondences stay
    assert (changed > first + 172).any()  # a box fewer in the last panel


def test_an_annotated_object_is_drawn_like_a_image(base_data: Path, features: ColourFeatures, tmp_path: Path) -> None:
    build_bank(tmp_path / "bank", read_base_objects(base_data), base_data.parent, features)
    options = VotingOptions(long_side=96, detector_share=0, references=1)
    parser = ObjectParser(features, ReferenceBank(tmp_path / "bank"), None, Renamer(None), options)
    transfer = parser.transfer(paint(TARGET), AnnotatedObject(label="tiger", box_xyxy=(6, 14, 46, 42)))
    assert transfer.reference.object == "cat"
    assert {part.name for part in transfer.parts} >= {"tiger:body", "tiger:head"}
    drawn = np.asarray(draw_object_transfer(transfer, "tiger", parser, height=120)).astype(int)
    picky = ObjectParser(features, parser.bank, None, Renamer(None), replace(options, min_confidence=1.0))
    dropped = np.asarray(draw_object_transfer(transfer, "tiger", picky, height=120))
    assert drawn.shape == dropped.shape
    width = round(120 * transfer.target_image.shape[1] / transfer.target_image.shape[0])
    last = drawn.shape[1] - 12 - max(width, 16 * 12)  # a panel has room for its title
    changed = np.flatnonzero(np.abs(drawn - dropped).max(axis=(0, 2)))
    assert (changed >= last).any()  # no boxes in the last panel
    assert changed.min() > 12 + 160  # the reference is the same
    with pytest.raises(DataError, match="nothing of the tiger is in the image"):
        parser.transfer(paint(TARGET), AnnotatedObject(label="tiger", box_xyxy=(70, 60, 80, 70)))


def test_wide_images_take_two_rows(base_data: Path, features: ColourFeatures, tmp_path: Path) -> None:
    build_bank(tmp_path / "bank", read_base_data(base_data), base_data.parent, features)
    options = ParserOptions(short_side=48, max_side=400, foreground=0.1, use_proposals=False)
    parser = ImageParser(features, ReferenceBank(tmp_path / "bank"), None, Renamer(None), options)
    wide = parser.transfer(paint(TARGET, (48, 240)), "tiger")
    drawn = draw_transfer(wide, "tiger", Renamer(None), height=100)
    assert 200 < drawn.height < 300
    assert drawn.width < 1200
