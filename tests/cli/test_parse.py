from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.annotation_parser.conftest import base_data as base_data
from tests.cli.conftest import Run
from vlpart.annotation_parser.bank import ReferenceBank, write_bank
from vlpart.annotation_parser.references import Reference
from vlpart.errors import DataError
from vlpart.recipes.parser import FINDS, check_bank, get_find_recipe
from vlpart.text.vocabulary import Vocabulary

TIGER = {(20, 20, 220): (8, 24, 32, 40), (220, 20, 20): (32, 16, 44, 28)}


@pytest.fixture
def tigers(tmp_path: Path) -> Path:
    """A folder `tiger` with two images."""
    folder = tmp_path / "images" / "tiger"
    folder.mkdir(parents=True)
    image = np.full((48, 64, 3), 255, dtype=np.uint8)
    for colour, (x0, y0, x1, y1) in TIGER.items():
        image[y0:y1, x0:x1] = colour
    for name in ("a.png", "b.png"):
        Image.fromarray(image).save(folder / name)
    return folder.parent


def test_build_find_and_show(run: Run, base_data: Path, tigers: Path, tmp_path: Path, tiny_weights: Path) -> None:
    bank, parsed, drawn = tmp_path / "bank", tmp_path / "parsed.json", tmp_path / "tiger.png"
    built = run(
        *("parse", "build", bank, "--annotations", base_data, "--images", base_data.parent),
        *("--features", "embedded", "--short-side", "96"),
    )
    assert (built.code, built.out) == (0, f"2 references, embedded features -> {bank}\n")
    assert "2 base images, 1 with more than one object" in built.err

    found = run(
        *("parse", "find", bank, "--images", tigers, "--output", parsed, "--boxes", "masks"),
        *("--from", "tiger: cat", "--names", "tiger: torso, head", "--keep-masks"),
    )
    assert found.code == 0
    assert "embedded model" in found.err
    document = json.loads(parsed.read_text())
    assert found.out == f"{len(document['annotations'])} parts in 2 images -> {parsed}\n"
    assert [image["file_name"] for image in document["images"]] == ["tiger/a.png", "tiger/b.png"]
    assert [category["name"] for category in document["categories"]] == ["tiger", "tiger:torso", "tiger:head"]
    again = run("parse", "find", bank, "--images", tigers, "--output", parsed, "--boxes", "masks")
    assert (again.code, "--overwrite" in again.err) == (1, True)

    shown = run("parse", "show", bank, tigers / "tiger" / "a.png", "--label", "tiger", "-o", drawn, "--boxes", "masks")
    assert shown.code == 0
    assert "-> " in shown.err
    with Image.open(drawn) as shown:
        assert shown.width > 420


def test_a_image_that_is_broken_is_skipped(
    run: Run, base_data: Path, tigers: Path, tmp_path: Path, tiny_weights: Path
) -> None:
    (base_data.parent / "car.png").write_bytes(b"")
    built = run(
        *("parse", "build", tmp_path / "bank", "--annotations", base_data, "--images", base_data.parent),
        *("--features", "embedded", "--short-side", "96"),
    )
    assert (built.code, built.out) == (1, f"1 references, embedded features, 1 skipped -> {tmp_path / 'bank'}\n")
    assert "skipped: " in built.err


def test_recipes_are_listed(run: Run) -> None:
    _, *rows = [line.split("\t") for line in run("parse", "recipes").out.splitlines()]
    assert [row[:2] for row in rows][:3] == [
        ["build", "pascal_part"],
        ["build", "pascal_part_base"],
        ["find", "in_s11"],
    ]
    assert len(rows) == 11


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("build", "bank"), "give --annotations, or a published run with --recipe and --data"),
        (
            ("build", "bank", "--recipe", "pascal_part"),
            "give --annotations, or the data root of the recipe with --data",
        ),
        (("build", "bank", "--recipe", "pascal"), "no parser recipe 'pascal': did you mean pascal_part"),
        (("find", "bank", "--images", "."), "give --output"),
        (("show", "bank", "x.png", "--label", "a", "-o", "x.txt"), "must end in .png"),
    ],
)
def test_wrong_usage_names_what_to_give(run: Run, arguments: tuple[str, ...], message: str) -> None:
    outcome = run("parse", *arguments)
    assert outcome.code in (1, 2)
    assert message in " ".join(outcome.err.replace("│", " ").split())


@pytest.mark.parametrize(("text", "message"), [("bench chair", "not 'bench chair'"), ("bench:", "not 'bench:'")])
def test_malformed_sources(run: Run, tigers: Path, tmp_path: Path, text: str, message: str) -> None:
    outcome = run("parse", "find", "bank", "--images", tigers, "--output", tmp_path / "x.json", "--from", text)
    assert (outcome.code, message in outcome.err) == (1, True)


@pytest.fixture
def banks(run: Run, base_data: Path, tmp_path: Path, tiny_weights: Path) -> tuple[Path, Path]:
    """A bank of images and one of objects."""
    common = ("--annotations", base_data, "--images", base_data.parent, "--features", "embedded", "--short-side", "96")
    assert run("parse", "build", tmp_path / "images_bank", *common).code == 0
    assert run("parse", "build", tmp_path / "objects_bank", "--objects", *common).code == 0
    return tmp_path / "images_bank", tmp_path / "objects_bank"


@pytest.mark.parametrize(
    ("objects", "arguments", "message"),
    [
        (False, ("--references", 3), "No such option"),
        (True, ("--boxes", "masks"), "No such option"),
        (False, ("--names", "leg"), "'leg' names no parts"),
        (False, ("--base-objects", "tigre"), "no image has the label 'tigre': did you mean tiger"),
        (False, ("--from", "tiger: kat"), "has no 'kat': did you mean cat"),
        (False, ("--only-labels", "tiger, tigre"), "has no label 'tigre': did you mean tiger"),
    ],
)
def test_what_would_be_ignored_is_refused(
    run: Run,
    banks: tuple[Path, Path],
    base_data: Path,
    tigers: Path,
    tmp_path: Path,
    objects: bool,
    arguments: tuple[object, ...],
    message: str,
) -> None:
    command = ("find-objects", banks[1], "--labels", base_data) if objects else ("find", banks[0])
    output = tmp_path / "out" / "x.json"
    outcome = run("parse", *command, "--images", tigers, "--output", output, *arguments)
    assert outcome.code in (1, 2)
    assert message in " ".join(outcome.err.replace("│", " ").split())
    assert not output.parent.exists()


def test_the_other_kind_of_bank_is_refused(
    run: Run, banks: tuple[Path, Path], base_data: Path, tigers: Path, tmp_path: Path
) -> None:
    common = ("--labels", base_data, "--images", tigers, "--output", tmp_path / "x.json")
    for command, bank, message in (
        ("find", banks[1], "is one of objects: use vlpart parse find-objects"),
        ("find-objects", banks[0], "is one of images: use vlpart parse find"),
    ):
        outcome = run("parse", command, bank, *common)
        assert (outcome.code, message in outcome.err) == (1, True)
    folders = run("parse", "find", banks[0], *common, "--per-folder", 2)
    assert (folders.code, "is for one folder per label" in " ".join(folders.err.replace("│", " ").split())) == (2, True)


def test_a_bank_of_another_recipe_is_refused(tmp_path: Path) -> None:
    token = np.ones(4, dtype=np.float32)
    reference = Reference(image_id=1, file_name="a.jpg", height=3, width=4, object="cat")
    header = {"features": "dino_vits8", "fingerprint": "x", "short_side": 224, "max_side": 672, "images": "/images"}
    write_bank(tmp_path / "bank", [(reference, token)], header)
    bank = ReferenceBank(tmp_path / "bank")
    check_bank(get_find_recipe("in_s11"), bank)
    with pytest.raises(DataError, match=r"searches the bank pascal_part_base.*--recipe pascal_part_base"):
        check_bank(get_find_recipe("in_s20"), bank)


def test_show_takes_the_settings_of_find(run: Run, banks: tuple[Path, Path], tigers: Path, tmp_path: Path) -> None:
    settings = ("--boxes", "masks", "--foreground", 0.9, "--short-side", 64)
    drawn = tmp_path / "tiger.png"
    shown = run("parse", "show", banks[0], tigers / "tiger" / "a.png", "--label", "tiger", "-o", drawn, *settings)
    assert (shown.code, drawn.is_file()) == (0, True)


def test_show_draws_annotated_objects(
    run: Run, banks: tuple[Path, Path], base_data: Path, tigers: Path, tmp_path: Path
) -> None:
    drawn, common = tmp_path / "cat.png", ("--detector-share", 0, "--min-confidence", 0)
    cat = ("parse", "show-object", banks[1], base_data.parent / "cat.png", "--label", "cat", "-o", drawn, *common)
    shown = run(*cat, "--labels", base_data)
    assert (shown.code, "reference cat.png, similarity 1.000" in shown.err) == (0, True)
    assert {line.partition("\t")[0] for line in shown.out.splitlines()} >= {"cat:body", "cat:head"}
    with Image.open(drawn) as image:
        assert image.width > 4 * 200
    assert run(*cat).code == 0  # the whole image as the object
    for arguments, message in (
        ((*cat[:3], tigers / "tiger" / "a.png", *cat[4:], "--labels", base_data), "annotates no cat in"),
        ((*cat[:2], banks[0], *cat[3:], "--labels", base_data), "is one of images: use vlpart parse find"),
    ):
        outcome = run(*arguments)
        assert outcome.code in (1, 2)
        assert message in " ".join(outcome.err.replace("│", " ").split())


def test_missing_data_of_a_published_run_names_the_command(run: Run, tmp_path: Path) -> None:
    for arguments, command in (
        (("build", "bank", "--recipe", "configs/annotation_parser/build_pascalpart.yaml"), "pascal_part_one"),
        (("find", "bank", "--recipe", "find_ins11_mixer"), "in_s11"),
        (("find", "bank", "--recipe", "in_s20"), "in_s20"),
        (("golden",), "golden"),
        (("golden",), "pascal_part_one"),
    ):
        outcome = run("parse", *arguments, "--data", tmp_path)
        assert outcome.code == 1
        assert f"`vlpart data prepare {command} {tmp_path}" in outcome.err


@pytest.fixture
def golden_data(base_data: Path, tigers: Path, tmp_path: Path) -> Path:
    """A data root with two ImageNet images that all four golden lists label."""
    root = tmp_path / "datasets"
    (root / "imagenet").mkdir(parents=True)
    tigers.rename(root / "imagenet" / "train")
    for kind in ("pascal", "partimagenet", "paco", "addition"):
        entry = Vocabulary.load(f"golden_{kind}").entries[0]
        content = {
            "images": [
                {"id": i, "file_name": f"tiger/{n}.png", "height": 48, "width": 64, "pos_category_ids": [entry.id]}
                for i, n in enumerate("ab", start=1)
            ],
            "annotations": [],
            "categories": [{"id": entry.id, "name": entry.name}],
        }
        (root / "imagenet" / f"imagenet_{kind}_image_info.json").write_text(json.dumps(content))
    return root


@pytest.mark.parametrize(
    ("architecture", "ending", "model"), [("r50", "", "r50_lvis"), ("swin", "_swinbase", "swinbase")]
)
def test_dry_run_of_the_golden_runs(
    run: Run, golden_data: Path, tmp_path: Path, architecture: str, ending: str, model: str
) -> None:
    there = golden_data / "imagenet" / f"imagenet_golden_paco_parsed{ending}.json"
    there.write_text("{}")
    before = sorted(tmp_path.rglob("*"))
    common = ("--dry-run", "--data", golden_data, "--bank", tmp_path / "bank")
    outcome = run("parse", "golden", "--architecture", architecture, *common)
    assert (outcome.code, outcome.err) == (0, "")
    _, *rows = [line.split("\t") for line in outcome.out.splitlines()]
    steps = {row[1]: row for row in rows if len(row) > 1}
    found = [f"golden_{kind}{ending}" for kind in ("pascal", "partimagenet", "paco")]
    assert list(steps) == ["pascal_part", *found, "golden_addition"]
    assert {name: row[5] for name, row in steps.items() if row[5] != "to do"} == {found[2]: "there, stays"}
    assert steps[found[0]][3].startswith(model)
    assert [row[0].split(" ")[1] for row in rows if len(row) == 1] == [
        str(golden_data / "pascal_part" / "train_one.json"),
        str(golden_data / "pascal_part" / "VOCdevkit" / "VOC2010" / "JPEGImages"),
    ]
    assert sorted(tmp_path.rglob("*")) == before
    assert run("parse", "golden", "--architecture", "vgg", *common).err.startswith("error: --architecture 'vgg'")


def test_golden_runs(
    run: Run, golden_data: Path, base_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the embedded model and its features in place of the published ones, which are not here."""
    for name, find in FINDS.items():
        monkeypatch.setitem(FINDS, name, replace(find, model="tiny"))
    bank = tmp_path / "bank"
    options = ("--annotations", base_data, "--images", base_data.parent, "--features", "embedded", "--short-side", 96)
    assert run("parse", "build", bank, *options).code == 0
    kept = golden_data / "imagenet" / "imagenet_golden_paco_parsed.json"
    kept.write_text("{}")
    done = run("parse", "golden", "--data", golden_data, "--bank", bank)
    assert done.code == 0
    assert f"{kept} is there and stays" in done.err
    written = [line.rsplit("-> ", 1)[1] for line in done.out.splitlines()]
    assert written == [
        str(golden_data / "imagenet" / f"imagenet_golden_{kind}_parsed.json")
        for kind in ("pascal", "partimagenet", "addition")
    ]
    for kind, path in zip(("pascal_part", "partimagenet", "addition_part"), written, strict=True):
        names = {category["name"] for category in json.loads(Path(path).read_text())["categories"]}
        assert names == set(Vocabulary.load(kind).names)
    assert kept.read_text() == "{}"
    again = run("parse", "golden", "--data", golden_data, "--bank", bank)
    assert (again.code, again.out) == (0, "")
