"""Data sets of other tools are checked and trained on as they are, whatever tool they come from."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Command
from vlpart.data.check.run import check
from vlpart.data.convert import FORMS, write_set
from vlpart.data.folder import foreign_kind
from vlpart.visualize.data_page import write_page

sample: Any


def _load() -> None:
    """`sample` of the test file beside this one, wherever the tests are started."""
    global sample
    spec = importlib.util.spec_from_file_location("convert_sample", Path(__file__).with_name("test_convert.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sample = module.sample


_load()


@pytest.mark.parametrize("form", [form for form in FORMS if form != "coco"])
def test_every_form_is_checked_as_it_is(tmp_path: Path, form: str) -> None:
    write_set([sample(tmp_path / "source", boxes=form == "voc")], tmp_path / "mine", form)
    assert foreign_kind(tmp_path / "mine") == form
    report = check(tmp_path / "mine")
    assert report.errors == []
    assert report.converted[0].startswith(f"{tmp_path / 'mine'}: a data set of the kind {form}, 4 images")
    if form != "label-maps":
        assert sum(split.total_annotations for split in report.splits) == (6 if form == "voc" else 15)
    assert sum(len(split.images) for split in report.splits) == 4
    page = write_page(report, tmp_path / "page.html").read_text()  # the images are still there
    assert page.count("data:image/jpeg") >= 3


def test_what_is_broken_is_found(tmp_path: Path) -> None:
    write_set([sample(tmp_path / "source")], tmp_path / "mine", "yolo")
    label = next(path for path in (tmp_path / "mine").rglob("*0.txt"))
    label.write_text(label.read_text() + "7 1 2\n99 0.1 0.1 0.2 0.2 0.3 0.1\n")
    report = check(tmp_path / "mine")
    assert sum(finding.count for finding in report.findings if finding.kind == "not-read") == 2
    assert report.is_fit() and not report.is_fit(strict=True)


def test_coco_stays_what_it_is(tmp_path: Path) -> None:
    """COCO beside other files, a broken file, a large file: nothing is converted."""
    write_set([sample(tmp_path / "source")], tmp_path / "mine", "coco")
    (tmp_path / "mine" / "labels").mkdir()
    write_set([sample(tmp_path / "more", splits=False)], tmp_path / "labelme", "labelme")
    shutil.copy(next((tmp_path / "labelme").rglob("*.json")), tmp_path / "mine" / "labels")
    assert foreign_kind(tmp_path / "mine") is None and foreign_kind(tmp_path / "labelme") == "labelme"
    assert check(tmp_path / "mine").converted == []
    for path in (tmp_path / "mine").glob("*.json"):
        path.write_text("{" + path.read_text())
    assert foreign_kind(tmp_path / "mine") is None
    for path in (tmp_path / "mine").glob("*.json"):
        path.write_text(json.dumps({"info": "x" * (6 << 20), "images": [], "categories": []}))
    assert foreign_kind(tmp_path / "mine") is None
    large = next((tmp_path / "labelme").rglob("*.json"))
    large.write_text(json.dumps(json.loads(large.read_text()) | {"imageData": "x" * (6 << 20)}))
    assert foreign_kind(tmp_path / "labelme") == "labelme"


@pytest.fixture
def command(command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    monkeypatch.chdir(tmp_path)
    return command


def test_a_folder_of_labels_is_trained_on_and_evaluated(command: Command, tmp_path: Path, tiny_weights: Path) -> None:
    """YOLO in, figures out; the converted set lies in the run folder and is used again."""
    write_set([sample(tmp_path / "source", splits=False)], tmp_path / "mine", "yolo")
    code, out, err = command("data", "check", "mine")
    assert code == 0 and "a data set of the kind yolo, 4 images, 15 regions" in out, err
    quick = ("--init", tiny_weights, "--batch", 1, "--image-size", 96, "--workers", 0, "--device", "cpu")
    quick += ("--teacher", 0, "--log-to", "csv")

    train = ("train", "finetune", "--data", "mine", *quick, "--iterations")
    code, _, err = command(*train, 1, "--dry-run")
    assert code == 0 and not (tmp_path / "runs").exists(), err
    code, _, err = command(*train, 1)
    assert code == 0 and "as COCO in runs/finetune/data/mine" in err, err
    run = tmp_path / "runs" / "finetune"
    names = {path.name for path in (run / "data" / "mine").iterdir()}
    assert "images" in names and any(name.endswith(".json") for name in names)
    code, _, err = command(*train, 1)
    assert code == 1 and "already holds a run" in err
    files = {path: path.stat().st_mtime_ns for path in (run / "data" / "mine").glob("*.json")}
    code, _, err = command(*train, 2, "--resume")
    assert code == 0 and "resumed at step 1" in err, err
    assert {path: path.stat().st_mtime_ns for path in files} == files
    code, out, err = command("evaluate", run, "--on", "held-out", "--quick", "--no-progress")
    assert code == 0 and ": 1 images" in out, err
