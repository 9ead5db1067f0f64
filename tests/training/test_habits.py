"""What a training leaves behind and ends by: plan, pictures, callbacks, patience, negatives, what was held out."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from made_up import SIDE, small_recipe
from PIL import Image

from vlpart.errors import DataError
from vlpart.evaluation.session import open_held_out
from vlpart.recipes.tiny2 import FROZEN
from vlpart.runtime import World
from vlpart.training import memory
from vlpart.training.assemble import build_trainer, describe_run
from vlpart.training.callbacks import Callback
from vlpart.training.checkpoint import load_checkpoint
from vlpart.training.logging import read_log
from vlpart.training.loop import NO_IMPROVEMENT
from vlpart.training.memory import automatic_batch
from vlpart.training.plan import standard_callbacks
from vlpart.types import AnnotationKind, Batch, ImageBatch, Targets
from vlpart.visualize.training import draw_batch, draw_curves, nice_ticks
from vlpart.zoo.run_folder import open_run


def without_annotations(root, *image_ids):
    """Take the annotations of some images out of the file."""
    content = json.loads((root / "all.json").read_text())
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] not in image_ids]
    for image in content["images"]:
        if image["id"] in image_ids:
            image.pop("pos_category_ids")
    (root / "all.json").write_text(json.dumps(content))


class Notes(Callback):
    """Writes down what it is told."""

    def __init__(self, stop_at=None):
        self.told, self.stop_at = [], stop_at

    def on_start(self, trainer, recorder):
        self.told.append(("start", trainer.step))

    def on_batches(self, trainer, batches):
        self.told.append(("batches", trainer.step, len(batches), batches[0].source))

    def on_step(self, trainer, record):
        self.told.append(("step", trainer.step, record["step"]))
        if trainer.step == self.stop_at:
            trainer.ask_to_stop("enough")

    def on_evaluation(self, trainer, figures):
        self.told.append(("evaluation", trainer.step, figures["score"]))

    def on_checkpoint(self, trainer, path):
        self.told.append(("checkpoint", path.name))

    def on_end(self, trainer, result):
        self.told.append(("end", result.reason))


def started(recipe, output, scores=(), **options):
    """A trainer whose evaluations give these scores."""
    trainer, parts = build_trainer(recipe, output, workers=0, **options)
    given = iter(scores)
    if scores:
        trainer.evaluate = lambda model: {"score": next(given)}
    return trainer, parts


def test_callbacks_are_told_everything_in_order_and_may_stop(root, tmp_path):
    notes = Notes(stop_at=2)
    recipe = small_recipe(root, evaluate_every=1)
    trainer, _ = started(recipe, tmp_path / "run", [0.5, 0.4], callbacks=[notes])
    assert trainer.run().reason == "enough"
    assert notes.told == [
        ("start", 0),
        ("batches", 0, 1, "boxes"),
        ("step", 1, 1),
        ("evaluation", 1, 0.5),
        ("checkpoint", "step_00000001.pt"),
        ("batches", 1, 1, "boxes"),
        ("step", 2, 2),
        ("evaluation", 2, 0.4),
        ("checkpoint", "step_00000002.pt"),
        ("end", "enough"),
    ]


def test_pictures_leave_the_run_as_it_is(root, tmp_path):
    """Drawing uses no random numbers and changes no batch: the weights are the same, bit for bit."""
    plain, _ = started(small_recipe(root), tmp_path / "plain")
    plain.run()
    drawn, parts = started(small_recipe(root), tmp_path / "drawn")
    drawn.callbacks = tuple(standard_callbacks(small_recipe(root), parts, tmp_path / "drawn"))
    said = []
    drawn.run(say=said.append)
    for name, value in plain.model.state_dict().items():
        assert torch.equal(value, drawn.model.state_dict()[name]), name
    run = tmp_path / "drawn"
    assert sorted(path.name for path in run.glob("batch_*.jpg")) == ["batch_0.jpg", "batch_1.jpg", "batch_2.jpg"]
    with Image.open(run / "curves.png") as curves:
        assert curves.width > 1000 and len(curves.convert("RGB").getcolors(2**24)) > 20
    plan, *rest = read_log(run / "log.jsonl")
    assert (plan["event"], plan["step"]) == ("plan", 0)
    assert "steps: 4 of 2 images, 1.33 passes over 6 images" in "\n".join(plan["lines"])
    measured = [record for record in rest if record["event"] == "measured"]
    assert len(measured) == 1 and measured[0]["seconds_per_step"] > 0
    assert said[0].startswith("model: small") and any("s a step" in line for line in said)


def test_the_targets_are_where_the_picture_shows_them():
    """A bright square on a dark image: the sheet has colour on the square and none beside it."""
    pixels = torch.full((1, 3, 96, 128), -1.5)
    masks = torch.zeros((1, 64, 100), dtype=torch.bool)
    masks[0, 20:40, 30:60] = True
    targets = Targets(
        boxes_xyxy=torch.tensor([[30.0, 20.0, 60.0, 40.0]]),
        labels=torch.tensor([1]),
        masks=masks,
        image_labels=torch.zeros(0, dtype=torch.long),
    )
    batch = Batch(
        images=ImageBatch(pixels=pixels, sizes_hw=[(64, 100)]),
        targets=[targets],
        source="s",
        kind=AnnotationKind.PARTS,
        paths=["folder/x.jpg"],
    )
    from vlpart.text.vocabulary import Vocabulary

    sheet = np.asarray(draw_batch(batch, Vocabulary.parse("car: wheel"))).astype(int)
    scale = 640 / 100  # the padding to 96 x 128 is not drawn
    assert sheet.shape[1] == 640 + 24
    inside = sheet[12 + int(38 * scale) : 12 + int(39 * scale), 12 + int(40 * scale) : 12 + int(50 * scale)]
    beside = sheet[12 + int(55 * scale) : 12 + int(60 * scale), 12 + int(80 * scale) : 12 + int(90 * scale)]
    background = np.array([36, 31, 17])  # -1.5 deviations below the mean colour
    assert np.abs(beside - background).max() <= 1
    assert np.abs(inside - background).max(axis=-1).min() > 30


def test_images_without_targets_are_drawn_with_what_is_known_of_them():
    empty = Targets(
        boxes_xyxy=torch.zeros((0, 4)),
        labels=torch.zeros(0, dtype=torch.long),
        masks=torch.zeros((0, 32, 32), dtype=torch.bool),
        image_labels=torch.tensor([0]),
    )
    batch = Batch(
        images=ImageBatch(pixels=torch.zeros((1, 3, 32, 32)), sizes_hw=[(32, 32)]),
        targets=[empty],
        source="s",
        kind=AnnotationKind.IMAGE_LABELS,
    )
    from vlpart.text.vocabulary import Vocabulary

    assert draw_batch(batch, Vocabulary.parse("car")).size == (640 + 24, 640 + 26 + 24)


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(0, 1.0, [0, 0.2, 0.4, 0.6, 0.8, 1.0]), (0, 75.6, [0, 20, 40, 60, 80]), (0, 0, [0, 0.2, 0.4, 0.6, 0.8, 1.0])],
)
def test_ticks_are_round_and_enclose(low, high, ticks):
    assert nice_ticks(low, high) == pytest.approx(ticks)


def test_curves_of_a_log_with_holes():
    """Figures that are not finite, a source without one of the losses, an evaluation without a figure."""
    records = [
        {"step": 1, "event": "step", "loss": 2.0, "losses": {"a": 1.0, "b": 1.0}, "lr": 1e-4},
        {"step": 2, "event": "step", "loss": float("nan"), "losses": {"a": float("nan")}, "lr": 1e-4},
        {"step": 2, "event": "evaluation", "score": float("nan")},
        {"step": 3, "event": "step", "loss": 1.0, "losses": {"a": 1.0}, "lr": 1e-4},
    ]
    assert draw_curves(records, "x").size[0] > 1000


def test_patience_ends_the_run_and_a_resumed_one_remembers(root, tmp_path):
    recipe = small_recipe(root, iterations=9, evaluate_every=1, patience=2)
    trainer, parts = started(recipe, tmp_path / "run", [0.3, 0.5, 0.4, float("nan"), 0.9])
    describe_run(recipe, parts, tmp_path / "run")
    result = trainer.run()
    assert (result.reason, result.step, trainer.best) == (NO_IMPROVEMENT, 4, 0.5)
    best = load_checkpoint(tmp_path / "run" / "checkpoints" / "best.pt")
    assert best["step"] == 2
    assert open_run(tmp_path / "run").weights.name == "best.pt"
    again, _ = started(recipe, tmp_path / "run", [0.9])
    assert again.resume() == 4
    assert (again.run().reason, again.step) == (NO_IMPROVEMENT, 4)
    longer, _ = started(recipe.changed(patience=4), tmp_path / "run", [0.1, 0.6, 0.1, 0.1, 0.1])
    longer.resume()
    assert (longer.run().reason, longer.step, longer.best) == ("finished", 9, 0.6)


def test_negatives_train_and_teach_that_nothing_is_there(root, tmp_path):
    from dataclasses import replace

    without_annotations(root, 1, 2, 3, 4)
    recipe = small_recipe(root, iterations=3)
    without, _ = started(recipe, tmp_path / "without")
    recipe = recipe.changed(sources=(replace(recipe.sources[0], filter_empty=False),))
    trainer, parts = started(recipe, tmp_path / "with")
    assert len(parts.sources[0]) == 6 and without.loader._sampler._sizes == [2]
    trainer.run()
    records = read_log(tmp_path / "with" / "log.jsonl")
    assert all(np.isfinite(record["loss"]) for record in records)
    empty = next(b for b in iter(parts.loader) if not any(len(t.labels) for t in b.targets))
    losses = parts.compute(empty)
    assert all(bool(value.isfinite()) for value in losses.values())
    assert losses["rpn_objectness"].item() > 0 and losses["box"].item() == 0


def test_from_options_to_the_figures_of_what_was_held_out(command, root, tmp_path, tiny_weights):
    without_annotations(root, 2)
    quick = ("--batch", 2, "--workers", 0, "--device", "cpu", "--log-to", "csv")
    options = ("--epochs", 1, "--image-size", 64, "--freeze", "backbone", "--negatives", "--patience", 3)
    given = ("--set", "losses.roi_regions=16", "--set", "evaluate_every=2")
    code, out, err = command("train", "finetune", "--data", root, *quick, *options, *given)
    assert code == 0, err
    run = tmp_path / "runs" / "finetune"
    recipe = json.loads((run / "recipe.json").read_text())
    assert (recipe["iterations"], recipe["image_size"], recipe["frozen"]) == (2, [64, 81], [*FROZEN, "backbone."])
    assert (recipe["losses"]["roi_regions"], recipe["evaluate_every"], recipe["patience"]) == (16, 2, 3)
    assert "passes over 5 images" in err and (run / "batch_0.jpg").is_file() and (run / "curves.png").is_file()

    import vlpart

    predictor = vlpart.load(str(run), device="cpu")
    assert min(predictor.read(np.zeros((SIDE, 2 * SIDE, 3), dtype=np.uint8)).resized.shape[:2]) == 41  # 81 wide
    assert min(predictor.read(np.zeros((SIDE, SIDE, 3), dtype=np.uint8)).resized.shape[:2]) == 64

    code, out, err = command("evaluate", run, "--on", "held-out", "--quick", "--no-progress")
    assert code == 0 and ": 1 images, 3 annotations" in out, out + err
    held = {image["file_name"] for image in open_held_out(run).truth["images"]}
    trained = {name for name in (f"{i}.jpg" for i in range(1, 7)) if name not in held}
    assert len(held) == 1 and len(trained) == 5
    code, _, err = command("evaluate", run, "--on", "held-out:carz", "--quick")
    assert code == 1 and "no evaluation set 'carz'" in err
    (root / "all.json").rename(root / "gone.json")
    with pytest.raises(DataError, match="was evaluated on, is not there"):
        open_held_out(run)


def test_wrong_options_are_told_before_anything_is_written(command, root, tmp_path):
    for arguments, code, said in (
        (("--batch", "many"), 2, "--batch-size is a number of images or auto"),
        (("--batch", "0"), 2, "--batch-size is a number of images or auto"),
        (("--epochs", 1, "--iterations", 2), 2, "not both"),
        (("--epochs", 0), 1, "above 0"),
        (("--set", "learning_rat=1"), 1, "did you mean learning_rate"),
        (("--freeze", "backbon", "--iterations", 1, "--workers", 0), 1, "did you mean backbone"),
    ):
        ended, _, err = command("train", "finetune", "--data", root, *arguments, "--device", "cpu")
        assert ended == code and said in " ".join(err.replace("│", " ").split()), err
    assert not (tmp_path / "runs" / "finetune").exists()


def test_an_automatic_batch_fits_the_memory(root, monkeypatch):
    """On a CPU the batch of the recipe, or fewer where an image takes more than there is."""
    recipe = small_recipe(root)
    assert automatic_batch(recipe, World())[0].sources[0].batch_size == 2
    peaks = iter((3 * 2**30, 5 * 2**30))
    monkeypatch.setattr(memory, "peak_memory", lambda: next(peaks))
    monkeypatch.setattr(memory, "available_memory", lambda: 3.5 * 2**30)
    chosen, said = automatic_batch(recipe, World())
    assert chosen.sources[0].batch_size == 1
    assert said.startswith("batch: 1 images (1,024 MiB each, 3.5 GiB of memory free on cpu")
