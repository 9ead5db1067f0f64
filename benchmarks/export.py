"""Seconds per image of a model on torch and, exported, elsewhere: `python benchmarks/export.py tiny --threads 2`.

The files go to a temporary folder. Every engine answers the same question about the sample photo; the median of
`--repeats` calls is printed, and how many detections each has.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch

import vlpart
from vlpart.errors import VlpartError
from vlpart.export.predictor import load_exported
from vlpart.export.write import FORMATS, export
from vlpart.inference.base import BasePredictor

SAMPLE = Path(vlpart.__file__).parent / "assets" / "samples" / "astronaut.jpg"
RUNS = (("onnx", "onnxruntime"), ("onnx", "openvino"), ("openvino", "openvino"), ("torchscript", "torch"))


def seconds_of(predictor: BasePredictor, repeats: int, score: float) -> tuple[float, int]:
    """Median seconds of a call, without reading the photo, and the number of detections."""
    image = predictor.read(SAMPLE)
    taken = []
    for _ in range(repeats + 2):
        started = time.perf_counter()
        (result,) = predictor.detect([image], score_threshold=score)
        taken.append(time.perf_counter() - started)
    return statistics.median(taken[2:]), len(result)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="tiny")
    parser.add_argument("--vocabulary", default="person: hair, eye, nose, mouth")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--score", type=float, default=0.3)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    predictor = vlpart.load(options.model, device="cpu", precision="float32")
    predictor.vocabulary = vlpart.Vocabulary.of(options.vocabulary)
    print(f"{options.model}, {options.threads} threads, {SAMPLE.name}")
    print("engine\tfile\tMB\tseconds\tdetections")
    seconds, count = seconds_of(predictor, options.repeats, options.score)
    print(f"torch\t(none)\t\t{seconds:.3f}\t{count}")
    with tempfile.TemporaryDirectory() as folder:
        for name, engine in RUNS:
            path = Path(folder) / f"model{FORMATS[name]}"
            try:
                if not path.exists():
                    export(predictor, path, name)
                exported = load_exported(path, engine, threads=options.threads)
            except VlpartError as error:
                print(f"{engine}\t{name}\t\t{error}")
                continue
            size = sum(each.stat().st_size for each in (path, path.with_suffix(".bin")) if each.exists()) / 1e6
            seconds, count = seconds_of(exported, options.repeats, options.score)
            print(f"{engine}\t{name}\t{size:.1f}\t{seconds:.3f}\t{count}")


if __name__ == "__main__":
    main()
