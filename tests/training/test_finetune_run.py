"""Your own data in three commands, in small; and a teacher that survives a stop."""

from __future__ import annotations

import json

import pytest
import torch
from killable import fingerprint
from made_up import NAMES, small_recipe

import vlpart
from vlpart.errors import TrainingError
from vlpart.text.vocabulary import Vocabulary
from vlpart.training.assemble import build_trainer, describe_run, joined
from vlpart.training.checkpoint import export_weights, load_checkpoint, weights_of
from vlpart.training.dry_run import dry_run
from vlpart.training.initial_weights import initial_model
from vlpart.training.recipe import check_same_recipe
from vlpart.zoo.run_folder import open_run
from vlpart.zoo.weights import load_state_dict


def test_three_commands(command, root, tmp_path, tiny_weights):
    assert command("data", "check", root)[0] == 0
    quick = (
        "--iterations",
        2,
        "--batch-size",
        1,
        "--image-size",
        96,
        "--workers",
        0,
        "--device",
        "cpu",
        "--log-to",
        "csv",
    )
    code, out, err = command("train", "finetune", "--data", root, *quick)
    assert (code, "weights: runs/finetune/weights.safetensors" in out) == (0, True), err
    assert "1 of 6 images are held out for evaluation" in err
    run = tmp_path / "runs" / "finetune"
    assert Vocabulary.load(run / "vocabulary.json").names == tuple(NAMES)
    assert len(Vocabulary.load(run / "known_vocabulary.json")) == len(NAMES) + len(Vocabulary.load("tiny"))
    events = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert "distillation" in events[1]["losses"] and events[-1]["event"] == "evaluation"

    photo = root / "images" / "1.jpg"
    code, out, err = command("predict", photo, "--model", run, "-o", "out", "--threshold", 0, "--max-detections", 3)
    assert code == 0, err
    found = json.loads((tmp_path / "out" / "1_parts.json").read_text())
    assert {each["name"] for each in found["detections"]} <= set(NAMES)
    predictor = vlpart.load(str(run), device="cpu")
    assert (predictor.name, predictor.vocabulary.names) == ("finetune", tuple(NAMES))
    assert predictor(str(photo), vocabulary="person: head", score_threshold=0.0).vocabulary.names[0] == "person"
    code, out, err = command("evaluate", run, "--on", root / "all.json", "--images", root / "images", "--quick")
    assert code == 0 and "6 images" in out, err
    again = initial_model(str(run))  # what a next fine-tuning holds: the names of this one, too
    assert again.vocabulary == str(run / "known_vocabulary.json")


def test_one_clear_line_for_folders_that_cannot_be_used(command, root, tmp_path):
    for arguments, said in (
        (("train", "finetune", "--data", tmp_path / "none"), "there is no folder"),
        (("train", "finetune", "--data", root, "--init", "imagenet"), "goes on from a detector"),
        (("train", "tiny", "--data", root, "--validation-split", 0.1), "--validation-split is for finetune"),
        (("predict", root / "images" / "1.jpg", "--model", root), "not the folder of a run"),
        (("predict", root / "images" / "1.jpg", "--model", "runs/none"), "no folder or weight file"),
    ):
        code, _, err = command(*arguments)
        assert code == 1 and err.startswith("error: ") and said in err and len(err.splitlines()) == 1, err


def started(recipe, output):
    """A trainer as `vlpart train` makes it."""
    trainer, parts = build_trainer(recipe, output, workers=0)
    trainer.resume()
    describe_run(recipe, parts, output)
    return trainer, parts


def test_a_teacher_resumes_bit_by_bit(root, tmp_path):
    options = {"teacher_loss_weight": 1.0, "teacher_vocabulary": "tiny", "teacher_names": 9, "initial_share": 0.5}
    recipe = small_recipe(
        root, architecture="tiny", iterations=3, **options
    )  # whose weights are known by their tensors
    whole, _ = started(recipe, tmp_path / "whole")
    whole.run()
    stopped, parts = started(recipe, tmp_path / "parts")
    first = {name: value.clone() for name, value in parts.initial.items()}
    stopped.run(time_limit=0.0)
    other = recipe.changed(init="tiny")  # what --init names may have changed: the run has its own copy
    resumed, parts = started(other, tmp_path / "parts")
    assert resumed.step == 1
    assert all(torch.equal(first[name], value) for name, value in parts.initial.items())
    result = resumed.run()
    assert fingerprint(resumed) == fingerprint(whole)

    path = export_weights(result.checkpoint, tmp_path / "w.safetensors", torch.float32, initial=parts.initial)
    trained = weights_of(load_checkpoint(result.checkpoint), use_ema=True)
    name = "roi_heads.stages.0.fc1.weight"
    torch.testing.assert_close(load_state_dict(path)[name], (trained[name] + first[name]) / 2)
    with pytest.raises(TrainingError, match=r"takes 0\.5 of the first weights"):
        export_weights(result.checkpoint, tmp_path / "w.safetensors")
    state = vlpart.load(str(tmp_path / "parts"), device="cpu").detector.state_dict()  # not exported yet
    torch.testing.assert_close(state[name], (trained[name] + first[name]) / 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"teacher_loss_weight": 1.0}, "teacher_vocabulary"),
        ({"teacher_loss_weight": 1.0, "teacher_vocabulary": "tiny", "init": "imagenet"}, "first weights of a detector"),
        ({"initial_share": 0.2, "init": "imagenet"}, "first weights of a detector"),
        ({"initial_share": 1.0}, "initial_share < 1"),
        ({"teacher_names": 0}, "teacher_names >= 1"),
    ],
)
def test_recipes_that_cannot_remember(tmp_path, options, message):
    with pytest.raises(TrainingError, match=message):
        small_recipe(tmp_path, **options)


def test_vocabularies_are_joined_by_name():
    both = joined((Vocabulary.parse("car: wheel"), Vocabulary.parse("Car; dog")), "both")
    assert (both.names, both.ids) == (("car", "car:wheel", "dog"), (1, 2, 3))


def test_what_is_held_is_said_and_kept_with_the_run(command, root, tmp_path, tiny_weights):
    listed = tmp_path / "held.json"
    names = ["dog", "lamp", "chair:leg", "face:nose"]
    listed.write_text(json.dumps(names))
    options = {"teacher_loss_weight": 1.0, "teacher_vocabulary": str(listed), "teacher_names": 2}
    recipe = small_recipe(root, architecture="tiny", iterations=2, evaluate_on=(), **options)
    assert dry_run(recipe, steps=2, workers=0).teacher == "teacher: 4 names of 4 are held, 2 a batch"
    trainer, parts = started(recipe, tmp_path / "run")
    trainer.run(time_limit=0.0)
    listed.write_text(json.dumps(["cat"]))  # the run that it was started from has gone on
    resumed, parts = started(recipe, tmp_path / "run")
    assert parts.held.names == tuple(names) and resumed.step == 1
    known = Vocabulary.load(tmp_path / "run" / "known_vocabulary.json").names
    assert known == (*NAMES, *names)


@pytest.mark.parametrize(
    "options", [{"teacher_loss_weight": 0.5}, {"teacher_names": 3}, {"initial_share": 0.1}], ids=lambda each: min(each)
)
def test_a_resumed_run_keeps_its_teacher_and_its_share(root, tmp_path, options):
    recipe = small_recipe(root, iterations=2, evaluate_on=(), teacher_loss_weight=1.0, teacher_vocabulary="tiny")
    saved = recipe.to_dict()
    with pytest.raises(TrainingError, match=next(iter(options))):
        check_same_recipe(recipe.changed(**options), saved)
    assert check_same_recipe(recipe.changed(init="tiny"), saved) == ["init"]
    old = small_recipe(root).to_dict()  # of a version without teachers
    for name in ("teacher_loss_weight", "teacher_names", "teacher_vocabulary", "initial_share"):
        del old[name]
    assert check_same_recipe(small_recipe(root), old) == []
    with pytest.raises(TrainingError, match="initial_share=0.0"):
        check_same_recipe(small_recipe(root, initial_share=0.5), old)


def test_going_on_with_a_finished_run(command, root, tmp_path, tiny_weights):
    quick = ("--batch-size", 1, "--image-size", 64, "--workers", 0, "--device", "cpu", "--log-to", "csv")
    quick += ("--validation-split", 0)
    train = ("train", "finetune", "--data", root, *quick, "--iterations")
    code, _, err = command(*train, 1)
    assert code == 0 and "teacher: " in err and "389 are held, 64 a batch" in err, err
    assert command(*train, 1, "--resume")[0] == 0  # nothing to do
    first = (tmp_path / "runs" / "finetune" / "weights.safetensors").read_bytes()
    code, _, err = command(*train, 3, "--resume", "--time-limit", 0)
    assert "other than in the run so far: iterations" in err and "weights_00000001.safetensors" in err, err
    run = open_run(tmp_path / "runs" / "finetune")
    assert run.weights.name == "step_00000002.pt"  # not the old weights
    assert (run.folder / "weights_00000001.safetensors").read_bytes() == first
    code, _, err = command(*train, 3, "--resume", "--keep", 0.5)
    assert code == 1 and "initial_share=0.3" in err and "0.5" in err, err
