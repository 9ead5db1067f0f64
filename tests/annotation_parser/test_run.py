from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.annotation_parser.conftest import BLUE, CAT, RED, ColourFeatures, paint
from vlpart.annotation_parser.bank import ReferenceBank
from vlpart.annotation_parser.image_parser import ImageParser, ParserOptions
from vlpart.annotation_parser.labelled_images import LabelledImage
from vlpart.annotation_parser.references import BaseData, read_base_data
from vlpart.annotation_parser.rename import Renamer
from vlpart.annotation_parser.run import ParserRun, build_bank, find_parts
from vlpart.data.indexing import load_source
from vlpart.data.source import Source
from vlpart.errors import DataError, ImageError, OutputError
from vlpart.masks.rle import decode_runs
from vlpart.text.vocabulary import Vocabulary
from vlpart.types import AnnotationKind

TARGETS = [CAT, {}, {BLUE: (8, 24, 32, 40), RED: (32, 16, 44, 28)}, {RED: (8, 8, 24, 24)}]


@pytest.fixture
def base(base_data: Path) -> BaseData:
    return read_base_data(base_data)


@pytest.fixture
def images(tmp_path: Path) -> list[LabelledImage]:
    """Four tigers in `targets`, the second without anything on it, and the fifth missing."""
    folder = tmp_path / "targets"
    folder.mkdir()
    for i, regions in enumerate(TARGETS):
        Image.fromarray(paint(regions)).save(folder / f"{i}.png")
    return [LabelledImage(image_id=10 + i, file_name=f"{i}.png", labels=("tiger",)) for i in range(5)]


@pytest.fixture
def parser(base: BaseData, base_data: Path, features: ColourFeatures, tmp_path: Path) -> ImageParser:
    build_bank(tmp_path / "bank", base, base_data.parent, features)
    options = ParserOptions(short_side=48, max_side=144, foreground=0.1, use_proposals=False, keep_masks=True)
    return ImageParser(features, ReferenceBank(tmp_path / "bank"), None, Renamer(None), options)


def find(
    tmp_path: Path, parser: ImageParser, images: list[LabelledImage], **options: Any
) -> tuple[ParserRun, list[str]]:
    failed: list[str] = []
    outcome = find_parts(
        tmp_path / "out" / "parsed.json",
        images,
        tmp_path / "targets",
        parser,
        on_failure=lambda name, _: failed.append(Path(name).name),
        **options,
    )
    return outcome, failed


def test_build_describes_every_reference(
    base: BaseData, base_data: Path, features: ColourFeatures, tmp_path: Path
) -> None:
    seen: list[tuple[int, int]] = []
    outcome = build_bank(
        tmp_path / "bank",
        base,
        base_data.parent,
        features,
        batch=8,
        progress=lambda label, *numbers: seen.append(numbers),
    )
    assert (outcome.written, outcome.items, outcome.skipped) == (tmp_path / "bank", 2, 0)
    assert (features.batches, seen) == ([2], [(1, 2), (2, 2)])
    bank = ReferenceBank(tmp_path / "bank")
    assert [bank.reference(i).object for i in range(2)] == ["cat", "car"]
    assert {bank.header[key] for key in ("features", "fingerprint")} == {"colours", "painted"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bank", "base"]


def test_build_leaves_out_what_cannot_be_read(
    base: BaseData, base_data: Path, features: ColourFeatures, tmp_path: Path
) -> None:
    (base_data.parent / "cat.png").write_bytes(b"broken")
    failed: list[str] = []
    outcome = build_bank(
        tmp_path / "bank", base, base_data.parent, features, on_failure=lambda name, _: failed.append(name)
    )
    assert (outcome.skipped, [Path(name).name for name in failed]) == (1, ["cat.png"])
    assert ReferenceBank(tmp_path / "bank").objects == ["car"]
    (base_data.parent / "car.png").unlink()
    with pytest.raises(DataError, match="none of the base images could be used"):
        build_bank(tmp_path / "other", base, base_data.parent, features)


def test_a_bank_is_replaced_only_on_request(
    base: BaseData, base_data: Path, features: ColourFeatures, tmp_path: Path
) -> None:
    build_bank(tmp_path / "bank", base, base_data.parent, features)
    with pytest.raises(OutputError, match="already: name another folder, or use --overwrite"):
        build_bank(tmp_path / "bank", base, base_data.parent, features)
    build_bank(tmp_path / "bank", base, base_data.parent, features, short_side=24, overwrite=True)
    assert ReferenceBank(tmp_path / "bank").header["short_side"] == 24


def test_a_bank_that_fails_leaves_the_old_one(
    base: BaseData, base_data: Path, features: ColourFeatures, tmp_path: Path
) -> None:
    build_bank(tmp_path / "bank", base, base_data.parent, features)
    with pytest.raises(DataError, match="there is no folder"):
        build_bank(tmp_path / "bank", base, tmp_path / "nowhere", features, overwrite=True)
    assert ReferenceBank(tmp_path / "bank").objects == ["car", "cat"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bank", "base"]


def test_a_bank_in_the_working_folder(
    base: BaseData, base_data: Path, features: ColourFeatures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert build_bank(Path(), base, base_data.parent, features).written == Path()
    assert len(ReferenceBank(".")) == 2
    with pytest.raises(OutputError, match="name a file or folder of its own"):
        build_bank(Path("/"), base, base_data.parent, features)


def test_images_that_come_later_are_described(
    base: BaseData, base_data: Path, features: ColourFeatures, tmp_path: Path
) -> None:
    hidden = base_data.parent.rename(tmp_path / "hidden")
    base_data.parent.mkdir()
    with pytest.raises(DataError, match="none of the base images"):
        build_bank(tmp_path / "bank", base, base_data.parent, features)
    base_data.parent.rmdir()
    hidden.rename(base_data.parent)
    assert build_bank(tmp_path / "bank", base, base_data.parent, features).skipped == 0


@pytest.mark.parametrize("wrong", [{"counts": "no", "size": [48, 64]}, {"counts": [9], "size": [4, 4]}])
def test_a_reference_with_a_broken_mask_is_left_out(
    base: BaseData, base_data: Path, features: ColourFeatures, tmp_path: Path, wrong: dict[str, Any]
) -> None:
    cat = base.references[0]
    base.references[0] = replace(cat, parts=(replace(cat.parts[0], segmentation=wrong), *cat.parts[1:]))
    failed: list[str] = []
    outcome = build_bank(
        tmp_path / "bank", base, base_data.parent, features, on_failure=lambda name, _: failed.append(name)
    )
    assert (outcome.skipped, failed, ReferenceBank(tmp_path / "bank").objects) == (1, ["cat.png"], ["car"])


def test_a_thin_reference_is_left_out(
    base: BaseData, base_data: Path, features: ColourFeatures, tmp_path: Path
) -> None:
    Image.fromarray(np.zeros((6, 60, 3), dtype=np.uint8)).save(base_data.parent / "cat.png")
    why: list[str] = []
    build_bank(tmp_path / "bank", base, base_data.parent, features, on_failure=lambda _, error: why.append(str(error)))
    assert ["60x6 pixels is too long" in text for text in why] == [True]


@pytest.mark.parametrize("batch", [1, 3])
def test_one_image_that_cannot_be_parsed_is_skipped(
    tmp_path: Path, parser: ImageParser, images: list[LabelledImage], batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    describe = parser.features.describe  # type: ignore[union-attr]

    def picky(images: Any) -> Any:
        if any((image == RED).all(axis=-1).sum() == 16 * 16 for image in images):  # the fourth image
            raise ImageError("too red")
        return describe(images)

    monkeypatch.setattr(parser.features, "describe", picky)
    outcome, failed = find(tmp_path, parser, images, batch=batch)
    assert (outcome.skipped, sorted(failed)) == (2, ["3.png", "4.png"])
    document = json.loads((tmp_path / "out" / "parsed.json").read_text())
    assert [image["id"] for image in document["images"]] == [10, 12]  # nothing was found in 11


def test_nothing_that_can_be_read_is_an_error(tmp_path: Path, parser: ImageParser, images: list[LabelledImage]) -> None:
    with pytest.raises(DataError, match="none of the 1 images could be used"):
        find(tmp_path, parser, images[4:])
    assert not (tmp_path / "out" / "parsed.json").exists()
    with pytest.raises(DataError, match="there is no folder"):
        find_parts(tmp_path / "x.json", images, tmp_path / "nowhere", parser)
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="folder is a folder: name the file"):
        find_parts(tmp_path / "folder", images, tmp_path / "targets", parser, overwrite=True)


def test_names_are_checked_before_the_work(tmp_path: Path, parser: ImageParser, images: list[LabelledImage]) -> None:
    for sources, message in (
        ({"tiger": ("kat",)}, "has no 'kat': did you mean cat"),
        ({"tigre": ("cat",)}, "no image has the label 'tigre': did you mean tiger"),
    ):
        other = ImageParser(
            parser.features, parser.bank, None, parser.renamer, replace(parser.options, sources=sources)
        )
        with pytest.raises(DataError, match=message):
            find(tmp_path, other, images)
    lonely = ImageParser(None, None, None, parser.renamer, parser.options)
    with pytest.raises(DataError, match="'tiger' is no base object and needs a reference bank"):
        find(tmp_path, lonely, images)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("batch", [1, 3])
def test_the_file_that_is_found(tmp_path: Path, parser: ImageParser, images: list[LabelledImage], batch: int) -> None:
    outcome, failed = find(tmp_path, parser, images, batch=batch)
    assert (outcome.items, outcome.skipped, outcome.parts, failed) == (5, 1, 5, ["4.png"])
    document = json.loads((tmp_path / "out" / "parsed.json").read_text())
    assert [image["id"] for image in document["images"]] == [10, 12, 13]  # nothing was found in 11
    assert document["images"][0]["image_labels"] == ["tiger"]
    assert [image["not_exhaustive_category_ids"] for image in document["images"]] == [[1, 2]] * 3
    assert [c["name"] for c in document["categories"]] == ["tiger:body", "tiger:head"]
    assert [(a["id"], a["image_id"], a["category_id"]) for a in document["annotations"]] == [
        *((1, 10, 1), (2, 10, 2), (3, 12, 1), (4, 12, 2)),
        (5, 13, 2),
    ]
    head = document["annotations"][4]
    assert np.abs(np.array(head["bbox"]) - [8, 8, 16, 16]).max() <= 4
    _, runs = decode_runs(head["segmentation"], (48, 64))
    assert head["area"] == int((runs[:, 1] - runs[:, 0]).sum())
    assert (head["found_as"], head["iscrowd"], head["score"]) == ("cat:head", 0, 1.0)
    assert document["info"]["settings"]["bank"]["fingerprint"] == "painted"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["parsed.json"]


def test_training_reads_it_as_a_parsed_source(tmp_path: Path, parser: ImageParser, images: list[LabelledImage]) -> None:
    vocabulary = Vocabulary.parse("tiger: body, head; lion: mane")
    parser.renamer.vocabulary = vocabulary
    find(tmp_path, parser, images, vocabulary=vocabulary)
    source = Source(
        name="parsed",
        annotations=tmp_path / "out" / "parsed.json",
        images=tmp_path / "targets",
        kind=AnnotationKind.PARSED_PARTS,
    )
    loaded = load_source(source)
    assert (len(loaded), loaded.vocabulary.names) == (3, vocabulary.names)
    assert [vocabulary.names[i] for i in loaded.store[0].labels] == ["tiger:body", "tiger:head"]


def test_an_interrupted_run_goes_on(
    tmp_path: Path, parser: ImageParser, images: list[LabelledImage], monkeypatch: pytest.MonkeyPatch
) -> None:
    find(tmp_path, parser, images)
    whole = (tmp_path / "out" / "parsed.json").read_bytes()
    with pytest.raises(OutputError, match="already: name another file"):
        find(tmp_path, parser, images)
    (tmp_path / "out" / "parsed.json").unlink()

    parse, calls = parser.parse, []

    def stop_at_third(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return parse(*arguments)

    monkeypatch.setattr(parser, "parse", stop_at_third)
    with pytest.raises(KeyboardInterrupt):
        find(tmp_path, parser, images)
    assert not (tmp_path / "out" / "parsed.json").exists()
    find(tmp_path, parser, images)
    assert len(calls) == 3 + 3  # two were done, one was interrupted; the missing file gives an empty batch
    assert (tmp_path / "out" / "parsed.json").read_bytes() == whole


def test_processes_write_what_one_would(
    tmp_path: Path, parser: ImageParser, images: list[LabelledImage], monkeypatch: pytest.MonkeyPatch
) -> None:
    find(tmp_path, parser, images)
    whole = (tmp_path / "out" / "parsed.json").read_bytes()
    (tmp_path / "out" / "parsed.json").unlink()
    monkeypatch.setenv("WORLD_SIZE", "2")
    written = []
    for rank in ("1", "0"):
        monkeypatch.setenv("RANK", rank)
        written.append(find(tmp_path, parser, images)[0].written)
    assert written == [None, tmp_path / "out" / "parsed.json"]
    assert (tmp_path / "out" / "parsed.json").read_bytes() == whole


def test_other_settings_do_not_mix(
    tmp_path: Path, parser: ImageParser, images: list[LabelledImage], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    find(tmp_path, parser, images)
    parser.features.precision = "bf16"  # type: ignore[union-attr]
    with pytest.raises(OutputError, match="unfinished work of other settings"):
        find(tmp_path, parser, images)
    parser.features.precision = "float32"  # type: ignore[union-attr]
    parser.renamer = Renamer(Vocabulary.parse("tiger: head"))
    with pytest.raises(OutputError, match="unfinished work of other settings"):
        find(tmp_path, parser, images)


def test_a_process_that_comes_late_finds_the_work_done(
    tmp_path: Path,
    parser: ImageParser,
    images: list[LabelledImage],
    base: BaseData,
    base_data: Path,
    features: ColourFeatures,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    find(tmp_path, parser, images)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert find(tmp_path, parser, images)[0].written is None
    assert build_bank(tmp_path / "bank", base, base_data.parent, features).written is None
    parser.renamer = Renamer(Vocabulary.parse("tiger: head"))
    with pytest.raises(OutputError, match="already"):
        find(tmp_path, parser, images)
    with pytest.raises(OutputError, match="already"):
        build_bank(tmp_path / "bank", base, base_data.parent, features, short_side=24)
    (tmp_path / "out" / "parsed.json").write_text("[]")
    with pytest.raises(OutputError, match="already"):
        find(tmp_path, parser, images)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bank", "base", "out", "targets"]
