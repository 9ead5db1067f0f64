"""Images per second per core of the training loader: decode, augment, rasterise, collate.

    python benchmarks/loader.py                          # COCO-like images made on the spot
    python benchmarks/loader.py --data ../shared/data/coco128 --data ../shared/data/faces

The first figure divides by the CPU time of one process without workers, so a busy machine hardly changes it; the
second is what the workers deliver by the clock.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from vlpart.data.indexing import load_source
from vlpart.data.loader import make_loader
from vlpart.data.source import LoadedSource, Source


def synthesise(folder: Path, images: int = 24, instances: int = 7) -> None:
    """640x480 JPEGs with the detail of photos (smooth noise in three sizes) and seven polygons of forty points each."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    content: dict[str, list] = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "thing"}]}
    for number in range(images):
        layers = [
            np.asarray(
                Image.fromarray(rng.integers(0, 256, (480 // step, 640 // step, 3), dtype=np.uint8)).resize(
                    (640, 480), Image.Resampling.BICUBIC
                ),
                dtype=np.float32,
            )
            for step in (4, 16, 80)
        ]
        image = np.clip(sum(layers) / 3, 0, 255).astype(np.uint8)
        Image.fromarray(image).save(folder / "images" / f"{number}.jpg", quality=90)
        content["images"].append({"id": number, "file_name": f"{number}.jpg", "width": 640, "height": 480})
        for _ in range(instances):
            cx, cy, radius = rng.uniform(100, 540), rng.uniform(100, 380), rng.uniform(20, 100)
            angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
            wobble = radius * rng.uniform(0.7, 1.0, 40)
            points = np.stack([cx + wobble * np.cos(angle), cy + wobble * np.sin(angle)], axis=1)
            x0, y0 = points.min(axis=0)
            x1, y1 = points.max(axis=0)
            content["annotations"].append(
                {
                    "id": len(content["annotations"]) + 1,
                    "image_id": number,
                    "category_id": 1,
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "segmentation": [points.ravel().tolist()],
                }
            )
    (folder / "train.json").write_text(json.dumps(content))


def per_core(loaded: LoadedSource, batches: int) -> float:
    """Images per CPU second of one process."""
    loader = iter(make_loader([loaded], seed=0, workers=0))
    next(loader)  # imports
    began, images = time.process_time(), 0
    for batch in islice(loader, batches):
        images += len(batch.targets)
    return images / (time.process_time() - began)


def by_clock(loaded: LoadedSource, batches: int, workers: int) -> float:
    """Images per second that the workers deliver."""
    loader = iter(make_loader([loaded], seed=0, workers=workers))
    for _ in range(2 * workers):
        next(loader)
    began, images = time.perf_counter(), 0
    for batch in islice(loader, batches):
        images += len(batch.targets)
    return images / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, action="append", help="folder with images/ and train.json")
    parser.add_argument("--batches", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    settings: dict[str, dict[str, Any]] = {
        "640-800 px, flip": {"short_sides": (640, 672, 704, 736, 768, 800)},
        "640-800 px, jitter 0.5-1.5, colour": {
            "short_sides": (640, 800),
            "short_side_sampling": "range",
            "scale_jitter": (0.5, 1.5),
            "color_jitter": 0.3,
        },
        "640-800 px, strong": {"short_sides": (640, 800), "strong_augmentation": True},
        "256-384 px, jitter 0.7-1.3, colour": {
            "short_sides": (256, 384),
            "short_side_sampling": "range",
            "max_side": 512,
            "scale_jitter": (0.7, 1.3),
            "color_jitter": 0.3,
        },
    }
    print(f"{'data':<14}{'setting':<38}{'per core':>10}{f'{arguments.workers} workers':>12}   images per second")
    with tempfile.TemporaryDirectory() as temporary:
        folders = arguments.data or [Path(temporary) / "synthetic"]
        if not arguments.data:
            synthesise(folders[0])
        for folder in folders:
            for label, options in settings.items():
                source = Source(
                    name=folder.name,
                    annotations=folder / "train.json",
                    images=folder / "images",
                    batch_size=4,
                    **options,
                )
                loaded = load_source(source)
                core = per_core(loaded, arguments.batches)
                clock = by_clock(loaded, arguments.batches, arguments.workers) if arguments.workers else float("nan")
                print(f"{folder.name:<14}{label:<38}{core:>10.1f}{clock:>12.1f}")


if __name__ == "__main__":
    main()
