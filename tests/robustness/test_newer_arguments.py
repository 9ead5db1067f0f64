"""Wrong arguments of what came later: selecting, exemplars, given objects, slices, videos, export, labelling, serving.

As in `test_arguments`.
"""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vlpart
from tests.robustness.test_arguments import (
    IMAGE,
    NO_COUNT,
    NO_IMAGE,
    NO_LIST,
    NO_NAMES,
    NO_NUMBER,
    NO_PATH,
    NO_TEXT,
    NOT_BOOL,
    RESULT,
    THING,
    WORDS,
    refusals,
)
from vlpart.export.facts import Facts
from vlpart.inference.exemplars import Exemplar, parse_exemplar
from vlpart.integrations.annotate import annotate_folder, expected_corrections
from vlpart.integrations.label_studio import bytes_of_data_address, image_of_task, labelling_config, names_of_config
from vlpart.results.phrases import parse

SAMPLE = Path(vlpart.__file__).parent / "assets" / "samples" / "astronaut.jpg"
BOX = (1, 1, 40, 30)


@cache
def predictor() -> vlpart.Predictor:
    return vlpart.load("tiny", device="cpu")


@cache
def film() -> str:
    import av

    path = Path(tempfile.mkdtemp()) / "film.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(2):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode(None))
    return str(path)


def like(**options: Any) -> Any:
    mix = options.pop("mix", 0.5)
    vocabulary = options.pop("vocabulary", None)
    return predictor().like(Exemplar(**{"image": IMAGE, "box_xyxy": BOX, **options}), vocabulary, mix=mix)


def parts(**options: Any) -> Any:
    return predictor().parts(IMAGE, **{"boxes": [BOX], "names": "dog", "vocabulary": "dog: head", **options})


def tracked(**options: Any) -> Any:
    from vlpart.video.run import track_video

    return next(track_video(predictor(), options.pop("source", film()), **{"short_side": 64, **options}))


def filmed(**options: Any) -> Any:
    from vlpart.video.run import predict_video

    return predict_video(
        options.pop("predictor", predictor()), film(), **{"output": "out", "short_side": 64, **options}
    )


def exported(**options: Any) -> Any:
    from vlpart.export.write import export

    given = {"path": "out/a.onnx", "format": "safetensors", **options}
    return export(options.pop("predictor", predictor()), given.pop("path"), given.pop("format"), **options)


def annotated(**options: Any) -> Any:
    given = {"predictor": predictor(), "sources": SAMPLE, "output": "out", **options}
    return annotate_folder(given.pop("predictor"), given.pop("sources"), given.pop("output"), **given)


def settings(**options: Any) -> Any:
    from vlpart.serve.settings import ServeSettings

    return ServeSettings(**options)


def given(function: Callable[..., Any], name: str) -> Callable[[Any], Any]:
    return lambda value: function(**{name: value})


TABLE: dict[str, tuple[Callable[[Any], Any], tuple[Any, ...]]] = {
    # ---- selecting
    "select": (lambda v: RESULT.select(v), (*NO_TEXT, None, "", "cat", "\0", "x" * 5000)),
    "select with_parts": (lambda v: RESULT.select("dog", with_parts=v), NOT_BOOL),
    "parse phrase": (lambda v: parse(v, WORDS), (*NO_TEXT, None, "")),
    "parse vocabulary": (lambda v: parse("dog", v), (1, None, "dog", THING, [])),
    "folder select": (
        lambda v: vlpart.predict_to_folder(predictor(), SAMPLE, output="out", select=v, vocabulary="dog: head"),
        (1, [], THING, b"x", True, "", "cat"),
    ),
    "to_geojson transform": (lambda v: RESULT.to_geojson(v), (1, "abcdef", THING, [1], [1] * 5, ["a"] * 6)),
    # ---- exemplars
    "Exemplar image": (given(like, "image"), NO_IMAGE),
    "Exemplar box_xyxy": (
        given(like, "box_xyxy"),
        (1, "abcd", THING, [], [1, 2, 3], ["a"] * 4, [float("nan")] * 4, [9, 9, 1, 1], [1e30] * 4, [None] * 4, {}),
    ),
    "Exemplar mask": (
        lambda v: predictor().like(Exemplar(image=IMAGE, mask=v)),
        (1, "x", THING, [1], np.zeros((32, 48), bool), np.ones((3, 3), bool), np.array(["x"]), {}),
    ),
    "Exemplar name": (given(like, "name"), (1, [], THING, b"x", True, "\0", "x" * 500)),
    "like": (lambda v: predictor().like(v), (1, None, "x", THING, [], [1], [None])),
    "like vocabulary": (given(like, "vocabulary"), NO_NAMES),
    "like mix": (given(like, "mix"), (*NO_NUMBER, True, -1, 2)),
    "parse_exemplar": (
        lambda v: parse_exemplar(v),
        (*NO_TEXT, None, "", "a", "@", "a@", "a@nosuch.png", "a@1,2,3", "a@a\0b.png"),
    ),
    # ---- given objects
    "parts boxes": (
        given(parts, "boxes"),
        (1, "x", THING, [[1, 2, 3]], [["a"] * 4], [[float("nan")] * 4], [[9, 9, 1, 1]], [[1e30] * 4], {}),
    ),
    "parts masks": (
        lambda v: parts(boxes=None, masks=v),
        (1, "x", THING, [1], [{}], np.ones((1, 3, 3), bool), [{"size": [32, 48], "counts": 5}], {}),
    ),
    "parts names": (given(parts, "names"), (1, THING, [1], ["dog", "dog"], b"dog", True, "cat", "", [None])),
    "parts scores": (given(parts, "scores"), (1, "x", THING, ["a"], [2], [float("nan")], [0.5, 0.5], {})),
    "parts vocabulary": (given(parts, "vocabulary"), NO_NAMES),
    "parts score_threshold": (given(parts, "score_threshold"), (*NO_NUMBER, True, -1, 2)),
    "parts max_detections": (given(parts, "max_detections"), (*NO_COUNT, True)),
    # ---- slices
    "predict slices": (lambda v: predictor().predict(IMAGE, slices=v), (*NO_COUNT, True, 1)),
    # ---- facts of exported files
    "Facts.from_json": (lambda v: Facts.from_json(v, "a"), (1, None, [], THING, "", "x", "[]", "{}")),
    # ---- labelling
    "annotate predictor": (given(annotated, "predictor"), (1, None, "tiny", THING)),
    "annotate sources": (
        given(annotated, "sources"),
        (1, None, [], "", [None], [1], THING, "nosuch", "http://a/b.png"),
    ),
    "annotate output": (given(annotated, "output"), (1, None, [], THING, 1.5, b"x")),
    "annotate tool": (given(annotated, "tool"), (*NO_TEXT, None, "", "x")),
    "annotate rank": (given(annotated, "rank"), (*NO_TEXT, None, "", "x")),
    "annotate vocabulary": (given(annotated, "vocabulary"), NO_NAMES),
    "annotate score_threshold": (given(annotated, "score_threshold"), (*NO_NUMBER, True, -1, 2)),
    "annotate iou": (given(annotated, "iou"), (*NO_NUMBER, None, True, -1, 2)),
    "annotate top": (given(annotated, "top"), (*NO_COUNT, True)),
    "annotate recursive": (given(annotated, "recursive"), NOT_BOOL),
    "annotate on_image": (given(annotated, "on_image"), (1, "x", [])),
    "annotate on_failure": (given(annotated, "on_failure"), (1, "x", [])),
    "expected_corrections scores": (lambda v: expected_corrections(v, 0.5), ("x", None, THING, ["a"], {})),
    "expected_corrections threshold": (lambda v: expected_corrections([0.5], v), (*NO_NUMBER, None, True)),
    "labelling_config": (lambda v: labelling_config(v), (*NO_NAMES, None)),
    "names_of_config": (lambda v: names_of_config(v), (*NO_TEXT, None, "", "x", "<a/>", "\0")),
    "bytes_of_data_address": (lambda v: bytes_of_data_address(v), (*NO_TEXT, None, "", "x", "data:,x")),
    "image_of_task": (lambda v: image_of_task(v, None), (1, None, "x", [], {}, THING, {"data": 1}, {"data": {"a": 1}})),
}

if importlib.util.find_spec("av") and importlib.util.find_spec("trackers"):
    TABLE |= {
        "track_video source": (
            given(tracked, "source"),
            (1, None, [], THING, b"x", True, "", "nosuch.mp4", "a\0b.mp4"),
        ),
        "track_video vocabulary": (given(tracked, "vocabulary"), NO_NAMES),
        "track_video score_threshold": (given(tracked, "score_threshold"), (*NO_NUMBER, None, True, -1, 2)),
        "track_video short_side": (given(tracked, "short_side"), (*NO_COUNT, True)),
        "track_video max_detections": (given(tracked, "max_detections"), (*NO_COUNT, True)),
        "track_video stride": (given(tracked, "stride"), (*NO_COUNT, None, True)),
        "track_video start": (given(tracked, "start"), (*NO_NUMBER, None, True, -1, 1e300)),
        "track_video end": (given(tracked, "end"), (*NO_NUMBER, True, -1, 0)),
        "track_video batch_size": (given(tracked, "batch_size"), (*NO_COUNT, None, True)),
        "track_video keep_nested": (given(tracked, "keep_nested"), NOT_BOOL),
        "track_video iou": (given(tracked, "iou"), (*NO_NUMBER, True, -1, 2)),
        "track_video select": (given(tracked, "select"), (1, [], THING, b"x", True, "", "nosuch")),
        "track_video smoothing": (given(tracked, "smoothing"), (*NO_NUMBER, None, True, -1, 1)),
        "track_video on_open": (given(tracked, "on_open"), (1, "x", [])),
        "predict_video predictor": (given(filmed, "predictor"), (1, None, "tiny", THING)),
        "predict_video output": (given(filmed, "output"), (1, None, [], THING, True, "a\0b")),
        "predict_video name": (given(filmed, "name"), (1, None, [], THING, b"x", True, "a/b", "a\0b")),
        "predict_video formats": (given(filmed, "formats"), (*NO_LIST, None, "", (), ("x",), (1,))),
        "predict_video on_frame": (given(filmed, "on_frame"), (1, "x", [])),
    }
if importlib.util.find_spec("onnxscript"):
    TABLE |= {
        "export predictor": (given(exported, "predictor"), (1, None, "tiny", THING)),
        "export path": (given(exported, "path"), (1, None, [], THING, True, "", "a", "a.txt", "a\0b.safetensors")),
        "export format": (given(exported, "format"), (*NO_TEXT, None, "", "x")),
        "export vocabulary": (given(exported, "vocabulary"), NO_NAMES),
        "load_exported": (
            lambda v: vlpart.load(v) if isinstance(v, str) and v.endswith(".onnx") else _load_exported(v),
            (*NO_PATH, None, "nosuch.onnx"),
        ),
        "load_exported engine": (lambda v: _load_exported("a.onnx", v), (1, [], THING, "", "x", True)),
        "from_pretrained": (lambda v: vlpart.from_pretrained(v), (*NO_PATH, None)),
        "save_pretrained folder": (lambda v: _save_pretrained(v), (1, None, [], THING, True, "a\0b")),
    }
if importlib.util.find_spec("fastapi"):
    COUNTS = ("max_body", "max_held", "max_pixels", "max_images", "max_names", "max_detections", "max_side", "queue")
    TABLE |= {f"ServeSettings {name}": (given(settings, name), (*NO_COUNT, None, True)) for name in COUNTS}
    TABLE |= {
        f"ServeSettings {name}": (given(settings, name), (*NO_NUMBER, None, True, 0, -1))
        for name in ("body_seconds", "seconds", "header_seconds")
    }
    TABLE |= {
        "ServeSettings batch": (given(settings, "batch"), (*NO_COUNT, None, True)),
        "ServeSettings connections": (given(settings, "connections"), (*NO_COUNT, None, True)),
        "ServeSettings models": (given(settings, "models"), (1, None, "tiny", (), (1,), [], THING)),
        "ServeSettings device": (given(settings, "device"), (1, [], THING, True)),
        "ServeSettings token": (given(settings, "token"), (1, [], THING, True, "", "a\nb")),
        "ServeSettings hosts": (given(settings, "hosts"), (1, "localhost", (1,), THING)),
        "ServeSettings images": (given(settings, "images"), (1, [], THING, True)),
        "create_app": (lambda v: _create_app(v), (1, "x", [], THING, {})),
    }


def _load_exported(path: Any, engine: Any = None) -> Any:
    from vlpart.export.predictor import load_exported

    return load_exported(path, engine)


def _save_pretrained(folder: Any) -> Any:
    from vlpart.export.pretrained import save_pretrained

    return save_pretrained(predictor(), folder)


def _create_app(value: Any) -> Any:
    from vlpart.serve.app import create_app

    return create_app(value)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    yield
    left = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert not left, f"something was written: {left}"


@pytest.mark.parametrize("name", TABLE)
def test_wrong_arguments_are_refused(name: str) -> None:
    wrong = refusals(*TABLE[name])
    assert not wrong, "\n".join(wrong)
