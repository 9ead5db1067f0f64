"""Predictions on disk: resumed after an interruption, shared by processes, merged exactly."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from vlpart.errors import EvaluationError
from vlpart.evaluation import shards
from vlpart.evaluation.detections import read_detections
from vlpart.evaluation.shards import ShardFolder
from vlpart.runtime import World, process_group

IMAGES = [{"id": 100 + i} for i in range(11)]
KEY = {"model": "tiny", "weights": "abc"}


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(shards, "IMAGES_PER_SHARD", 3)


def line(image):
    detections = [{"image_id": image["id"], "category_id": 1, "score": image["id"] / 1000 + k / 7} for k in range(2)]
    return {"image_id": image["id"], "detections": detections, "proposals": [[0, 0, 1, 1, 0.5]]}


class Counting:
    """Predicts, and stops like an interrupted process after so many images."""

    def __init__(self, stop_after=None):
        self.seen, self.stop_after = [], stop_after

    def __call__(self, image):
        if self.stop_after is not None and len(self.seen) == self.stop_after:
            raise KeyboardInterrupt
        self.seen.append(image["id"])
        return line(image)


def predictions_of(folder, group=None, predict=None):
    group = group or World()
    run = ShardFolder(folder, IMAGES, KEY)
    run.open(group)
    run.predict(predict or Counting(), group)
    return run.merge(group)


EXPECTED = [detection for image in IMAGES for detection in line(image)["detections"]]


@pytest.mark.parametrize("on_disk", [True, False])
def test_the_order_is_that_of_the_images(on_disk, tmp_path):
    found = predictions_of(tmp_path / "run" if on_disk else None)
    assert found.detections == EXPECTED
    assert list(found.proposals) == [image["id"] for image in IMAGES]
    if on_disk:
        assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
            *(f"{k:05d}.jsonl" for k in range(4)),
            "run.json",
        ]
        assert read_detections(tmp_path / "run") == EXPECTED


def test_an_interrupted_run_goes_on(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        predictions_of(tmp_path, predict=Counting(stop_after=7))
    assert sorted(path.name for path in tmp_path.glob("*.jsonl")) == ["00000.jsonl", "00001.jsonl"]
    again, told = Counting(), []
    run = ShardFolder(tmp_path, IMAGES, KEY)
    run.open(World())
    run.predict(again, World(), lambda done, total: told.append((done, total)))
    assert again.seen == [106, 107, 108, 109, 110]  # the half shard is done again
    assert run.merge(World()).detections == EXPECTED
    assert told[0] == (3, 11) and told[-1] == (11, 11)


@pytest.mark.parametrize("damage", ["", '{"image_id": 1}\n', "{", '{"image_id": 100, "detections": []}\n'])
def test_a_damaged_shard_is_done_again(damage, tmp_path):
    predictions_of(tmp_path)
    (tmp_path / "00001.jsonl").write_text(damage)
    again = Counting()
    assert predictions_of(tmp_path, predict=again).detections == EXPECTED
    assert again.seen == [103, 104, 105]


def test_predictions_of_another_run_are_refused(tmp_path):
    predictions_of(tmp_path)
    other = ShardFolder(tmp_path, IMAGES, {**KEY, "weights": "xyz"})
    with pytest.raises(EvaluationError, match="another weights"):
        other.open(World())
    (tmp_path / "run.json").unlink()
    with pytest.raises(EvaluationError, match=r"without run\.json"):
        ShardFolder(tmp_path, IMAGES, KEY).open(World())


class Rank(World):
    """One of several processes that take turns: waits for nobody, and hands over what the others left for it."""

    def wait(self):
        pass

    def from_main(self, value):
        return value

    def gather(self, value):
        return [value, *getattr(self, "left", [])]


def test_processes_share_a_folder(tmp_path):
    ranks = [Rank(rank=rank, size=3) for rank in range(3)]
    seen = []
    runs = [ShardFolder(tmp_path, IMAGES, KEY) for _ in ranks]
    for run, rank in zip(runs, ranks, strict=True):
        run.open(rank)
    for run, rank in zip(reversed(runs), reversed(ranks), strict=True):
        predict = Counting()
        run.predict(predict, rank)
        seen.append(predict.seen)
    assert sorted(image for images in seen for image in images) == [image["id"] for image in IMAGES]
    assert all(seen)
    assert ShardFolder(tmp_path, IMAGES, KEY).merge(ranks[0]).detections == EXPECTED
    assert ShardFolder(tmp_path, IMAGES, KEY).merge(ranks[1]) is None


def test_machines_with_disks_of_their_own_send_their_shards(tmp_path):
    first, second = Rank(rank=0, size=2), Rank(rank=1, size=2)
    folders = [tmp_path / "a", tmp_path / "b"]
    runs = [ShardFolder(folder, IMAGES, KEY) for folder in folders]
    for run, rank in zip(runs, (first, second), strict=True):
        run.open(rank)
        run.predict(Counting(), rank)
    assert all((folder / "run.json").exists() for folder in folders)
    with pytest.raises(EvaluationError, match="2 shards of predictions are missing"):
        runs[0].merge(first)
    object.__setattr__(first, "left", [{number: runs[1].read(number) for number in (1, 3)}])
    assert runs[0].merge(first).detections == EXPECTED
    assert read_detections(folders[0]) == EXPECTED  # what was sent is on this disk too now


def test_alone_there_is_no_group(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with process_group() as group:
        assert (group.rank, group.size) == (0, 1)
        group.wait()
        assert group.gather(group.from_main(5)) == [5]


WORKER = """
import json, os, sys
from pathlib import Path
from vlpart.runtime import process_group
from vlpart.evaluation.shards import ShardFolder
folder = Path(sys.argv[1]) / (os.environ["RANK"] if sys.argv[2] == "own" else "shared")
images = [{"id": i} for i in range(90)]
with process_group() as group:
    run = ShardFolder(folder, images, {"model": "m"})
    run.open(group)
    run.predict(lambda image: {"image_id": image["id"], "detections": [{"by": group.rank, "of": image["id"]}]}, group)
    merged = run.merge(group)
    if merged is not None:
        Path(sys.argv[1], "merged.json").write_text(json.dumps(merged.detections))
"""


@pytest.mark.slow
@pytest.mark.parametrize("disks", ["own", "one"])
def test_torchrun(disks, tmp_path):
    """Two real processes, with one disk and with two. About 15 seconds each on two cores."""
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    root = Path(__file__).resolve().parents[2]
    subprocess.run([*launch, str(script), str(tmp_path), disks], check=True, timeout=240, cwd=root, capture_output=True)
    merged = json.loads((tmp_path / "merged.json").read_text())
    assert [entry["of"] for entry in merged] == list(range(90))
    assert {entry["by"] for entry in merged} == {0, 1}
