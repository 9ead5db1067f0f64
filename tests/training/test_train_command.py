"""`vlpart train` as a user calls it."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
import typer
from made_up import write_dataset
from typer.testing import CliRunner

from tests.data.prepare.conftest import voc_xml, write_image, write_list
from vlpart.cli import train
from vlpart.errors import DataError, OutputError, TrainingError
from vlpart.recipes import get_recipe
from vlpart.signals import exit_code
from vlpart.training import memory as memory_module
from vlpart.training.checkpoint import list_checkpoints
from vlpart.training.logging import RunLog

HERE = Path(__file__).parent
HANGUP = [(signal.SIGHUP, 129)] if hasattr(signal, "SIGHUP") else []  # none on Windows


@pytest.fixture
def call(monkeypatch):
    """Run the command; errors of the library come out as they are."""
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "0")  # set here, so that what the command sets does not stay
    app = typer.Typer()
    app.callback()(lambda: None)
    train.register(app)

    def run(*arguments):
        return CliRunner().invoke(app, ["train", *map(str, arguments)], catch_exceptions=False)

    return run


@pytest.fixture
def mine(tmp_path):
    """A recipe file over a made-up data set, and the options that go with it."""
    write_dataset(tmp_path / "data")
    path = tmp_path / "mine.py"
    path.write_text(
        f"import sys\nsys.path.insert(0, {str(HERE)!r})\nfrom made_up import small_recipe\n"
        "def recipe(root):\n    return small_recipe(root, iterations=3, reference_batch=4)\n"
    )
    options = ("--data", tmp_path / "data", "--output", tmp_path / "run", "--workers", 0, "--device", "cpu")
    return (path, *options, "--log-to", "csv")


def test_wrong_names_and_missing_data(call, tmp_path):
    with pytest.raises(TrainingError, match="did you mean tiny"):
        call("tinny", "--data", tmp_path, "--output", tmp_path / "run")
    with pytest.raises(DataError, match="car_parts"):
        call("tiny", "--data", tmp_path, "--output", tmp_path / "run")
    missing = r"datasets/coco/annotations.*datasets/coco/train2017 \(`vlpart data prepare coco datasets/coco`\)"
    with pytest.raises(DataError, match=missing):
        call("r50_coco")
    with pytest.raises(DataError, match=r"`vlpart data prepare pascal_part datasets/pascal_part` helps"):
        call("r50_pascalpart", "--evaluate-every", 5)
    with pytest.raises(TrainingError, match="fp16 needs a GPU"):
        call("swinbase_cascade_coco", "--device", "cpu")
    assert not (tmp_path / "run").exists()


def test_train_scale_and_resume(call, mine, tmp_path):
    done = call(*mine)
    assert "weights:" in done.stdout
    for said in ("one step sees 2 images", "learning_rate: 0.001 -> 0.0005", "iterations: 3 -> 6", "--accumulate 2"):
        assert said in done.stderr
    with pytest.raises(TrainingError, match="--resume"):
        call(*mine)
    assert "resumed at step 6" in call(*mine, "--iterations", 7, "--resume").output
    run = tmp_path / "run"
    assert list_checkpoints(run / "checkpoints")[-1].name == "step_00000007.pt"
    assert (run / "weights.safetensors").stat().st_size < 16 * 2**20
    assert len((run / "metrics.csv").read_text().splitlines()) == 8
    recipe = json.loads((run / "recipe.json").read_text())
    assert (recipe["iterations"], recipe["learning_rate"], recipe["init"]) == (7, 5e-4, "none")


def test_options_reach_the_recipe(call, mine, tmp_path):
    call(*mine, "--accumulate", 2, "--lr", 0.01, "--seed", 4, "--ema-decay", 0.5, "--clip-norm", 2, "--time-limit", 0)
    recipe = json.loads((tmp_path / "run" / "recipe.json").read_text())
    names = ("iterations", "accumulate", "learning_rate", "seed", "ema_decay", "clip_norm")
    assert [recipe[name] for name in names] == [3, 2, 0.01, 4, 0.5, 2.0]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), *HANGUP])
def test_a_stopped_run_is_no_success(call, mine, tmp_path, monkeypatch, number, code):
    write = RunLog.write

    def write_and_stop(self, record):
        write(self, record)
        if record["event"] == "step":
            signal.raise_signal(number)

    monkeypatch.setattr(RunLog, "write", write_and_stop)
    done = call(*mine)
    assert (done.exit_code, exit_code("finished"), exit_code("time limit")) == (code, 0, 0)
    assert f"stopped ({number.name}) at step 1" in done.stdout
    assert [p.name for p in list_checkpoints(tmp_path / "run" / "checkpoints")] == ["step_00000001.pt"]


def test_dry_run_writes_nothing(call, mine, tmp_path):
    done = call(*mine, "--iterations", 77, "--dry-run")
    for text in (
        "boxes",
        "18",
        "s per step",
        "steps: 77 of 2 images",
        "first weights: none",
        "processes: 1",
        "MiB each",
    ):
        assert text in done.stdout
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_mistakes_are_told_before_anything_is_written(call, mine, tmp_path, dry):
    with pytest.raises(TrainingError, match="unknown log 'foo': use csv, tensorboard, wandb"):
        call(*mine, *dry, "--log-to", "csv, foo")
    with pytest.raises(TrainingError, match="--device foo cannot be used"):
        call(*mine, *dry, "--device", "foo")
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"cannot make the run folder .*: .*file is a file"):
        call(*mine, *dry, "--output", tmp_path / "file" / "x")
    assert not (tmp_path / "run").exists()


def test_dry_run_says_what_is_left_out(call, mine, tmp_path):
    path = tmp_path / "data" / "all.json"
    content = json.loads(path.read_text())
    content["annotations"][4]["iscrowd"] = 1
    path.write_text(json.dumps(content))
    assert "1 annotations left out: crowd region (first ids [5])" in call(*mine, "--dry-run").stderr
    content["annotations"][4]["bbox"][0] = float("nan")
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"annotation 5 has the box .*not finite"):
        call(*mine, "--dry-run")


def test_dry_run_refuses_batches_that_the_memory_cannot_hold(call, mine, monkeypatch):
    """Tried are 2 and 4 images only; here each of them takes 1 GiB more."""
    peaks = iter((3 * 2**30, 5 * 2**30))
    monkeypatch.setattr(memory_module, "total_memory", lambda: 64 * 2**30)
    monkeypatch.setattr(memory_module, "peak_memory", lambda: next(peaks))
    with pytest.raises(TrainingError, match="batches of 100 images would take about 101 GiB of memory, .* has 64 GiB"):
        call(*mine, "--dry-run", "--batch-size", 100)


def test_the_path_of_a_published_configuration_is_a_recipe(call, tmp_path):
    yaml = tmp_path / "configs" / "coco" / "r50_coco.yaml"
    yaml.parent.mkdir(parents=True)
    yaml.write_text("SOLVER: {MAX_ITER: 1}")
    for given in (yaml, "configs/joint/r50_coco.yaml", "configs\\coco\\r50_coco.yml"):
        with pytest.raises(DataError, match="datasets/coco/annotations"):
            call(given)
    with pytest.raises(TrainingError, match="unknown recipe 'r50_cocos': did you mean r50_coco"):
        call("configs/coco/r50_cocos.yaml")


class TestDryRunOfAGpuRecipe:
    """`swinbase_cascade_voc` is trained in fp16, which a CPU does not compute."""

    def test_missing_data_is_named(self, call, tmp_path):
        with pytest.raises(DataError, match=r"VOC2007/ImageSets/Main/train.txt.*`vlpart data prepare voc .*VOC2007`"):
            call("swinbase_cascade_voc", "--data", tmp_path, "--device", "cpu", "--dry-run")

    def test_it_checks_the_data_that_is_there(self, call, tmp_path):
        voc = tmp_path / "VOC2007"
        write_list(voc / "ImageSets" / "Main" / "train.txt", ["000001", "000002"])
        write_image(voc / "JPEGImages" / "000001.jpg")
        write_image(voc / "JPEGImages" / "000002.jpg")
        (voc / "Annotations").mkdir()
        for stem, box in (("000001", (3, 3, 20, 15)), ("000002", (4, 4, 14, 9))):
            (voc / "Annotations" / f"{stem}.xml").write_text(voc_xml([("dog", box, 0), ("cat", (2, 2, 20, 18), 0)]))
        options = ("--data", tmp_path, "--device", "cpu", "--output", tmp_path / "run", "--dry-run")
        done = call("swinbase_cascade_voc", *options, "--scaling", "none")
        for said in (
            "needs a GPU for fp16 (published: 4h on 8 V100)",
            "needs the first weights",
            "2 images, 4 annotations",
        ):
            assert said in done.stderr
        for said in ("voc_2007_train", "steps: 30,000 of", "time: not measured", "MiB each"):
            assert said in done.stdout
        assert not (tmp_path / "run").exists()
        with pytest.raises(TrainingError, match="fp16 needs a GPU"):
            call("swinbase_cascade_voc", *options[:-1])


@pytest.mark.slow  # about 5 s, and longer with a cold disk
def test_tiny_over_the_real_data(call, shared, tmp_path):
    options = ("--data", shared / "data", "--output", tmp_path / "run", "--workers", 0, "--batch-size", 1)
    done = call("tiny", *options, "--init", "none", "--dry-run")
    steps = get_recipe("tiny", shared / "data").iterations
    for text in ("car_parts", "ade_parts", "2,006", f"steps: {steps:,} of"):
        assert text in done.stdout
    assert "weights:" in call("tiny", *options, "--init", "none", "--iterations", 1, "--precision", "float32").stdout
