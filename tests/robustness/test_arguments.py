"""Python arguments of the wrong type: a `VlpartError`, `TypeError` or `ValueError` with a message, for every argument
of the public interface. Never another exception, never a silent answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import vlpart
from vlpart.annotation_parser.bank import ReferenceBank
from vlpart.annotation_parser.detector import DetectorOptions
from vlpart.annotation_parser.image_parser import ParserOptions
from vlpart.annotation_parser.object_parser import VotingOptions
from vlpart.annotation_parser.run import open_image_parser
from vlpart.data.convert import convert
from vlpart.data.images import read_image
from vlpart.data.readers import get_reader
from vlpart.data.source import Source
from vlpart.errors import VlpartError
from vlpart.evaluation.average_precision import score_detections
from vlpart.evaluation.benchmarks import get_benchmark
from vlpart.evaluation.dataset import open_dataset, open_own
from vlpart.losses.options import LossOptions
from vlpart.masks.stack import MaskStack
from vlpart.recipes import get_recipe
from vlpart.results.result import Result
from vlpart.text.vocabulary import Entry, Vocabulary
from vlpart.training.recipe import EvaluationSet, Recipe
from vlpart.zoo.catalogue import get_model


class Thing:
    """Something that nobody expects."""

    def __repr__(self) -> str:
        return "Thing()"


THING = Thing()
NO_NUMBER: tuple[Any, ...] = ("x", b"1", [], {}, THING, 1j, float("nan"), [1, 2])
NO_COUNT: tuple[Any, ...] = (*NO_NUMBER, 0, -1, 1.5, float("inf"), 10**400)
NO_TEXT: tuple[Any, ...] = (1, 1.5, [], {}, THING, b"x", True)
NO_PATH: tuple[Any, ...] = (1, 1.5, [], {}, THING, True, "", "a\0b", "x" * 5000, "nosuch")
NO_LIST: tuple[Any, ...] = (1, 1.5, THING, True)
NO_NAMES: tuple[Any, ...] = (*NO_LIST, "", [], {}, {"a": 1}, [1], [None], [[]], [b"a"], [THING], b"a")
NO_IMAGE: tuple[Any, ...] = (
    *(
        1,
        1.5,
        None,
        {},
        THING,
        True,
        "",
        "a\0b",
        b"",
        b"x",
        np.zeros(3),
        np.zeros((4, 4, 3)),
        np.zeros((0, 4, 3), np.uint8),
    ),
    *(
        np.zeros((4, 4, 7), np.uint8),
        np.array("x"),
        np.array([THING]),
        torch.zeros(3),
        torch.zeros(2, 3, 4, 4, dtype=torch.uint8),
    ),
    *(torch.zeros(4, 4, 3, dtype=torch.complex64), Image.new("L", (0, 3)), object),
)


@cache
def predictor() -> vlpart.Predictor:
    return vlpart.load("tiny", device="cpu")


IMAGE = np.zeros((32, 48, 3), np.uint8)
WORDS = Vocabulary.parse("dog: head")
GOOD: dict[str, Any] = {
    "image_size": (20, 30),
    "boxes_xyxy": [[1, 1, 9, 9], [2, 2, 5, 5]],
    "scores": [0.9, 0.8],
    "class_ids": [0, 1],
    "vocabulary": WORDS,
}
RESULT = Result(**GOOD, masks=np.ones((2, 20, 30), bool), image=np.zeros((20, 30, 3), np.uint8))
SOURCE = Source(name="a", annotations="a.json", images="a")
RECIPE = Recipe(name="r", architecture="tiny", text_encoder="static", sources=(SOURCE,), iterations=1)
TRUTH = {
    "images": [{"id": 1, "width": 30, "height": 20, "file_name": "a.jpg"}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5], "area": 25, "iscrowd": 0}],
    "categories": [{"id": 1, "name": "dog"}],
}
DETECTION = {"image_id": 1, "category_id": 1, "score": 0.5, "bbox": [1, 1, 5, 5]}


def predict(**options: Any) -> Any:
    return predictor().predict(options.pop("image", IMAGE), **options)


def to_folder(**options: Any) -> Any:
    return vlpart.predict_to_folder(predictor(), options.pop("sources", ["nosuch.jpg"]), output="out", **options)


def result(**options: Any) -> Any:
    return Result(**{**GOOD, **options})


def scored(**options: Any) -> Any:
    truth, found = options.pop("ground_truth", TRUTH), options.pop("detections", [DETECTION])
    return score_detections(truth, found, **{"kinds": ("boxes",), **options})


def recipe(**options: Any) -> Any:
    return replace(RECIPE, **options)


def losses(**options: Any) -> Any:
    return LossOptions(**options)


def source(**options: Any) -> Any:
    return replace(SOURCE, **options)


def given(function: Callable[..., Any], name: str) -> Callable[[Any], Any]:
    return lambda value: function(**{name: value})


NOT_BOOL: tuple[Any, ...] = ("x", [], THING, 2, None)
TABLE: dict[str, tuple[Callable[[Any], Any], tuple[Any, ...]]] = {
    # ---- loading
    "load name": (lambda v: vlpart.load(v), NO_PATH),
    "load weights": (lambda v: vlpart.load("tiny", weights=v), NO_PATH),
    "load device": (lambda v: vlpart.load("tiny", device=v), (1, 1.5, [], {}, THING, "", "x", "cuda:x", "meta")),
    "load precision": (lambda v: vlpart.load("tiny", precision=v), (*NO_TEXT, None, "", "x")),
    "get_model": (lambda v: get_model(v), (*NO_TEXT, None, "", "x")),
    # ---- predicting
    "predict image": (given(predict, "image"), NO_IMAGE),
    "predict image in a list": (lambda v: predict(image=[IMAGE, v]), (*NO_IMAGE, [IMAGE])),
    "predict vocabulary": (given(predict, "vocabulary"), NO_NAMES),
    "predict score_threshold": (given(predict, "score_threshold"), (*NO_NUMBER, True, -0.1, 1.1)),
    "predict short_side": (given(predict, "short_side"), (*NO_COUNT, True)),
    "predict max_side": (given(predict, "max_side"), (*NO_COUNT, True)),
    "predict max_detections": (given(predict, "max_detections"), (*NO_COUNT, True)),
    "predict max_pixels": (given(predict, "max_pixels"), (*NO_NUMBER, True, 0, -1)),
    "embed": (lambda v: predictor().embed(v), (*NO_NAMES, None)),
    "detect images": (lambda v: predictor().detect(v), (1, None, THING, "abc", [IMAGE], [None], ["x"])),
    "read": (lambda v: predictor().read(v), (*NO_IMAGE, [IMAGE])),
    "read_image": (lambda v: read_image(v), (*NO_IMAGE, [])),
    "read_image timeout": (lambda v: read_image("http://127.0.0.1:9/a.png", timeout=v), (*NO_NUMBER, 0, -1, True)),
    # ---- folders
    "folder predictor": (lambda v: vlpart.predict_to_folder(v, ["a.jpg"], output="out"), (None, 1, "tiny", THING)),
    "folder sources": (given(to_folder, "sources"), (*NO_LIST, None, "", [], [None], [1], [THING], {}, "a\0b")),
    "folder output": (
        lambda v: vlpart.predict_to_folder(predictor(), ["a"], output=v),
        (1, 1.5, [], {}, THING, True, None, "a\0b"),
    ),
    "folder formats": (given(to_folder, "formats"), (*NO_LIST, None, "", [], ["x"], [1], [None])),
    "folder vocabulary": (given(to_folder, "vocabulary"), NO_NAMES),
    "folder score_threshold": (given(to_folder, "score_threshold"), (*NO_NUMBER, True, 2)),
    "folder short_side": (given(to_folder, "short_side"), (*NO_COUNT, True)),
    "folder max_side": (given(to_folder, "max_side"), (*NO_COUNT, True)),
    "folder max_detections": (given(to_folder, "max_detections"), (*NO_COUNT, True)),
    "folder max_pixels": (given(to_folder, "max_pixels"), (*NO_NUMBER, True, 0, -1)),
    "folder batch_size": (given(to_folder, "batch_size"), (*NO_COUNT, True, None)),
    "folder iou": (given(to_folder, "iou"), (*NO_NUMBER, True, -1, 2)),
    "folder drawing": (given(to_folder, "drawing"), (1, "x", [1], THING, {1: 2}, {"nosuch": 1})),
    "folder on_result": (given(to_folder, "on_result"), (1, "x", [])),
    "folder on_failure": (given(to_folder, "on_failure"), (1, "x", [])),
    "folder on_existing": (given(to_folder, "on_existing"), (1, "x", [])),
    # ---- vocabularies
    "Vocabulary.load": (lambda v: Vocabulary.load(v), (*NO_PATH, None, b"x")),
    "Vocabulary.parse": (lambda v: Vocabulary.parse(v), (*NO_TEXT, None, "", "\0", ":", ["dog"])),
    "Vocabulary.from_names": (lambda v: Vocabulary.from_names(v), (*NO_NAMES, None, "dog")),
    "Vocabulary.from_names objects": (
        lambda v: Vocabulary.from_names(["wheel"], objects=v),
        (1, 1.5, THING, True, "a", [], [1], [THING], ["a", "b"], {"a": 1}, [[]]),
    ),
    "Vocabulary.from_categories": (
        lambda v: Vocabulary.from_categories(v),
        (*NO_LIST, None, "", "x", [], {}, {"a": 1}, [1], [None], [{}], [{"id": 1}], [{"id": "a", "name": "dog"}]),
    ),
    "Vocabulary.from_embeddings": (
        lambda v: Vocabulary.from_embeddings(["dog"], v),
        (1, "x", THING, [], [1], [["x"]], [[0, 0]], [[float("nan")]], [[1, 2], [3, 4]], {}),
    ),
    "Vocabulary.of": (lambda v: Vocabulary.of(v), (*NO_NAMES, None)),
    "Vocabulary.from_dict": (
        lambda v: Vocabulary.from_dict(v),
        (1, None, "x", THING, [], {}, [1], {"entries": 1}, {"entries": [1]}, {"entries": [{"id": 1}]}),
    ),
    "Vocabulary": (lambda v: Vocabulary(v), (1, None, "x", THING, (), [], (1,), ("dog",), {})),
    "Entry name": (lambda v: Vocabulary((Entry(name=v, id=1),)), (1, None, THING, b"x", [])),
    "Entry id": (lambda v: Vocabulary((Entry(name="dog", id=v),)), ("x", None, THING, 1.5, [], True)),
    "index": (lambda v: WORDS.index(v), (*NO_TEXT, None, "cat")),
    "subset": (lambda v: WORDS.subset(v), (1, None, "x", THING, [THING], ["a"], [None], [5], [1.5], [])),
    "is_part": (lambda v: WORDS.is_part(v), ("x", None, THING, 1.5, [])),
    "part_name": (lambda v: WORDS.part_name(v), ("x", None, THING, 1.5, [])),
    "object_name": (lambda v: WORDS.object_name(v), ("x", None, THING, 1.5, [])),
    "object_of": (lambda v: WORDS.object_of(v), ("x", None, THING, 1.5, [])),
    "parts_of": (lambda v: WORDS.parts_of(v), ("x", None, THING, 1.5, [])),
    # ---- results
    "Result image_size": (
        given(result, "image_size"),
        (1, None, "xy", THING, (), (1,), (1, 2, 3), (0, 5), ("a", 1), (1.5, 2), [[], []]),
    ),
    "Result boxes_xyxy": (
        given(result, "boxes_xyxy"),
        (1, None, "x", THING, [1], [["a"] * 4] * 2, [[1, 2, 3]] * 2, [[9, 9, 1, 1]] * 2, [[1j] * 4] * 2, {}),
    ),
    "Result scores": (
        given(result, "scores"),
        (1, None, "x", THING, ["a", "b"], [0.5], [2, 1], [float("nan")] * 2, [[0.5]] * 2, {}),
    ),
    "Result class_ids": (
        given(result, "class_ids"),
        (1, None, "x", THING, ["a", "b"], [0], [0, 2], [-1, 0], [0.5, 0], [True, False], {}),
    ),
    "Result vocabulary": (given(result, "vocabulary"), (1, None, "dog", THING, ["dog"], {})),
    "Result masks": (
        given(result, "masks"),
        (1, "x", THING, [1], np.ones((2, 3, 3)), np.full((2, 20, 30), 7), np.ones((1, 20, 30), bool), {}),
    ),
    "Result image": (
        given(result, "image"),
        (1, "x", THING, [1], np.zeros((3, 3, 3), np.uint8), np.zeros((20, 30, 3))),
    ),
    "Result path": (given(result, "path"), (1, THING, [1], 1.5)),
    "Result index": (lambda v: RESULT[v], ("x", None, THING, 1.5, [0.5], ["a"], (0, 1), {}, True)),
    "filter score": (lambda v: RESULT.filter(score=v), (*NO_NUMBER, True, -1, 2)),
    "filter names": (lambda v: RESULT.filter(names=v), (1, 1.5, THING, [1], [None], "cat", ["cat"], b"dog", True)),
    "filter objects": (lambda v: RESULT.filter(objects=v), (1, 1.5, THING, [1], [None], "cat", b"dog", True)),
    "filter parts": (lambda v: RESULT.filter(parts=v), (1, 1.5, THING, [1], [None], "cat", b"head")),
    "without_nested": (lambda v: RESULT.without_nested(v), (*NO_NUMBER, None, True, -1)),
    "without_overlapping": (lambda v: RESULT.without_overlapping(v), (*NO_NUMBER, None, True, -1, 2)),
    "summary name": (lambda v: RESULT.summary(v), (1, [], THING, b"x")),
    "plot image": (lambda v: RESULT.plot(v), (1, "", THING, b"x", [], np.zeros((3, 3, 3), np.uint8))),
    "crop": (lambda v: RESULT.crop(v), ("x", None, THING, 1.5, [])),
    "crop margin": (lambda v: RESULT.crop(0, margin=v), (*NO_NUMBER, None, True, -1)),
    "cutout": (lambda v: RESULT.cutout(v), ("x", None, THING, 1.5, [])),
    "save": (lambda v: RESULT.save(v), (1, None, [], THING, "", "a", "a.txt", "a\0b.json", "x" * 300 + ".json")),
    "label_map": (lambda v: RESULT.label_map(v), (1, None, [], THING, "x")),
    "to_coco": (lambda v: RESULT.to_coco(v), (None, [], THING, 1.5, b"x")),
    "to_labelme": (lambda v: RESULT.to_labelme(v), (1, [], THING, b"x")),
    "Result.from_dict": (lambda v: Result.from_dict(v), (1, None, "x", THING, [], {}, [1], {"format": 1})),
    "Result.load": (lambda v: Result.load(v), (*NO_PATH, None, b"x")),
    "to_json indent": (lambda v: RESULT.to_json(indent=v), ([], THING, 1.5)),
    # ---- masks
    "MaskStack index": (lambda v: RESULT.masks[v], ("x", THING, 1.5, [0.5], ["a"], {})),  # type: ignore[index]
    "MaskStack.from_bitmaps": (
        lambda v: MaskStack.from_bitmaps(v),
        (1, None, "x", THING, [], [1], [[[2]]], [["a"]], {}),
    ),
    "MaskStack.from_rles": (
        lambda v: MaskStack.from_rles(v),
        (1, None, "x", THING, [], [1], [{}], [{"size": [1, 1], "counts": 5}], {}),
    ),
    "polygons": (lambda v: RESULT.masks.polygons(0, v), ("x", None, THING, [], float("nan"), -1)),  # type: ignore[union-attr]
    "resized": (lambda v: RESULT.masks.resized(v), (1, None, "xy", THING, (1,), (0, 1), ("a", 1))),  # type: ignore[union-attr]
    # ---- training
    "get_recipe": (lambda v: get_recipe(v, Path("nosuch")), (*NO_TEXT, None, "", "nosuch", "a\0b", "nosuch.py")),
    "get_recipe data": (lambda v: get_recipe("tiny", v), (1, None, [], THING, 1.5, True)),
    "finetune data": (lambda v: get_recipe("finetune", v), (*NO_PATH, None)),
    "finetune init": (lambda v: get_recipe("finetune", Path("nosuch"), init=v), (1, [], THING, 1.5, "", "nosuch")),
    "get_reader": (lambda v: get_reader(v), (*NO_TEXT, None, "", "x")),
    # ---- data and evaluation
    "open_dataset": (lambda v: open_dataset(v, None), (*NO_PATH, None)),
    "open_own": (lambda v: open_own(v, None), (*NO_PATH, None)),
    "get_benchmark": (lambda v: get_benchmark(v), (*NO_TEXT, None, "", "x")),
    "score ground_truth": (given(scored, "ground_truth"), (*NO_PATH, None, {"images": 1})),
    "score detections": (
        given(scored, "detections"),
        (1, None, "x", THING, {}, [1], [None], [{}], [{**DETECTION, "score": "x"}], [{**DETECTION, "bbox": 1}]),
    ),
    "score rule": (given(scored, "rule"), (*NO_TEXT, "x")),
    "score max_detections": (given(scored, "max_detections"), (*NO_COUNT, None, True)),
    "score kinds": (given(scored, "kinds"), (1, None, THING, "boxes", [], ["x"], [1], ())),
    "score groups": (given(scored, "groups"), (1, "x", THING, [1], {"a": 1}, {"a": ["x"]}, {"a": [99]})),
    "convert sources": (lambda v: convert(v, "out", "coco"), (*NO_LIST, None, "", [], [1], [None], "nosuch", "a\0b")),
    "convert output": (lambda v: convert(["nosuch"], v, "coco"), (1, None, [], THING, 1.5)),
    "convert form": (lambda v: convert(["nosuch"], "out", v), (*NO_TEXT, None, "", "x")),
    # ---- parser
    "ReferenceBank": (lambda v: ReferenceBank(v), (*NO_PATH, None)),
    "open_image_parser bank": (lambda v: open_image_parser(v, ParserOptions()), (1, "x", [], THING)),
    "open_image_parser options": (lambda v: open_image_parser(None, v), (1, "x", [], THING, None, {})),
}
FIELDS: dict[type, tuple[Callable[..., Any], dict[str, tuple[Any, ...]]]] = {
    Recipe: (
        recipe,
        {
            "name": (1, None, [], THING),
            "architecture": (1, None, [], THING),
            "text_encoder": (1, None, THING),
            "sources": (1, None, "x", [], [1], ("a",), THING),
            "iterations": (*NO_COUNT, None, True),
            "prompt": (1, None, "x", []),
            "mask_on": NOT_BOOL,
            "inference_vocabulary": (1, [], THING),
            "init": (1, None, [], THING),
            "evaluate_on": (1, "x", [1], THING),
            "learning_rate": (*NO_NUMBER, None, 0, -1, True),
            "weight_decay": (*NO_NUMBER[:-2], None, True),
            "schedule": (1, None, "x", []),
            "steps": (1, "x", [1.5], (2, 1), ("a",), THING),
            "accumulate": (*NO_COUNT, None, True),
            "clip_norm": (*NO_NUMBER, 0, -1, True),
            "ema_decay": (*NO_NUMBER, 1, -1, True),
            "checkpoint_every": (*NO_COUNT, None, True),
            "evaluate_every": (*NO_COUNT, True),
            "seed": ("x", None, 1.5, THING, True),
            "losses": (1, None, "x", {}, THING),
            "frozen": (1, "x", [1], THING),
            "teacher_names": (*NO_COUNT, None, True),
            "initial_share": (*NO_NUMBER, None, 1, -1, True),
        },
    ),
    LossOptions: (
        losses,
        {
            "proposals": (*NO_COUNT, None, True),
            "roi_positive_fraction": (*NO_NUMBER, None, -1, 2, True),
            "stage_ious": (1, None, "x", ["a"], THING),
        },
    ),
    Source: (
        source,
        {
            "name": (1, None, [], THING, ""),
            "annotations": (1, None, [], THING),
            "images": (1, None, [], THING),
            "reader": (1, None, [], THING),
            "kind": (1, None, "x", THING),
            "ratio": (*NO_NUMBER, None, 0, True),
            "batch_size": (*NO_COUNT, None, True),
            "short_sides": (1, None, "x", [], ["a"], [1.5], THING),
            "max_side": (*NO_COUNT, None, True),
            "only_objects": (1, "car", [1], THING),
            "exclude_objects": (1, None, "car", [1], THING),
            "flip": (*NO_NUMBER, None, 2, True),
            "scale_jitter": (1, "x", [1], ["a", "b"], (2, 1), THING),
            "take": (1, None, [], "x"),
        },
    ),
    EvaluationSet: (
        lambda **options: EvaluationSet(**{"name": "a", "annotations": Path("a"), "images": Path("b"), **options}),
        {"name": (1, None, []), "annotations": (1, None, []), "benchmark": (1, [], "x"), "max_images": NO_COUNT},
    ),
    ParserOptions: (
        lambda **options: ParserOptions(**options),
        {
            "short_side": (*NO_COUNT, True),
            "min_iou": (*NO_NUMBER, None, True),
            "base_objects": (1, "x", [1]),
            "sources": (1, None, "x", {"a": 1}),
            "use_proposals": NOT_BOOL,
        },
    ),
    VotingOptions: (
        lambda **options: VotingOptions(**options),
        {
            "long_side": (*NO_COUNT, True),
            "references": (*NO_COUNT, None, True),
            "detector_share": (*NO_NUMBER, None, True),
            "sources": (1, None, "x"),
        },
    ),
    DetectorOptions: (
        lambda **options: DetectorOptions(**options),
        {"short_side": (*NO_COUNT, None, True), "score_threshold": (*NO_NUMBER, None, True), "kept": (*NO_COUNT, None)},
    ),
}
TABLE |= {
    f"{kind.__name__} {name}": (given(make, name), values)
    for kind, (make, by_name) in FIELDS.items()
    for name, values in by_name.items()
}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    yield
    assert not list(tmp_path.rglob("*.json")), "something was written"


def refusals(call: Callable[[Any], Any], values: tuple[Any, ...]) -> list[str]:
    """What is wrong with how wrong arguments are refused, a line for each value."""
    wrong = []
    for value in values:
        try:
            answer = call(value)
        except (VlpartError, TypeError, ValueError) as error:
            message = str(error)
            if not message or "\n" in message or len(message) > 12_000:
                wrong.append(f"{value!r:.60}: {type(error).__name__} {message[:200]!r}")
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
            wrong.append(f"{value!r:.60}: {type(error).__name__}: {error}")
        else:
            wrong.append(f"{value!r:.60}: gave {answer!r:.80}")
    return wrong


@pytest.mark.parametrize("name", TABLE)
def test_wrong_arguments_are_refused(name: str) -> None:
    wrong = refusals(*TABLE[name])
    assert not wrong, "\n".join(wrong)
