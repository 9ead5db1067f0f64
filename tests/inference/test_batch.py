"""The streaming, skipping and stopping of a batch, with a predictor that needs no model."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.fakes import FakePredictor, files_of, read_labels, size_of
from vlpart.data.images import ReadImage
from vlpart.errors import ImageError, OutputError, SelectionError, VlpartError, VocabularyError
from vlpart.files import write_file
from vlpart.inference import output as batch_writer
from vlpart.inference.batch import Summary, predict_to_folder
from vlpart.inference.output import ResultWriter
from vlpart.results.result import Result
from vlpart.text.vocabulary import Vocabulary


def make_images(folder: Path, *names: str, size: tuple[int, int] = (40, 30)) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        Image.new("RGB", size, (number * 9 % 256, 80, 120)).save(folder / name)
    return [folder / name for name in names]


def test_every_format_of_one_photo(photo: Path, tmp_path: Path) -> None:
    reports = []
    summary = predict_to_folder(
        FakePredictor(),
        photo,
        output=tmp_path / "out",
        formats=("image", "json", "labels", "coco"),
        on_result=reports.append,
    )
    assert files_of(tmp_path / "out") == ["coco.json", "photo_labels.png", "photo_parts.jpg", "photo_parts.json"]
    assert isinstance(summary, Summary)
    assert (summary.finished, summary.failed, summary.detections) == (1, 0, 2)
    assert summary.coco == tmp_path / "out" / "coco.json"
    assert [path.name for path in reports[0].files] == ["photo_parts.jpg", "photo_parts.json", "photo_labels.png"]
    width, height = size_of(tmp_path / "out" / "photo_parts.jpg")
    assert width * 90 == height * 120
    saved = Result.from_dict(json.loads((tmp_path / "out" / "photo_parts.json").read_text()))
    assert (saved.names, saved.path) == (["car", "car:wheel"], str(photo))
    labels = read_labels(tmp_path / "out" / "photo_labels.png")
    assert (labels[0, 0], labels[20, 20], labels[5, 5]) == (0, 1, 2)


def test_the_coco_file_is_read_by_pycocotools(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from pycocotools.coco import COCO

    images = make_images(tmp_path / "in", "a.png", "b.png", "c.png")
    predict_to_folder(FakePredictor(), images, output=tmp_path / "out", formats=["coco"])
    coco = COCO(str(tmp_path / "out" / "coco.json"))
    assert [image["file_name"] for image in coco.loadImgs(coco.getImgIds())] == ["a.png", "b.png", "c.png"]
    assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == ["car", "car:wheel"]
    wheel = coco.loadAnns(coco.getAnnIds(imgIds=[2], catIds=[2]))[0]
    assert (wheel["bbox"], wheel["area"], wheel["score"], wheel["iscrowd"]) == ([4, 4, 5, 4], 20, 0.5, 0)
    assert coco.annToMask(wheel).sum() == 20


def test_labels_for_other_tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_images(tmp_path / "in" / "deep", "a.png")
    make_images(tmp_path / "in", "b.png", "b.jpg")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to("disk", target_is_directory=True)
    predict_to_folder(FakePredictor(), "in", output="out", formats=["labelme", "yolo"], recursive=True)
    stems = {"b": "b.jpg", "b-2": "b.png", "deep/a": "deep/a.png"}
    files = [f"labelme/{stem}.json" for stem in stems] + [f"labels/{stem}.txt" for stem in stems]
    links = [f"images/{stem}{Path(image).suffix}" for stem, image in stems.items()]
    assert files_of(tmp_path / "disk") == sorted(["data.yaml", *files, *links])
    for stem, image in stems.items():
        path = tmp_path / "out" / "labelme" / f"{stem}.json"
        assert (path.parent / json.loads(path.read_text())["imagePath"]).samefile(tmp_path / "in" / image)
        assert len((tmp_path / "out" / "labels" / f"{stem}.txt").read_text().splitlines()) == 2
    assert (tmp_path / "out" / "data.yaml").read_text().endswith('names:\n  0: "car"\n  1: "car:wheel"\n')


def test_yolo_labels_of_two_vocabularies_do_not_mix(photo: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict_to_folder(FakePredictor(), photo, output=out, formats=["yolo"])
    labels = (out / "labels" / "photo.txt").read_bytes()
    predict_to_folder(FakePredictor(), photo, output=out, formats=["yolo"])
    (out / "data.yaml").write_text('names:\n  0: "dog"\n')
    with pytest.raises(OutputError, match=r"data\.yaml names other classes.*choose another folder with --output"):
        predict_to_folder(FakePredictor(), photo, output=out, formats=["yolo"])
    assert (out / "labels" / "photo.txt").read_bytes() == labels


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_a_file_name_that_is_not_unicode(tmp_path: Path) -> None:
    image = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png"))
    Image.new("RGB", (40, 30)).save(image)
    predict_to_folder(FakePredictor(), image, output=tmp_path / "out", formats=["json", "coco"])
    (written,) = (tmp_path / "out").glob("*_parts.json")
    assert Result.from_dict(json.loads(written.read_text(encoding="utf-8"))).path == str(image)
    assert json.loads((tmp_path / "out" / "coco.json").read_text())["images"][0]["file_name"] == image.name


def test_broken_images_are_skipped_in_their_place(tmp_path: Path) -> None:
    make_images(tmp_path / "in", "a.png", "c.png")
    (tmp_path / "in" / "b.jpg").write_bytes(b"not an image")
    (tmp_path / "in" / "d.jpg").write_bytes((tmp_path / "in" / "a.png").read_bytes()[:60])
    seen: list[str] = []
    summary = predict_to_folder(
        FakePredictor(),
        [tmp_path / "in", tmp_path / "missing.jpg"],
        output=tmp_path / "out",
        formats=["json"],
        batch_size=3,
        on_result=lambda report: seen.append(Path(report.image).name),
        on_failure=lambda image, error: seen.append(f"{Path(image).name}: {type(error).__name__}"),
    )
    assert seen == ["a.png", "b.jpg: ImageError", "c.png", "d.jpg: ImageError", "missing.jpg: ImageError"]
    assert (summary.finished, summary.failed) == (2, 3)
    assert files_of(tmp_path / "out") == ["in/a_parts.json", "in/c_parts.json"]


def test_an_image_that_the_predictor_refuses_does_not_take_its_batch_along(tmp_path: Path) -> None:
    images = make_images(tmp_path, "a.png", "c.png") + make_images(tmp_path, "b.png", size=(40, 1))
    failed: list[str] = []
    summary = predict_to_folder(
        FakePredictor(),
        sorted(images),
        output=tmp_path / "out",
        formats=["json"],
        batch_size=3,
        on_failure=lambda image, error: failed.append(f"{Path(image).name}: {error}"),
    )
    assert (summary.finished, failed) == (2, ["b.png: too flat"])


def test_memory_does_not_grow_with_the_number_of_images(tmp_path: Path) -> None:
    make_images(tmp_path / "in", *(f"{i:02}.png" for i in range(40)))
    predictor = FakePredictor()
    summary = predict_to_folder(predictor, tmp_path / "in", output=tmp_path / "out", formats=["coco"], batch_size=2)
    assert summary.finished == 40
    assert predictor.batches == [2] * 20
    assert predictor.most_alive <= 5  # this batch, and what the loop still holds of the one before


def test_an_interrupt_keeps_what_is_finished(tmp_path: Path) -> None:
    make_images(tmp_path / "in", *(f"{i}.png" for i in range(9)))
    with pytest.raises(KeyboardInterrupt):
        predict_to_folder(
            FakePredictor(interrupt_at=4), tmp_path / "in", output=tmp_path / "out", formats=["json", "coco"]
        )
    assert files_of(tmp_path / "out") == ["0_parts.json", "1_parts.json", "2_parts.json", "3_parts.json", "coco.json"]
    data = json.loads((tmp_path / "out" / "coco.json").read_text())
    assert [image["file_name"] for image in data["images"]] == ["0.png", "1.png", "2.png", "3.png"]
    assert len(data["annotations"]) == 8


@pytest.mark.parametrize("times", [1, 2])
def test_an_interrupt_between_the_files_of_an_image_waits_for_them_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    def write_and_interrupt(path: Path, data: bytes) -> Path:
        for _ in range(times if path.name == "a_parts.json" else 0):
            signal.raise_signal(signal.SIGINT)
        return write_file(path, data)

    monkeypatch.setattr(batch_writer, "write_file", write_and_interrupt)
    images, reports = make_images(tmp_path / "in", "a.png", "b.png"), []
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        predict_to_folder(
            FakePredictor(), images, output=out, formats=["json", "labels", "coco"], on_result=reports.append
        )
    finished = ["a_labels.png", "a_parts.json", "coco.json"] if times == 1 else []
    assert files_of(out) == finished
    assert len(reports) == (1 if finished else 0)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_reader_thread_ends_with_the_run(tmp_path: Path) -> None:
    make_images(tmp_path / "in", *(f"{i}.png" for i in range(9)))
    with pytest.raises(KeyboardInterrupt):
        predict_to_folder(FakePredictor(interrupt_at=0), tmp_path / "in", output=tmp_path / "out")
    for thread in threading.enumerate():
        if thread.name == "vlpart-reader":
            thread.join(timeout=5)
            assert not thread.is_alive()


def test_an_earlier_coco_file_does_not_outlive_a_run_without_images(tmp_path: Path) -> None:
    good, empty = make_images(tmp_path / "in", "good.png")[0], tmp_path / "in" / "empty.jpg"
    empty.touch()
    options: dict[str, Any] = {"output": tmp_path / "out", "formats": ["coco"]}
    assert predict_to_folder(FakePredictor(), good, **options).coco is not None
    assert predict_to_folder(FakePredictor(), empty, **options).coco is None
    assert files_of(tmp_path / "out") == []
    predict_to_folder(FakePredictor(), good, **options)
    with pytest.raises(KeyboardInterrupt):
        predict_to_folder(FakePredictor(interrupt_at=0), good, **options)
    assert files_of(tmp_path / "out") == []


def test_an_earlier_coco_file_stays_where_a_run_could_not_begin_or_it_is_a_source(tmp_path: Path) -> None:
    class Refusing(FakePredictor):
        def detect(self, images: Sequence[ReadImage], **options: Any) -> list[Result]:
            raise VocabularyError("does not fit")

    good = make_images(tmp_path / "in", "good.png")[0]
    options: dict[str, Any] = {"output": tmp_path / "out", "formats": ["coco"]}
    predict_to_folder(FakePredictor(), good, **options)
    with pytest.raises(VocabularyError):
        predict_to_folder(Refusing(), good, **options)
    predict_to_folder(FakePredictor(), tmp_path / "out" / "coco.json", **options)  # not an image
    assert files_of(tmp_path / "out") == ["coco.json"]


def test_what_is_finished_can_be_left_out(tmp_path: Path) -> None:
    make_images(tmp_path / "in", *(f"{i}.png" for i in range(5)))
    (tmp_path / "in" / "1.jpg").write_bytes(b"not an image")  # names its results 1, and 1.png's are 1-2, in every run
    options: dict[str, Any] = {"output": tmp_path / "out", "formats": ["json", "image"], "skip_existing": True}
    with pytest.raises(KeyboardInterrupt):
        predict_to_folder(FakePredictor(interrupt_at=3), tmp_path / "in", **options)
    assert files_of(tmp_path / "out") == [
        *("0_parts.jpg", "0_parts.json", "1-2_parts.jpg", "1-2_parts.json", "2_parts.jpg", "2_parts.json")
    ]
    (tmp_path / "out" / "2_parts.json").unlink()  # not all there: done again
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    existing: list[str] = []
    summary = predict_to_folder(
        FakePredictor(), tmp_path / "in", **options, on_existing=lambda image: existing.append(Path(image).name)
    )
    assert (summary.finished, summary.failed, summary.existing, existing) == (3, 1, 2, ["0.png", "1.png"])
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    assert len(after) == 10
    assert sorted(path.name for path in before if after[path] == before[path]) == [
        *("0_parts.jpg", "0_parts.json", "1-2_parts.jpg", "1-2_parts.json")
    ]


def test_what_is_finished_is_not_left_out_of_one_file_for_all(photo: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="--skip-existing"):
        predict_to_folder(FakePredictor(), photo, output=tmp_path / "out", formats=["json", "coco"], skip_existing=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("size", ["a", 0, -1, 1.5, None])
def test_a_batch_size_that_is_none(photo: Path, tmp_path: Path, size: Any) -> None:
    with pytest.raises(ValueError, match="batch_size must be a whole number"):
        predict_to_folder(FakePredictor(), photo, output=tmp_path / "out", batch_size=size)


@pytest.mark.parametrize("sources", [None, "", [np.zeros((4, 4, 3), dtype=np.uint8)]])
def test_sources_that_are_none(tmp_path: Path, sources: Any) -> None:
    with pytest.raises(ImageError, match="source"):
        predict_to_folder(FakePredictor(), sources, output=tmp_path / "out")


def test_names_of_every_length_and_beginning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_images(tmp_path, "~backup.png", "n" * 250 + ".png")
    failed: list[str] = []
    summary = predict_to_folder(
        FakePredictor(),
        ["~backup.png", "n" * 250 + ".png", "n" * 300 + ".png"],
        output="~results",
        on_failure=lambda image, error: failed.append(str(error)),
    )
    assert summary.finished == 2
    assert failed == ["no such image: " + "n" * 300 + ".png"]
    assert (tmp_path / "~results" / "~backup_parts.json").is_file()


def test_results_beside_the_photo_leave_it_alone(photo: Path) -> None:
    before = photo.read_bytes()
    for _ in range(2):  # the second run replaces the results of the first
        predict_to_folder(FakePredictor(), photo, output=photo.parent)
    assert photo.read_bytes() == before
    assert files_of(photo.parent) == ["photo.jpg", "photo_parts.jpg", "photo_parts.json"]


def test_a_source_that_has_the_name_of_a_result_is_not_overwritten(tmp_path: Path) -> None:
    first, second = make_images(tmp_path, "a.jpg", "a_parts.jpg")
    before = second.read_bytes()
    failed: list[str] = []
    summary = predict_to_folder(
        FakePredictor(),
        [first, second],
        output=tmp_path,
        formats=["image"],
        on_failure=lambda image, error: failed.append(f"{Path(image).name}: {error}"),
    )
    assert second.read_bytes() == before
    assert (summary.finished, summary.failed) == (1, 1)
    assert failed[0].startswith("a.jpg: its result")


def test_a_second_run_over_a_folder_does_not_predict_its_own_results(tmp_path: Path) -> None:
    make_images(tmp_path, "a.jpg", "b.jpg")
    for _ in range(2):
        summary = predict_to_folder(FakePredictor(), tmp_path, output=tmp_path / "out", recursive=True)
    assert summary.finished == 2
    assert files_of(tmp_path / "out") == ["a_parts.jpg", "a_parts.json", "b_parts.jpg", "b_parts.json"]


def test_the_source_folder_as_output_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    make_images(tmp_path, "a.jpg")
    predictor = FakePredictor()
    with pytest.raises(OutputError, match="--output"):
        predict_to_folder(predictor, tmp_path, output=tmp_path)
    assert (predictor.calls, files_of(tmp_path)) == ([], ["a.jpg"])


def test_an_output_that_is_a_file_is_refused(photo: Path) -> None:
    with pytest.raises(OutputError, match="it is a file"):
        predict_to_folder(FakePredictor(), photo, output=photo)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="permissions do not bind the superuser")
def test_a_folder_without_write_permission_is_refused(photo: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir(mode=0o500)
    with pytest.raises(OutputError, match="Permission denied"):
        predict_to_folder(FakePredictor(), photo, output=tmp_path / "out")


def test_a_full_disk_stops_the_run_with_the_finished_images_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_images(tmp_path / "in", "a.png", "b.png", "c.png")
    write_bytes = Path.write_bytes

    def full_after_the_first(path: Path, data: bytes) -> int:
        if path.name.startswith(".b"):
            raise OSError(28, "No space left on device")
        return write_bytes(path, data)

    monkeypatch.setattr(Path, "write_bytes", full_after_the_first)
    with pytest.raises(OutputError, match="No space left"):
        predict_to_folder(FakePredictor(), tmp_path / "in", output=tmp_path / "out", formats=["json", "coco"])
    assert files_of(tmp_path / "out") == ["a_parts.json", "coco.json"]


def test_an_error_that_is_no_image_ends_the_run(photo: Path, tmp_path: Path) -> None:
    class Refusing(FakePredictor):
        def detect(self, images: Sequence[ReadImage], **options: Any) -> list[Result]:
            raise VocabularyError("does not fit")

    with pytest.raises(VocabularyError, match="does not fit"):
        predict_to_folder(Refusing(), photo, output=tmp_path / "out")
    assert files_of(tmp_path / "out") == []


def test_options_reach_the_predictor_and_the_reader(photo: Path, tmp_path: Path) -> None:
    predictor = FakePredictor()
    asked: dict[str, Any] = {"vocabulary": Vocabulary.parse("car: wheel"), "score_threshold": 0.25, "max_detections": 7}
    sizes: dict[str, Any] = {"short_side": 320, "max_side": 640}
    predict_to_folder(predictor, photo, output=tmp_path / "out", formats=["json"], **asked, **sizes)
    assert (predictor.calls, predictor.sizes) == ([asked], [sizes])
    failed: list[VlpartError] = []
    predict_to_folder(
        predictor, photo, output=tmp_path / "out", max_pixels=100, on_failure=lambda image, error: failed.append(error)
    )
    assert "--max-pixels" in str(failed[0])


@pytest.mark.parametrize("formats", [[], ["svg"], "images"])
def test_unknown_formats_are_refused(photo: Path, tmp_path: Path, formats: Any) -> None:
    with pytest.raises(OutputError, match="choose from image, json, jsonl, coco"):
        predict_to_folder(FakePredictor(), photo, output=tmp_path / "out", formats=formats)
    assert not (tmp_path / "out").exists()


def test_a_source_without_images_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no images in the folder"):
        predict_to_folder(FakePredictor(), tmp_path, output=tmp_path / "out")


def test_pieces_of_every_detection_and_none_of_an_earlier_run(photo: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out" / "cutouts" / "photo"
    folder.mkdir(parents=True)
    (folder / "003_dog.png").write_bytes(b"earlier")
    (folder / "notes.png").write_bytes(b"somebody's own")
    predict_to_folder(FakePredictor(), photo, output=tmp_path / "out", formats=["cutouts", "crops"])
    assert files_of(folder) == ["001_car.png", "002_car_wheel.png", "notes.png"]
    with Image.open(folder / "002_car_wheel.png") as wheel:
        assert (wheel.mode, wheel.size) == ("RGBA", (5, 4))
        alpha = np.asarray(wheel)[:, :, 3]
    assert alpha[1:-1, 1:-1].min() == 255
    width, height = size_of(tmp_path / "out" / "crops" / "photo" / "002_car_wheel.jpg")
    assert (width, height) == (7, 6)  # a tenth of the longer side more, on whole pixels
    with pytest.raises(OutputError, match="crops of an image are there"):
        predict_to_folder(FakePredictor(), photo, output=tmp_path / "out", formats=["crops"], skip_existing=True)


def test_no_picture_is_taken_for_a_piece(tmp_path: Path) -> None:
    """Photos whose names begin with digits, as COCO's do: `000000000540_parts.jpg` looks like a crop."""
    photos = [tmp_path / "crops" / f"{number:012}.jpg" for number in (540, 575)]
    photos[0].parent.mkdir()
    for photo in photos:
        Image.new("RGB", (40, 30)).save(photo)
    earlier = tmp_path / "out" / "007_holiday.jpg"
    earlier.parent.mkdir()
    earlier.write_bytes(b"somebody's own")
    pieces = tmp_path / "out" / "crops" / photos[0].stem
    pieces.mkdir(parents=True)
    (pieces / "009_dog.jpg").write_bytes(b"earlier")
    for formats in (["image"], ["image", "crops"]):
        assert predict_to_folder(FakePredictor(), photos, output=tmp_path / "out", formats=formats).finished == 2
        pictures = [f"{photo.stem}_parts.jpg" for photo in photos]
        assert sorted(path.name for path in (tmp_path / "out").glob("*.jpg")) == [*pictures, earlier.name]
    assert files_of(pieces) == ["001_car.jpg", "002_car_wheel.jpg"]


def test_a_phrase_selects_and_an_image_without_it_is_skipped(tmp_path: Path) -> None:
    images = [tmp_path / "a.png", tmp_path / "b.png"]
    for image in images:
        Image.new("RGB", (40, 30)).save(image)
    options = {"output": tmp_path / "out", "formats": ["json"]}
    failed: list[str] = []
    summary = predict_to_folder(
        FakePredictor(), images, select="second car", on_failure=lambda image, e: failed.append(str(e)), **options
    )
    assert (summary.finished, summary.failed) == (0, 2)
    assert failed[0].startswith("no such thing as 'second car': there is only 1; the image has 1 car, 1 car:wheel")
    assert predict_to_folder(FakePredictor(), images, select="wheel of the car", **options).finished == 2
    assert json.loads((tmp_path / "out" / "a_parts.json").read_text())["detections"][0]["name"] == "car:wheel"
    with pytest.raises(SelectionError, match="'tyre' is no name"):
        predict_to_folder(FakePredictor(), images, select="tyre", **options)


def test_files_are_made_while_the_next_image_is_predicted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In another thread; they are written, and reported, in order, by the thread of the caller."""
    predicting = [threading.Event() for _ in range(3)]
    encoders, writers, reported = set(), set(), []

    class Predictor(FakePredictor):
        def detect(self, images: Sequence[ReadImage], *args: Any, **options: Any) -> list[Result]:
            predicting[int(Path(images[0].path or "").stem)].set()
            return super().detect(images, *args, **options)

    encode, write = ResultWriter.encode, ResultWriter.write

    def encoded(self: ResultWriter, stem: str, result: Result) -> dict[Path, bytes]:
        encoders.add(threading.current_thread())
        following = predicting[min(int(stem) + 1, 2)]
        assert following.wait(timeout=60)  # were the files made first, this would be for ever
        return encode(self, stem, result)

    def written(self: ResultWriter, *args: Any) -> None:
        writers.add(threading.current_thread())
        write(self, *args)

    monkeypatch.setattr(ResultWriter, "encode", encoded)
    monkeypatch.setattr(ResultWriter, "write", written)
    images = make_images(tmp_path / "in", "0.png", "1.png", "2.png")
    predict_to_folder(
        Predictor(),
        images,
        output=tmp_path / "out",
        formats=["json", "coco"],
        on_result=lambda report: reported.append(Path(report.image).name),
    )
    assert reported == ["0.png", "1.png", "2.png"]
    assert writers == {threading.current_thread()}
    assert len(encoders) == 1
    assert not encoders & writers
    assert not any(thread.is_alive() for thread in encoders)


def test_a_result_does_not_wait_for_an_image_that_comes_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reported = threading.Event()
    read = FakePredictor.read

    def late(self: FakePredictor, image: Any, **options: Any) -> ReadImage:
        if Path(image).name == "b.png":
            assert reported.wait(timeout=60)
        return read(self, image, **options)

    monkeypatch.setattr(FakePredictor, "read", late)
    images = make_images(tmp_path / "in", "a.png", "b.png")
    summary = predict_to_folder(
        FakePredictor(), images, output=tmp_path / "out", formats=["json"], on_result=lambda report: reported.set()
    )
    assert summary.finished == 2
