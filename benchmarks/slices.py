"""A large photo through `--slices` against its crops: `python benchmarks/slices.py tiny FOLDER --size 9000x7000`.

The photo is made of the images of a folder, side by side, repeated until it is full. Crops of the size of a tile, each
around one of the first images, anywhere but on the tiles, are looked at alone. What they show whole is looked for in
the result for the large photo: matched if there is a detection of the same name with IoU of 0.5 or more. Prints the
share that is matched, CPU seconds, and the memory at its peak.
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vlpart.data.image_files import list_images
from vlpart.data.images import read_image
from vlpart.inference.predictor import load
from vlpart.text.vocabulary import Vocabulary


def mosaic(folder: Path, width: int, height: int, side: int) -> tuple[NDArray[np.uint8], list[tuple[int, int]]]:
    """(height, width, 3) uint8, and the upper left corners of the images in it, without the repetitions."""
    images = [read_image(path) for path in list_images(folder)]
    canvas = np.full((height, width, 3), 128, dtype=np.uint8)
    places = [(x, y) for y in range(0, height - side + 1, side) for x in range(0, width - side + 1, side)]
    for number, (x, y) in enumerate(places):
        with Image.fromarray(images[number % len(images)]) as image:
            image.thumbnail((side, side))
            pixels = np.asarray(image)
        canvas[y : y + pixels.shape[0], x : x + pixels.shape[1]] = pixels
    return canvas, places[: len(images)]


EDGE = 20  # pixels: what is so near to the border of a crop may be cut by it


def iou(box: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """IoU of (4,) with (N, 4)."""
    sides = np.clip(np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2]), 0, None)
    shared = sides.prod(axis=1)
    return shared / ((box[2:] - box[:2]).prod() + (others[:, 2:] - others[:, :2]).prod(axis=1) - shared)


def peak() -> float:
    """MiB of memory at most so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", default="9000x7000")
    parser.add_argument("--slices", type=int, default=1024)
    parser.add_argument("--cell", type=int, default=700)
    parser.add_argument("--vocabulary", default=None)
    parser.add_argument("--score", type=float, default=0.5)
    options = parser.parse_args()
    width, height = (int(each) for each in options.size.split("x"))
    predictor = load(options.model, device="cpu", precision="float32")
    words = predictor.vocabulary if options.vocabulary is None else Vocabulary.of(options.vocabulary)
    canvas, places = mosaic(options.folder, width, height, options.cell)
    asked = {"vocabulary": words, "score_threshold": options.score}
    before, started = peak(), time.process_time()
    whole = predictor.predict(canvas, slices=options.slices, max_pixels=None, **asked)
    seconds, after = time.process_time() - started, peak()
    names, matched = np.array(whole.names), []
    for x, y in places:
        x0, y0 = (max(0, each - (options.slices - options.cell) // 2) for each in (x, y))
        crop = canvas[y0 : y0 + options.slices, x0 : x0 + options.slices]
        alone = predictor.predict(crop, **asked)
        inside = (alone.boxes_xyxy[:, :2] > EDGE).all(axis=1)
        inside &= (alone.boxes_xyxy[:, 2:] < np.array([crop.shape[1], crop.shape[0]]) - EDGE).all(axis=1)
        for i in np.flatnonzero(inside):
            box = alone.boxes_xyxy[i] + np.array([x0, y0, x0, y0], dtype=np.float32)
            matched.append(iou(box, whole.boxes_xyxy[names == alone.names[i]]).max(initial=0.0) >= 0.5)
    print(f"{options.model}, {width} x {height}, {len(places)} images, tiles of {options.slices}")
    print(f"found whole in {len(places)} crops: {len(matched)}; of them in the photo: {100 * np.mean(matched):.1f} %")
    print(
        f"found in the photo: {len(whole)}; without tiles: {len(predictor.predict(canvas, max_pixels=None, **asked))}"
    )
    print(
        f"CPU seconds {seconds:.1f}; peak {before:.0f} MiB before, {after:.0f} after, the photo {canvas.nbytes >> 20}"
    )


if __name__ == "__main__":
    main()
