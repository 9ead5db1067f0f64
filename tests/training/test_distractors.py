"""Names of other sources as negatives: which are taken, and what they do to a batch."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from vlpart.text.encoders import encode_vocabulary, get_text_encoder
from vlpart.text.vocabulary import Vocabulary
from vlpart.training.distractors import Distractors
from vlpart.types import AnnotationKind, Batch, ImageBatch, Targets

LISTS = {  # what each source labels, and what may be taken as absent from it
    "cars": ("car: wheel, door", "all"),
    "rooms": ("chair: leg, seat; person: hand; lamp", "own_objects"),
    "faces": ("person: ear, nose", "all"),
    "plain": ("chair", "none"),
}
SHARED_OUT = {  # two sources of one list, and one that has nothing to do with it
    "seats": ("chair: leg, seat; sofa: leg", "at_matches"),
    "stools": ("stool: leg, seat; Chair", "at_matches"),
    "faces": ("person: ear, nose", "all"),
}


def make(
    count: int = 100, lists: dict[str, tuple[str, str]] = LISTS
) -> tuple[Distractors, dict[str, Vocabulary], dict[str, torch.Tensor]]:
    encoder = get_text_encoder("static")
    vocabularies = {name: Vocabulary.parse(words) for name, (words, _) in lists.items()}
    text = {name: torch.tensor(encode_vocabulary(encoder, v)) for name, v in vocabularies.items()}
    sources: list[Any] = [
        SimpleNamespace(name=name, vocabulary=vocabularies[name], source=SimpleNamespace(negative_names=rule))
        for name, (_, rule) in lists.items()
    ]
    return Distractors(sources, text, encoder, count), vocabularies, text


def batch(source: str, labels: list[int], unknown: list[bool] | None = None) -> Batch:
    targets = Targets(
        boxes_xyxy=torch.zeros(len(labels), 4),
        labels=torch.tensor(labels, dtype=torch.int64),
        masks=None,
        image_labels=torch.zeros(0, dtype=torch.int64),
        unknown_labels=None if unknown is None else torch.tensor(unknown),
    )
    images = ImageBatch(pixels=torch.zeros(1, 3, 32, 32), sizes_hw=[(32, 32)])
    return Batch(images=images, targets=[targets], source=source, kind=AnnotationKind.PARTS)


def added(
    source: str,
    labels: list[int],
    unknown: list[bool] | None = None,
    lists: dict[str, tuple[str, str]] = LISTS,
) -> set[str]:
    """Names of the columns that joined."""
    distractors, vocabularies, text = make(lists=lists)
    _, words = distractors.add(batch(source, labels, unknown), text[source], torch.Generator().manual_seed(0))
    extra = words[len(text[source]) :]
    everything = {name: row for s, v in vocabularies.items() for name, row in zip(v.names, text[s], strict=True)}
    return {name for vector in extra for name, row in everything.items() if torch.equal(row, vector)}


def test_a_source_of_cars_may_deny_everything_unlike_cars() -> None:
    assert added("cars", [0]) == {
        "chair",
        "chair:leg",
        "chair:seat",
        "person",
        "person:hand",
        "person:ear",
        "person:nose",
        "lamp",
    }


def test_objects_in_the_image_are_not_denied_their_parts() -> None:
    assert added("rooms", [0]) == {"person", "person:ear", "person:nose"}
    assert added("rooms", [3]) == {"chair"}  # a person: ears and noses may be there; the other source's chair is not


def test_what_may_be_there_unlabelled_is_not_denied() -> None:
    vocabulary = Vocabulary.parse(LISTS["rooms"][0])
    unknown = [name == "person" for name in vocabulary.names]
    assert added("rooms", [0], unknown) == set()


def test_sources_without_the_rule_stay_as_they_are() -> None:
    distractors, _, text = make()
    before = batch("plain", [0])
    after, words = distractors.add(before, text["plain"], None)
    assert after is before
    assert words is text["plain"]


def test_the_number_is_limited_and_unknown_labels_grow_along() -> None:
    distractors, _, text = make(count=2)
    unknown = [False] * len(text["rooms"])
    after, words = distractors.add(batch("rooms", [0], unknown), text["rooms"], torch.Generator().manual_seed(0))
    assert len(words) == len(text["rooms"]) + 2
    grown = after.targets[0].unknown_labels
    assert grown is not None
    assert grown.tolist() == [*unknown, False, False]


def test_sources_that_share_out_a_list_contrast_their_names_at_annotations() -> None:
    assert added("seats", [1], lists=SHARED_OUT) == {"stool", "stool:leg", "stool:seat"}  # "Chair" is an own name
    assert added("stools", [0], lists=SHARED_OUT) == {"chair:leg", "chair:seat", "sofa", "sofa:leg"}
    distractors, _, text = make(lists=SHARED_OUT)
    own = len(text["seats"])
    for unknown in (None, [True] * own):
        after, words = distractors.add(batch("seats", [1], unknown), text["seats"], torch.Generator().manual_seed(0))
        (target,) = after.targets
        assert target.only_at_matches is not None
        assert target.only_at_matches.tolist() == [False] * own + [True] * (len(words) - own)
        assert (target.unknown_labels is None) == (unknown is None)
        assert unknown is None or target.unknown_labels.tolist() == unknown + [False] * (len(words) - own)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_draw_follows_the_generator(seed: int) -> None:
    distractors, _, text = make(count=2)
    draws = [
        distractors.add(batch("cars", [0]), text["cars"], torch.Generator().manual_seed(seed))[1] for _ in range(2)
    ]
    assert torch.equal(*draws)
