"""A float graph to one whose convolutions and fully connected layers compute with 8-bit integers.

Weights are rounded per output channel; the range of every activation is what a few images give. Quantisation is written
as pairs of QuantizeLinear and DequantizeLinear, which onnxruntime turns into integer operators. What the
last layers say (scores, distances, embeddings) stays in float, see `IN_FLOAT`.
"""

from __future__ import annotations

import ast
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vlpart.errors import OutputError

if TYPE_CHECKING:
    from onnx import ModelProto

Inputs = Mapping[str, NDArray[Any]]

#: Modules that stay in float. The last layers have few values whose order counts. What a convolution reads is rounded
#: for all readers: those that read the joined maps of backbone and trunk stay in float for the evidence of the trunk,
#: whose probabilities share these maps with features of other ranges (docs/export.md, '8-bit integers').
IN_FLOAT = re.compile(
    r"fpn\.lateral|trunk|evidence|rpn\.(objectness|deltas)"
    r"|stages\.\d\.(deltas|delta_hidden|classifier|quality)|mask_head\.predictor"
)
_OPERATORS = ("Clip", "Conv", "ConvTranspose", "Gemm", "Relu")
_SCOPES = "pkg.torch.onnx.name_scopes"  # of a node: the modules around it, outermost first, then its own name


def quantise(model: ModelProto, inputs: Iterable[Inputs]) -> ModelProto:
    """An 8-bit form of a graph that `vlpart.export.write` made.

    Args:
        model: in float, with the modules of its nodes in their metadata.
        inputs: what the graph is run with, to see the ranges of activations; names to arrays.

    Raises:
        OutputError: a package of the extra `export` is missing, or there are no inputs.
    """
    try:
        import onnx
        from onnxruntime import quantization
        from onnxruntime.quantization.shape_inference import quant_pre_process
    except ImportError as error:
        raise OutputError(f'{error.name} is not installed: pip install "vlpart[export]"') from error
    names = _layers(model)
    with tempfile.TemporaryDirectory() as folder:
        whole, folded, written = (Path(folder) / f"{name}.onnx" for name in ("whole", "folded", "written"))
        onnx.save(model, whole)
        # Folds constants and norms into the weights; what it would find out by symbols, the exporter has written.
        quant_pre_process(whole, folded, skip_symbolic_shape=True)
        quantization.quantize_static(
            folded,
            written,
            _reader(quantization.CalibrationDataReader, inputs),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=list(_OPERATORS),
            nodes_to_quantize=names,
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )
        return onnx.load(written)


def _layers(model: ModelProto) -> list[str]:
    """Names of the nodes that become integers."""
    names = []
    for node in model.graph.node:
        said = [each.value for each in node.metadata_props if each.key == _SCOPES]
        scopes = ast.literal_eval(said[0]) if said else []
        inside = scopes[-2] if len(scopes) > 1 else ""  # "" = between the modules: arithmetic of boxes
        if node.op_type in _OPERATORS and inside and not IN_FLOAT.search(inside):
            names.append(node.name)
    return names


def _reader(base: type, inputs: Iterable[Inputs]) -> Any:
    """The inputs as onnxruntime asks for them: one at a time, None at the end."""

    class Reader(base):
        def __init__(self) -> None:
            self.left = _checked(inputs)

        def get_next(self) -> Inputs | None:
            """The next, or None."""
            return next(self.left, None)

    return Reader()


def _checked(inputs: Iterable[Inputs]) -> Iterator[Inputs]:
    count = 0
    for count, each in enumerate(inputs, start=1):  # noqa: B007  (counted)
        yield {name: np.ascontiguousarray(value) for name, value in each.items()}
    if count == 0:
        raise OutputError("no image to calibrate with: give a folder of some with --calibrate")
