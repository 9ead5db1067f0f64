from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from tests.annotation_parser.conftest import BLUE, CAT, RED, ColourFeatures, paint
from vlpart.annotation_parser.bank import ReferenceBank
from vlpart.annotation_parser.labelled_images import AnnotatedObject, LabelledImage, digest, read_objects
from vlpart.annotation_parser.object_parser import ObjectParser, VotingOptions, window_of
from vlpart.annotation_parser.references import read_base_data, read_base_objects
from vlpart.annotation_parser.rename import Renamer
from vlpart.annotation_parser.run import build_bank, find_parts
from vlpart.annotation_parser.voting import Witness, coverage, region, votes
from vlpart.data.indexing import load_source
from vlpart.data.source import Source
from vlpart.errors import DataError, OutputError
from vlpart.text.vocabulary import Vocabulary
from vlpart.types import AnnotationKind

TARGET = {BLUE: (8, 24, 32, 40), RED: (32, 16, 44, 28)}  # a cat elsewhere: body, head
TIGER = AnnotatedObject(label="tiger", box_xyxy=(6, 14, 46, 42))
ALONE = VotingOptions(long_side=96, detector_share=0, references=2, neighbours=4)


@pytest.fixture
def bank(base_data: Path, features: ColourFeatures, tmp_path: Path) -> ReferenceBank:
    build_bank(tmp_path / "bank", read_base_objects(base_data), base_data.parent, features, short_side=96)
    return ReferenceBank(tmp_path / "bank")


class FixedPredictor:
    """Detects what it is told: (name, score, box); remembers what it was asked for."""

    mask_on = True

    def __init__(self, *found: tuple[str, float, tuple[int, int, int, int]]) -> None:
        self.found = found
        self.asked: tuple[str, ...] = ()
        self.detector = torch.nn.Linear(1, 1)

    def predict(self, image: NDArray[np.uint8], *, vocabulary: Vocabulary, score_threshold: float) -> SimpleNamespace:
        self.asked = vocabulary.names
        masks = np.zeros((len(self.found), *image.shape[:2]), dtype=bool)
        for mask, (_, _, (x0, y0, x1, y1)) in zip(masks, self.found, strict=True):
            mask[y0:y1, x0:x1] = True
        asked = [name.replace(" ", "").casefold() for name in vocabulary.names]
        classes = np.array([asked.index(name) for name, _, _ in self.found])
        return SimpleNamespace(class_ids=classes, scores=np.array([s for _, s, _ in self.found]), masks=masks)


def near(part: Any, box: tuple[int, int, int, int], tolerance: float = 3) -> bool:
    return bool(np.abs(np.subtract(part.box_xyxy, box)).max() <= tolerance)


def test_every_object_is_a_reference(base_data: Path, bank: ReferenceBank) -> None:
    data = read_base_objects(base_data)
    assert [r.object for r in data.references] == ["cat", "car", "cat", "car"]
    assert [[p.part for p in r.parts] for r in data.references[2:]] == [["body", "head"], ["door", "wheel"]]
    assert (bank.of_objects, len(bank), bank.settings()["unit"]) == (True, 4, "objects")
    assert bank.parts_by_object() == {"cat": ["body", "head"], "car": ["door", "wheel"]}
    assert [r.object for r in read_base_objects(base_data, exclude_objects=["Cat"]).references] == ["car", "car"]
    assert {r.object for r in read_base_objects(base_data, only_objects=["cat"]).references} == {"cat"}
    with pytest.raises(DataError, match="no object with parts .*4 objects that are not wanted"):
        read_base_objects(base_data, exclude_objects=["cat", "car"])


def test_a_part_belongs_to_the_object_that_it_names(base_data: Path) -> None:
    document = json.loads(base_data.read_text())
    second = {**document["annotations"][0], "id": 99, "bbox": [0, 0, 64, 48]}  # another cat around the first
    document["annotations"].append(second)
    base_data.write_text(json.dumps(document))
    assert all(r.image_id != 1 for r in read_base_objects(base_data).references)  # the parts may be of either cat
    for annotation in document["annotations"][1:3]:
        annotation["object_annotation_id"] = 99
    base_data.write_text(json.dumps(document))
    (owner,) = [r for r in read_base_objects(base_data).references if r.image_id == 1]
    assert owner.object_box_xyxy == (0, 0, 64, 48)


def test_unfinished_banks_are_of_the_same_places(
    base_data: Path, features: ColourFeatures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("vlpart.annotation_parser.run.write_bank", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            build_bank(tmp_path / "bank", read_base_objects(base_data), base_data.parent, features)
    document = json.loads(base_data.read_text())
    document["annotations"][0]["bbox"] = [10, 10, 50, 30]
    base_data.write_text(json.dumps(document))
    with pytest.raises(OutputError):
        build_bank(tmp_path / "bank", read_base_objects(base_data), base_data.parent, features)


def test_parts_are_voted_for(bank: ReferenceBank, features: ColourFeatures) -> None:
    parser = ObjectParser(features, bank, None, Renamer(None), ALONE)
    found = {part.name: part for part in parser.parse_object(paint(TARGET), TIGER)}
    assert near(found["tiger:body"], TARGET[BLUE])
    assert near(found["tiger:head"], TARGET[RED])
    assert found["tiger:body"].found_as == "cat:body"
    mask = found["tiger:body"].mask
    assert mask is not None
    assert mask.shape == (48, 64)
    assert 0.2 < found["tiger:body"].score <= 1


def test_sources_and_names_choose(bank: ReferenceBank, features: ColourFeatures) -> None:
    options = VotingOptions(long_side=96, detector_share=0, sources={"tiger": ("cat",)})
    only_cats = ObjectParser(features, bank, None, Renamer(None), options)
    assert {p.name for p in only_cats.parse_object(paint(TARGET), TIGER)} == {"tiger:body", "tiger:head"}
    heads = ObjectParser(features, bank, None, Renamer(Vocabulary.parse("tiger: head")), options)
    assert [p.name for p in heads.parse_object(paint(TARGET), TIGER)] == ["tiger:head"]
    nobody = VotingOptions(detector_share=0, sources={"tiger": ("dog",)})
    with pytest.raises(DataError, match="has no 'dog': it has car, cat"):
        ObjectParser(features, bank, None, Renamer(None), nobody).parse_object(paint(TARGET), TIGER)


def test_a_part_stays_inside_its_object(bank: ReferenceBank, features: ColourFeatures) -> None:
    parser = ObjectParser(features, bank, None, Renamer(None), ALONE)
    two = paint(TARGET) | paint({}) * 0
    two[2:10, 50:62] = BLUE  # of something else
    (body,) = [p for p in parser.parse_object(two, TIGER) if p.name == "tiger:body"]
    assert near(body, TARGET[BLUE])
    assert parser.parse_object(two, AnnotatedObject(label="tiger", box_xyxy=(70, 60, 80, 70))) == []


def test_objects_of_one_label_share_a_detector_pass(bank: ReferenceBank, features: ColourFeatures) -> None:
    detector, passes = FixedPredictor(), []
    predict = detector.predict
    detector.predict = lambda *given, **more: passes.append(1) or predict(*given, **more)  # type: ignore[method-assign]
    options = VotingOptions(long_side=96)
    parser = ObjectParser(features, bank, detector, Renamer(None), options)  # type: ignore[arg-type]
    lion = replace(TIGER, label="lion")
    image = LabelledImage(image_id=1, file_name="a.png", labels=("tiger", "lion"), objects=(TIGER, lion, TIGER))
    (found,) = parser.parse_labelled([paint(TARGET)], [image])
    assert len(passes) == 2
    assert [part.box_xyxy for part in found if part.object_index == 0] == [
        part.box_xyxy for part in found if part.object_index == 2
    ]


def test_the_detector_is_evidence(bank: ReferenceBank, features: ColourFeatures) -> None:
    names = Renamer(Vocabulary.parse("tiger: body, head"))
    told = FixedPredictor(("cat:head", 0.5, (8, 24, 20, 32)), ("tiger:body", 0.9, (50, 2, 62, 10)))
    options = VotingOptions(long_side=96, detector_share=1.0, sources={"tiger": ("cat",)})
    parser = ObjectParser(features, bank, told, names, options)  # type: ignore[arg-type]
    (head,) = parser.parse_object(paint(TARGET), TIGER)  # the body it saw is not in the object
    assert (head.name, head.box_xyxy, head.score) == ("tiger:head", (8, 24, 20, 32), 1.0)
    assert set(told.asked) == {"cat:body", "cat:head", "tiger:body", "tiger:head"}
    unsure = FixedPredictor(("cat:head", 0.05, (8, 24, 20, 32)))
    assert ObjectParser(features, bank, unsure, names, options).parse_object(paint(TARGET), TIGER) == []  # type: ignore[arg-type]


def test_names_are_compared_without_spaces_and_case(base_data: Path, features: ColourFeatures, tmp_path: Path) -> None:
    document = json.loads(base_data.read_text())
    for category in document["categories"]:
        category["name"] = category["name"].replace("cat", "Tiger").replace(":", ": ")
    base_data.write_text(json.dumps(document))
    build_bank(tmp_path / "bank", read_base_objects(base_data), base_data.parent, features, short_side=96)
    told = FixedPredictor(("tiger:head", 0.5, (8, 24, 20, 32)))
    options = VotingOptions(long_side=96, detector_share=1.0, sources={"tiger": ("Tiger",)})
    parser = ObjectParser(features, ReferenceBank(tmp_path / "bank"), told, Renamer(None), options)  # type: ignore[arg-type]
    assert [p.name for p in parser.parse_object(paint(TARGET), TIGER)] == ["tiger:head"]


def test_images_of_another_size_are_left_out(
    bank: ReferenceBank, base_data: Path, features: ColourFeatures, tmp_path: Path
) -> None:
    Image.fromarray(paint(CAT, size=(64, 48))).save(base_data.parent / "cat.png")  # as if it were turned
    parser = ObjectParser(features, bank, None, Renamer(None), ALONE)
    with pytest.raises(DataError, match=r"cat.png is 48x64 pixels, its annotations say 64x48"):
        parser.parse_object(paint(TARGET), TIGER)
    failed: list[str] = []
    outcome = build_bank(
        tmp_path / "other",
        read_base_objects(base_data),
        base_data.parent,
        features,
        on_failure=lambda name, _: failed.append(Path(name).name),
    )
    assert (outcome.skipped, failed) == (1, ["cat.png"])


def test_images_that_are_annotated_as_stored_are_read_so(
    bank: ReferenceBank, base_data: Path, features: ColourFeatures
) -> None:
    """As in training and evaluation: the annotations tell whether an EXIF orientation was followed."""
    (cut,) = [bank.reference(i) for i in range(len(bank)) if bank.reference(i).file_name == "cat.png"]
    parser = ObjectParser(features, bank, None, Renamer(None), ALONE)
    expected = parser.parse_object(paint(TARGET), TIGER)
    turned = Image.fromarray(paint(CAT))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(base_data.parent / cut.file_name, exif=exif)
    again = ObjectParser(features, bank, None, Renamer(None), ALONE).parse_object(paint(TARGET), TIGER)
    assert [(p.name, p.box_xyxy) for p in again] == [(p.name, p.box_xyxy) for p in expected] != []


def test_bad_annotations(bank: ReferenceBank, base_data: Path, features: ColourFeatures, tmp_path: Path) -> None:
    document = json.loads(base_data.read_text())
    document["annotations"][0]["bbox"][2] = float("nan")
    document["annotations"][1]["bbox"] = document["annotations"][4]["bbox"] = [60, 44, 4, 4]
    for annotation in document["annotations"]:
        del annotation["segmentation"]
    base_data.write_text(json.dumps(document))
    with pytest.raises(DataError, match="annotation 1 has the box .* which is not finite"):
        read_base_objects(base_data)
    document["annotations"][0]["bbox"] = None
    base_data.write_text(json.dumps(document))
    references = read_base_objects(base_data).references
    assert [r.image_id for r in references] == [2, 3, 3]  # the cat without a box is no reference
    document["annotations"][3]["segmentation"] = "x"
    base_data.write_text(json.dumps(document))
    with pytest.raises(DataError, match=r"train.json: annotation 4 of car.png: a segmentation is"):
        read_objects(base_data)
    thin = AnnotatedObject(label="tiger", box_xyxy=(6, 14, 6.2, 42))
    assert ObjectParser(features, bank, None, Renamer(None), ALONE).parse_object(paint(TARGET), thin) == []


def test_what_does_not_fit_together(bank: ReferenceBank, base_data: Path, features: ColourFeatures) -> None:
    with pytest.raises(DataError, match="needs a detector"):
        ObjectParser(features, bank, None, Renamer(None), VotingOptions())
    build_bank(bank.folder.parent / "pictures", read_base_data(base_data), base_data.parent, features)
    with pytest.raises(DataError, match="one of images: use vlpart parse find"):
        ObjectParser(features, ReferenceBank(bank.folder.parent / "pictures"), None, Renamer(None), ALONE)
    features.fingerprint = "others"  # type: ignore[misc]
    with pytest.raises(DataError, match="was built with"):
        ObjectParser(features, bank, None, Renamer(None), ALONE)


def test_a_file_of_objects_becomes_a_file_of_parts(
    bank: ReferenceBank, features: ColourFeatures, tmp_path: Path
) -> None:
    folder = tmp_path / "targets"
    folder.mkdir()
    Image.fromarray(paint(TARGET)).save(folder / "tiger.png")
    Image.fromarray(paint(CAT)).save(folder / "lion.png")
    annotations = [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [6, 14, 40, 28]},
        {"id": 2, "image_id": 1, "category_id": 2, "bbox": [8, 24, 9, 9]},  # a part: not looked at
        {"id": 3, "image_id": 2, "category_id": 3, "bbox": [14, 10, 40, 28]},
    ]
    categories = [{"id": 1, "name": "tiger"}, {"id": 2, "name": "tiger:body"}, {"id": 3, "name": "lion"}]
    images = [{"id": i, "file_name": f"{n}.png", "width": 64, "height": 48} for i, n in ((1, "tiger"), (2, "lion"))]
    labels = tmp_path / "objects.json"
    labels.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    entries = read_objects(labels, only=["Tiger"])
    assert [(p.file_name, p.labels, len(p.objects)) for p in entries] == [("tiger.png", ("tiger",), 1)]
    moved = [LabelledImage(image_id=1, file_name="tiger.png", labels=("tiger",), objects=(TIGER,) * 2)]
    assert digest(entries) != digest(moved)

    names = Vocabulary.parse("tiger: body, head, tail; lion: body")
    parser = ObjectParser(features, bank, None, Renamer(names), ALONE)
    find_parts(tmp_path / "parsed.json", entries, folder, parser, vocabulary=names)
    document = json.loads((tmp_path / "parsed.json").read_text())
    (image,) = document["images"]
    ids = {c["name"]: c["id"] for c in document["categories"]}
    assert image["not_exhaustive_category_ids"] == sorted(ids[f"tiger:{p}"] for p in ("body", "head", "tail"))
    whole, *parts = document["annotations"]
    assert (whole["category_id"], whole["bbox"]) == (ids["tiger"], [6, 14, 40, 28])
    assert {a["category_id"] for a in parts} == {ids["tiger:body"], ids["tiger:head"]}
    assert {a["object_annotation_id"] for a in parts} == {whole["id"]}
    assert [a["id"] for a in document["annotations"]] == [1, 2, 3]
    source = load_source(
        Source(
            name="parsed",
            annotations=tmp_path / "parsed.json",
            images=folder,
            kind=AnnotationKind.PARTS,
            take="parts",
            only_objects=frozenset({"tiger"}),
            unlabelled="unknown",
        )
    )
    assert source.vocabulary.names == ("tiger:body", "tiger:head", "tiger:tail")
    unknown = source.store[0].unknown_labels
    assert unknown is not None
    assert sorted(np.asarray(unknown).tolist()) == [0, 1, 2]
    with pytest.raises(DataError, match="has no label 'bear': it has lion, tiger"):
        read_objects(labels, only=["bear"])


def test_only_those_who_know_a_part_vote_on_it() -> None:
    vectors = torch.eye(3)
    knows = Witness(descriptors=vectors, cover=torch.tensor([1.0, 0.0, 0.5]), inside=torch.ones(3, dtype=torch.bool))
    assert votes(vectors, [knows], 1).tolist() == [1.0, 0.0, 0.5]
    half = Witness(descriptors=vectors[:1], cover=torch.tensor([0.0]), inside=torch.ones(1, dtype=torch.bool))
    assert votes(vectors[:1], [knows, half], 2).tolist() == [0.5]
    outside = Witness(descriptors=vectors, cover=knows.cover, inside=torch.zeros(3, dtype=torch.bool))
    assert votes(vectors[1:2], [outside], 3).item() > 0  # only patches of the part and of the object are asked


def test_regions_and_coverage() -> None:
    score_map = np.zeros((6, 10), dtype=np.float32)
    score_map[1:4, 1:5], score_map[4, 8], score_map[0, 9] = 0.8, 0.4, 0.1
    inside = np.ones((6, 10), dtype=bool)
    found = region(score_map, inside, threshold=0.4, smallest=0.5)
    assert found is not None
    assert (int(found[0].sum()), round(found[1], 3)) == (12, 0.8)
    assert region(score_map, np.zeros_like(inside), threshold=0.4, smallest=0.5) is None
    assert coverage(np.eye(4, dtype=bool).repeat(2, 0).repeat(2, 1), (4, 4)).view(4, 4).diagonal().min() > 0.5
    assert window_of(np.zeros((5, 5), dtype=bool)) is None
    assert window_of(np.ones((5, 7), dtype=bool)) == (0, 0, 7, 5)
