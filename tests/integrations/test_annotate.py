"""A folder of images as a project of each tool, read back by the readers that take corrected projects."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.fakes import FakePredictor, fake_result, files_of
from vlpart.data.images import ReadImage
from vlpart.data.readers.detect import read_any
from vlpart.errors import DataError, ImageError, OutputError
from vlpart.integrations.annotate import TOOLS, annotate_folder, expected_corrections, picture_of
from vlpart.results.result import Result


class Doubtful(FakePredictor):
    """Is less and less sure from image to image."""

    name = "fake"

    def detect(self, images: Sequence[ReadImage], *asked: Any, **options: Any) -> list[Result]:
        found = []
        for image in images:
            result = fake_result(image.pixels, image.path)
            number = int(Path(str(image.path)).stem[-1])
            result.scores[:] = [0.9, 0.9 - 0.1 * number]
            found.append(result)
        return found


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for name in ("p1.png", "p2.png", "more/p3.png"):
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((30, 40, 3), 90, dtype=np.uint8)).save(place)
    (folder / "p4.png").write_bytes(b"no image")
    return folder


def annotated(photos: Path, output: Path, tool: str = "labelstudio", **options: Any) -> Any:
    return annotate_folder(Doubtful(), photos, output, tool, recursive=True, score_threshold=0.5, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("tool", ["cvat", "labelme", "x-anylabeling", "coco"])
def test_a_project_of_each_tool_is_read_back(photos: Path, tmp_path: Path, tool: str) -> None:
    report = annotated(photos, tmp_path / "out", tool)
    assert (report.images, report.regions, report.failed) == (3, 6, 1)
    data = read_any(tmp_path / "out")
    assert data.format == TOOLS[tool]
    assert sorted(picture.file_name.rpartition("/")[2] for picture in data.pictures) == ["p1.png", "p2.png", "p3.png"]
    assert set(data.names) == {"car", "car:wheel"}
    for picture in data.pictures:
        assert picture.path is not None and picture.path.is_file()
        masks = picture.masks()
        assert masks is not None
        expected = fake_result(np.zeros((30, 40, 3), dtype=np.uint8)).masks
        assert expected is not None
        for i, region in enumerate(picture.regions):
            other = expected[0 if region.name == "car" else 1]
            assert np.logical_and(masks[i], other).sum() / np.logical_or(masks[i], other).sum() > 0.95


def test_label_studio_gets_predictions_with_scores_and_its_export_is_read(photos: Path, tmp_path: Path) -> None:
    annotated(photos, tmp_path / "out")
    assert {"tasks.json", "labels.xml", "ranking.csv", "images/p1.png"} <= set(files_of(tmp_path / "out"))
    tasks = json.loads((tmp_path / "out" / "tasks.json").read_text())
    assert [task["annotations"] for task in tasks] == [[], [], []]
    prediction = next(task for task in tasks if task["data"]["image"].endswith("p1.png"))["predictions"][0]
    assert prediction["model_version"] == "vlpart fake"
    assert [each["score"] for each in prediction["result"]] == pytest.approx([0.9, 0.8], abs=1e-3)
    assert prediction["score"] == pytest.approx(0.8, abs=1e-3)
    for task in tasks:  # what a person accepts comes back as an annotation
        task["annotations"] = [{"result": task.pop("predictions")[0]["result"], "was_cancelled": False}]
    (tmp_path / "out" / "tasks.json").write_text(json.dumps(tasks))
    data = read_any(tmp_path / "out")
    assert sum(len(picture.regions) for picture in data.pictures) == 6


def test_scores_are_kept_where_a_form_has_a_place_for_them(photos: Path, tmp_path: Path) -> None:
    annotated(photos, tmp_path / "coco", "coco")
    content = json.loads((tmp_path / "coco" / "annotations.json").read_text())
    assert {annotation["score"] for annotation in content["annotations"]} >= {0.9}
    annotated(photos, tmp_path / "labelme", "labelme")
    shapes = json.loads((tmp_path / "labelme" / "p1.json").read_text())["shapes"]
    assert shapes[1]["score"] == pytest.approx(0.8, abs=1e-3)
    assert shapes[1]["description"] == "part of car 1"
    annotated(photos, tmp_path / "cvat", "cvat")
    assert 'source="auto"' in (tmp_path / "cvat" / "annotations.xml").read_text()


def test_what_needs_most_corrections_comes_first(photos: Path, tmp_path: Path) -> None:
    report = annotated(photos, tmp_path / "out", rank="uncertain", top=2)
    assert report.order == [("more/p3.png", pytest.approx(0.5, abs=1e-3)), ("p2.png", pytest.approx(0.4, abs=1e-3))]
    lines = (tmp_path / "out" / "ranking.csv").read_text().splitlines()
    assert lines[0] == "image,expected corrections,labels" and len(lines) == 3
    tasks = json.loads((tmp_path / "out" / "tasks.json").read_text())
    assert tasks[0]["data"]["image"].endswith(report.order[0][0])


def test_expected_corrections() -> None:
    assert expected_corrections([], 0.5) == 0
    assert expected_corrections([0.9, 0.6, 0.4, 0.01], 0.5) == pytest.approx(0.1 + 0.4 + 0.4)
    assert expected_corrections([1.0, 0.0], 0.5) == 0


def test_a_part_knows_its_object() -> None:
    picture = picture_of(fake_result(np.zeros((30, 40, 3), dtype=np.uint8)), "a.png", None)
    assert [(region.name, region.owner) for region in picture.regions] == [("car", None), ("car:wheel", 0)]
    assert picture.masks() is not None


def test_a_folder_that_cannot_be_listed_is_told(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def listed(given: object, *, recursive: bool, on_unlisted: Callable[[ImageError], object]) -> list[Path]:
        on_unlisted(ImageError("cannot list the folder secret"))
        return sorted(photos.glob("*.png"))[:1]

    monkeypatch.setattr("vlpart.integrations.annotate.list_images", listed)
    told: list[tuple[str, str]] = []
    report = annotated(photos, tmp_path / "out", on_failure=lambda image, error: told.append((image, str(error))))
    assert told[0] == ("listing", "cannot list the folder secret")
    assert report.failed == len(told)


def test_addresses_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"https://example\.com/a\.jpg: .*download it first"):
        annotated("https://example.com/a.jpg", tmp_path / "out")  # type: ignore[arg-type]


def test_what_cannot_be_done(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="tools are labelstudio"):
        annotated(photos, tmp_path / "out", "paper")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    with pytest.raises(OutputError, match="is not empty"):
        annotated(photos, tmp_path / "full")
    failures: list[str] = []
    with pytest.raises(DataError, match="no image of"):
        annotate_folder(
            Doubtful(),  # type: ignore[arg-type]
            photos / "p4.png",
            tmp_path / "none",
            on_failure=lambda image, error: failures.append(image),
        )
    assert len(failures) == 1
    with pytest.raises(DataError, match="can be read"):
        annotated(tmp_path / "nowhere", tmp_path / "none")
