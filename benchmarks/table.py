"""The figures of docs/performance.md, a line each, and how they compare with another version of the package.

    python benchmarks/table.py                               # all rows
    python benchmarks/table.py plot_300 json_300 --against ../vlpart-before

Times are CPU seconds of one thread, the least of several runs: on a busy machine the clock says little. Every row runs
in a process of its own; with `--against CHECKOUT`, the two versions take turns, and the last column is the ratio. Rows
of the unit "x" are ratios themselves, of two ways in one process. Unless they are named, those that take minutes are
left out (`--full`).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parent

Action = Callable[[], object]


def least(action: Action, runs: int = 3) -> float:
    """CPU seconds of the fastest of some runs, after one that is not counted."""
    action()
    times = []
    for _ in range(runs):
        start = time.process_time()
        action()
        times.append(time.process_time() - start)
    return min(times)


def of_command(*command: str) -> float:
    """CPU seconds of a new Python."""
    for _ in range(2):  # the first run may write byte code
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *command], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def cold() -> float:
    """`vlpart predict photo.jpg`, everything included."""
    with tempfile.TemporaryDirectory() as folder:
        sample = ROOT / "vlpart" / "assets" / "samples" / "astronaut.jpg"
        return of_command("-m", "vlpart", "predict", str(sample), "--output", folder)


def of_result(count: int, what: Callable[[Any], object]) -> Callable[[], float]:
    """Something done with a result of `count` detections on 12 megapixels."""

    def measure() -> float:
        from draw import made_up

        result = made_up(count, 3000, 4000)
        return least(lambda: what(result))

    return measure


def peak() -> float:
    """Mebibytes that the picture, the areas, JSON, COCO and label map of 300 detections take at most."""
    from draw import made_up

    result = made_up(300, 3000, 4000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for what in (result.plot, result.masks.areas, result.to_json, result.to_coco, result.label_map):
        what()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def network(architecture: str) -> Callable[[], float]:
    """A photo of 1216x800 through a network with random weights."""

    def measure() -> float:
        import numpy as np
        from predict import _load, _vocabulary

        predictor = _load(architecture, "float32")
        names, photo = _vocabulary(predictor), np.random.default_rng(0).integers(0, 256, (800, 1216, 3), dtype=np.uint8)
        return least(lambda: predictor(photo, names), runs=2)

    return measure


def names() -> float:
    """How many times as long 5,000 names take as 93, where the photo shows the same things under both lists."""
    import numpy as np
    from predict import SAMPLE

    from vlpart.inference.predictor import load
    from vlpart.text.vocabulary import Vocabulary

    predictor = load("tiny", device="cpu")
    image, own = predictor.read(SAMPLE), predictor.embed(predictor.vocabulary)
    result = predictor.detect([image], score_threshold=0.02, max_detections=1000)[0]
    shown = np.unique(result.class_ids[result.scores > 0.5])
    absent = np.setdiff1d(np.flatnonzero(own.any(axis=1)), result.class_ids)
    few = own[[*shown, *absent[: 93 - len(shown)]]]
    noise = np.random.default_rng(0).standard_normal((5000 - 93, own.shape[1])) * 0.3 / own.shape[1] ** 0.5
    many = np.concatenate([few, own[np.resize(absent, len(noise))] + noise])  # like names of what is not there
    listed = [Vocabulary.from_embeddings([f"thing {i}" for i in range(len(v))], v) for v in (few, many)]
    ratios = []
    for _ in range(12):
        times = []
        for vocabulary in listed:  # in turns; the second of two photos, as in a folder
            predictor.detect([image], vocabulary, score_threshold=0.5)
            start = time.process_time()
            predictor.detect([image], vocabulary, score_threshold=0.5)
            times.append(time.process_time() - start)
        ratios.append(times[1] / times[0])
    return statistics.median(ratios)


def folder(clock: Callable[[], float] = time.process_time) -> float:
    """The share of the network in the CPU time of a folder of 8 photos, pictures and JSON written.

    With `time.thread_time`, in that of the main thread: what a second core does meanwhile is not counted. A round is a
    folder, and the network alone before and after it: the mean of both, since other programs come and go.
    """
    import shutil

    from predict import SAMPLE

    from vlpart.inference.batch import predict_to_folder
    from vlpart.inference.predictor import load

    predictor = load("tiny", device="cpu")
    image = predictor.read(SAMPLE)

    def network() -> float:
        start = clock()
        for _ in range(8):
            predictor.detect([image], score_threshold=0.5)
        return clock() - start

    shares = []
    with tempfile.TemporaryDirectory() as place:
        photos = Path(place) / "photos"
        photos.mkdir()
        for number in range(8):
            shutil.copy(SAMPLE, photos / f"{number}.jpg")
        network()
        alone = network()
        for _ in range(7):
            start = clock()
            predict_to_folder(predictor, photos, output=f"{place}/out", score_threshold=0.5)
            spent, before, alone = clock() - start, alone, network()
            shares.append((before + alone) / 2 / spent)
    return statistics.median(shares)


def loader() -> float:
    """Images that a CPU second augments strongly."""
    from loader import per_core, synthesise

    from vlpart.data.indexing import load_source
    from vlpart.data.source import Source

    with tempfile.TemporaryDirectory() as place:
        images = Path(place) / "photos"
        synthesise(images)
        source = Source(
            name="photos",
            annotations=images / "train.json",
            images=images / "images",
            batch_size=4,
            short_sides=(640, 800),
            strong_augmentation=True,
        )
        return per_core(load_source(source), 10)


def of_products(pieces: bool) -> Callable[[], float]:
    """Milliseconds of CPU time for the vector of a long name, with OpenBLAS's own number of threads; the mean, since
    it is the crowd that makes the pool dear.

    Args:
        pieces: products in pieces, as the package does; False: whole.
    """

    def measure() -> float:
        from vlpart.text import phrase
        from vlpart.text.encoders import get_text_encoder

        if not pieces:
            phrase.SMALL = 1 << 40
        encoder = get_text_encoder("phrase")
        names = ["the left rear door handle of the old red car"] * 20
        encoder.encode(names)
        start = time.process_time()
        for _ in range(10):
            encoder.encode(names)
        return (time.process_time() - start) / (10 * len(names)) * 1000

    return measure


def training() -> float:
    """How many times as long a training step takes the plain way."""
    from train_step import ratio

    return ratio("r50_mask_rcnn", 1, 400, 608)


def scoring(name: str, scale: float) -> Callable[[], float]:
    """How many times as long the reference package takes to evaluate."""

    def measure() -> float:
        from evaluate import ratio

        return ratio(name, scale)

    return measure


def correspondences() -> float:
    """How many times as long a loop over tokens takes."""
    from correspondence import ratio

    return ratio(4000)


#: Name -> (what it is, unit, aim, how to measure it).
ROWS: dict[str, tuple[str, str, str, Callable[[], Any]]] = {
    "cold": ("vlpart predict photo.jpg, cold", "s", "<= 3.4", cold),
    "torch": ("import torch alone", "s", "", lambda: of_command("-c", "import torch")),
    "plot_7": ("picture, 12 MP, 7 detections", "s", "<= 0.15", of_result(7, lambda r: r.plot())),
    "plot_300": ("picture, 12 MP, 300 detections", "s", "<= 1", of_result(300, lambda r: r.plot())),
    "bare_300": ("the same without labels", "s", "<= 1", of_result(300, lambda r: r.plot(labels=False))),
    "areas_300": ("areas, 12 MP, 300 detections", "s", "<= 0.2", of_result(300, lambda r: r.masks.areas())),
    "json_300": ("JSON of the same", "s", "<= 0.2", of_result(300, lambda r: r.to_json())),
    "coco_300": ("COCO of the same", "s", "<= 0.2", of_result(300, lambda r: r.to_coco())),
    "label_map_300": ("label map of the same", "s", "<= 0.2", of_result(300, lambda r: r.label_map())),
    "peak_300": ("all of them, memory", "MiB", "<= 300", peak),
    "names": ("5,000 names against 93", "x", "<= 1.05", names),
    "folder": ("network in a folder, main thread", "", ">= 0.95", lambda: folder(time.thread_time)),
    "folder_all": ("the same, of all CPU time", "", "", folder),
    "name": ("vector of a name, product in pieces", "ms", "", of_products(True)),
    "name_whole": ("the same with OpenBLAS's threads", "ms", "", of_products(False)),
    "training": ("training step, plain way to ours", "x", ">= 1.5", training),
    "coco": ("pycocotools to ours, 500 images", "x", ">= 18", scoring("coco 93", 0.1)),
    "lvis": ("lvis-api to ours, 200 images", "x", ">= 10", scoring("lvis 1203", 0.1)),
    "coco_full": ("pycocotools to ours, 5,000 images", "x", ">= 30", scoring("coco 93", 1)),
    "lvis_full": ("lvis-api to ours, 2,000 images", "x", ">= 40", scoring("lvis 1203", 1)),
    "correspondence": ("loop over 4,000 tokens to ours", "x", ">= 46", correspondences),
    "loader": ("strong augmentation, images / CPU s", "", ">= 25", loader),
    "r50": ("R50 float32, 1216x800", "s", "", network("r50_mask_rcnn")),
    "swin": ("Swin-B float32, 1216x800", "s", "", network("swin_b_cascade")),
}


#: Rows that take minutes.
SLOW = ("coco_full", "lvis_full", "swin")
#: Rows of threads as they are by default.
THREADED = ("cold", "torch", "name", "name_whole")


def in_process(row: str, checkout: Path) -> float:
    """Measure a row with the package in a checkout, in a new process of one thread."""
    variables = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    environment = {name: value for name, value in os.environ.items() if name not in variables}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # installed packages are compiled
    threads = {} if row in THREADED else dict.fromkeys(variables, "1")
    environment |= {**threads, "PYTHONPATH": str(checkout.resolve())}
    command = [sys.executable, str(HERE / "table.py"), "--measure", row]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{row} failed in {checkout}:\n{done.stderr}")
    return float(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"any of {', '.join(ROWS)}; default: all")
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="another version, measured in turns")
    parser.add_argument("--full", action="store_true", help=f"also {', '.join(SLOW)}")
    parser.add_argument("--rounds", type=int, default=2, help="processes per row and version")
    parser.add_argument("--measure", metavar="ROW", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(ROWS[arguments.measure][3]()))
        return
    unknown = [row for row in arguments.rows if row not in ROWS]
    if unknown:
        parser.error(f"no row {unknown[0]!r}: choose of {', '.join(ROWS)}")
    sides = [ROOT] if arguments.against is None else [arguments.against, ROOT]
    print(f"{'':<36}" + "".join(f"{side.resolve().name[:10]:>11}" for side in sides) + f"{'aim':>10}")
    for row in arguments.rows or [row for row in ROWS if arguments.full or row not in SLOW]:
        what, unit, aim, _ = ROWS[row]
        found = [[in_process(row, side) for side in sides] for _ in range(arguments.rounds)]
        best = [min(values) for values in zip(*found, strict=True)]
        ratio = f"{best[0] / best[1]:>8.2f}x" if len(best) == 2 else ""
        print(f"{what:<36}" + "".join(f"{value:>11.3g}" for value in best) + f"{aim:>10} {unit:<4}{ratio}", flush=True)


if __name__ == "__main__":
    main()
