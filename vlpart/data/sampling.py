"""Which images make the next batch (docs/method.md, 'Sampling of images'): weighted draws with replacement, or shuffled
epochs of a single source, gathered in buckets.

Draw number d of a run is a function of (seed, d) alone. Rank r of W takes the draws r, r + W, r + 2W, ... Every draw
goes to the bucket (source, landscape or portrait) of its image, and a bucket that reaches the source's batch size is
the next batch. So the whole state of a sampler is the number of the next draw and the draws that wait in buckets.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from vlpart.data.records import RecordStore
from vlpart.data.source import LoadedSource
from vlpart.errors import DataError

_BLOCK = 4096  # draws that are generated at once
_DRAW_STREAM, _AUGMENTATION_STREAM = 0, 1

#: "weighted" = with replacement, by the weights of images and sources; "epochs" = every image of the only source once
#: (or as often as its repeat factor says) before any of them comes again.
Sampling = Literal["weighted", "epochs"]


@dataclass(frozen=True, slots=True)
class Draw:
    """Draw `index` of the run took image `image` of the `source`-th source."""

    index: int
    source: int
    image: int


def generator(seed: int, stream: int, counter: int) -> np.random.Generator:
    """A random generator of its own for every (seed, stream, counter); counters may be taken in any order."""
    return np.random.Generator(
        np.random.Philox(key=np.array([seed, counter], dtype=np.uint64), counter=[0, 0, 0, stream])
    )


def augmentation_generator(seed: int, draw_index: int) -> np.random.Generator:
    """Randomness for the augmentation of one draw, whichever process computes it."""
    return generator(seed, _AUGMENTATION_STREAM, draw_index)


def repeat_factors(store: RecordStore, classes: int, threshold: float) -> NDArray[np.float64]:
    """(I,) factors of the images: max over their classes of max(1, sqrt(threshold / f_c)).

    f_c is the fraction of images with class c. Images without classes have the factor 1.
    """
    pairs = store.image_class_pairs()
    frequency = np.bincount(pairs[:, 1], minlength=classes) / max(1, len(store))
    with np.errstate(divide="ignore"):
        per_class = np.maximum(1.0, np.sqrt(threshold / frequency))
    factors = np.ones(len(store))
    np.maximum.at(factors, pairs[:, 0], per_class[pairs[:, 1]])
    return factors


def image_weights(sources: Sequence[LoadedSource]) -> list[NDArray[np.float64]]:
    """Per source (I,) weights: largest source size / source size * ratio / sum of ratios, times the repeat factors,
    which are scaled to a mean of 1 for it.
    """
    largest = max(len(source) for source in sources)
    ratios = sum(source.source.ratio for source in sources)
    weights = []
    for loaded in sources:
        weight = np.full(len(loaded), largest / len(loaded) * loaded.source.ratio / ratios)
        if loaded.source.repeat_threshold:
            factors = repeat_factors(loaded.store, len(loaded.vocabulary), loaded.source.repeat_threshold)
            weight *= factors * (len(loaded) / factors.sum())
        weights.append(weight)
    return weights


def _epoch_factors(source: LoadedSource) -> NDArray[np.float64]:
    threshold = source.source.repeat_threshold
    return repeat_factors(source.store, len(source.vocabulary), threshold) if threshold else np.ones(len(source))


class Draws(Protocol):
    """Random access to the draws of a run."""

    def __getitem__(self, index: int) -> Draw:
        """Draw number `index`."""
        ...


class EpochStream:
    """Shuffled epochs of one source, without replacement.

    An image with the repeat factor f comes floor(f) times in an epoch, and once more with the probability f - floor(f),
    drawn anew for every epoch (Gupta et al., "LVIS", CVPR 2019). All processes shuffle alike and take every W-th draw.

    Args:
        factors: (I,) repeat factors, at least 1.
        seed: same seed, same order.
    """

    def __init__(self, factors: NDArray[np.float64], seed: int) -> None:
        self._whole = np.floor(factors).astype(np.int64)
        self._fraction = factors - self._whole
        self._seed = seed
        self._starts = [0]  # of the epochs whose lengths are known
        self._kept: tuple[int, NDArray[np.int64]] | None = None

    def epoch(self, number: int) -> NDArray[np.int64]:
        """The images of an epoch, in their order."""
        if self._kept is None or self._kept[0] != number:
            random = generator(self._seed, _DRAW_STREAM, number)
            times = self._whole + (random.random(len(self._whole)) < self._fraction)
            self._kept = (number, random.permutation(np.repeat(np.arange(len(times)), times)))
        return self._kept[1]

    def __getitem__(self, index: int) -> Draw:
        """Draw number `index`."""
        while self._starts[-1] <= index:
            self._starts.append(self._starts[-1] + len(self.epoch(len(self._starts) - 1)))
        number = bisect_right(self._starts, index) - 1
        return Draw(index, 0, int(self.epoch(number)[index - self._starts[number]]))


class DrawStream:
    """Weighted draws with replacement, in any order."""

    def __init__(self, weights: Sequence[NDArray[np.float64]], seed: int) -> None:
        self._starts = np.cumsum([0, *(len(weight) for weight in weights)])
        self._cumulative = np.cumsum(np.concatenate(weights))
        self._seed = seed
        self._blocks: dict[int, NDArray[np.int64]] = {}

    def __getitem__(self, index: int) -> Draw:
        """Draw number `index`."""
        block, place = divmod(index, _BLOCK)
        if block not in self._blocks:
            if len(self._blocks) > 7:
                self._blocks.clear()
            u = generator(self._seed, _DRAW_STREAM, block).random(_BLOCK) * self._cumulative[-1]
            chosen = np.searchsorted(self._cumulative, u, side="right")
            self._blocks[block] = np.minimum(chosen, len(self._cumulative) - 1)
        image = int(self._blocks[block][place])
        source = int(np.searchsorted(self._starts, image, side="right")) - 1
        return Draw(index, source, image - int(self._starts[source]))


class BatchSampler:
    """Endless batches of draws, each from one source and one orientation.

    Args:
        sources: what is drawn from.
        seed: same seed, same batches.
        sampling: see `Sampling`.
        rank, world_size: this process among all.
        same_source: all ranks get a batch of the same source in every step. Buckets then collect the draws of all ranks
            until they hold `batch_size * world_size`, and rank r takes its slice: together the ranks see exactly what
            one process with the larger batch size sees. Without it ranks fill buckets of their own.

    Raises:
        DataError: no sources, names that repeat, a rank outside the world, epochs of several sources.
    """

    def __init__(
        self,
        sources: Sequence[LoadedSource],
        *,
        seed: int,
        sampling: Sampling = "weighted",
        rank: int = 0,
        world_size: int = 1,
        same_source: bool = False,
    ) -> None:
        if not sources:
            raise DataError("a loader needs at least one source")
        self.names = [source.name for source in sources]
        if len(set(self.names)) != len(self.names):
            raise DataError(f"source names must be unique, got {self.names}")
        if not 0 <= rank < world_size:
            raise DataError(f"rank {rank} is outside a world of {world_size}")
        if not 0 <= seed < 2**63:
            raise DataError(f"the seed must lie between 0 and 2**63 - 1, got {seed}")
        self.seed, self.rank, self.world_size, self.same_source = seed, rank, world_size, same_source
        if sampling == "epochs" and len(sources) > 1:
            raise DataError(f"epochs are of a single source, there are {len(sources)}: draw by their weights")
        self.sampling = sampling
        self.draws: Draws = (
            EpochStream(_epoch_factors(sources[0]), seed)
            if sampling == "epochs"
            else DrawStream(image_weights(sources), seed)
        )
        self._sizes = [len(source) for source in sources]
        self._batch_sizes = [source.source.batch_size for source in sources]
        self._portrait = [source.store.heights >= source.store.widths for source in sources]
        self._stride = 1 if same_source else world_size
        self._next = 0 if same_source else rank
        self._buckets: dict[tuple[int, bool], list[Draw]] = {}

    def __iter__(self) -> Iterator[list[Draw]]:
        while True:
            yield self.next_batch()

    def next_batch(self) -> list[Draw]:
        """The draws of the next batch of this rank."""
        while True:
            draw = self.draws[self._next]
            self._next += self._stride
            key = self._bucket(draw)
            bucket = self._buckets.setdefault(key, [])
            bucket.append(draw)
            size = self._batch_sizes[draw.source]
            if len(bucket) == size * (self.world_size if self.same_source else 1):
                del self._buckets[key]
                return bucket[self.rank * size : (self.rank + 1) * size] if self.same_source else bucket

    def state_dict(self) -> dict[str, Any]:
        """Everything that decides the batches to come; plain numbers, strings and lists."""
        return {
            "seed": self.seed,
            "sampling": self.sampling,
            "rank": self.rank,
            "world_size": self.world_size,
            "same_source": self.same_source,
            "sources": {
                name: {"images": size, "batch_size": batch}
                for name, size, batch in zip(self.names, self._sizes, self._batch_sizes, strict=True)
            },
            "next_draw": self._next,
            "waiting": sorted(draw.index for bucket in self._buckets.values() for draw in bucket),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state` was taken.

        Raises:
            DataError: the state is of another seed, rank, world size, or other sources; nothing is changed then.
        """
        mine = self.state_dict()
        state = {"sampling": "weighted", **state}  # of before there were epochs
        for key in ("seed", "sampling", "rank", "world_size", "same_source", "sources"):
            if state.get(key) != mine[key]:
                raise DataError(
                    f"cannot resume the data order: {key} was {state.get(key)!r} and is {mine[key]!r}; "
                    "resume with the same sources, seed and number of processes, or start with a fresh data order"
                )
        self._next = int(state["next_draw"])
        self._buckets = {}
        for index in state["waiting"]:
            draw = self.draws[index]
            self._buckets.setdefault(self._bucket(draw), []).append(draw)

    def _bucket(self, draw: Draw) -> tuple[int, bool]:
        return draw.source, bool(self._portrait[draw.source][draw.image])
