"""Names of what is not in an image, asked for one image at a time: whatever is found over the threshold is wrong.

Two kinds: nouns of the package's lists that are unlike all that is annotated in the image, and random strings in
several scripts, which mean nothing at all. A noun may be in the image unannotated, so a perfect model does not reach 0.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vlpart.evaluation.dataset import Dataset
from vlpart.evaluation.run import Predicts
from vlpart.jobs import Progress
from vlpart.text.prompts import plain_prompt
from vlpart.text.static import StaticTextEncoder
from vlpart.text.vocabulary import Vocabulary

LISTS = ("lvis_v1", "imagenet_1k", "paco")
UNLIKE = 0.5  # cosine of the static table below which a noun is none of those annotated
_ALPHABETS = (
    "abcdefghijklmnopqrstuvwxyz",
    "bcdfghjklmnpqrstvwxz",
    "абвгдежзиклмнопрстуфхцчшщыэюя",
    "αβγδεζηθικλμνξοπρστυφχψω",
    "椅子車輪猫犬門窓机足手頭花木鳥魚",
    "가나다라마바사아자차카타파하",
    "ابتثجحخدذرزسشصضطظعغ",
    "0123456789",
    "#@!?%&*+=~^<>",
)


@dataclass(frozen=True, kw_only=True)
class Absent:
    """What was found of things that are not there.

    Attributes:
        images: images asked about.
        names: nouns asked for in each.
        detections: detections of nouns over the threshold, in all images.
        worst: the nouns found most often, with counts.
        strings, strings_found: random strings, and how many of them were found in at least one of the images.
    """

    images: int
    names: int
    detections: int
    worst: tuple[tuple[str, int], ...]
    strings: int
    strings_found: int

    @property
    def per_image(self) -> float:
        """Detections of absent nouns per image."""
        return self.detections / self.images if self.images else float("nan")

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**vars(self), "worst": [list(row) for row in self.worst], "per_image": self.per_image}


def nouns() -> list[str]:
    """The object names of the package's large lists as plain words, sorted."""
    lists = [Vocabulary.load(name) for name in LISTS]
    return sorted({plain_prompt(v.object_name(i)) for v in lists for i in range(len(v))})


def random_strings(count: int, seed: int = 0) -> list[str]:
    """So many different strings that mean nothing, of one or two words, in Latin letters and other scripts."""
    rng = random.Random(seed)
    nouns: dict[str, None] = {}
    while len(nouns) < count:
        letters = _ALPHABETS[len(nouns) % len(_ALPHABETS)]
        words = ["".join(rng.choices(letters, k=rng.randint(4, 9))) for _ in range(rng.randint(1, 2))]
        nouns[" ".join(words)] = None
    return list(nouns)


def ask_absent(
    predictor: Predicts,
    dataset: Dataset,
    count: int,
    *,
    threshold: float = 0.5,
    string_images: int = 4,
    seed: int = 0,
    progress: Progress | None = None,
) -> Absent:
    """Ask every image for `count` nouns that are unlike what is annotated in it, and a few images for random strings.

    Args:
        predictor: `vlpart.load(...)`.
        dataset: with images.
        count: nouns per image, and random strings.
        threshold: on the score.
        string_images: images that the random strings are looked for in, evenly spaced.
        seed: of the choice.
        progress: called after every image.

    Raises:
        DataError: an image is missing.
    """
    encoder, every = StaticTextEncoder(), nouns()
    vectors = encoder.encode(every)
    objects = {c["id"]: plain_prompt(c.get("object") or c["name"]) for c in dataset.truth["categories"]}
    of_category = {i: encoder.encode([name])[0] for i, name in objects.items()}
    seen: dict[int, set[int]] = {}
    for annotation in dataset.truth["annotations"]:
        seen.setdefault(annotation["image_id"], set()).add(annotation["category_id"])
    rng, total, worst = np.random.default_rng(seed), 0, Counter[str]()
    images = dataset.truth["images"]
    for done, image in enumerate(images, 1):
        known = [of_category[i] for i in sorted(seen.get(image["id"], ()))]
        unlike = np.arange(len(every)) if not known else np.flatnonzero((vectors @ np.stack(known).T).max(1) < UNLIKE)
        chosen = [every[i] for i in rng.permutation(unlike)[:count]]
        detected = _found(predictor, dataset.pixels_or_path(image), chosen, threshold)
        total += len(detected)
        worst.update(detected)
        if progress is not None:
            progress("asking for what is not there", done, len(images))
    strings, met = random_strings(count, seed), set[str]()
    for i in np.linspace(0, len(images) - 1, min(string_images, len(images))).round().astype(int):
        met.update(_found(predictor, dataset.pixels_or_path(images[i]), strings, threshold))
    return Absent(
        images=len(images),
        names=count,
        detections=total,
        worst=tuple(worst.most_common(10)),
        strings=len(strings),
        strings_found=len(met),
    )


def _found(predictor: Predicts, source: Any, names: Sequence[str], threshold: float) -> list[str]:
    """The name of every detection over the threshold."""
    vocabulary = Vocabulary.from_names(list(names))
    read = predictor.read(source)
    (result,) = predictor.detect([read], vocabulary, score_threshold=threshold, max_detections=100 * len(names))
    return [names[int(i)] for i in result.class_ids]
