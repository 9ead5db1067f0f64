"""What an image costs in `vlpart bulk`: CPU seconds beside `vlpart predict`, images a second with more workers, bytes.

    python benchmarks/bulk.py photos/ --images 48 --workers 1,2

The CPU seconds of `bulk` are those of its processes with the model, from the reading of a block to its files, without
Ray's own processes. Images a second count from the end of the first block to the end of the last, without the start;
on a machine that others use, only CPU seconds say something. Every row is one run.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from rich.console import Console
from rich.table import Table

import vlpart
from vlpart.bulk.run import bulk
from vlpart.bulk.worker import Done
from vlpart.data.image_files import list_images
from vlpart.inference.batch import readable_threshold


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--images", type=int, default=48, help="how many of the folder, evenly spread")
    parser.add_argument("--vocabulary", default=None)
    parser.add_argument("--workers", default="1,2", help="numbers of workers on Ray, comma-separated; '' = no Ray")
    parser.add_argument("--block-size", type=int, default=6)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    table = Table("", "CPU s per image", "images/s", "detections per image", "bytes per image")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = list(list_images(arguments.photos, recursive=True))
        step = max(1, len(found) // arguments.images)
        (folder / "photos").mkdir()
        for i, path in enumerate(found[::step][: arguments.images]):
            shutil.copy(path, folder / "photos" / f"{i:06}{Path(path).suffix}")
        table.add_row("predict -f json", *predicted(folder, arguments.vocabulary))
        runs = {"bulk, this process": {"in_process": True}}
        runs |= {f"bulk, {n} workers": {"workers": int(n)} for n in arguments.workers.split(",") if n}
        for label, options in runs.items():
            row = in_bulk(folder, arguments.vocabulary, arguments.block_size, **options)
            table.add_row(label, *row)
    Console().print(table)


def predicted(folder: Path, words: str | None) -> tuple[str, ...]:
    predictor = vlpart.load("tiny")
    predictor(next(list_images(folder / "photos")), vocabulary=words)  # the first one takes longer
    cpu, wall = time.process_time(), time.perf_counter()
    summary = vlpart.predict_to_folder(
        predictor,
        folder / "photos",
        output=folder / "json",
        formats=["json"],
        vocabulary=words,
        score_threshold=readable_threshold(len(vlpart.Vocabulary.of(words) if words else predictor.vocabulary)),
        keep_nested=False,
        iou=0.7,
    )
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    size = sum(path.stat().st_size for path in (folder / "json").rglob("*.json"))
    return row_of(cpu, summary.finished / wall, summary.finished, summary.detections, size)


def in_bulk(folder: Path, words: str | None, block_size: int, **options: int) -> tuple[str, ...]:
    dest = folder / "bulk"
    done: list[tuple[float, Done]] = []
    summary = bulk(
        folder / "photos",
        dest,
        vocabulary=words,
        block_size=block_size,
        on_block=lambda each: done.append((time.perf_counter(), each)),
        **options,
    )
    (start, _), *rest = done
    rate = sum(each.images for _, each in rest) / max(rest[-1][0] - start, 1e-9) if rest else 0.0
    size = sum(path.stat().st_size for table in ("images", "detections") for path in (dest / table).iterdir())
    shutil.rmtree(dest)
    return row_of(summary.cpu_seconds, rate, summary.images, summary.detections, size)


def row_of(cpu: float, rate: float, images: int, detections: int, size: int) -> tuple[str, ...]:
    return f"{cpu / images:.3f}", f"{rate:.2f}", f"{detections / images:.1f}", f"{size / images:,.0f}"


if __name__ == "__main__":
    main()
