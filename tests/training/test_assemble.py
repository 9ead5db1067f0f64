"""The real parts together on a small made-up data set: small detector, embedded text, real losses and loader."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from killable import fingerprint
from made_up import boxes_source, small_recipe

from vlpart.errors import DataError
from vlpart.losses.by_kind import compute_losses
from vlpart.text.vocabulary import Vocabulary
from vlpart.training.assemble import (
    assemble,
    build_trainer,
    check_files,
    class_frequencies,
    embed,
)
from vlpart.training.dry_run import SourceRow, dry_run
from vlpart.training.recipe import EvaluationSet


def test_the_real_run_resumes_bit_by_bit(root, tmp_path):
    recipe = small_recipe(root, precision="bf16")
    whole, _ = build_trainer(recipe, tmp_path / "whole", workers=0)
    assert whole.run().step == 4
    for _ in range(2):  # one step, then the rest; with a worker process this time
        part, _ = build_trainer(recipe, tmp_path / "parts", workers=1)
        part.resume()
        part.run(time_limit=0.0 if part.step == 0 else None)
    assert part.step == 4
    assert fingerprint(part) == fingerprint(whole)


def test_the_losses_fall(root, tmp_path):
    recipe = small_recipe(root, frozen=(), iterations=24, log_every=24, learning_rate=3e-3)
    trainer, parts = build_trainer(recipe, tmp_path / "run", workers=0)
    trainer.run()
    records = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert set(records[0]["losses"]) == {"rpn_objectness", "rpn_box", "classification", "box", "mask"}
    first, last = (np.mean([r["loss"] for r in part]) for part in (records[:5], records[-5:]))
    assert last < 0.7 * first
    assert tuple(parts.text["boxes"].shape) == (3, 128)


def test_dry_run(root, tmp_path):
    report = dry_run(small_recipe(root), steps=2, workers=0)
    said = "boxes: 6 images, 18 annotations"
    assert report.sources == (
        SourceRow(name="boxes", kind="part", images=6, annotations=18, classes=3, ratio=1.0, batch_size=2, report=said),
    )
    assert report.images_per_step == 2
    assert 0 < report.trained <= report.parameters
    assert report.hours == pytest.approx(report.seconds_per_step * 4 / 3600)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data"]


def test_federated_sources_have_sampling_weights(root, monkeypatch):
    seen = []

    def recorded(*arguments, frequencies, **options):
        seen.append(frequencies)
        return compute_losses(*arguments, frequencies=frequencies, **options)

    monkeypatch.setattr("vlpart.training.assemble.compute_losses", recorded)
    for federated in (False, True):
        parts = assemble(small_recipe(root, sources=(boxes_source(root, federated=federated),)), workers=0)
        assert parts.compute(next(iter(parts.loader)))["classification"].isfinite()
    assert seen[0] is None
    torch.testing.assert_close(seen[1], torch.full((3,), math.sqrt(6)))


@pytest.mark.parametrize(("vocabulary", "key"), [("lvis_v1", "lvis"), ("paco", "paco")])
def test_published_counts_make_the_published_weights(shared, vocabulary, key):
    loaded = SimpleNamespace(source=SimpleNamespace(federated=True), vocabulary=Vocabulary.load(vocabulary))
    with np.load(shared / "parity" / "fed_loss_unit.npz") as expected:
        published = torch.from_numpy(expected[f"{key}_freq_weight"])
    torch.testing.assert_close(class_frequencies(loaded), published[: len(loaded.vocabulary)], rtol=1e-6, atol=1e-6)


def test_parts_of_objects_as_prompts():
    class Phrases:
        name, dim = "phrases", 2

        def encode(self, phrases):
            self.seen = list(phrases)
            return np.ones((len(phrases), 2), dtype=np.float32)

    encoder = Phrases()
    vocabulary = Vocabulary.parse("Car: Wheel, side mirror; dog")
    assert embed(encoder, vocabulary, "part_of_object").shape == (len(vocabulary), 2)
    assert {"wheel of a car", "side mirror of a car", "dog"} <= set(encoder.seen)


def test_all_missing_files_are_named(tmp_path):
    sources = tuple(boxes_source(tmp_path / name, name=name) for name in ("a", "b"))
    with pytest.raises(DataError, match=r"a/all\.json.*a/images.*b/all\.json.*--data"):
        check_files(sources)


def test_periodic_evaluation_on_the_real_predictor(root, tmp_path):
    pytest.importorskip("vlpart.inference.predictor")
    recipe = small_recipe(root, architecture="tiny", image_size=(64, 96), evaluate_every=2)
    said: list[str] = []
    trainer, _ = build_trainer(recipe, tmp_path / "run", workers=0)
    trainer.run(say=said.append)
    events = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    scored = [event for event in events if event["event"] == "evaluation"]
    assert [event["step"] for event in scored] == [2, 4]
    assert {"boxes/AP", "boxes/AP50", "boxes/parts_AP50", "score"} <= set(scored[0])
    assert any("evaluation at step 2" in line for line in said)
    assert not (tmp_path / "run" / "evaluated.safetensors").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"bbox": [1, 2, 3]},
            r"evaluation set 'val': .*val\.json: annotation 1 has the box \[1, 2, 3\]; expected",
        ),
        ({"category_id": 77}, r"val\.json: annotation 1 has the category id 77, which is not among"),
        ({"segmentation": {"size": [96, 96], "counts": "?"}}, r"val\.json: annotation 1 of .*RLE counts do not add up"),
    ],
)
def test_evaluation_sets_are_checked_before_the_first_step(root, tmp_path, change, message):
    content = json.loads((root / "all.json").read_text())
    content["annotations"][0] |= change
    (root / "val.json").write_text(json.dumps(content))
    val = EvaluationSet(name="val", annotations=root / "val.json", images=root / "images")
    recipe = small_recipe(root, evaluate_every=2, evaluate_on=(val,))
    with pytest.raises(DataError, match=message):
        build_trainer(recipe, tmp_path / "run", workers=0)
    with pytest.raises(DataError, match=message):
        dry_run(recipe, steps=2, workers=0)
    build_trainer(small_recipe(root, evaluate_on=(val,)), tmp_path / "run", workers=0)  # never evaluated


def test_missing_images_of_an_evaluation_set_are_found_before_the_first_step(root, tmp_path):
    val = EvaluationSet(name="val", annotations=root / "all.json", images=root)
    with pytest.raises(DataError, match=r"all\.json: missing image .*1\.jpg"):
        build_trainer(small_recipe(root, evaluate_every=2, evaluate_on=(val,)), tmp_path / "run", workers=0)
