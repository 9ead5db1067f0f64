"""CPU seconds per photo of a model on torch and, exported, elsewhere: `python benchmarks/export.py tiny --threads 1`.

Every engine answers the same question about the sample photo as 640 x 480 pixels; the median of `--repeats` calls is
printed, seconds of all threads together and not of the wall, and how many detections each has. With `--folder` the
exported files are kept there, and those that are there already are used.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import vlpart
from vlpart.errors import VlpartError
from vlpart.export.predictor import load_exported
from vlpart.export.write import FORMATS, export
from vlpart.inference.base import BasePredictor
from vlpart.inference.predictor import load

SAMPLE = Path(vlpart.__file__).parent / "assets" / "samples" / "astronaut.jpg"
#: Format, 8-bit integers, engine.
RUNS = (
    ("onnx", False, "onnxruntime"),
    ("onnx", False, "openvino"),
    ("onnx", True, "onnxruntime"),
    ("onnx", True, "openvino"),
    ("torchscript", False, "torch"),
)


def seconds_of(predictor: BasePredictor, repeats: int, score: float) -> tuple[float, int]:
    """Median CPU seconds of a call, without reading the photo, and the number of detections."""
    with Image.open(SAMPLE) as file:
        image = predictor.read(np.asarray(file.convert("RGB").resize((640, 480))))
    taken = []
    for _ in range(repeats + 2):
        started = time.process_time()
        (result,) = predictor.detect([image], score_threshold=score)
        taken.append(time.process_time() - started)
    return statistics.median(taken[2:]), len(result)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="tiny")
    parser.add_argument("--vocabulary", default="person: hair, eye, nose, mouth")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--score", type=float, default=0.3)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    predictor = load(options.model, device="cpu", precision="float32")
    predictor.vocabulary = vlpart.Vocabulary.of(options.vocabulary)
    print(f"{options.model}, {options.threads} threads, {SAMPLE.name} as 640 x 480")
    print("engine\tfile\tMB\tCPU seconds\tdetections")
    seconds, count = seconds_of(predictor, options.repeats, options.score)
    print(f"torch\t(none)\t\t{seconds:.3f}\t{count}", flush=True)
    with contextlib.ExitStack() as stack:
        folder = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for name, int8, engine in RUNS:
            path = folder / f"model{'-int8' if int8 else ''}{FORMATS[name]}"
            try:
                if not path.exists():
                    export(predictor, path, name, text_input=True, int8=int8)
                exported = load_exported(path, engine, threads=options.threads)
            except VlpartError as error:
                print(f"{engine}\t{path.name}\t\t{error}")
                continue
            exported.vocabulary = predictor.vocabulary
            seconds, count = seconds_of(exported, options.repeats, options.score)
            print(f"{engine}\t{path.name}\t{path.stat().st_size / 1e6:.1f}\t{seconds:.3f}\t{count}", flush=True)


if __name__ == "__main__":
    main()
