"""Time of drawing a result, beside supervision's mask and label annotators on the same detections.

    python benchmarks/draw.py [--repeats 5]

Prints a table: milliseconds of CPU time (best of the repeats) and the ratio to supervision in the same run. The
detections are made up: smooth blobs as 28x28 maps, objects with five parts each. supervision gets full bitmaps, made
beforehand.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial

import numpy as np

from vlpart.masks.stack import MaskStack
from vlpart.results.result import Result
from vlpart.text.vocabulary import Vocabulary

CASES = (
    *((10, 800, 1216), (50, 800, 1216), (100, 800, 1216), (300, 800, 1216), (20, 288, 288)),
    *((7, 3000, 4000), (50, 3000, 4000), (300, 3000, 4000)),
)


def made_up(count: int, height: int, width: int) -> Result:
    """`count` detections, five parts to an object, sides of 4% to 60% of the image."""
    rng = np.random.default_rng(0)
    vocabulary = Vocabulary.parse("car: wheel, door, window, light, mirror; person: head, arm, leg, hand, foot")
    y, x = np.mgrid[:28, :28]
    boxes, maps, class_ids = [], [], []
    for i in range(count):
        is_part = i % 6 != 0
        side = rng.uniform(0.04, 0.12, 2) if is_part else rng.uniform(0.2, 0.6, 2)
        home = boxes[i - i % 6] if is_part else np.array([0, 0, width, height])
        corner = home[:2] + rng.random(2) * np.maximum(home[2:] - home[:2] - side * [width, height], 0)
        boxes.append(np.concatenate([corner, np.minimum(corner + side * [width, height], [width, height])]))
        angle = np.arctan2(y - 13.5, x - 13.5)
        radius = 11 + 2 * np.sin(angle * rng.integers(2, 6) + rng.uniform(0, 6))
        maps.append(1 / (1 + np.exp(np.hypot(x - 13.5, y - 13.5) - radius)))
        class_ids.append((i // 6 % 2) * 6 + i % 6)
    image = rng.integers(60, 200, (height, width, 3), dtype=np.uint8)
    return Result(
        image_size=(height, width),
        boxes_xyxy=np.array(boxes),
        scores=np.sort(rng.uniform(0.3, 1, count))[::-1],
        class_ids=class_ids,
        masks=MaskStack(np.array(maps), np.array(boxes), (height, width)),
        vocabulary=vocabulary,
        image=image,
    )


def best_of(repeats: int, action: Callable[[], object]) -> float:
    """Milliseconds of CPU time of the fastest run; on a busy machine wall time says little."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        action()
        times.append((time.process_time() - start) * 1000)
    return min(times)


def supervision_drawing(result: Result) -> Callable[[], object] | None:
    """What supervision's users write: masks, then labels; None where it is not installed."""
    try:
        import supervision
    except ImportError:
        return None
    detections = result.to_supervision()
    texts = [f"{name} {score:.2f}" for name, score in zip(result.names, result.scores, strict=True)]

    def draw() -> object:
        scene = supervision.MaskAnnotator().annotate(result.image.copy(), detections)
        return supervision.LabelAnnotator().annotate(scene, detections, texts)

    return draw


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    print(f"{'masks':>5} {'size':>10} {'vlpart':>9} {'no labels':>9} {'supervision':>12} {'ratio':>6}   (ms)")
    for count, height, width in CASES:
        result = made_up(count, height, width)
        assert result.image is not None
        ours = best_of(repeats, result.plot)
        bare = best_of(repeats, partial(result.plot, labels=False))
        other = supervision_drawing(result)
        theirs = best_of(repeats, other) if other else float("nan")
        print(f"{count:>5} {width:>5}x{height:<4} {ours:>9.1f} {bare:>9.1f} {theirs:>12.1f} {ours / theirs:>6.2f}")


if __name__ == "__main__":
    main()
