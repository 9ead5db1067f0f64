"""`vlpart annotate` with the embedded model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tests.cli.conftest import Run
from tests.fakes import files_of


def test_a_folder_becomes_a_project(run: Run, tmp_path: Path, tiny_weights: Path) -> None:
    photo = tiny_weights.parents[1] / "samples" / "astronaut.jpg"
    (tmp_path / "in").mkdir()
    shutil.copy(photo, tmp_path / "in" / "a.jpg")
    asked = (
        "annotate",
        tmp_path / "in",
        "-o",
        tmp_path / "out",
        "--vocabulary",
        "person: nose, mouth",
        "--no-progress",
    )
    outcome = run(*asked, "--rank", "uncertain")
    assert (outcome.code, outcome.err) == (0, "")
    assert "1 images with " in outcome.out and "first: a.jpg, which will probably need " in outcome.out
    assert files_of(tmp_path / "out") == ["images/a.jpg", "labels.xml", "ranking.csv", "tasks.json"]
    (task,) = json.loads((tmp_path / "out" / "tasks.json").read_text())
    assert {"person", "person:mouth"} <= {r["value"][r["type"]][0] for r in task["predictions"][0]["result"]}
    outcome = run(*asked)
    assert outcome.code == 1 and "is not empty" in outcome.err
