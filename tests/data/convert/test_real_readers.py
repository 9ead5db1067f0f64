"""What we write opens in the readers of the tools it is for, with the same regions.

pycocotools and supervision are always there. datumaro, labelme, ultralytics and label-studio-converter ask for versions
of OpenCV or for windows that do not go together with ours: their tests run where they are installed, for example in an
environment of their own with this package beside them.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, binary_erosion

from vlpart.data.convert import write_set

_SPEC = importlib.util.spec_from_file_location("convert_sample", Path(__file__).with_name("test_convert.py"))
assert _SPEC is not None and _SPEC.loader is not None
_MADE = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_MADE)

NAMES = [name for name, _ in _MADE.MASKS]


def written(
    folder: Path, form: str, *, boxes: bool = False, splits: bool = False
) -> tuple[Path, dict[Any, np.ndarray]]:
    """A data set in a form, its images as files of their own; and the mask of every (image, class)."""
    data = _MADE.sample(folder / "source", boxes=boxes, splits=splits)
    wanted = {} if boxes else _MADE.pixels(data)
    write_set([data], folder / form, form)
    for path in (folder / form).rglob("*"):
        if path.is_symlink():  # datumaro takes a link for a way out of the folder
            target = path.resolve()
            path.unlink()
            shutil.copy(target, path)
    return folder / form, wanted


def test_pycocotools_reads_coco(tmp_path: Path) -> None:
    from pycocotools.coco import COCO

    root, wanted = written(tmp_path, "coco")
    with contextlib.redirect_stdout(io.StringIO()):
        read = COCO(str(root / "annotations.json"))
    names = {category["id"]: category["name"] for category in read.loadCats(read.getCatIds())}
    files = {image["id"]: image["file_name"] for image in read.loadImgs(read.getImgIds())}
    assert len(files) == 4 and len(read.anns) == 15
    for annotation in read.anns.values():
        mask = read.annToMask(annotation).astype(bool)
        key = (files[annotation["image_id"]], names[annotation["category_id"]])
        assert (mask == wanted[key]).all() and annotation["area"] == mask.sum()


@pytest.mark.parametrize("form", ["coco", "yolo", "voc"])
def test_supervision_reads_what_it_knows(tmp_path: Path, form: str) -> None:
    supervision = pytest.importorskip("supervision")
    root, wanted = written(tmp_path, form, boxes=form == "voc")
    if form == "coco":
        read = supervision.DetectionDataset.from_coco(
            str(root / "images"), str(root / "annotations.json"), force_masks=True
        )
    elif form == "yolo":
        labels = next(path for path in (root / "labels").rglob("*.txt")).parent
        images = root / "images" / labels.relative_to(root / "labels")
        read = supervision.DetectionDataset.from_yolo(
            str(images), str(labels), str(root / "data.yaml"), force_masks=True
        )
    else:
        read = supervision.DetectionDataset.from_pascal_voc(str(root / "JPEGImages"), str(root / "Annotations"))
    found = Counter(read.classes[i] for _, _, detections in read for i in detections.class_id)
    assert found == ({"car": 3, "car:wheel": 3} if form == "voc" else dict.fromkeys(NAMES, 3))
    for path, _, detections in read:
        for place, index in enumerate(detections.class_id):
            name = read.classes[index]
            if form == "voc":
                box = {"car": [10, 10, 70, 60], "car:wheel": [15.5, 45, 29, 57.25]}[name]
                assert detections.xyxy[place] == pytest.approx(box, abs=1)
            elif name != "line":  # a line one pixel wide is filled in other ways by OpenCV
                mask = wanted[Path(path).name, name]
                edge = binary_dilation(mask, np.ones((3, 3))) & ~binary_erosion(mask, np.ones((3, 3)))
                beyond = ((detections.mask[place] != mask) & ~edge).sum()  # OpenCV fills the outline, too,
                assert beyond <= (30 if name == "pieces" else 0), name  # and the bridge between two pieces


def test_datumaro_reads_coco_and_cvat(tmp_path: Path) -> None:
    datumaro = pytest.importorskip("datumaro", reason="datumaro needs another OpenCV than ours")
    root, wanted = written(tmp_path, "coco")
    (root / "annotations").mkdir()
    (root / "annotations.json").rename(root / "annotations" / "instances_default.json")
    inner = root / "images" / "default"
    pictures = list((root / "images").iterdir())
    inner.mkdir()
    for path in pictures:
        path.rename(inner / path.name)
    cvat, _ = written(tmp_path / "more", "cvat")
    for kind, source in (("coco", root), ("cvat", cvat / "annotations.xml")):
        read = datumaro.Dataset.import_from(str(source), kind)
        names = [each.name for each in read.categories()[datumaro.AnnotationType.label]]
        assert sorted(names) == sorted(NAMES) and len(read) == 4
        count = 0
        for item in read:
            for annotation in item.annotations:
                if annotation.type.name not in ("mask", "polygon"):
                    continue
                mask = wanted[f"{Path(item.id).name}.png", names[annotation.label]]
                assert annotation.get_area() == pytest.approx(mask.sum(), rel=0.08, abs=62), (
                    kind,
                    names[annotation.label],
                )
                count += 1
        assert count == 15


def test_ultralytics_checks_and_reads_yolo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ultralytics", reason="ultralytics is no dependency of ours")
    monkeypatch.setenv("YOLO_CONFIG_DIR", str(tmp_path / "settings"))
    from ultralytics.data.dataset import YOLODataset
    from ultralytics.data.utils import check_det_dataset

    root, _ = written(tmp_path, "yolo", splits=True)
    monkeypatch.chdir(tmp_path / "source")  # from any folder
    checked = check_det_dataset(str(root / "data.yaml"), autodownload=False)
    assert list(checked["names"].values()) == NAMES
    for split, counts in (("train", [5, 5, 0]), ("val", [5])):
        read = YOLODataset(img_path=checked[split], data=checked, task="segment", augment=False, imgsz=320, cache=False)
        assert [len(each["cls"]) for each in read.labels] == counts
        assert all(len(each["segments"]) == len(each["cls"]) for each in read.labels)


def test_labelme_reads_labelme(tmp_path: Path) -> None:
    pytest.importorskip("PyQt5", reason="labelme needs the libraries of a window system")
    reader = pytest.importorskip("labelme._label_file", reason="labelme is no dependency of ours")
    root, wanted = written(tmp_path, "labelme")
    files = sorted(root.rglob("*.json"))
    assert len(files) == 4
    for path in files:
        read = reader.LabelFile(str(path))
        shapes = [shape if isinstance(shape, dict) else vars(shape) for shape in read.shapes]
        assert {shape["label"] for shape in shapes} == (set() if "photo 2" in path.name else set(NAMES))
        for shape in shapes:
            assert shape["shape_type"] in ("polygon", "mask") and shape["label"] in NAMES
            if shape["shape_type"] == "mask":
                (x0, y0), (x1, y1) = (map(int, point) for point in shape["points"])
                mask = np.zeros(_MADE.SIZE, dtype=bool)
                mask[y0 : y1 + 1, x0 : x1 + 1] = shape["mask"]
                assert (mask == wanted[f"{path.stem}.png", shape["label"]]).all()


def test_label_studio_decodes_its_brushes(tmp_path: Path) -> None:
    brush = pytest.importorskip("label_studio_converter.brush", reason="it is no dependency of ours")
    root, wanted = written(tmp_path, "labelstudio")
    tasks = json.loads(next(root.glob("*.json")).read_text())
    count = 0
    for task in tasks:
        name = Path(task["data"]["image"]).name.replace("%20", " ")
        for result in (each for annotation in task["annotations"] for each in annotation["result"]):
            assert result["type"] in ("brushlabels", "polygonlabels", "rectanglelabels")
            if result["type"] != "brushlabels":
                continue
            size = (result["original_height"], result["original_width"])
            mask = np.reshape(brush.decode_rle(result["value"]["rle"]), (*size, 4))[..., 3] > 0
            (label,) = result["value"]["brushlabels"]
            assert (mask == wanted[name.rpartition("-")[2], label]).all()
            count += 1
    assert count == 6
