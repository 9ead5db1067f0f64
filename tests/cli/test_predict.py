"""The predict command around a predictor that needs no model, and end to end with the embedded one."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.conftest import Run
from tests.fakes import FakePredictor, files_of, read_labels, size_of
from vlpart.data.images import ReadImage
from vlpart.results.result import Result
from vlpart.text.vocabulary import Vocabulary
from vlpart.zoo.resolve import ResolvedModel, resolve


def test_a_photo(run: Run, fake_predictor: FakePredictor, photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(photo.parent)
    outcome = run("predict", "photo.jpg")
    assert (outcome.code, outcome.err) == (0, "")
    lines = outcome.out.splitlines()
    assert lines[0].startswith("photo.jpg 120x90: 1 car (1 wheel) -> ")
    assert lines[1].startswith("1 image in ")
    assert lines[1].endswith("results in vlpart-results")
    assert files_of(photo.parent / "vlpart-results") == ["photo_parts.jpg", "photo_parts.json"]


def test_where_nothing_is_found_a_lower_threshold_is_named(run: Run, tmp_path: Path) -> None:
    Image.new("RGB", (96, 64), "grey").save(tmp_path / "grey.png")
    empty, out = tmp_path / "grey.png", tmp_path / "out"
    outcome = run("predict", empty, "-o", out)
    assert "grey.png 96x64: nothing found -> " in outcome.out
    note = "note: nothing over 0.5 in the image: --threshold 0.3 finds more, and more that is wrong\n"
    assert (outcome.code, outcome.err) == (0, note)
    outcome = run("predict", empty, "-o", out, "--vocabulary", "car")
    assert "note: nothing over 0.42 in the image: --threshold 0.2 finds" in outcome.err, outcome.err
    outcome = run("predict", empty, "-o", out, "--threshold", "0.5")  # who sets it knows it
    assert (outcome.code, outcome.err) == (0, "")


def test_options_are_passed_on(run: Run, fake_predictor: FakePredictor, photo: Path, tmp_path: Path) -> None:
    (tmp_path / "w.pth").touch()
    outcome = run(
        *("predict", photo, "-o", tmp_path / "out", "--model", "r50_pascalpart", "--weights", tmp_path / "w.pth"),
        *("--vocabulary", "dog: head", "--threshold", "0.25", "--short-side", "320", "--max-side", "640"),
        *("--max-detections", "7", "--device", "cpu", "--precision", "float32", "--format", "json,coco"),
        *("--format", "labels", "--batch", "4", "--no-progress"),
    )
    assert outcome.code == 0, outcome.err
    model = resolve("r50_pascalpart", tmp_path / "w.pth")
    assert fake_predictor.loaded == ((model,), {"device": "cpu", "precision": "float32"})
    asked = {"vocabulary": Vocabulary.parse("dog: head"), "score_threshold": 0.25, "max_detections": 7}
    assert (fake_predictor.calls, fake_predictor.sizes) == ([asked], [{"short_side": 320, "max_side": 640}])
    assert files_of(tmp_path / "out") == ["coco.json", "photo_labels.png", "photo_parts.json"]


def test_a_phrase_selects(run: Run, fake_predictor: FakePredictor, photo: Path, tmp_path: Path) -> None:
    outcome = run("predict", photo, "-o", tmp_path / "out", "--select", "left wheel of the car")
    assert "photo.jpg 120x90: without their object: 1 car:wheel -> " in outcome.out
    outcome = run("predict", photo, "-o", tmp_path / "out", "--select", "the car")
    assert "photo.jpg 120x90: 1 car (1 wheel) -> " in outcome.out
    outcome = run("predict", photo, "-o", tmp_path / "out", "--select", "third car")
    assert (outcome.code, outcome.err.count("\n")) == (1, 1)
    assert "no such thing as 'third car': there is only 1; the image has 1 car, 1 car:wheel" in outcome.err


def test_weights_are_fetched_unless_a_file_is_given(
    run: Run, fake_predictor: FakePredictor, photo: Path, tmp_path: Path
) -> None:
    own = tmp_path / "own.pth"
    own.touch()
    assert run("predict", photo, "-o", tmp_path / "out", "--model", own).code == 0
    assert run("predict", photo, "-o", tmp_path / "out", "--model", "r50_voc", "--weights", own).code == 0
    assert fake_predictor.fetched == []
    assert run("predict", photo, "-o", tmp_path / "out", "--model", "r50_voc").code == 0
    assert fake_predictor.fetched == ["r50_voc"]


def test_weights_alone_say_which_model_they_are(
    run: Run, fake_predictor: FakePredictor, photo: Path, tmp_path: Path
) -> None:
    weights = tmp_path / "r50_pascalpart.pth"
    weights.touch()
    assert run("predict", photo, "-o", tmp_path / "out", "--weights", weights).code == 0
    assert fake_predictor.loaded is not None
    assert fake_predictor.loaded[0] == (ResolvedModel(file=weights),)
    assert fake_predictor.fetched == []
    assert run("predict", photo, "-o", tmp_path / "out").code == 0
    assert fake_predictor.fetched == ["tiny"]


def test_what_is_finished_can_be_left_out(run: Run, fake_predictor: FakePredictor, photo: Path, tmp_path: Path) -> None:
    again = ("predict", photo, "-o", tmp_path / "out", "--skip-existing")
    assert run(*again).out.splitlines()[-1].startswith("1 image in ")
    outcome = run(*again)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith("0 images, 1 already there in ")
    assert len(fake_predictor.calls) == 1
    fake_predictor.loaded = None
    outcome = run(*again, "-f", "coco")
    assert (outcome.code, "leave out one of the two" in outcome.err) == (1, True)
    assert fake_predictor.loaded is None


@pytest.mark.parametrize(("arguments", "line"), [(["-o", "photo.jpg"], "photo.jpg: it is a file"), ([""], "is empty")])
def test_a_mistake_is_one_line_and_names_no_results(
    run: Run,
    fake_predictor: FakePredictor,
    photo: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    line: str,
) -> None:
    monkeypatch.chdir(photo.parent)
    outcome = run("predict", "photo.jpg", *arguments)
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err.startswith("error: ")
    assert line in outcome.err
    assert outcome.err.count("\n") == 1


def test_an_interrupt_before_the_first_result_names_none(
    run: Run, fake_predictor: FakePredictor, photo: Path, tmp_path: Path
) -> None:
    fake_predictor.interrupt_at = 0
    outcome = run("predict", photo, "-o", tmp_path / "out")
    assert (outcome.code, outcome.err) == (130, "interrupted: nothing finished\n")


def test_a_word_that_is_nearly_a_list_is_remarked_on(
    run: Run, fake_predictor: FakePredictor, photo: Path, tmp_path: Path
) -> None:
    outcome = run("predict", photo, "-o", tmp_path / "out", "-v", "lvis")
    assert outcome.code == 0
    assert "'lvis' is looked for as a word; there is also the list lvis_paco or lvis_v1" in outcome.err


@pytest.mark.parametrize("option", ["--model", "--weights", "--vocabulary"])
@pytest.mark.parametrize("name", ["n" * 300 + ".pth", "n" * 300 + ".txt", "n" * 300])
def test_names_that_no_file_system_holds(run: Run, photo: Path, tmp_path: Path, option: str, name: str) -> None:
    outcome = run("predict", photo, "-o", tmp_path / "out", option, name)
    assert outcome.code == 1
    assert outcome.err.startswith("error: ")
    assert "unexpected" not in outcome.err


def test_broken_files_are_one_line_each_and_exit_code_1(
    run: Run, fake_predictor: FakePredictor, photo: Path, tmp_path: Path
) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    outcome = run("predict", photo, tmp_path / "broken.jpg", tmp_path / "missing.jpg", "-o", tmp_path / "out")
    assert outcome.code == 1
    assert len(outcome.err.splitlines()) == 2
    assert all(line.startswith("skipped: ") for line in outcome.err.splitlines())
    assert outcome.out.splitlines()[-1].startswith("1 image, 2 skipped in ")


def test_the_pixel_limit_and_its_flag(run: Run, fake_predictor: FakePredictor, photo: Path, tmp_path: Path) -> None:
    refused = run("predict", photo, "-o", tmp_path / "out", "--max-pixels", "10000")
    assert (refused.code, "--max-pixels" in refused.err) == (1, True)
    assert run("predict", photo, "-o", tmp_path / "out", "--max-pixels", "0").code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "svg"], "choose from image, json, jsonl, coco"),
        (["--threshold", "1.5"], "--threshold"),
        (["--precision", "fp8"], "fp8"),
        (["--batch", "0"], "--batch"),
    ],
)
def test_wrong_values_are_wrong_usage(
    run: Run, fake_predictor: FakePredictor, photo: Path, arguments: list[str], message: str
) -> None:
    outcome = run("predict", photo, *arguments)
    assert (outcome.code, message in outcome.err) == (2, True)
    assert fake_predictor.loaded is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--vocabulary", "car: wheel: hub"], "more than one ':'"),
        (["--vocabulary", "words.txt"], "words.txt"),
        (["--model", "tinny"], "tiny"),
        (["nowhere/*.jpg"], "nowhere"),
    ],
)
def test_mistakes_are_told_before_the_model_is_loaded(
    run: Run, fake_predictor: FakePredictor, photo: Path, arguments: list[str], message: str
) -> None:
    outcome = run("predict", photo, *arguments)
    assert (outcome.code, message in outcome.err) == (1, True)
    assert outcome.err.count("\n") == 1
    assert fake_predictor.loaded is None


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_whole_files_and_says_what_is_finished(tmp_path: Path, number: int, code: int) -> None:
    """About two seconds: a real process is stopped in the middle of fifty images."""
    (tmp_path / "in").mkdir()
    for i in range(50):
        Image.new("RGB", (40, 30)).save(tmp_path / "in" / f"{i:02}.png")
    command = [sys.executable, str(Path(__file__).with_name("fake_vlpart.py")), "predict", "in", "-f", "json,coco"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(3):
            assert process.stdout.readline()
        os.kill(process.pid, number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == code
    finished = 3 + len(out.splitlines())
    reason = "interrupted" if number == signal.SIGINT else "stopped"
    assert err == f"{reason}: {finished} finished, results in vlpart-results\n"
    files = files_of(tmp_path / "vlpart-results")
    assert files == [*(f"{i:02}_parts.json" for i in range(finished)), "coco.json"]
    data = json.loads((tmp_path / "vlpart-results" / "coco.json").read_text())
    assert len(data["images"]) == finished < 50
    for name in files:
        json.loads((tmp_path / "vlpart-results" / name).read_text())


def test_end_to_end_with_the_embedded_model(run: Run, tiny_weights: Path, photo: Path, tmp_path: Path) -> None:
    outcome = run(
        *("predict", photo, "-o", tmp_path / "out", "--vocabulary", "car: wheel, door", "--threshold", "0.01"),
        *("-f", "image,json,coco,labels"),
    )
    assert outcome.code == 0, outcome.err
    assert files_of(tmp_path / "out") == ["coco.json", "photo_labels.png", "photo_parts.jpg", "photo_parts.json"]
    width, height = size_of(tmp_path / "out" / "photo_parts.jpg")
    assert width * 90 == height * 120
    labels = read_labels(tmp_path / "out" / "photo_labels.png")
    assert labels.shape == (90, 120)
    found = json.loads((tmp_path / "out" / "photo_parts.json").read_text())["detections"]
    assert {detection["name"] for detection in found} <= {"car", "car:wheel", "car:door"}
    assert len(json.loads((tmp_path / "out" / "coco.json").read_text())["annotations"]) == len(found)


def test_nested_detections_are_kept_only_when_asked_for(
    run: Run, fake_predictor: FakePredictor, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def twice(images: list[ReadImage], **options: object) -> list[Result]:
        return [
            Result(
                image_size=image.pixels.shape[:2],
                boxes_xyxy=[[0, 0, 40, 40], [5, 5, 30, 30]],
                scores=[0.9, 0.6],
                class_ids=[0, 0],
                vocabulary=Vocabulary.parse("car"),
                image=image.pixels,
            )
            for image in images
        ]

    monkeypatch.setattr(fake_predictor, "detect", twice)
    assert "1 car ->" in run("predict", photo, "-o", tmp_path / "a").out
    assert "2 car ->" in run("predict", photo, "-o", tmp_path / "b", "--keep-nested").out


def test_without_a_photo_it_says_so_and_offers_the_one_in_the_package(run: Run, fake_predictor: FakePredictor) -> None:
    outcome = run("predict")
    assert (outcome.code, outcome.out) == (2, "")
    assert "no image given" in outcome.err
    assert "vlpart predict sample" in " ".join(outcome.err.replace("│", " ").split())
    assert fake_predictor.loaded is None


def test_sample_is_the_photo_in_the_package_unless_there_is_a_file_of_that_name(
    run: Run, fake_predictor: FakePredictor, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photo.parent)
    outcome = run("predict", "sample")
    assert (outcome.code, outcome.err) == (0, "")
    assert (photo.parent / "vlpart-results" / "astronaut_parts.jpg").is_file()
    (photo.parent / "sample").mkdir()
    photo.rename(photo.parent / "sample" / "own.jpg")
    assert run("predict", "sample").code == 0
    assert (photo.parent / "vlpart-results" / "own_parts.jpg").is_file()


def test_lines_name_the_source_all_files_and_what_is_of_all_images(
    run: Run, fake_predictor: FakePredictor, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (40, 30)).save(tmp_path / folder / "x.png")
    lines = run(
        "predict", "a/x.png", "b/x.png", "-o", "out", "-f", "image,json,coco,yolo,crops,cutouts"
    ).out.splitlines()
    for line, folder in zip(lines, "ab", strict=False):
        assert line.startswith(f"{folder}/x.png 40x30: 1 car (1 wheel) -> out: ")
        files = line.partition(" -> out: ")[2].split(", ")
        of_all = [f"{folder}/x_parts.jpg", f"{folder}/x_parts.json", f"labels/{folder}/x.txt"]
        assert sorted(files) == sorted([*of_all, f"crops/{folder}/x/ (2)", f"cutouts/{folder}/x/ (2)"])
    assert lines[2].endswith("results in out, of all images in coco.json and data.yaml there")
    assert files_of(tmp_path / "out" / "crops" / "a" / "x") == ["001_car.jpg", "002_car_wheel.jpg"]


def test_the_threshold_follows_the_number_of_names(
    run: Run, fake_predictor: FakePredictor, photo: Path, tmp_path: Path
) -> None:
    for names in ("car", "car: wheel, door; dog: head, leg, tail; cat; bus; tie; fork"):
        assert run("predict", photo, "-o", tmp_path / "out", "-v", names).code == 0
    assert run("predict", photo, "-o", tmp_path / "out").code == 0
    assert [call["score_threshold"] for call in fake_predictor.calls] == [0.42, 0.45, 0.43]


def test_drawing_options_reach_the_picture(
    run: Run, fake_predictor: FakePredictor, photo: Path, tmp_path: Path
) -> None:
    pictures = set()
    for options in (
        [],
        ["--no-scores"],
        ["--no-labels"],
        ["--no-masks"],
        ["--boxes"],
        ["--line-width", "9"],
        ["--font-size", "40"],
    ):
        assert run("predict", photo, "-o", tmp_path / "out", "-f", "image", *options).code == 0
        pictures.add((tmp_path / "out" / "photo_parts.jpg").read_bytes())
    assert len(pictures) == 7
    colours = set()
    for scheme in ("object", "instance", "class"):
        assert run("predict", photo, "-o", tmp_path / "out", "-f", "image", "--colors", scheme).code == 0
        colours.add((tmp_path / "out" / "photo_parts.jpg").read_bytes())
    assert len(colours) >= 2


def test_one_region_gets_one_name_unless_asked_otherwise(
    run: Run, fake_predictor: FakePredictor, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def twice(images: list[np.ndarray], **options: object) -> list[Result]:
        return [
            Result(
                image_size=(90, 120),
                boxes_xyxy=[[0, 0, 40, 40], [0, 0, 40, 39]],
                scores=[0.9, 0.6],
                class_ids=[0, 1],
                vocabulary=Vocabulary.parse("dog; cat"),
                image=np.zeros((90, 120, 3), dtype=np.uint8),
            )
            for _ in images
        ]

    monkeypatch.setattr(fake_predictor, "detect", twice)
    assert ": 1 dog ->" in run("predict", photo, "-o", tmp_path / "a").out
    assert ": 1 dog, 1 cat ->" in run("predict", photo, "-o", tmp_path / "b", "--iou", "1").out


def test_the_device_help_says_what_is_chosen(run: Run) -> None:
    outcome = run("predict", "--help")
    assert "cuda where there is one, else cpu; mps only when asked for" in " ".join(
        outcome.out.replace("│", " ").split()
    )


def test_the_embedded_model_shows_no_download() -> None:
    from vlpart.zoo.resolve import resolve

    seen: list[object] = []
    assert resolve().fetch(lambda *step: seen.append(step)).is_file()
    assert seen == []


def test_a_pipe_gets_results_only(
    run: Run, fake_predictor: FakePredictor, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(photo.read_bytes())))
    outcome = run("predict", "-", photo, "-o", "-")
    assert outcome.code == 0
    results = [Result.from_dict(json.loads(line)) for line in outcome.out.splitlines()]
    assert [(result.path, result.names) for result in results] == [
        ("-", ["car", "car:wheel"]),
        (str(photo), ["car", "car:wheel"]),
    ]
    assert outcome.err.splitlines()[0] == "- 120x90: 1 car (1 wheel)"
    assert outcome.err.splitlines()[-1].startswith("2 images in ")


def test_a_photo_from_standard_input_has_a_name(
    run: Run, fake_predictor: FakePredictor, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(photo.read_bytes())))
    assert run("predict", "-", "-o", tmp_path / "out", "-f", "json,yolo").code == 0
    names = ["data.yaml", "images/stdin.png", "labels/stdin.txt", "stdin_parts.json"]
    assert files_of(tmp_path / "out") == names


def test_what_does_not_go_into_a_pipe(run: Run, fake_predictor: FakePredictor, photo: Path) -> None:
    outcome = run("predict", photo, "-o", "-", "-f", "coco")
    assert (outcome.code, outcome.out) == (1, "")
    assert "a pipe takes one of the formats jsonl, json, image, not coco" in outcome.err
    assert run("predict", photo, "--shard", "3/2").code == 2
    assert "1/8 to 8/8" in run("predict", photo, "--shard", "third").err


def test_a_share_of_the_images(run: Run, fake_predictor: FakePredictor, photo: Path, tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        (tmp_path / name).write_bytes(photo.read_bytes())
    outcome = run("predict", tmp_path, "-o", tmp_path / "out", "-f", "json,jsonl", "--shard", "2/3")
    assert outcome.out.splitlines()[-1].startswith("1 image in ")
    assert files_of(tmp_path / "out") == ["b_parts.json", "results_2_of_3.jsonl"]


def test_an_engine_needs_an_exported_file(run: Run, fake_predictor: FakePredictor, photo: Path) -> None:
    outcome = run("predict", photo, "--engine", "openvino")
    assert (outcome.code, fake_predictor.loaded) == (2, None)
    assert "vlpart export tiny" in " ".join(outcome.err.replace("│", " ").split())


def test_a_picture_through_a_pipe(photo: Path) -> None:
    command = [sys.executable, "-m", "vlpart", "predict", "-", "-o", "-", "-f", "image", "-v", "car"]
    done = subprocess.run(command, input=photo.read_bytes(), capture_output=True, timeout=120, check=True)
    with Image.open(io.BytesIO(done.stdout)) as image:
        assert (image.format, image.size) == ("JPEG", (640, 480))  # small photos are drawn larger
    assert b"1 image in" in done.stderr


def test_given_objects_and_an_exemplar(run: Run, tmp_path: Path, tiny_weights: Path) -> None:
    photo = tiny_weights.parents[1] / "samples" / "astronaut.jpg"
    objects = {
        "images": [{"id": 1, "file_name": "astronaut.jpg", "width": 512, "height": 512}],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [60, 0, 360, 511], "area": 9, "iscrowd": 0}],
    }
    (tmp_path / "objects.json").write_text(json.dumps(objects))
    outcome = run(
        *("predict", photo, "-o", tmp_path / "out", "-f", "json", "--objects", tmp_path / "objects.json"),
        *("--vocabulary", "person: nose, mouth", "--like", f"person:eye={photo}@237,100,255,108"),
    )
    assert (outcome.code, outcome.err) == (0, "")
    result = Result.load(tmp_path / "out" / "astronaut_parts.json")
    assert result.scores[0] == 1 and result.boxes_xyxy[0].tolist() == [60, 0, 420, 511]
    assert result.names.count("person:eye") >= 2 and result.loose_parts == []
    outcome = run("predict", photo, "-o", tmp_path / "out", "--like", "nothing.jpg")
    assert (outcome.code, outcome.out) == (1, "")
    assert "an exemplar is PHOTO@x0,y0,x1,y1" in outcome.err
    outcome = run("predict", photo, "-o", tmp_path / "out", "--objects", tmp_path / "none.json")
    assert outcome.code == 1 and "none.json" in outcome.err
