"""What runs an exported file: onnxruntime, OpenVINO, or torch for TorchScript. Only the one asked for is imported."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlpart.checks import typed, whole
from vlpart.errors import VlpartError, WeightsError
from vlpart.export.facts import FACTS, Facts
from vlpart.export.torchscript_check import checked_archive
from vlpart.files import local_path, open_regular, read_regular, why

Arrays = Sequence[NDArray[Any]]

MAX_BYTES = 4_000_000_000
"""Bytes of an exported file that are read at most."""

#: The engine of a file ending.
ENGINE_OF = {".onnx": "onnxruntime", ".xml": "openvino", ".torchscript": "torch"}
ENGINES = ("onnxruntime", "openvino", "torch")


@dataclass(frozen=True, kw_only=True)
class Engine:
    """A loaded file: place, facts, and the function from the inputs of `DetectorGraph.forward` to its outputs."""

    name: str
    path: Path
    facts: Facts
    run: Callable[[Arrays], list[NDArray[Any]]]


def is_exported(name: object) -> bool:
    """Whether a model is an exported file, by its ending."""
    return isinstance(name, str | Path) and Path(name).suffix in ENGINE_OF


@typed()
def check_engine(model: object, engine: str | None) -> None:
    """Refuse an engine for what is no exported file: torch computes that.

    Raises:
        VlpartError: with what to do.
    """
    if engine not in (None, "torch") and not is_exported(model):
        name = "tiny" if model is None else model
        raise VlpartError(
            f"{engine} computes exported files: vlpart export {name} --format onnx, then --model with the file"
        )


@typed()
def open_engine(path: Path, engine: str | None = None, threads: int | None = None) -> Engine:
    """Load an exported file.

    Args:
        path: .onnx, .xml (OpenVINO, with its .bin beside it) or .torchscript.
        engine: one of `ENGINES`; None takes that of the ending. OpenVINO reads .onnx as well.
        threads: processor threads; None leaves it to the engine.

    Raises:
        WeightsError: no such file, damaged, or not exported by this package.
        VlpartError: the engine does not read such files, or is not installed.
    """
    path = local_path(path)
    if threads is not None:
        threads = whole("threads", threads, 1, 10_000)
    own = ENGINE_OF.get(path.suffix)
    if own is None:
        raise WeightsError(f"{path} is no exported model: its ending must be one of {', '.join(ENGINE_OF)}")
    chosen = engine or own
    if chosen not in ENGINES or (chosen != own and (own, chosen) != ("onnxruntime", "openvino")):
        raise VlpartError(f"the engine {chosen} does not run {path.name}: leave out --engine, or export another format")
    for part in (path, path.with_suffix(".bin")) if own == "openvino" else (path,):
        try:
            open_regular(part, MAX_BYTES).close()
        except FileNotFoundError:
            raise WeightsError(f"there is no exported model {part}: vlpart export writes one") from None
        except (OSError, ValueError) as error:
            raise WeightsError(f"{part} cannot be loaded: {why(error)}") from error
    opener = {"onnxruntime": _onnxruntime, "openvino": _openvino, "torch": _torch}[chosen]
    try:
        facts, run = opener(path, threads)
    except ImportError as error:
        raise VlpartError(f'{error.name} is not installed: pip install "vlpart[export]"') from error
    return Engine(name=chosen, path=path, facts=facts, run=_checked(run, facts, path))


_Opened = tuple[Facts, Callable[[Arrays], list[NDArray[Any]]]]


def _checked(run: Callable[[Arrays], list[NDArray[Any]]], facts: Facts, path: Path) -> Callable[[Arrays], Any]:
    """`run`, whose failures and answers of another form than `DetectorGraph.forward` gives are `WeightsError`s."""

    def checked(inputs: Arrays) -> list[NDArray[Any]]:
        """The answer of the engine, if it is one."""
        try:
            found = run(inputs)
        except (MemoryError, KeyboardInterrupt):
            raise
        except Exception as error:  # each engine has exceptions of its own
            raise WeightsError(f"{path} cannot be run: {_first_line(error)}") from error
        if len(found) != (4 if facts.mask_on else 3) or not _fit(*found):
            raise WeightsError(f"{path} is damaged: it does not answer with boxes, scores and labels: export it again")
        return found

    return checked


def _fit(boxes: NDArray[Any], scores: NDArray[Any], labels: NDArray[Any], *masks: NDArray[Any]) -> bool:
    count = len(boxes) if boxes.ndim else -1
    numbers = all(each.dtype.kind == "f" and np.isfinite(each).all() for each in (boxes, scores, *masks))
    shapes = boxes.shape == (count, 4) and scores.shape == labels.shape == (count,)
    return numbers and shapes and labels.dtype.kind in "iu" and all(m.ndim == 3 and len(m) == count for m in masks)


def _onnxruntime(path: Path, threads: int | None) -> _Opened:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        # Its bytes, not its name: tensors that it says are in other files are then not to be had.
        session = onnxruntime.InferenceSession(
            read_regular(path, MAX_BYTES), options, providers=["CPUExecutionProvider"], enable_fallback=0
        )
    except Exception as error:  # its exceptions share no class of their own
        raise WeightsError(f"{path} cannot be loaded: {_first_line(error)}") from error
    facts = Facts.from_json(session.get_modelmeta().custom_metadata_map.get(FACTS, ""), path)
    names = [each.name for each in session.get_inputs()]

    def run(inputs: Arrays) -> list[NDArray[Any]]:
        """One forward pass."""
        return list(session.run(None, dict(zip(names, inputs, strict=True))))

    return facts, run


def _openvino(path: Path, threads: int | None) -> _Opened:
    import openvino

    text = ""
    if path.suffix == ".onnx":
        text = _onnx_facts(path)
    core = openvino.Core()
    try:
        model = core.read_model(path)
        if any(each.get_type_name() == "FakeQuantize" for each in model.get_ops()):
            # Its plan of such a graph fails at some image sizes, and has found nothing where the float graph does.
            raise WeightsError(f"{path} has 8-bit integers, which OpenVINO does not get right: choose onnxruntime")
        compiled = core.compile_model(
            model,
            "CPU",
            {"PERFORMANCE_HINT": "LATENCY", **({} if threads is None else {"INFERENCE_NUM_THREADS": threads})},
        )
    except RuntimeError as error:
        raise WeightsError(f"{path} cannot be loaded: {_first_line(error)}") from error
    if path.suffix != ".onnx":
        try:
            text = json.loads(model.get_rt_info(["vlpart"]).astype(str)) if model.has_rt_info(["vlpart"]) else ""
        except (RuntimeError, ValueError, TypeError, RecursionError):
            text = ""  # as if it said nothing
    facts = Facts.from_json(text, path)

    def run(inputs: Arrays) -> list[NDArray[Any]]:
        """One forward pass."""
        answer = compiled.create_infer_request().infer(list(inputs))
        return [np.array(answer[output]) for output in compiled.outputs]

    return facts, run


def _onnx_facts(path: Path) -> str:
    """What an ONNX file says of itself, "" if nothing; OpenVINO shall take no tensors from other files for it.

    Raises:
        WeightsError: it is damaged, or has tensors in other files.
    """
    import onnx

    try:
        model = onnx.load_model_from_string(read_regular(path, MAX_BYTES))
    except Exception as error:  # protobuf's exceptions depend on how it is built
        raise WeightsError(f"{path} cannot be loaded: {_first_line(error)}") from error
    if any(_has_outside(each) for each in (model.graph, *model.functions)):
        raise WeightsError(f"{path} cannot be loaded: it has tensors in other files")
    return str({each.key: each.value for each in model.metadata_props}.get(FACTS, ""))


def _has_outside(graph: Any) -> bool:
    """Whether a tensor of an ONNX graph or function, or of the graphs in it, is kept in another file."""
    tensors = list(getattr(graph, "initializer", ()))
    sparse = list(getattr(graph, "sparse_initializer", ()))
    for attribute in (attribute for node in graph.node for attribute in node.attribute):
        if any(_has_outside(inner) for inner in (attribute.g, *attribute.graphs)):
            return True
        tensors += [attribute.t, *attribute.tensors]
        sparse += [attribute.sparse_tensor, *attribute.sparse_tensors]
    external = 1  # TensorProto.EXTERNAL
    return any(each.data_location == external for each in (*tensors, *(each.values for each in sparse)))


def _torch(path: Path, threads: int | None) -> _Opened:
    import torch

    from vlpart.models.operators import load_operators

    load_operators()
    import torchvision  # noqa: F401  (registers roi_align)

    if threads is not None:
        torch.set_num_threads(threads)
    extra: dict[str, Any] = {FACTS: ""}
    try:
        with warnings.catch_warnings():  # torch advises against its own format
            warnings.simplefilter("ignore")
            module = torch.jit.load(checked_archive(path, MAX_BYTES), map_location="cpu", _extra_files=extra)
    except (RuntimeError, ValueError) as error:
        raise WeightsError(f"{path} cannot be loaded: {_first_line(error)}") from error
    said = extra[FACTS]
    facts = Facts.from_json(said.decode(errors="replace") if isinstance(said, bytes) else said, path)

    def run(inputs: Arrays) -> list[NDArray[Any]]:
        """One forward pass."""
        with torch.inference_mode():
            return [each.numpy() for each in module(*(torch.from_numpy(np.asarray(each)) for each in inputs))]

    return facts, run


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
