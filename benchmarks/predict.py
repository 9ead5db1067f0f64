"""Seconds per photo, from a decoded image to a `Result`: precisions, thread counts, our RoIAlign and torchvision's;
for `tiny` also regions with several names, segmented once and every time.

    python benchmarks/predict.py --model tiny --size 640x480
    python benchmarks/predict.py --model r50_mask_rcnn --size 1216x800 --runs 3

An architecture's name takes random weights: the time is the same, no download is needed. Every row is the median of the
runs and its ratio to the first row of the same table. Machines are noisy: compare rows, not runs.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from safetensors.torch import save_file
from torchvision import ops

import vlpart
from vlpart.inference.predictor import Predictor, load
from vlpart.models import roi_align as roi_pooling
from vlpart.models.build import build_detector
from vlpart.models.config import ARCHITECTURES
from vlpart.models.detector import Detector
from vlpart.models.postprocess import Detections
from vlpart.text.vocabulary import Vocabulary

SAMPLE = Path(vlpart.__file__).parent / "assets" / "samples" / "astronaut.jpg"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny", help="a model, a weight file, or an architecture (random weights)")
    parser.add_argument("--size", default="640x480", help="width x height of the photo")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--threads", default="1,2", help="thread counts, comma-separated")
    arguments = parser.parse_args()
    width, height = (int(side) for side in arguments.size.split("x"))
    photo = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    photo = photo.repeat(8, axis=0).repeat(8, axis=1)
    threads = [int(count) for count in arguments.threads.split(",")]

    rows: list[tuple[str, float]] = []
    for precision in ("float32", "bf16"):
        predictor = _load(arguments.model, precision)
        vocabulary = _vocabulary(predictor)
        for count in threads:
            torch.set_num_threads(count)
            seconds = median(lambda p=predictor, v=vocabulary: p(photo, v, score_threshold=0.3), arguments.runs)
            rows.append((f"{precision}, {count} threads", seconds))
    torch.set_num_threads(threads[-1])
    predictor = _load(arguments.model, "float32")
    ours, roi_pooling.roi_align = roi_pooling.roi_align, _torchvision
    rows.append(
        (
            f"float32, {threads[-1]} threads, RoIAlign of torchvision",
            median(lambda: predictor(photo, _vocabulary(predictor), score_threshold=0.3), arguments.runs),
        )
    )
    roi_pooling.roi_align = ours
    if arguments.model == "tiny":
        sample = np.asarray(Image.open(SAMPLE).convert("RGB"))

        def everything() -> object:
            return predictor(sample, score_threshold=0.01, max_detections=300)

        rows.append((f"float32, {threads[-1]} threads, sample, 300 detections", median(everything, arguments.runs)))
        with patch.object(Detector, "_with_masks", _each_detection):
            seconds = median(everything, arguments.runs)
        rows.append((f"float32, {threads[-1]} threads, sample, 300 detections, each segmented", seconds))

    table = Table(title=f"{arguments.model}, photo {arguments.size}", title_justify="left")
    for heading in ("what", "s per photo", "ratio"):
        table.add_column(heading, justify="left" if heading == "what" else "right")
    for name, seconds in rows:
        table.add_row(name, f"{seconds:.3f}", f"{seconds / rows[0][1]:.2f}")
    Console().print(table)


def _torchvision(
    features: torch.Tensor, images: torch.Tensor, boxes: torch.Tensor, size: int, scale: float
) -> torch.Tensor:
    indexed = torch.cat((images[:, None].float(), boxes), dim=1)
    return ops.roi_align(features, indexed, size, spatial_scale=scale, sampling_ratio=0, aligned=True)


def _each_detection(detector: Detector, pyramid: list[torch.Tensor], found: list[Detections]) -> list[Detections]:
    """Masks of all detections, of the same region again and again."""
    masks = detector.roi_heads.masks(pyramid, [d.boxes_xyxy for d in found])
    return [replace(d, mask_logits=m) for d, m in zip(found, masks, strict=True)]


def _load(model: str, precision: str) -> Predictor:
    if model not in ARCHITECTURES or model == "tiny":
        return load(model, device="cpu", precision=precision)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "random.safetensors"
        save_file({k: v.contiguous() for k, v in build_detector(model).state_dict().items()}, path)
        return load(str(path), device="cpu", precision=precision)


def _vocabulary(predictor: Predictor) -> Vocabulary:
    """Names with embeddings: the text encoder is not what is measured."""
    names = list(predictor.vocabulary.names)
    width = ARCHITECTURES[predictor.architecture].text_dim
    return Vocabulary.from_embeddings(names, np.random.default_rng(0).standard_normal((len(names), width)))


def median(call: Callable[[], object], runs: int) -> float:
    """Median wall time of a call in seconds, after one that warms up."""
    call()
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


if __name__ == "__main__":
    main()
