"""A small but real training run on random data, as a module and as a program that a test can kill.

python killable.py OUTPUT ITERATIONS [SECONDS_PER_STEP [DATA]]

DATA is a folder that `made_up.write_dataset` wrote: the real loader with a worker process then reads it.
"""

from __future__ import annotations

import hashlib
import sys
import time
from pathlib import Path

import torch
from made_up import boxes_source
from torch import Tensor, nn
from torch.nn import functional as F

from vlpart.data.indexing import load_source
from vlpart.data.loader import make_loader
from vlpart.data.source import Source
from vlpart.training.loop import Trainer
from vlpart.training.recipe import Recipe
from vlpart.types import AnnotationKind, Batch, ImageBatch, Targets


def make_source(name: str = "a") -> Source:
    return Source(
        name=name,
        annotations=Path("none.json"),
        images=Path(),
        vocabulary="dataset",
        kind=AnnotationKind.BOXES,
        batch_size=2,
    )


def make_recipe(**options) -> Recipe:
    fields = {
        "name": "small",
        "architecture": "tiny",
        "text_encoder": "static",
        "sources": (make_source("a"), make_source("b")),
        "iterations": 12,
        "learning_rate": 1e-2,
        "schedule": "cosine",
        "warmup_iterations": 3,
        "checkpoint_every": 2,
        "log_every": 4,
        "clip_norm": 1.0,
        "ema_decay": 0.9,
        "seed": 3,
    }
    return Recipe(**(fields | options))


class SmallModel(nn.Module):
    """Convolution, dropout (draws from the global generator), batch norm (has buffers), a frozen parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 4)
        self.frozen = nn.Parameter(torch.ones(4), requires_grad=False)

    def forward(self, pixels: Tensor) -> Tensor:
        x = F.dropout(F.relu(self.norm(self.conv(pixels))), 0.2, self.training)
        return self.head(x.mean(dim=(2, 3))) * self.frozen


class RandomBatches:
    """Batches drawn from a seed; its state is the number of batches handed out."""

    def __init__(self, seed: int, seconds: float = 0.0, bad_at: int | None = None) -> None:
        self.seed, self.seconds, self.bad_at = seed, seconds, bad_at
        self.given = 0

    def __iter__(self):
        while True:
            generator = torch.Generator().manual_seed(self.seed * 1000 + self.given)
            pixels = torch.randn(2, 3, 16, 16, generator=generator)
            torch.rand(1)  # a loader may draw from the global generator; that must not change the run
            if self.given == self.bad_at:
                pixels[0, 0, 0, 0] = float("nan")
            targets = [
                Targets(
                    boxes_xyxy=torch.tensor([[1.0, 1.0, 9.0, 9.0]]),
                    labels=torch.randint(0, 4, (1,), generator=generator),
                    masks=None,
                    image_labels=torch.zeros(0, dtype=torch.int64),
                )
                for _ in range(2)
            ]
            time.sleep(self.seconds)
            self.given += 1
            yield Batch(
                images=ImageBatch(pixels=pixels, sizes_hw=[(16, 16)] * 2),
                targets=targets,
                source="ab"[self.given % 2],
                kind=AnnotationKind.BOXES,
                image_ids=[self.given, 7],
                paths=["x.jpg", "y.jpg"],
            )

    def state_dict(self):
        return {"given": self.given}

    def load_state_dict(self, state):
        self.given = state["given"]


class Slowed:
    """A loader with a pause before every batch."""

    def __init__(self, loader, seconds: float) -> None:
        self.loader, self.seconds = loader, seconds
        self.state_dict, self.load_state_dict = loader.state_dict, loader.load_state_dict

    def __iter__(self):
        for batch in self.loader:
            time.sleep(self.seconds)
            yield batch


def make_trainer(
    output: Path, recipe: Recipe | None = None, *, seconds=0.0, bad_at=None, loader=None, **options
) -> Trainer:
    recipe = recipe or make_recipe()
    torch.manual_seed(recipe.seed)
    model = SmallModel()
    generator = torch.Generator().manual_seed(recipe.seed)

    def compute(batch: Batch) -> dict[str, Tensor]:
        logits = model(batch.images.pixels)
        labels = torch.stack([t.labels[0] for t in batch.targets])
        noise = torch.rand(1, generator=generator)  # stands for the sampling of proposals
        return {"loss_class": F.cross_entropy(logits, labels), "loss_noise": logits.square().mean() * noise[0]}

    loader = loader or RandomBatches(recipe.seed, seconds, bad_at)
    return Trainer(recipe, model, loader, compute, output, generator=generator, **options)


def fingerprint(trainer: Trainer) -> str:
    """A hash of every bit of the weights, the buffers and the moving average."""
    digest = hashlib.sha256()
    tensors = {**trainer.model.state_dict()}
    if trainer.average is not None:
        tensors |= {f"ema.{k}": v for k, v in trainer.average.shadow.items()}
    for name, value in sorted(tensors.items()):
        digest.update(name.encode())
        digest.update(value.contiguous().numpy().tobytes())
    return digest.hexdigest()


def main(output: str, iterations: str, seconds: str = "0", data: str | None = None) -> None:
    """Run, resuming what is there."""
    torch.set_num_threads(1)
    recipe, loader = make_recipe(iterations=int(iterations)), None
    if data is not None:
        recipe = make_recipe(iterations=int(iterations), sources=(boxes_source(Path(data)),))
        loader = Slowed(make_loader([load_source(recipe.sources[0])], seed=0, workers=1), float(seconds))
    running = make_trainer(Path(output), recipe, seconds=float(seconds), loader=loader)
    running.resume()
    running.run(say=lambda line: print(line, file=sys.stderr, flush=True))


if __name__ == "__main__":
    main(*sys.argv[1:])
