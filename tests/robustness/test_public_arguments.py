"""Wrong arguments of whatever is public, found by walking: what `vlpart` exports and what the documentation names.

Every parameter of every public function, method and class gets each of the values below. One that is not of the type
that the signature says must be refused by a `VlpartError`, `TypeError` or `ValueError` of one line; one that is may be
taken or refused so. A public callable that has no good arguments in `GOOD` makes a test fail. The tables in
`test_arguments` and `test_newer_arguments` have the values that are wrong though their type is right.
"""

from __future__ import annotations

import importlib
import inspect
import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from enum import Enum
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import vlpart
from tests.robustness.test_arguments import DETECTION, IMAGE, RECIPE, RESULT, SOURCE, THING, TRUTH, WORDS, predictor
from tests.robustness.test_newer_arguments import film
from vlpart import checks
from vlpart.data.images import ReadImage
from vlpart.errors import VlpartError
from vlpart.inference.base import BasePredictor, Defaults
from vlpart.inference.exemplars import Exemplar
from vlpart.inference.given import GivenObjects
from vlpart.results.result import Result
from vlpart.text.vocabulary import Vocabulary

ROOT = Path(__file__).parents[2]
BOX = (1, 1, 20, 15)
MODULES = (
    *("bulk.run", "export.engines", "export.predictor", "export.pretrained", "export.write", "integrations.annotate"),
    *("integrations.cvat", "integrations.label_studio", "integrations.x_anylabeling", "runtime", "video.run"),
)
VALUES: tuple[Any, ...] = (
    *(THING, object, None, True, 0, 1, -1, 1.5, math.nan, math.inf, 10**400, 1j, len),
    *("", "x", "a\0b", "\ud800", "x" * 100_000, b"", b"a\0b", Path("nosuch"), Path("a\0b")),
    *([], [THING], [None], [[]], ["\ud800"], (1,), {}, {"a": THING}, {1: 2}, {THING: "a"}, range(3)),
    *(np.zeros(3), np.array(["x"]), np.array(THING), torch.zeros(2)),
)

Call = tuple[Callable[..., Any], dict[str, Any]]
OVERRIDDEN = ("training.callbacks.Callback",)
"""Classes whose methods users write, and this package calls."""

# ---- what is public


def documented() -> set[str]:
    """The dotted names of this package that the pages of the documentation show."""
    found: set[str] = set()
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))):
        text = page.read_text(encoding="utf-8")
        for module, names in re.findall(r"^\s*(?:>>> )?from (vlpart[\w.]*) import ([\w, ]+)", text, re.MULTILINE):
            found |= {f"{module}.{name.strip()}" for name in names.split(",")}
        found |= set(re.findall(r"\bvlpart(?:\.[a-z_]+)+\.[A-Za-z_]+\b", text))
    return found


def public() -> dict[str, Callable[..., Any]]:
    """Every public function, method and class with its name."""
    found: dict[str, Callable[..., Any]] = {}
    for name in vlpart.__all__:
        found |= callables(name, getattr(vlpart, name))
    for name in sorted(documented()):
        home, _, last = name.rpartition(".")
        if last not in vlpart.__all__ and module_of(name) is None and (module := module_of(home)) is not None:
            found |= callables(name.removeprefix("vlpart."), getattr(module, last, None))
    for home in MODULES:
        module = module_of(f"vlpart.{home}")
        for last, value in () if module is None else vars(module).items():
            if getattr(value, "__module__", "") == f"vlpart.{home}" and inspect.isfunction(value) and last[0] != "_":
                found |= {} if last in vlpart.__all__ else callables(f"{home}.{last}", value)
    return found


def module_of(name: str) -> Any:
    """A module, or None where there is none, or an extra that it needs is missing."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def callables(name: str, thing: Any) -> dict[str, Callable[..., Any]]:
    """A function, or a class with its public methods; nothing for errors, enumerations, protocols."""
    if not callable(thing):
        return {}
    if not inspect.isclass(thing):
        return {name: thing}
    if issubclass(thing, Exception | Enum) or getattr(thing, "_is_protocol", False) or name in OVERRIDDEN:
        return {}
    found = {name: thing}
    for method in dir(thing):
        static = inspect.getattr_static(thing, method)
        function = static.__func__ if isinstance(static, classmethod | staticmethod) else static
        own = inspect.isfunction(function) and function.__module__.startswith("vlpart")
        if own and (not method.startswith("_") or method in ("__call__", "__getitem__")):
            found[f"{name}.{method}"] = function
    return found


# ---- good arguments of all that


@cache
def folder() -> Path:
    """Photos, their annotations, a job of `vlpart bulk` and a film."""
    import tempfile

    path = Path(tempfile.mkdtemp())
    (path / "photos").mkdir()
    Image.fromarray(IMAGE).save(path / "photos" / "a.png")
    (path / "a.json").write_text(json.dumps({**TRUTH, "images": [{**TRUTH["images"][0], "file_name": "a.png"}]}))
    return path


class Blind(BasePredictor):
    """Does all that is done around a network, and finds nothing."""

    name, vocabulary, mask_on, text_encoder = "blind", WORDS, False, "phrase"
    defaults = Defaults(short_side=32, max_side=64, score_threshold=0.5, max_detections=10)

    def _text(self, vocabulary: Vocabulary) -> Any:
        return None

    def _detect(self, images: Sequence[ReadImage], names: Vocabulary, text: Any, options: Any) -> list[Result]:
        return [
            Result(
                image_size=each.pixels.shape[:2],
                boxes_xyxy=np.zeros((0, 4)),
                scores=[],
                class_ids=np.zeros(0, int),
                vocabulary=names,
            )
            for each in images
        ]


BLIND = Blind()


def read() -> Any:
    return BLIND.read(IMAGE)


def of_predictor(name: str, /, **good: Any) -> Callable[[], Call]:
    return lambda: (getattr(BLIND, name), good)


def of(thing: Any, name: str, /, **good: Any) -> Callable[[], Call]:
    return lambda: (getattr(thing, name), good)


def of_module(module: str, name: str, /, **good: Any) -> Callable[[], Call]:
    return lambda: (getattr(importlib.import_module(f"vlpart.{module}"), name), good)


SIZES = {"vocabulary": "dog: head"}
GOOD: dict[str, Callable[[], Call]] = {
    "Exemplar": lambda: (lambda **o: predictor().like(Exemplar(**o)), {"image": IMAGE, "box_xyxy": BOX}),
    "Predictor.__call__": of_predictor("__call__", image=IMAGE),
    "Predictor.predict": of_predictor("predict", image=IMAGE),
    "Predictor.read": of_predictor("read", source=IMAGE),
    "Predictor.stream": of_predictor("stream", images=[IMAGE, IMAGE]),
    "Predictor.parts": of_predictor("parts", image=IMAGE, boxes=[BOX], names="dog", vocabulary="dog: head"),
    "Predictor.detect": lambda: (BLIND.detect, {"images": [read()]}),
    "Predictor.detect_parts": lambda: (
        BLIND.detect_parts,
        {"image": read(), "objects": GivenObjects.of((32, 48), boxes=[BOX], names="dog"), "vocabulary": "dog: head"},
    ),
    "Predictor.embed": lambda: (predictor().embed, {"vocabulary": "dog: head"}),
    "Predictor.like": lambda: (predictor().like, {"exemplars": Exemplar(image=IMAGE, box_xyxy=BOX, name="dog")}),
    "Predictor.become": lambda: (
        copy(predictor()).become,
        {"vocabulary": WORDS, "text_encoder": "phrase", "prompt": "name", "defaults": predictor().defaults},
    ),
}
GOOD |= {
    "Predictor": lambda: (vlpart.Predictor, constructor()),
    "Result": lambda: (
        vlpart.Result,
        {"image_size": (20, 30), "boxes_xyxy": [BOX], "scores": [0.5], "class_ids": [0], "vocabulary": WORDS},
    ),
    "Result.__getitem__": of(RESULT, "__getitem__", key=0),
    "Result.crop": of(RESULT, "crop", i=0),
    "Result.cutout": of(RESULT, "cutout", i=0),
    "Result.filter": of(RESULT, "filter"),
    "Result.from_dict": lambda: (RESULT.from_dict, {"data": RESULT.to_dict()}),
    "Result.is_part": of(RESULT, "is_part", i=0),
    "Result.label_map": of(RESULT, "label_map"),
    "Result.load": lambda: (vlpart.Result.load, {"path": RESULT.save("r.json")}),
    "Result.plot": of(RESULT, "plot"),
    "Result.replaced_by": of(RESULT, "replaced_by"),
    "Result.save": of(RESULT, "save", path="a.png"),
    "Result.select": of(RESULT, "select", phrase="dog"),
    "Result.show": of(RESULT, "show"),
    "Result.summary": of(RESULT, "summary"),
    "Result.to_coco": of(RESULT, "to_coco"),
    "Result.to_dataframe": of(RESULT, "to_dataframe"),
    "Result.to_dict": of(RESULT, "to_dict"),
    "Result.to_fiftyone": of(RESULT, "to_fiftyone"),
    "Result.to_geojson": of(RESULT, "to_geojson"),
    "Result.to_json": of(RESULT, "to_json"),
    "Result.to_labelme": of(RESULT, "to_labelme"),
    "Result.to_supervision": of(RESULT, "to_supervision"),
    "Result.to_yolo": of(RESULT, "to_yolo"),
    "Result.without_nested": of(RESULT, "without_nested"),
    "Result.without_overlapping": of(RESULT, "without_overlapping"),
    "Vocabulary": lambda: (vlpart.Vocabulary, {"entries": WORDS.entries}),
    "Vocabulary.available": of(vlpart.Vocabulary, "available"),
    "Vocabulary.from_categories": of(vlpart.Vocabulary, "from_categories", categories=TRUTH["categories"]),
    "Vocabulary.from_dict": lambda: (vlpart.Vocabulary.from_dict, {"document": WORDS.to_dict()}),
    "Vocabulary.from_embeddings": of(
        vlpart.Vocabulary, "from_embeddings", names=["dog"], embeddings=np.ones((1, 4), np.float32)
    ),
    "Vocabulary.from_names": of(vlpart.Vocabulary, "from_names", names=["dog"]),
    "Vocabulary.index": of(WORDS, "index", name="dog"),
    "Vocabulary.is_part": of(WORDS, "is_part", i=0),
    "Vocabulary.load": of(vlpart.Vocabulary, "load", name_or_path="tiny"),
    "Vocabulary.object_name": of(WORDS, "object_name", i=0),
    "Vocabulary.object_of": of(WORDS, "object_of", i=0),
    "Vocabulary.of": of(vlpart.Vocabulary, "of", value="dog"),
    "Vocabulary.parse": of(vlpart.Vocabulary, "parse", text="dog"),
    "Vocabulary.part_name": of(WORDS, "part_name", i=0),
    "Vocabulary.parts_of": of(WORDS, "parts_of", i=0),
    "Vocabulary.subset": of(WORDS, "subset", indices=[0]),
    "Vocabulary.to_dict": of(WORDS, "to_dict"),
    "load": of(vlpart, "load", name="tiny", device="cpu"),
    "from_pretrained": lambda: (vlpart.from_pretrained, {"name": pretrained(), "device": "cpu"}),
    "save_pretrained": lambda: (vlpart.save_pretrained, {"predictor": predictor(), "folder": "saved"}),
    "export.pretrained.fetch_pretrained": lambda: (pretrained_module().fetch_pretrained, {"name": pretrained()}),
    "list_images": lambda: (vlpart.list_images, {"sources": folder() / "photos"}),
    "list_models": of(vlpart, "list_models"),
    "predict_to_folder": lambda: (
        vlpart.predict_to_folder,
        {"predictor": BLIND, "sources": folder() / "photos", "formats": ["json"]},
    ),
    "bulk.run.bulk": lambda: (
        importlib.import_module("vlpart.bulk.run").bulk,
        {"source": folder() / "photos", "dest": "found", "in_process": True, "vocabulary": WORDS},
    ),
    "bulk.tables.read_results": lambda: (
        importlib.import_module("vlpart.bulk.tables").read_results,
        {"dest": str(bulk_folder())},
    ),
    "data.check.run.check": lambda: (
        importlib.import_module("vlpart.data.check.run").check,
        {"paths": folder() / "a.json", "images": folder() / "photos"},
    ),
    "data.convert.convert": of_module("data.convert", "convert", sources=["nosuch"], output="out", form="coco"),
    "data.indexing.load_source": of_module("data.indexing", "load_source", source=SOURCE),
    "data.preprocess.to_batch": of_module("data.preprocess", "to_batch", images=[IMAGE]),
    "data.readers.detect.from_supervision": lambda: (
        importlib.import_module("vlpart.data.readers.detect").from_supervision,
        {"dataset": supervised()},
    ),
    "data.source.Source": of_module("data.source", "Source", name="a", annotations="a.json", images="a"),
    "evaluation.average_precision.score_detections": of_module(
        "evaluation.average_precision",
        "score_detections",
        ground_truth=TRUTH,
        detections=[DETECTION],
        kinds=("boxes",),
    ),
    "models.build.build_detector": lambda: (
        importlib.import_module("vlpart.models.build").build_detector,
        {"architecture": "tiny"},
    ),
    "models.config.get_architecture": of_module("models.config", "get_architecture", name="tiny"),
    "recipes.finetune.finetune": of_module("recipes.finetune", "finetune", data="nosuch"),
    "recipes.get_recipe": of_module("recipes", "get_recipe", name="tiny", data_root=Path("nosuch")),
    "training.assemble.build_trainer": of_module("training.assemble", "build_trainer", recipe=RECIPE, output=Path("o")),
    "training.assemble.describe_run": of_module(
        "training.assemble", "describe_run", recipe=RECIPE, parts=None, output=Path("o")
    ),
    "training.plan.standard_callbacks": of_module(
        "training.plan", "standard_callbacks", recipe=RECIPE, parts=None, output=Path("o")
    ),
    "training.recipe.Recipe": of_module(
        "training.recipe",
        "Recipe",
        name="r",
        architecture="tiny",
        text_encoder="static",
        sources=(SOURCE,),
        iterations=1,
    ),
    "training.recipe.Recipe.changed": of(RECIPE, "changed"),
    "training.recipe.Recipe.to_dict": of(RECIPE, "to_dict"),
    "training.recipe.Recipe.with_batch_size": of(RECIPE, "with_batch_size", images=4),
    "visualize.data_page.write_page": lambda: (
        importlib.import_module("vlpart.visualize.data_page").write_page,
        {"report": importlib.import_module("vlpart.data.check.run").CheckReport(), "path": Path("page.html")},
    ),
    "runtime.choose_device": of_module("runtime", "choose_device"),
    "runtime.open_device": of_module("runtime", "open_device", device="cpu"),
    "runtime.choose_precision": of_module("runtime", "choose_precision", precision="auto", device=torch.device("cpu")),
    "runtime.bf16_instructions": of_module("runtime", "bf16_instructions"),
    "runtime.training_precision": of_module("runtime", "training_precision", precision="auto", device="cpu"),
    "runtime.autocast": of_module("runtime", "autocast", device=torch.device("cpu"), precision="bf16"),
    "runtime.joined": of_module("runtime", "joined", device="cpu"),
    "runtime.own_device": of_module("runtime", "own_device", device="cpu"),
    "runtime.process_group": of_module("runtime", "process_group"),
    "runtime.local_device": of_module("runtime", "local_device"),
    "export.engines.is_exported": of_module("export.engines", "is_exported", name="tiny"),
    "export.engines.check_engine": of_module("export.engines", "check_engine", model="a.onnx", engine="onnxruntime"),
    "export.engines.open_engine": of_module("export.engines", "open_engine", path=Path("nosuch.onnx")),
    "export.predictor.network_input": of_module("export.predictor", "network_input", image=IMAGE),
    "load_exported": of_module("export.predictor", "load_exported", path="nosuch.onnx"),
    "export.write.export": lambda: (
        importlib.import_module("vlpart.export.write").export,
        {"predictor": predictor(), "path": "a.safetensors", "format": "safetensors"},
    ),
    "integrations.annotate.picture_of": of_module(
        "integrations.annotate", "picture_of", result=RESULT, file_name="a.jpg", path=None
    ),
    "integrations.annotate.expected_corrections": of_module(
        "integrations.annotate", "expected_corrections", scores=[0.5], threshold=0.5
    ),
    "integrations.annotate.annotate_folder": lambda: (
        importlib.import_module("vlpart.integrations.annotate").annotate_folder,
        {"predictor": BLIND, "sources": folder() / "photos", "output": "labels"},
    ),
    "integrations.label_studio.labelling_config": of_module(
        "integrations.label_studio", "labelling_config", vocabulary="a"
    ),
    "integrations.label_studio.names_of_config": of_module(
        "integrations.label_studio", "names_of_config", config="<View/>"
    ),
    "integrations.label_studio.controls_of_config": of_module(
        "integrations.label_studio", "controls_of_config", config="<View/>"
    ),
    "integrations.label_studio.prediction_of": of_module(
        "integrations.label_studio", "prediction_of", result=RESULT, model_version="1"
    ),
    "integrations.label_studio.image_of_task": of_module(
        "integrations.label_studio", "image_of_task", task={"data": {"image": "data:image/png;base64,aaaa"}}, root=None
    ),
    "integrations.label_studio.bytes_of_data_address": of_module(
        "integrations.label_studio", "bytes_of_data_address", address="data:image/png;base64,aaaa"
    ),
    "integrations.x_anylabeling.model_info": of_module(
        "integrations.x_anylabeling", "model_info", name="a", classes=["a"]
    ),
    "integrations.x_anylabeling.shapes_of": of_module("integrations.x_anylabeling", "shapes_of", result=RESULT),
    "integrations.cvat.create": of_module("integrations.cvat", "create", device="cpu"),
    "video.run.name_of": of_module("video.run", "name_of", source="a.mp4"),
    "video.run.track_video": lambda: (
        importlib.import_module("vlpart.video.run").track_video,
        {"predictor": BLIND, "source": film()},
    ),
    "video.run.predict_video": lambda: (
        importlib.import_module("vlpart.video.run").predict_video,
        {"predictor": BLIND, "source": film(), "output": "out", "formats": ("jsonl",)},
    ),
}


@cache
def constructor() -> dict[str, Any]:
    from vlpart.models.load import detector_of
    from vlpart.zoo.resolve import resolve

    model = resolve("tiny")
    path, state = model.fetch(), model.read()
    loaded = detector_of(state, path, model.expected(state), mask_on=model.mask_on)
    entry, _ = model.entry_of(loaded.architecture, mask_on=True)
    return {"entry": entry, "loaded": loaded, "device": torch.device("cpu"), "precision": "float32"}


def pretrained_module() -> Any:
    return importlib.import_module("vlpart.export.pretrained")


@cache
def pretrained() -> str:
    return str(vlpart.save_pretrained(predictor(), folder() / "pretrained"))


@cache
def bulk_folder() -> Path:
    from vlpart.bulk.run import bulk

    bulk(folder() / "photos", folder() / "found", vocabulary="dog: head", in_process=True)
    return folder() / "found"


def supervised() -> Any:
    class Data:
        classes = ("dog",)

        def __iter__(self) -> Iterator[Any]:
            return iter(())

    return Data()


# ---- the sweep


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Image.Image, "show", lambda *given, **named: None)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "weights.bin").write_bytes(b"weights")
    if module_of("vlpart.bulk.run") is not None:
        monkeypatch.setattr("vlpart.bulk.run.weight_file", lambda model, path: tmp_path / "weights.bin")
        monkeypatch.setattr("vlpart.bulk.worker.load_model", lambda request: BLIND)


def test_every_public_callable_has_good_arguments() -> None:
    found = public()
    assert len(found) > 80
    assert sorted(set(found) - set(GOOD)) == []


def test_good_arguments_are_of_the_right_type() -> None:
    found = public()
    for name in sorted(set(GOOD) & set(found)):
        _, good = GOOD[name]()
        hints = checks.hints_of(found[name])
        odd = [each for each in good if not checks.fits(good[each], hints.get(each, Any), strict=False)]
        unfit = {"parts"}  # of trainings, too long to make
        assert not set(odd) - unfit, f"{name}: {odd}"


@pytest.mark.parametrize("name", sorted(GOOD))
def test_whatever_is_public_refuses_what_does_not_fit(name: str) -> None:
    if name not in (found := public()):
        assert name not in {*vlpart.__all__, *documented()}
        pytest.skip("an extra is missing")
    hints = checks.hints_of(found[name])
    wrong: list[str] = []
    for parameter in inspect.signature(found[name]).parameters.values():
        if parameter.name in ("self", "cls") or parameter.kind is parameter.VAR_KEYWORD:
            continue
        for value in VALUES:
            call, good = GOOD[name]()
            wrong += faults(call, {**good, parameter.name: value}, parameter.name, hints.get(parameter.name, Any))
    assert not wrong, "\n".join(wrong)


def faults(call: Callable[..., Any], given: dict[str, Any], name: str, hint: Any) -> list[str]:
    """What is wrong with what a call makes of the argument `name`."""
    shown = f"{name}={given[name]!r:.40}"
    try:
        answer = call(**given)
        if isinstance(answer, Iterator):
            list(islice(answer, 2))
    except (VlpartError, TypeError, ValueError) as error:
        message = str(error)
        if not message or "\n" in message or len(message) > 12_000:
            return [f"{shown}: {type(error).__name__} {message[:200]!r}"]
    except IndexError as error:  # as of a list
        return [] if isinstance(given[name], int | range) else [f"{shown}: IndexError: {error}"]
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
        return [f"{shown}: {type(error).__name__}: {str(error)[:200]}"]
    else:
        if not checks.fits(given[name], hint, strict=False):
            return [f"{shown}: gave {answer!r:.80}"]
    return []
