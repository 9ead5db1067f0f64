"""A project goes out to each tool, comes back corrected in the form that the tool writes, and is trained on."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from tests.conftest import Command
from tests.fakes import FakePredictor, fake_result
from vlpart.data.images import ReadImage
from vlpart.integrations.annotate import annotate_folder
from vlpart.results.result import Result
from vlpart.serve.downloads import Wanted, files_of
from vlpart.text.vocabulary import Vocabulary

TRIANGLE = [[5.0, 5.0], [30.0, 6.0], [12.0, 25.0]]


class Finds(FakePredictor):
    """A car with a wheel, in every image."""

    name = "fake"

    def detect(self, images: Sequence[ReadImage], *asked: Any, **options: Any) -> list[Result]:
        return [fake_result(image.pixels, image.path) for image in images]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("p1.png", "p2.png", "p3.png"):
        Image.fromarray(np.full((30, 40, 3), 90, dtype=np.uint8)).save(folder / name)
    return folder


def projected(photos: Path, output: Path, tool: str) -> Path:
    annotate_folder(Finds(), photos, output, tool, score_threshold=0.1)  # type: ignore[arg-type]
    return output


# Each takes the wheel off the first photo, and draws a "car:badge" there, as the tool's own files say it.


def from_label_studio(photos: Path, output: Path) -> None:
    """What its export JSON holds: results with an `origin`, in annotations that refer to the prediction."""
    projected(photos, output, "labelstudio")
    tasks = json.loads((output / "tasks.json").read_text())
    for i, task in enumerate(tasks):
        (prediction,) = task["predictions"]
        results = [{**result, "origin": "prediction"} for result in prediction["result"]]
        if i == 0:
            sizes = {"original_width": 40, "original_height": 30, "image_rotation": 0}
            points = [[x / 40 * 100, y / 30 * 100] for x, y in TRIANGLE]
            value = {"points": points, "closed": True, "polygonlabels": ["car:badge"]}
            shape = {"id": "a1", "from_name": "polygon", "to_name": "image", "type": "polygonlabels"}
            results = [results[0], {**sizes, **shape, "origin": "manual", "value": value}]
        annotation = {"id": i, "completed_by": 1, "was_cancelled": False, "lead_time": 9.2}
        task["annotations"] = [{**annotation, "result": results}]
        task["predictions"] = []
    (output / "project-1-at-2026-11-28-18-40-6f69d0c8.json").write_text(json.dumps(tasks))


def from_cvat(photos: Path, output: Path) -> None:
    """ "CVAT for images 1.1" of a task, with images in `images/`, labels in its head, and attributes in shapes."""
    projected(photos, output, "cvat")
    file = output / "annotations.xml"
    root = ElementTree.fromstring(file.read_text())
    image = root.find("image")
    assert image is not None
    (wheel,) = [shape for shape in image if shape.get("label") == "car:wheel"]
    image.remove(wheel)
    points = ";".join(f"{x:.2f},{y:.2f}" for x, y in TRIANGLE)
    made = {"label": "car:badge", "source": "manual", "occluded": "0", "points": points, "z_order": "1"}
    shape = ElementTree.SubElement(image, "polygon", made)
    ElementTree.SubElement(shape, "attribute", {"name": "seen"}).text = "true"
    labels = next(iter(root.iter("labels")))
    label = ElementTree.SubElement(labels, "label")
    ElementTree.SubElement(label, "name").text = "car:badge"
    file.write_text(ElementTree.tostring(root, encoding="unicode"))


def from_x_anylabeling(photos: Path, output: Path) -> None:
    """Its JSON beside each image: shapes with flags, attributes and what else it keeps."""
    projected(photos, output, "x-anylabeling")
    file = output / "p1.json"
    content = json.loads(file.read_text())
    content["shapes"] = [shape for shape in content["shapes"] if shape["label"] != "car:wheel"]
    kept = {"score": None, "group_id": None, "description": None, "difficult": False, "flags": {}, "attributes": {}}
    made = {"label": "car:badge", "points": TRIANGLE, "shape_type": "polygon", "kie_linking": []}
    content["shapes"].append({**kept, **made})
    content |= {"version": "3.3.0", "checked": True, "description": ""}
    file.write_text(json.dumps(content))


def from_the_page(photos: Path, output: Path) -> None:
    """COCO of all photos of the tray, put beside the photos."""
    output.mkdir()
    images, results = [], []
    for i, path in enumerate(sorted(photos.iterdir())):
        pixels = np.asarray(Image.open(path))
        data = fake_result(pixels, str(path)).to_dict()
        if i == 0:
            wheel = next(each for each in data["detections"] if each["name"] == "car:wheel")
            wheel |= {"name": "car:badge", "category_id": 9, "score": 1.0}
            data["vocabulary"]["entries"].append({"id": 9, "name": "car:badge", "object": "car", "part": "badge"})
        images.append((path.name, path.read_bytes()))
        results.append(data)
        (output / path.name).symlink_to(path)
    (made,) = files_of([Wanted(images, results, ["coco", "image"], 10_000, 100)])
    assert isinstance(made, tuple)
    with zipfile.ZipFile(io.BytesIO(made[1])) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".json")]
        (output / Path(name).name).write_bytes(archive.read(name))


BACK = {
    "labelstudio": from_label_studio,
    "cvat": from_cvat,
    "x-anylabeling": from_x_anylabeling,
    "page": from_the_page,
}


@pytest.mark.parametrize("tool", BACK)
def test_a_corrected_project_is_trained_on(
    photos: Path, tmp_path: Path, tool: str, command: Command, tiny_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    back: Callable[[Path, Path], None] = BACK[tool]
    back(photos, tmp_path / "corrected")
    options = ("--init", tiny_weights, "--batch", 1, "--image-size", 96, "--workers", 0, "--device", "cpu")
    options += ("--teacher", 0, "--log-to", "csv", "--iterations", 1, "--validation-split", 0)
    code, _, err = command("train", "finetune", "--data", "corrected", *options)
    assert code == 0, err
    if tool != "page":  # which is COCO already
        assert "3 images, 6 regions, as COCO in" in err
    run = tmp_path / "runs" / "finetune"
    assert {"car", "car:wheel", "car:badge"} <= set(Vocabulary.load(run / "vocabulary.json").names)
    assert "finished at step 1/1" in err
