"""Every format is written, found out by what it holds, and read back to the same regions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vlpart.data.check.run import check
from vlpart.data.convert import FORMS, convert, write_set
from vlpart.data.convert.edit import read_renames
from vlpart.data.readers.dataset import LabelledSet, picture_of
from vlpart.data.readers.detect import detect, from_supervision, hint, read_any
from vlpart.data.readers.labelstudio import decode_brush, encode_brush
from vlpart.data.readers.yolo import read_yaml
from vlpart.errors import DataError, OutputError

SIZE = (90, 120)


def bitmap(x: int, y: int, w: int, h: int) -> np.ndarray:
    made = np.zeros(SIZE, dtype=bool)
    made[y : y + h, x : x + w] = True
    return made


def thin() -> np.ndarray:
    made = np.zeros(SIZE, dtype=bool)
    made[np.arange(60) + 10, np.arange(60) + 20] = True
    return made


MASKS: list[tuple[str, Any]] = [
    ("car", [[10, 10, 70, 10, 70, 60, 10, 60]]),  # a polygon
    ("car:wheel", bitmap(15, 45, 14, 12)),
    ("ring", bitmap(80, 10, 30, 30) & ~bitmap(90, 20, 10, 10)),  # a hole
    ("pieces", bitmap(80, 50, 10, 10) | bitmap(100, 60, 10, 20)),
    ("line", thin()),
]


def sample(folder: Path, *, boxes: bool = False, splits: bool = True) -> LabelledSet:
    data = LabelledSet(format="made")
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(4):
        path = folder / f"photo {number}.png"
        Image.fromarray(np.full((*SIZE, 3), 40 * number, dtype=np.uint8)).save(path)
        picture = picture_of(path.name, path, None, path)
        picture.split = ("train" if number < 3 else "val") if splits else None
        data.pictures.append(picture)
        if number == 2:
            continue  # nothing is labelled there
        if boxes:
            data.add_region(picture, "car", box=[10, 10, 70, 60])
            data.add_region(picture, "car:wheel", box=[15.5, 45, 29, 57.25], owner=0)
        else:
            for name, mask in MASKS:
                data.add_region(picture, name, segmentation=mask, owner=0 if ":" in name else None)
    return data


def pixels(data: LabelledSet) -> dict[tuple[str, str], np.ndarray]:
    """The mask of every (image, class); those of the tests have one region of a class."""
    found: dict[tuple[str, str], np.ndarray] = {}
    for picture in data.pictures:
        stack = picture.masks()
        for i, region in enumerate(picture.regions):
            key = (Path(picture.file_name).name, region.name)
            assert stack is not None
            found[key] = found.get(key, np.zeros(SIZE, dtype=bool)) | stack[i]
    return found


@pytest.mark.parametrize("form", [form for form in FORMS if form != "voc"])
def test_masks_there_and_back(tmp_path: Path, form: str) -> None:
    data = sample(tmp_path / "source")
    wanted = pixels(data)
    done = write_set([data], tmp_path / "out", form)
    assert (done.images, done.regions) == (4, 15)
    found = detect(tmp_path / "out")
    assert found is not None and found[0] == form
    read = found[1]()
    assert sorted(read.names) == sorted(name for name, _ in MASKS)
    assert all(picture.path is not None for picture in read.pictures) and len(read.pictures) == 4
    again = pixels(read)
    assert set(again) == set(wanted)
    for key, mask in wanted.items():
        if form == "label-maps":  # the wheel covers a part of the car, and the line what it crosses
            assert not (again[key] & ~mask).any()
        else:
            assert (again[key] != mask).sum() <= 0.04 * mask.sum(), key
    if form in ("coco", "yolo", "cvat", "labelme"):
        kinds = [picture.split for picture in sorted(read.pictures, key=lambda picture: picture.file_name[-5:])]
        assert kinds == (["train"] * 3 + ["val"] if form != "labelme" else [None] * 4)
    if form in ("coco", "labelme"):
        owners = [(r.name, p.regions[r.owner].name) for p in read.pictures for r in p.regions if r.owner is not None]
        assert owners == [("car:wheel", "car")] * 3


@pytest.mark.parametrize("form", [form for form in FORMS if form != "label-maps"])
def test_boxes_there_and_back(tmp_path: Path, form: str) -> None:
    data = sample(tmp_path / "source", boxes=True)
    write_set([data], tmp_path / "out", form)
    read = read_any(tmp_path / "out")
    assert read.format == form and not any(region.mask is not None for region in read.regions())
    boxes = [region.box_xyxy for picture in read.pictures for region in picture.regions]
    assert len(boxes) == 6
    for box, wanted in zip(boxes, [(10, 10, 70, 60), (15.5, 45, 29, 57.25)] * 3, strict=True):
        assert box == pytest.approx(wanted, abs=0.02)


@pytest.mark.parametrize("middle", [form for form in FORMS if form not in ("voc", "label-maps")])
def test_from_form_to_form_to_coco(tmp_path: Path, middle: str) -> None:
    """What comes out is sound for our own check, and the same regions."""
    data = sample(tmp_path / "source")
    wanted = pixels(data)
    write_set([data], tmp_path / "one", middle)
    convert(tmp_path / "one", tmp_path / "two", "coco")
    report = check(tmp_path / "two")
    assert report.errors == []
    again = pixels(read_any(tmp_path / "two"))
    for key, mask in wanted.items():
        assert (again[key] != mask).sum() <= 0.04 * mask.sum(), key


def test_what_nobody_has_annotated_is_left_out(tmp_path: Path) -> None:
    """An untouched or skipped task says nothing of its image, one that was submitted empty does."""
    write_set([sample(tmp_path / "source", splits=False)], tmp_path / "mine", "labelstudio")
    file = tmp_path / "mine" / "tasks.json"
    tasks = json.loads(file.read_text())
    assert tasks[2]["annotations"][0]["result"] == []
    tasks[0]["annotations"][0]["was_cancelled"] = True
    tasks[1]["annotations"] = []
    file.write_text(json.dumps(tasks))
    read = read_any(tmp_path / "mine")
    assert [(p.file_name, len(p.regions)) for p in read.pictures] == [("photo 2.png", 0), ("photo 3.png", 5)]
    assert read.notes["tasks that nobody has annotated"] == 2
    file.write_text(json.dumps([{**task, "annotations": []} for task in tasks]))
    with pytest.raises(DataError, match="nobody has annotated any of its tasks; submit them"):
        read_any(tmp_path / "mine")


def test_an_export_beside_the_tasks_is_taken_and_the_newest_of_several(tmp_path: Path) -> None:
    write_set([sample(tmp_path / "source", splits=False)], tmp_path / "mine", "labelstudio")
    tasks = json.loads((tmp_path / "mine" / "tasks.json").read_text())
    imported = [{**task, "annotations": [], "predictions": task["annotations"]} for task in tasks]
    (tmp_path / "mine" / "tasks.json").write_text(json.dumps(imported))
    for name, count in (("z-10-at-2026-11-27-18-40-aa.json", 1), ("z-9-at-2026-11-28-09-00-ff.json", 4)):
        (tmp_path / "mine" / name).write_text(json.dumps(tasks[:count]))
    read = read_any(tmp_path / "mine")
    assert len(read.pictures) == 4
    assert "first: z-10-at-2026-11-27-18-40-aa.json" in next(iter(read.notes))


def test_label_studios_json_min(tmp_path: Path) -> None:
    """As its converter writes it: regions by control, each with its label and the size of the image."""
    data = sample(tmp_path / "source", splits=False)
    write_set([data], tmp_path / "mine", "labelstudio")
    file = tmp_path / "mine" / "tasks.json"
    minimal = []
    for task in json.loads(file.read_text()):
        entry = {"image": task["data"]["image"], "id": task["id"], "annotator": 1, "annotation_id": 7, "lead_time": 2.5}
        entry |= {"created_at": "2026-11-28T18:00:00Z", "updated_at": "2026-11-28T18:00:00Z"}
        for result in task["annotations"][0]["result"]:
            sizes = {key: result[key] for key in ("original_width", "original_height")}
            entry.setdefault(result["from_name"], []).append({**result["value"], **sizes})
        minimal.append(entry)
    file.write_text(json.dumps([*minimal, minimal[0]]))
    read = read_any(tmp_path / "mine")
    assert read.format == "labelstudio" and read.notes["further annotations of a task"] == 1
    assert len(read.pictures) == 4
    again, wanted = pixels(read), pixels(data)
    assert again.keys() == wanted.keys()
    for key, mask in wanted.items():
        assert (again[key] != mask).sum() <= 0.02 * mask.sum(), key


def test_what_a_form_cannot_hold_is_listed(tmp_path: Path) -> None:
    done = write_set([sample(tmp_path / "source")], tmp_path / "voc", "voc")
    assert done.lost == {"masks (VOC XML has boxes only)": 15, "which object a part belongs to": 3}
    maps = write_set([sample(tmp_path / "source")], tmp_path / "maps", "label-maps")
    assert maps.lost["pixels of regions under others"] > 0 and maps.lost["splits (train, val)"] == 4


def test_renames_drops_and_splits(tmp_path: Path) -> None:
    write_set([sample(tmp_path / "source", splits=False)], tmp_path / "one", "coco")
    names = tmp_path / "names.txt"
    names.write_text("# parts\nring = car:ring\nline=car:line\n")
    renames = read_renames(["pieces=Car", str(names)])
    assert renames == {"pieces": "Car", "ring": "car:ring", "line": "car:line"}
    done = convert(tmp_path / "one", tmp_path / "two", "coco", renames=renames, dropped=["car:line"], val_fraction=0.25)
    assert done.names == ("car", "car:wheel", "car:ring") and done.regions == 12
    assert {path.name for path in (tmp_path / "two").glob("*.json")} == {"train.json", "val.json"}
    assert check(tmp_path / "two").errors == []
    for bad in (["x"], ["=a"], ["a="]):
        with pytest.raises(DataError, match="a rename is"):
            read_renames(bad)
    with pytest.raises(DataError, match=r"no class 'wheeel'"):
        convert(tmp_path / "one", tmp_path / "three", "coco", dropped=["wheeel"])
    with pytest.raises(OutputError, match="is not empty"):
        convert(tmp_path / "one", tmp_path / "two", "coco")
    with pytest.raises(DataError, match="unknown format 'tfrecord': choose from coco"):
        convert(tmp_path / "one", tmp_path / "three", "tfrecord")


def test_several_sets_are_put_together_by_name(tmp_path: Path) -> None:
    write_set([sample(tmp_path / "a")], tmp_path / "one", "yolo")
    write_set([sample(tmp_path / "b", boxes=True)], tmp_path / "two", "voc")
    done = convert([tmp_path / "one", tmp_path / "two", tmp_path / "one"], tmp_path / "both", "coco")
    assert (done.images, done.regions, done.formats) == (8, 21, ("yolo", "voc", "yolo"))
    assert sorted(done.names) == sorted(name for name, _ in MASKS)
    assert [finding.kind for finding in check(tmp_path / "both").errors] == []


def test_flat_names_that_look_like_parts_get_a_hint(tmp_path: Path) -> None:
    assert hint(["car", "car:wheel", "dog"]) is None
    assert hint(["car", "car_front_wheel"]) == (
        "'car_front_wheel' looks like a part of 'car': --rename 'car_front_wheel=car:front wheel' makes it one"
    )


def test_brush_masks_of_label_studio() -> None:
    rng = np.random.default_rng(0)
    for mask in (rng.random((9, 14)) < 0.5, np.zeros((9, 14), dtype=bool), np.ones((300, 400), dtype=bool)):
        packed = encode_brush(mask)
        decoded = decode_brush(packed, mask.shape)
        assert decoded is not None and np.array_equal(decoded, mask)
    assert decode_brush(packed, (10, 10)) is None
    assert decode_brush(packed[:6], (300, 400)) is None
    assert decode_brush("x", (1, 1)) is None and decode_brush([300], (1, 1)) is None


@pytest.mark.parametrize(
    "text",
    [
        "names: [car, 'a, b']\nval: x\n",
        "names:\n  0: car  # first\n  1: 'a, b'\nval: x\n",
        'names:\n- car\n- "a, b"\nval: x\n',
        "val: x\nnames: {0: car, 1: 'a, b'}\n",
        "names: [car,\n  'a, b']\nval: x\n",
    ],
)
def test_the_yaml_of_yolo_sets(tmp_path: Path, text: str) -> None:
    path = tmp_path / "data.yaml"
    path.write_text(text)
    read = read_yaml(path)
    names = list(read["names"].values()) if isinstance(read["names"], dict) else read["names"]
    assert (names, read["val"]) == (["car", "a, b"], "x")


def test_broken_sources_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        read_any(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no data set of a known format"):
        read_any(tmp_path / "empty")
    for name, text in (
        ("a.json", "{"),
        ("a.json", '{"shapes": [], "imagePath": 5}'),
        ("a.xml", "<annotations><image/>"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(DataError) as caught:
            read_any(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_broken_lines_and_shapes_are_counted(tmp_path: Path) -> None:
    write_set([sample(tmp_path / "source")], tmp_path / "yolo", "yolo")
    label = next((tmp_path / "yolo" / "labels").rglob("photo 0.txt"))
    label.write_text(label.read_text() + "99 0.1 0.1 0.2 0.2\n0 a b c d\n0 nan 0 0 0\n")
    assert read_any(tmp_path / "yolo").notes["broken lines of label files"] == 3
    write_set([sample(tmp_path / "source")], tmp_path / "labelme", "labelme")
    file = next((tmp_path / "labelme").rglob("photo 0.json"))
    content = json.loads(file.read_text())
    content["shapes"] += [{"label": "x", "points": [[1, 2]], "shape_type": "point"}, {"points": []}, 5]
    file.write_text(json.dumps(content))
    notes = read_any(tmp_path / "labelme").notes
    assert notes["shapes without a label"] == 2 and notes["shapes that enclose nothing (point)"] == 1


def test_supervision_reads_what_is_written_and_the_other_way(tmp_path: Path) -> None:
    supervision = pytest.importorskip("supervision")
    data = sample(tmp_path / "source", boxes=True, splits=False)
    write_set([data], tmp_path / "yolo", "yolo")
    folder = tmp_path / "yolo"
    read = supervision.DetectionDataset.from_yolo(
        str(folder / "images"), str(folder / "labels"), str(folder / "data.yaml")
    )
    again = from_supervision(read)
    assert again.names == ["car", "car:wheel"] and sum(1 for _ in again.regions()) == 6
    boxes = sorted(region.box_xyxy for region in again.regions())
    assert boxes[0] == pytest.approx((10, 10, 70, 60), abs=1)


def test_the_command(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from vlpart.cli.main import application

    write_set([sample(tmp_path / "source")], tmp_path / "one", "yolo")
    arguments = ["data", "convert", str(tmp_path / "one"), "--to", "coco", "-o", str(tmp_path / "two")]
    changes = ["--rename", "ring=car:ring", "--drop", "line", "--split", "0.5"]
    result = CliRunner().invoke(application(), [*arguments, *changes])
    assert result.exit_code == 0, result.output
    assert "yolo -> coco: 4 images, 12 regions" in result.output
    assert (tmp_path / "two" / "val.json").is_file()


@pytest.mark.parametrize("form", [form for form in FORMS if form != "coco"])
def test_a_folder_of_another_form_names_the_command(tmp_path: Path, form: str) -> None:
    from vlpart.data.folder import open_folder

    write_set([sample(tmp_path / "source")], tmp_path / "one", form)
    with pytest.raises(DataError, match=f"of the kind {form}: `vlpart data convert .*one --to coco"):
        open_folder(tmp_path / "one")
