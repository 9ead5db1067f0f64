"""CPU seconds of one training step: forward, losses, backward, optimiser, on made-up images.

    python benchmarks/train_step.py                                   # r50_mask_rcnn, 2 images of 800x1216
    python benchmarks/train_step.py --architecture tiny --batch 4 --height 384 --width 384
    python benchmarks/train_step.py --height 400 --width 608 --batch 1 --steps 1      # a few seconds

Every line is compared with a baseline measured in the same run: frozen batch norms after their convolutions instead of
in them, torch's default memory layout, torchvision's RoIAlign. CPU seconds hardly change on a busy machine.
"""

from __future__ import annotations

import argparse
import os
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from unittest.mock import patch

os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # read when torch starts

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision import ops

from vlpart.data.source import Source
from vlpart.losses.by_kind import compute_losses
from vlpart.losses.options import LossOptions
from vlpart.models import roi_align as roi_pooling
from vlpart.models.backbones import efficientnet_lite, resnet
from vlpart.models.backbones.resnet import FrozenBatchNorm
from vlpart.models.build import build_detector
from vlpart.models.config import get_architecture
from vlpart.runtime import World
from vlpart.training.recipe import Recipe
from vlpart.training.step import Stepper
from vlpart.types import AnnotationKind, Batch, ImageBatch, Targets

CLASSES = 80
INSTANCES = 7


def make_batch(images: int, height: int, width: int) -> Batch:
    """Noise with seven instances in each image, from 32 px to most of the image."""
    draw = torch.Generator().manual_seed(0)
    targets = []
    for _ in range(images):
        size = torch.tensor([width, height]) * (0.04 + 0.7 * torch.rand(INSTANCES, 2, generator=draw))
        corner = (torch.tensor([width, height]) - size) * torch.rand(INSTANCES, 2, generator=draw)
        boxes = torch.cat((corner, corner + size), dim=1)
        masks = torch.zeros(INSTANCES, height, width, dtype=torch.bool)
        for mask, (x0, y0, x1, y1) in zip(masks, boxes.int().tolist(), strict=True):
            mask[y0:y1, x0:x1] = True
        targets.append(
            Targets(
                boxes_xyxy=boxes,
                labels=torch.randint(0, CLASSES, (INSTANCES,), generator=draw),
                masks=masks,
                image_labels=torch.zeros(0, dtype=torch.int64),
            )
        )
    pixels = torch.randn(images, 3, height, width, generator=draw)
    pixels = F.pad(pixels, (0, -width % 32, 0, -height % 32))
    batch = ImageBatch(pixels=pixels, sizes_hw=[(height, width)] * images)
    return Batch(images=batch, targets=targets, source="made up", kind=AnnotationKind.PARTS)


def make_stepper(architecture: str, precision: str, channels_last: bool | None) -> Callable[[Batch], object]:
    """A step of the published recipe's numbers."""
    torch.manual_seed(0)
    detector = build_detector(architecture).train()
    text = torch.randn(CLASSES, get_architecture(architecture).text_dim)
    recipe = Recipe(
        name="benchmark",
        architecture=architecture,
        text_encoder="static",
        sources=(Source(name="made up", annotations=Path("none"), images=Path("none")),),
        iterations=1,
        precision=precision,  # type: ignore[arg-type]
    )
    options = LossOptions()

    def compute(batch: Batch) -> dict[str, Tensor]:
        return compute_losses(detector, batch, text, options)

    stepper = Stepper(recipe, detector, compute, World(), channels_last=channels_last)
    return lambda batch: stepper([batch])


def norm_after_convolution(
    x: Tensor, conv: torch.nn.Conv2d, norm: FrozenBatchNorm, *, relu: bool = False, onto: Tensor | None = None
) -> Tensor:
    """Convolution, then the affine map, the sum and the rectifier, each an operation of its own."""
    y = F.conv2d(x, conv.weight, None, conv.stride, conv.padding, conv.dilation, conv.groups)
    scale, shift = norm.scale_and_shift()
    y = y * scale.view(1, -1, 1, 1).to(y.dtype) + shift.view(1, -1, 1, 1).to(y.dtype)
    if onto is not None:
        y = y + onto
    return F.relu(y) if relu else y


def library_align(features: Tensor, images: Tensor, rois: Tensor, size: int, scale: float) -> Tensor:
    """torchvision's RoIAlign."""
    indexed = torch.cat((images[:, None].to(rois.dtype), rois), dim=1)
    return ops.roi_align(features, indexed, size, spatial_scale=scale, sampling_ratio=0, aligned=True)


@contextmanager
def baseline() -> Iterator[None]:
    """The plain way of everything that was made faster."""
    with (
        patch.object(resnet, "conv_norm", norm_after_convolution),
        patch.object(efficientnet_lite, "conv_norm", norm_after_convolution),
        patch.object(roi_pooling, "_align", library_align),
    ):
        yield


def measure(step: Callable[[Batch], object], batch: Batch, steps: int) -> tuple[float, float]:
    """CPU and wall seconds of one step, after one that warms up."""
    step(batch)
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(steps):
        step(batch)
    return (time.process_time() - cpu) / steps, (time.perf_counter() - wall) / steps


def ratio(architecture: str, images: int, height: int, width: int) -> float:
    """How many times as long the baseline takes for a step in float32."""
    batch, ways = make_batch(images, height, width), []
    for plain in (True, False):
        with baseline() if plain else nullcontext():
            ways.append(measure(make_stepper(architecture, "float32", False if plain else None), batch, 2)[0])
    return ways[0] / ways[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architecture", default="r50_mask_rcnn")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--height", type=int, default=800)
    parser.add_argument("--width", type=int, default=1216)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--precision", action="append", choices=("float32", "bf16"), help="one of them; default both")
    parser.add_argument("--no-baseline", action="store_true")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    batch = make_batch(arguments.batch, arguments.height, arguments.width)
    print(
        f"{arguments.architecture}, {arguments.batch} images of {arguments.height}x{arguments.width}, "
        f"{torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    print(f"{'':<28}{'CPU s/step':>12}{'wall s/step':>12}{'images/s':>10}{'to baseline':>13}")
    for precision in arguments.precision or ("float32", "bf16"):
        reference = None
        variants = (
            [(f"{precision}", True)] if arguments.no_baseline else [(f"{precision} baseline", False), (precision, True)]
        )
        for label, ours in variants:
            if ours:
                cpu, wall = measure(make_stepper(arguments.architecture, precision, None), batch, arguments.steps)
            else:
                with baseline():
                    cpu, wall = measure(make_stepper(arguments.architecture, precision, False), batch, arguments.steps)
                reference = cpu
            ratio = f"{cpu / reference:.2f}" if reference else "-"
            print(f"{label:<28}{cpu:>12.2f}{wall:>12.2f}{arguments.batch / wall:>10.2f}{ratio:>13}", flush=True)
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB")


if __name__ == "__main__":
    main()
