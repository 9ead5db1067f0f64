"""A model as a file that other engines run: ONNX, OpenVINO, TorchScript; or its weights as safetensors.

Each file carries what is needed to use it: the vocabulary, the text encoder and prompt, sizes, thresholds
(`vlpart.export.facts`).
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vlpart.checks import typed
from vlpart.data.images import read_image
from vlpart.errors import OutputError
from vlpart.export.facts import FACTS, Facts
from vlpart.export.graph import DetectorGraph
from vlpart.export.predictor import network_input
from vlpart.files import local_path, why, write_file
from vlpart.inference.coco_file import make_folder, output_errors
from vlpart.text.vocabulary import Vocabulary

if TYPE_CHECKING:
    from onnx import ModelProto

    from vlpart.inference.predictor import Predictor

#: Formats, and the ending of their files.
FORMATS = {"onnx": ".onnx", "openvino": ".xml", "torchscript": ".torchscript", "safetensors": ".safetensors"}
OPSET = 18
#: Sides of the input are multiples of it, and of so many at most.
_STRIDE, _MOST = 32, 4096
_INPUTS = ("pixels", "size_hw", "threshold")
_OUTPUTS = ("boxes_xyxy", "scores", "labels", "masks")


#: Formats that can compute with 8-bit integers, and the architectures whose loss by it is known.
INT8_FORMAT, INT8 = "onnx", ("tiny", "tiny2")


@typed("predictor", "path", "format", "text_input", "int8", "calibrate")
def export(
    predictor: Predictor,
    path: str | Path,
    format: str = "onnx",
    *,
    vocabulary: Vocabulary | str | None = None,
    text_input: bool = False,
    int8: bool = False,
    calibrate: Iterable[Any] | None = None,
) -> Path:
    """Write a model for another engine.

    The graph takes one image of any size (multiples of 32 after padding) and gives the detections of
    `Predictor.predict`, with the same numbers but for rounding; see `vlpart.export.graph.DetectorGraph.forward`.

    Args:
        predictor: on the CPU, in float32.
        path: the file; its ending is that of the format.
        format: one of `FORMATS`.
        vocabulary: what is looked for; None takes the model's own.
        text_input: the text embeddings are an input, so that other vocabularies can be looked for; `vocabulary` is
            then the one that is used unless another is asked for.
        int8: compute with 8-bit integers where little is lost by it, see `vlpart.export.quantise`.
        calibrate: for `int8`, images like those to come, as `Predictor.predict` takes them; their activations set the
            ranges of the integers. None takes views of the photo that comes with the package.

    Returns:
        The file. Beside an .xml there is a .bin.

    Raises:
        OutputError: an unknown format, `int8` for a format or architecture that has none, a package of the extra
            `export` is missing, or the file cannot be written.
        ImageError: an image of `calibrate` cannot be read.
        VocabularyError, TextEncoderError: see `Predictor.predict`.
    """
    if format not in FORMATS:
        raise OutputError(f"unknown export format {format!r}: choose from {', '.join(FORMATS)}")
    target = local_path(path)
    if target.suffix != FORMATS[format]:
        raise OutputError(f"a file of the format {format} ends in {FORMATS[format]}, not as {target.name}")
    if int8 and (format != INT8_FORMAT or predictor.architecture not in INT8):
        raise OutputError(
            f"8-bit integers are for the format {INT8_FORMAT} and the model tiny: leave out --int8 for "
            f"{predictor.name} as {format}"
        )
    make_folder(target.parent)
    names = predictor.vocabulary if vocabulary is None else Vocabulary.of(vocabulary)
    facts = Facts.of(predictor, names, text_input=text_input)
    if format == "safetensors":
        return _write_weights(predictor, facts, target)
    text = predictor._text(names).cpu().float()
    graph = DetectorGraph(
        predictor.detector.to(memory_format=torch.contiguous_format),
        predictor.defaults.max_detections,
        None if text_input else text,
        traced=format == "torchscript",
    ).eval()
    inputs = (*_example(predictor), *((text,) if text_input else ()))
    try:
        with torch.no_grad(), _quiet():
            if format == "torchscript":
                return _write_torchscript(graph, inputs, facts, target)
            model = _onnx(graph, inputs)
            if int8:
                from vlpart.export.quantise import quantise

                model = quantise(model, _calibration(predictor, calibrate, inputs[3:]))
            return _write_onnx(model, facts, target, as_openvino=format == "openvino")
    finally:
        predictor.detector.to(memory_format=torch.channels_last)


def _example(predictor: Predictor) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs of a usual size. What is in the image does not matter: no step depends on values."""
    side = -(-predictor.defaults.short_side // 32) * 32
    pixels = torch.randn(1, 3, side, side + 64, generator=torch.Generator().manual_seed(0))
    return pixels, torch.tensor([side - 5.0, side + 57.0]), torch.tensor(0.05)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Exporters talk a lot: hints for their developers, and progress on standard output."""
    names = ("torch.onnx", "onnxscript", "onnx_ir", "torch.export", None)  # onnxruntime's quantisation uses the root
    loggers = [logging.getLogger(name) for name in names]
    levels = [each.level for each in loggers]
    for each in loggers:
        each.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for each, level in zip(loggers, levels, strict=True):
            each.setLevel(level)


def _write_weights(predictor: Predictor, facts: Facts, target: Path) -> Path:
    from safetensors.torch import save

    state = {name: value.detach().cpu().contiguous() for name, value in predictor.detector.state_dict().items()}
    return write_file(target, save(state, metadata={FACTS: facts.to_json()}))


def _write_torchscript(graph: DetectorGraph, inputs: tuple[Tensor, ...], facts: Facts, target: Path) -> Path:
    traced = torch.jit.trace(graph, inputs, check_trace=False)
    data = io.BytesIO()
    torch.jit.save(traced, data, _extra_files={FACTS: facts.to_json()})
    return write_file(target, data.getvalue())


def _calibration(
    predictor: Predictor, images: Iterable[Any] | None, text: tuple[Tensor, ...]
) -> Iterator[dict[str, Any]]:
    """Inputs of the graph for images."""
    for image in _views() if images is None else images:
        resized = predictor.read(image).resized
        values = (network_input(resized), np.array(resized.shape[:2], np.float32), np.array(0.3, np.float32))
        yield dict(zip((*_INPUTS, "text"), (*values, *(each.numpy() for each in text)), strict=False))


def _views() -> Iterator[NDArray[np.uint8]]:
    """The photo of the package: whole, mirrored, dark, and its parts."""
    photo = read_image(Path(__file__).parents[1] / "assets" / "samples" / "astronaut.jpg")
    half, middle = photo.shape[0] // 2, photo.shape[1] // 2
    yield photo
    yield np.ascontiguousarray(photo[:, ::-1])
    yield photo // 2
    for part in (photo[:half], photo[half:], photo[:, :middle], photo[:, middle:]):
        yield np.ascontiguousarray(part)


def _onnx(graph: DetectorGraph, inputs: tuple[Tensor, ...]) -> ModelProto:
    from vlpart.export.operators import onnx_forms

    try:
        import onnx  # noqa: F401  (needed by torch, which says so less plainly)
        import onnxscript  # noqa: F401  (needed by torch, which says so less plainly)
    except ImportError as error:
        raise OutputError(f'{error.name} is not installed: pip install "vlpart[export]"') from error
    rows, columns = (_STRIDE * torch.export.Dim(name, min=1, max=_MOST) for name in ("rows", "columns"))
    shapes: list[Any] = [{2: rows, 3: columns}, None, None]
    if graph.text is None:
        shapes.append({0: torch.export.Dim.DYNAMIC})
    program = torch.onnx.export(
        graph,
        inputs,
        dynamo=True,
        opset_version=OPSET,
        dynamic_shapes=tuple(shapes),
        custom_translation_table=onnx_forms(),
        input_names=[*_INPUTS, *(["text"] if graph.text is None else [])],
        output_names=list(_OUTPUTS if graph.detector.mask_on else _OUTPUTS[:3]),
        verbose=False,
    )
    assert program is not None
    return program.model_proto


def _write_onnx(model: ModelProto, facts: Facts, target: Path, *, as_openvino: bool) -> Path:
    import onnx

    onnx.helper.set_model_props(model, {FACTS: facts.to_json()})
    if not as_openvino:
        return write_file(target, model.SerializeToString())
    try:
        import openvino
    except ImportError as error:
        raise OutputError('openvino is not installed: pip install "vlpart[export]"') from error
    converted = openvino.convert_model(io.BytesIO(model.SerializeToString()))
    converted.set_rt_info(json.dumps(facts.to_json()), ["vlpart"])
    with output_errors(target), TemporaryDirectory(prefix=f".{target.stem[:50]}.", dir=target.parent) as beside:
        made = Path(beside) / target.name
        try:
            openvino.save_model(converted, str(made), compress_to_fp16=False)
        except RuntimeError as error:  # of a full disk, too
            raise OutputError(f"cannot write {target}: {why(error)}") from error
        for ending in (".bin", ".xml"):  # without the second one it is no model, rather than half of two
            made.with_suffix(ending).replace(target.with_suffix(ending))
    return target
