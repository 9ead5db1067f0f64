"""More like this: vectors of regions, beside names and without."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import vlpart
from vlpart import DataError, Exemplar, Vocabulary
from vlpart.inference.exemplars import (
    QUIET,
    SHARE,
    _vector,
    exemplar_vectors,
    merge,
    packed,
    parse_exemplar,
    region_covariance,
    unpacked,
)
from vlpart.models.build import build_detector
from vlpart.models.config import get_architecture
from vlpart.types import ImageBatch

SAMPLE = Path(vlpart.__file__).parent / "assets" / "samples" / "astronaut.jpg"


@pytest.mark.parametrize("architecture", ["tiny", "tiny2", "r50_mask_rcnn", "swin_b_cascade"])
def test_every_architecture_gives_vectors_of_its_text(architecture: str) -> None:
    torch.manual_seed(0)
    detector = build_detector(architecture).eval()
    dim = get_architecture(architecture).text_dim
    batch = ImageBatch(pixels=torch.randn(1, 3, 96, 128), sizes_hw=[(96, 128)])
    regions = torch.tensor([[10.0, 10.0, 60.0, 70.0], [80.0, 20.0, 120.0, 90.0]])
    text = torch.randn(2, dim)
    vectors = exemplar_vectors(detector, batch, regions, text, [0.0, 1.0])
    assert vectors.shape == (2, dim) and vectors.dtype == torch.float32
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(2))
    again = exemplar_vectors(detector, batch, regions, torch.randn(2, dim), [0.0, 1.0])
    torch.testing.assert_close(again[0], vectors[0])  # nothing of the text was mixed in
    assert not torch.allclose(again[1], vectors[1])


def test_other_regions_are_refused_and_the_own_one_is_not() -> None:
    generator = torch.Generator().manual_seed(1)
    common = torch.randn(64, generator=generator)
    others = torch.nn.functional.normalize(common + 0.5 * torch.randn(200, 64, generator=generator), dim=1)
    own = torch.nn.functional.normalize(common + 1.5 * torch.randn(64, generator=generator), dim=0)
    vector = _vector(own, others, torch.zeros(64), 0.0, 30.0, -6.0)
    logits = 30 * others @ vector - 6
    assert float(torch.quantile(logits, SHARE)) <= QUIET
    assert float(30 * own @ vector - 6) > 5
    name = torch.nn.functional.normalize(torch.randn(64, generator=generator), dim=0)
    mixed = _vector(own, others, name, 0.5, 30.0, -6.0)
    assert float(mixed @ name) > float(vector @ name) + 0.2
    torch.testing.assert_close(_vector(own, others[:3], name, 1.0, 30.0, -6.0), name)


def test_directions_in_which_regions_vary_anyway_count_less() -> None:
    """Two kinds of things, told apart by one direction, in which they vary little beside all the others."""
    generator = torch.Generator().manual_seed(2)
    spread = torch.cat((torch.full((1,), 0.02), torch.full((31,), 0.4)))
    mean = torch.full((32,), 0.5)
    kind = torch.zeros(32)
    kind[0] = 0.1
    regions = mean + spread * torch.randn(400, 32, generator=generator)
    own = mean + spread * torch.randn(1, 32, generator=generator)[0] + kind
    alike = mean + spread * torch.randn(50, 32, generator=generator) + kind
    plain = _vector(own, regions, torch.zeros(32), 0.0, 30.0, -6.0)
    white = _vector(own, regions, torch.zeros(32), 0.0, 30.0, -6.0, torch.diag(spread**2))

    def right(vector: torch.Tensor) -> float:
        return float((alike @ vector > torch.quantile(regions @ vector, 0.9)).float().mean())

    assert right(white) > right(plain) + 0.2


def test_statistics_come_with_the_embedded_model() -> None:
    covariance = region_covariance("tiny2")
    assert covariance is not None and covariance.shape == (256, 256)
    assert torch.equal(covariance, covariance.T) and float(torch.linalg.eigvalsh(covariance).min()) > 0
    assert float(covariance.trace()) < 1  # rows have length 1, and their mean was taken away
    torch.testing.assert_close(unpacked(packed(covariance)), covariance, rtol=2e-3, atol=1e-6)
    assert region_covariance("r50_mask_rcnn") is None


def test_names_of_exemplars_join_the_vocabulary() -> None:
    words = Vocabulary.parse("car: wheel, door")
    whole, places = merge(words, ["car:wheel", "car:rim", "car:wheel"])
    assert whole.names == ("car", "car:wheel", "car:door", "car:rim") and places == [1, 3, 1]
    assert len(set(whole.ids)) == 4
    assert merge(None, ["like this"])[0].names == ("like this",)


def test_reading_what_was_typed(tmp_path: Path) -> None:
    assert parse_exemplar("wheel=a.jpg@1,2,3,4") == Exemplar(image="a.jpg", box_xyxy=(1, 2, 3, 4), name="wheel")
    assert parse_exemplar("a@b=c.jpg@1,2,3,4").image == "c.jpg"
    assert parse_exemplar("folder/x=1.jpg@1,2,3,4").image == "folder/x=1.jpg"
    Image.fromarray(np.eye(8, dtype=np.uint8) * 255).save(tmp_path / "m.png")
    mask = parse_exemplar(f"a.jpg@{tmp_path / 'm.png'}").mask
    assert mask.sum() == 8
    Image.new("L", (8, 8)).save(tmp_path / "empty.png")
    for text, message in (
        ("a.jpg", "PHOTO@x0,y0"),
        ("@1,2,3,4", "PHOTO@x0,y0"),
        ("a.jpg@1,2,3", "neither"),
        ("a.jpg@none.png", "neither"),
        (f"a.jpg@{tmp_path / 'empty.png'}", "is empty"),
    ):
        with pytest.raises(DataError, match=message):
            parse_exemplar(text)


def test_a_mask_is_read_like_any_image_of_a_user(tmp_path: Path) -> None:
    """A pipe does not hold the reader up; a damaged file is one error."""
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.png")
        with pytest.raises(DataError, match="nor a mask that can be read"):
            parse_exemplar(f"a.jpg@{tmp_path / 'pipe.png'}")
    (tmp_path / "bad.png").write_bytes(b"\x89PNG nothing")
    with pytest.raises(DataError, match="nor a mask that can be read"):
        parse_exemplar(f"a.jpg@{tmp_path / 'bad.png'}")


# ---- with the embedded model


@pytest.fixture(scope="module")
def predictor() -> vlpart.Predictor:
    return vlpart.load("tiny", device="cpu")


def iou(a: np.ndarray, b: np.ndarray) -> float:
    shared = np.prod((np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])).clip(0))
    return float(shared / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - shared))


def test_an_eye_finds_the_other_one(predictor: vlpart.Predictor, tiny_weights: Path) -> None:
    named = predictor.predict(SAMPLE, vocabulary="person: eye", score_threshold=0.3).filter(names="person:eye")
    named = named.without_nested().without_overlapping()
    assert len(named) == 2
    words = predictor.like(Exemplar(image=SAMPLE, box_xyxy=named.boxes_xyxy[0].tolist()))
    assert words.names == ("like this",)
    found = predictor.predict(SAMPLE, vocabulary=words, score_threshold=0.3).without_overlapping()
    assert all(max(iou(box, other) for other in found.boxes_xyxy[:3]) > 0.4 for box in named.boxes_xyxy)


def test_an_exemplar_stands_beside_names(predictor: vlpart.Predictor, tiny_weights: Path) -> None:
    words = Vocabulary.parse("person: hair, eye")
    mask = np.zeros((512, 512), dtype=bool)
    mask[150:170, 190:220] = True
    whole = predictor.like([Exemplar(image=SAMPLE, mask=mask, name="person:eye")], words)
    assert whole.names == words.names
    assert whole.embeddings is not None
    np.testing.assert_allclose(whole.embeddings[:2], predictor.embed(words)[:2], atol=1e-6)
    assert float(whole.embeddings[2] @ predictor.embed(words)[2]) < 0.99
    twice = predictor.like([Exemplar(image=SAMPLE, mask=mask)] * 2, whole)
    assert twice.names == (*words.names, "like this")
    np.testing.assert_allclose(twice.embeddings[:3], whole.embeddings, atol=1e-6)  # type: ignore[index]


def test_what_is_no_exemplar(predictor: vlpart.Predictor, tiny_weights: Path) -> None:
    with pytest.raises(DataError, match="no exemplar"):
        predictor.like([])
    with pytest.raises(DataError, match="not in the image of 512x512"):
        predictor.like(Exemplar(image=SAMPLE, box_xyxy=(600, 0, 700, 90)))
    with pytest.raises(DataError, match="no region is given"):
        predictor.like(Exemplar(image=SAMPLE))
    with pytest.raises(DataError, match="one region, not 2"):
        predictor.like(Exemplar(image=SAMPLE, box_xyxy=[[1, 2, 30, 40], [1, 2, 30, 40]]))  # type: ignore[list-item]
    with pytest.raises(ValueError, match="mix"):
        predictor.like(Exemplar(image=SAMPLE, box_xyxy=(0, 0, 70, 90)), mix=2)
