"""Every recipe of the paper, with its own model, losses and sampling, for two steps on stand-in data; Swin-B resumed,
evaluated on the six benchmarks, and inside the annotation parser. Images are small and weights random: what is shown is
that the whole path runs, not what it reaches.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.cli.conftest import Run
from tests.cli.conftest import run as run
from tests.training.miniature import write_miniature
from vlpart.data.source import Source
from vlpart.evaluation.benchmarks import BENCHMARKS
from vlpart.evaluation.dataset import open_dataset
from vlpart.evaluation.session import Request
from vlpart.evaluation.session import run as evaluate
from vlpart.inference.predictor import load
from vlpart.models.build import build_detector
from vlpart.recipes import get_recipe
from vlpart.recipes.datasets import DATASETS
from vlpart.recipes.parser import FINDS
from vlpart.recipes.published import PUBLISHED
from vlpart.runtime import World
from vlpart.training.assemble import assemble, build_trainer
from vlpart.training.checkpoint import save_weights
from vlpart.training.recipe import Recipe
from vlpart.training.step import Stepper
from vlpart.types import AnnotationKind

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]  # up to 40 s of CPU time each, on a busy machine much more

SWIN = "swinbase_cascade_lvis_paco_pascalpart_partimagenet"


class StandInEncoder:
    """In place of CLIP, whose weights are not here: a phrase is a direction that its hash decides."""

    name = "clip_rn50"
    dim = 1024
    fingerprint = "stand-in"

    def encode(self, phrases: Sequence[str]) -> np.ndarray:
        seeds = (int.from_bytes(hashlib.sha256(phrase.encode()).digest()[:8], "little") for phrase in phrases)
        rows = np.stack([np.random.default_rng(seed).normal(size=self.dim) for seed in seeds])
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(autouse=True)
def encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("vlpart.training.assemble", "vlpart.inference.predictor"):
        monkeypatch.setattr(f"{module}.get_text_encoder", lambda name: StandInEncoder())


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All data sets in miniature."""
    folder = tmp_path_factory.mktemp("datasets")
    for name in DATASETS:
        write_miniature(folder, name, images=2 if name.endswith("val") else 4)
    return folder


def small(source: Source) -> Source:
    """One image of a tenth of the published size; all else stays."""
    low, high = min(source.short_sides), max(source.short_sides)
    sides = (low // 10, high // 10) if source.short_side_sampling == "range" else (64, 72)
    return replace(source, short_sides=sides, max_side=source.max_side // 10, batch_size=1)


def small_recipe(name: str, root: Path) -> Recipe:
    """The recipe from random weights, with fewer regions, in a precision that a CPU computes."""
    recipe = get_recipe(name, root)
    return recipe.changed(
        init="none",
        precision="float32",
        warmup_iterations=1,
        losses=replace(recipe.losses, roi_regions=64),
        sources=tuple(map(small, recipe.sources)),
    )


def expected_losses(recipe: Recipe, kind: AnnotationKind) -> set[str]:
    """Names of the losses of one batch."""
    stages = [""] if recipe.architecture == "r50_mask_rcnn" else ["_0", "_1", "_2"]
    if kind is AnnotationKind.IMAGE_LABELS:
        return {f"image_label{stage}" for stage in stages}
    if kind is AnnotationKind.PARSED_PARTS:
        return {f"parsed_part{stage}" for stage in stages}
    names = {f"{loss}{stage}" for loss in ("classification", "box") for stage in stages}
    return {"rpn_objectness", "rpn_box", *names} | ({"mask"} if recipe.mask_on else set())


@pytest.mark.parametrize("name", PUBLISHED)
def test_two_steps(name: str, root: Path) -> None:
    recipe = small_recipe(name, root)
    parts = assemble(recipe, workers=0)
    kinds = {source.name: source.kind for source in recipe.sources}
    before = {key: float(value.detach().abs().sum()) for key, value in parts.detector.named_parameters()}
    stepper = Stepper(recipe, parts.detector, parts.compute, World())
    batches = iter(parts.loader)
    for _ in range(2):
        batch = next(batches)
        result = stepper([batch])
        assert result.finite
        found = set(result.losses)
        wanted = expected_losses(recipe, kinds[batch.source])
        if batch.kind is AnnotationKind.BOXES and batch.targets[0].masks is None:
            wanted -= {"mask"}  # VOC among several sources has boxes only
        assert found == wanted
        assert all(value >= 0 for value in result.losses.values())
    trained = {key for key, value in parts.detector.named_parameters() if value.requires_grad}
    changed = {
        key for key, value in parts.detector.named_parameters() if float(value.detach().abs().sum()) != before[key]
    }
    assert changed <= trained
    assert len(changed) > 0.9 * len(trained)  # the decay alone moves every parameter but zeros


def test_a_resumed_swin_run_is_the_same_run(root: Path, tmp_path: Path) -> None:
    recipe = small_recipe(f"{SWIN}_inparsed", root).changed(iterations=3, steps=(2,), checkpoint_every=2)
    whole, _ = build_trainer(recipe, tmp_path / "whole", workers=0)
    whole.run()
    expected = {key: value.clone() for key, value in whole.model.state_dict().items()}
    del whole
    first, _ = build_trainer(recipe.changed(iterations=2), tmp_path / "again", workers=0)
    first.run()
    del first
    second, _ = build_trainer(recipe, tmp_path / "again", workers=0)
    assert second.resume() == 2
    second.run()
    for key, value in second.model.state_dict().items():
        assert torch.equal(value, expected[key]), key


@pytest.fixture(scope="module")
def swin_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights under the name of a published checkpoint."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / f"{SWIN}.safetensors"
    save_weights(path, build_detector("swin_b_cascade").state_dict())
    return path


def test_golden_partimagenet_with_swin(run: Run, root: Path, swin_file: Path, tmp_path: Path) -> None:
    find = FINDS["golden_partimagenet_swinbase"]
    labels = json.loads((root / "imagenet/imagenet_golden_image_info.json").read_text())
    labels["categories"] = [{"id": 1, "name": "Quadruped"}]
    labels["images"] = [{**image, "pos_category_ids": [1]} for image in labels["images"][:1]]
    (root / find.labels).write_text(json.dumps(labels))
    weights = ("--model", swin_file)
    done = run("parse", "find", "--recipe", find.name, "--data", root, "--output", tmp_path / "x.json", *weights)
    assert done.code == 0
    assert done.out.endswith(f"parts in 1 images -> {tmp_path / 'x.json'}\n")


@pytest.mark.parametrize("name", ["voc", "coco", "lvis", "partimagenet", "pascal_part", "paco"])
def test_swin_on_the_benchmark(name: str, root: Path, swin_file: Path, tmp_path: Path) -> None:
    """With the size, threshold and number of detections of the benchmark."""
    benchmark = BENCHMARKS[name]
    file, images = benchmark.locate(root)
    request = Request(
        dataset=open_dataset(file, images, benchmark, max_images=1),
        title="Swin",
        predictor=load(swin_file, device="cpu"),
        output=tmp_path / "out",
    )
    outcome = evaluate(request)
    assert outcome is not None
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())
    settings = scores["settings"]
    assert (settings["short_side"], settings["max_side"]) == (800, 1333)
    assert settings["score_threshold"] == benchmark.score_threshold
    assert set(outcome.headline) == set(benchmark.headline)
    figures = [value for value in outcome.headline.values() if value == value]
    assert figures and all(0 <= value <= 1 for value in figures)
    found = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert len(found) <= benchmark.max_detections
