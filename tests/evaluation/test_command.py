"""`vlpart evaluate` from end to end: given detections, a real network, files, variants of the vocabulary, errors."""

from __future__ import annotations

import json
import shutil
import sys

import pytest

from vlpart.evaluation.dataset import open_dataset
from vlpart.evaluation.run import Options, predict


def figures_of(output):
    return json.loads((output / "scores.json").read_text())


def test_given_detections(command, data, perfect, tmp_path):
    output = tmp_path / "out"
    code, out, err = command("evaluate", "--predictions", perfect, "--on", "car_parts", "--data", data, "-o", output)
    assert (code, err) == (0, "")
    assert "found.json on Car Parts val: 4 images, 12 annotations, 11 detections, rule: COCO; percent" in out
    assert "parts\t2\t87.6\t87.6\t87.6\t87.6\t87.6\t87.6" in out  # one door of four is missing: 76 of 101 recalls
    assert "headline: parts AP 87.6, parts AP50 87.6, objects AP50 100.0" in out
    assert "parts in the right object: AP 87.6, AP50 87.6 (2 classes)" in out
    assert "part IoU, all pixels: mIoU 87.5" in out
    assert "best 100: 91.7" in out
    scores = figures_of(output)
    assert scores["benchmark"] == "car_parts" and scores["rule"] == "coco"
    assert scores["headline"]["parts AP"] == pytest.approx(0.876, abs=1e-3)
    assert scores["masks"]["per_class"]["car:wheel"]["ap"] == 1.0
    assert scores["part_iou"]["per_class"]["car:door"] == pytest.approx(0.75)
    assert sorted(path.name for path in output.iterdir()) == ["report.html", "scores.json"]
    page = (output / "report.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 8  # four images, twice


def test_options_of_the_protocol(command, data, perfect):
    file = data / "car_parts" / "val.json"
    base = ("evaluate", "--predictions", perfect, "--on", file, "--quick")
    assert "rule: annotated classes only" in command(*base, "--annotated-classes-only")[1]
    out = command(*base, "--max-images", 2, "--per-class")[1]
    assert "2 images" in out and "car:door\t1\t100.0" in out
    assert "pairs" not in out and "mIoU" not in out
    assert "all\t3\t33.3" in command(*base, "--max-detections", 1, "--annotated-classes-only")[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--on", "car_parts"), "where is car_parts?"),
        (("--on", "voc", "--data", "."), "vlpart data prepare voc"),
        (("--on", "nothing.json"), "cannot read nothing.json"),
        (("--on", "nothing"), "a .json file, or a folder"),
    ],
)
def test_errors_are_one_line(command, perfect, arguments, message):
    code, out, err = command("evaluate", "--predictions", perfect, *arguments)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert message in err


def test_a_model_or_predictions(command, data, perfect):
    for arguments in ((), ("tiny", "--predictions", perfect)):
        code, _, err = command("evaluate", *arguments, "--on", "car_parts", "--data", data)
        assert code == 2 and "not both" in err


def test_bad_detections_name_their_place(command, data, perfect):
    found = json.loads(perfect.read_text())
    found[3]["score"] = "high"
    perfect.write_text(json.dumps(found))
    code, _, err = command("evaluate", "--predictions", perfect, "--on", "car_parts", "--data", data)
    assert code == 1 and "detection 3: score 'high' is not a finite number" in err


def test_a_real_network_is_resumed(command, data, random_weights, tmp_path):
    """Predictions with a network, its proposals, other words and distractors; a second run reads them all."""
    output = tmp_path / "out"
    options = ("--weights", random_weights, "--device", "cpu", "--threshold", 0.1, "--short-side", 96, "-o", output)
    variants = ("--paraphrase", "default", "--distractors", 5, "--proposals")
    line = ("evaluate", "tiny", "--on", "car_parts", "--data", data, *options, *variants)
    code, out, err = command(*line)
    assert (code, err) == (0, "")
    assert "class-agnostic recall of proposals" in out
    assert "paraphrased (3 of 3 names in other words): parts AP" in out
    assert "distractors (5 names added that are not in the data): parts AP" in out
    written = sorted(path.relative_to(output).as_posix() for path in output.rglob("*") if path.is_file())
    folders = ("predictions", "predictions-distractors", "predictions-paraphrased")
    assert written == sorted(
        [f"{folder}/{name}" for folder in folders for name in ("00000.jsonl", "run.json")]
        + ["predictions.json", "report.html", "scores.json"]
    )
    shard = (output / "predictions" / "00000.jsonl").stat()
    assert len(json.loads((output / "predictions.json").read_text())) > 20
    scores = figures_of(output)
    assert [variant["name"] for variant in scores["vocabulary_variants"]] == ["paraphrased", "distractors"]
    assert command(*line)[1] == out
    assert (output / "predictions" / "00000.jsonl").stat().st_mtime_ns == shard.st_mtime_ns
    given = command("evaluate", "--predictions", output / "predictions.json", "--on", "car_parts", "--data", data)[1]
    assert [row for row in given.splitlines() if row.startswith("all")] == [
        row for row in out.splitlines() if row.startswith("all")
    ]
    code, _, err = command(*line[:-1], "--threshold", 0.2)
    assert code == 1 and "another" in err and "score_threshold" in err


def test_other_weights_are_not_taken_for_these(data, random_weights, tmp_path):
    from vlpart.errors import EvaluationError
    from vlpart.inference.predictor import load

    predictor = load("tiny", weights=random_weights, device="cpu")
    file = data / "car_parts" / "val.json"
    dataset = open_dataset(file, file.parent / "images", max_images=1)
    options = Options(score_threshold=0.1, output=tmp_path / "run")
    assert predict(predictor, dataset, options).detections
    next(predictor.detector.parameters()).data.add_(1)
    with pytest.raises(EvaluationError, match="another weights"):
        predict(predictor, dataset, options)


@pytest.mark.parametrize(
    ("entry", "message"), [(7, "detection 1 is no JSON object: 7"), ({"image_id": [1]}, "detection 1: has no category")]
)
def test_entries_that_are_no_detections_are_one_line(command, data, perfect, entry, message):
    found = json.loads(perfect.read_text())[:2]
    perfect.write_text(json.dumps([found[0], entry]))
    file = data / "car_parts" / "val.json"
    code, out, err = command("evaluate", "--predictions", perfect, "--on", file, "--max-images", 3)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert message in err and "unexpected" not in err


@pytest.mark.parametrize("line", [("evaluate", "tiny", "--on", "car_parts"), ("zoo", "table")])
def test_an_unknown_precision_is_wrong_usage(command, line):
    code, _, err = command(*line, "--precision", "fp16")
    assert code == 2 and "'float32', 'bf16'" in err


def test_a_missing_metric_library_is_told_before_anything_is_predicted(
    command, data, random_weights, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "hotcoco", None)
    output = tmp_path / "out"
    options = ("--weights", random_weights, "--device", "cpu", "-o", output)
    code, _, err = command("evaluate", "tiny", "--on", "car_parts", "--data", data, *options)
    assert code == 1 and err.count("\n") == 1 and "pip install hotcoco" in err
    assert not output.exists()


def test_detections_without_masks(command, data, perfect, tmp_path):
    found = json.loads(perfect.read_text())
    perfect.write_text(json.dumps([{k: v for k, v in each.items() if k != "segmentation"} for each in found]))
    line = ("evaluate", "--predictions", perfect, "--on", "car_parts", "--data", data, "-o", tmp_path / "out")
    code, _, err = command(*line)
    assert code == 1 and "detection 0: has no segmentation: add --boxes" in err
    code, out, err = command(*line, "--boxes", "--against", perfect)
    assert (code, err) == (0, "")
    assert "parts\t2\t-\t-\t-\t87.6\t87.6\t87.6" in out
    assert "headline: box parts AP 87.6, box parts AP50 87.6, box objects AP50 100.0" in out
    assert figures_of(tmp_path / "out")["masks"] is None


def test_a_model_on_boxes_only(command, data, random_weights, tmp_path):
    line = ("evaluate", "tiny", "--on", data / "car_parts", "--weights", random_weights, "--device", "cpu")
    options = ("--max-images", 1, "--quick", "--threshold", 0.1, "-o", tmp_path / "out")
    code, out, _ = command(*line, *options, "--boxes")
    assert code == 0 and "headline: box AP" in out
    assert "segmentation" not in (tmp_path / "out" / "predictions.json").read_text()
    code, _, err = command(*line, *options)  # its shards hold no masks
    assert code == 1 and "another boxes" in err


def test_images_of_ones_own_data_are_found(command, data, perfect, random_weights, tmp_path):
    """A file or a folder; the images in `images/`, beside the file, or nowhere."""
    model = ("evaluate", "tiny", "--weights", random_weights, "--device", "cpu", "--quick", "--max-images", 1)
    folder = data / "car_parts"
    for on in (folder, folder / "val.json"):
        code, out, err = command(*model, "--on", on)
        assert code == 0 and "1 images" in out, err
    split = tmp_path / "roboflow" / "valid"
    shutil.copytree(folder / "images", split)
    shutil.copy(folder / "val.json", split / "_annotations.coco.json")
    assert command(*model, "--on", split.parent)[0] == 0
    alone = tmp_path / "alone" / "mine.json"
    alone.parent.mkdir()
    shutil.copy(folder / "val.json", alone)
    code, _, err = command(*model, "--on", alone)
    assert code == 1 and f"the images of {alone} are not beside it" in err and "--images" in err
    assert command(*model, "--on", alone, "--images", folder / "images")[0] == 0
    code, _, err = command(*model, "--on", alone.parent)
    assert code == 1 and "has no val split" in err
    assert command("evaluate", "--predictions", perfect, "--on", alone)[0] == 0  # needs none


def test_detections_need_no_images(command, data, perfect):
    shutil.rmtree(data / "car_parts" / "images")
    assert command("evaluate", "--predictions", perfect, "--on", "car_parts", "--data", data)[0] == 0
