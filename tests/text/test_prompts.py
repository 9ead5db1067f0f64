"""Prompts: the published rule for CLIP, plain words for the embedded encoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vlpart.errors import TextEncoderError
from vlpart.text.prompts import check_phrases, clip_prompt, plain_prompt, prompts_for
from vlpart.text.vocabulary import Vocabulary


@pytest.mark.parametrize(
    ("name", "clip", "plain"),
    [
        ("dog:head", "a dog head", "dog head"),
        ("Quadruped Head", "a quadruped head", "quadruped head"),
        ("traffic_light", "a traffic_light", "traffic light"),
        ("car_(automobile):side mirror", "a car_(automobile) side mirror", "car automobile side mirror"),
        ("aeroplane", "a aeroplane", "aeroplane"),
        ("()", "a ()", "()"),
    ],
)
def test_prompts(name: str, clip: str, plain: str) -> None:
    assert clip_prompt(name) == clip
    assert plain_prompt(name) == plain
    assert prompts_for("clip_rn50", [name]) == [clip]
    assert prompts_for("static", [name]) == [plain]


def test_same_prompt_means_same_published_vector(shared: Path) -> None:
    """Over all published vectors: names with one prompt have one vector, names with different prompts do not."""
    lists = {
        "coco": "coco_clip_RN50_a+cname",
        "voc": "voc_clip_RN50_a+cname",
        "lvis_v1": "lvis_v1_clip_RN50_a+cname",
        "paco": "paco_clip_RN50_a+cname",
        "pascal_part": "pascal_part_clip_RN50_a+cname",
        "partimagenet": "partimagenet_clip_RN50_a+cname",
        "partimagenet_supercategories": "partimagenet_supercat_clip_RN50_a+cname",
        "golden": "imagenet_golden_clip_RN50_a+cname",
        "addition_part": "addition_part_clip_RN50_a+cname",
    }
    prompts: list[str] = []
    vectors = []
    for name, file in lists.items():
        rows = np.load(shared / "clip_rn50" / f"{file}.npy").astype(np.float32)
        prompts += prompts_for("clip_rn50", Vocabulary.load(name).texts)
        vectors.append(rows / np.linalg.norm(rows, axis=1, keepdims=True))
    rows = np.concatenate(vectors)
    assert len(rows) == len(prompts)
    same = np.array(prompts)[:, None] == np.array(prompts)[None]
    cosines = rows @ rows.T
    assert cosines[same].min() > 0.9999
    assert cosines[~same].max() < 0.9999
    assert same.sum() > len(prompts) + 300  # the lists do share names


def test_phrases_are_checked() -> None:
    assert check_phrases(("a", "b")) == ["a", "b"]
    for wrong in ("car", ["car", ""], ["  "], ["car", None], [3]):
        with pytest.raises(TextEncoderError):
            check_phrases(wrong)  # type: ignore[arg-type]
