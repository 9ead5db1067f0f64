"""The smallest ONNX file that the package takes for one of its own."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from vlpart.export.facts import FACTS
from vlpart.text.vocabulary import Vocabulary

FACTS_OF_IT: dict[str, Any] = {
    "name": "small",
    "architecture": "tiny",
    "text_input": False,
    "text_encoder": "static",
    "prompt": "name",
    "text_dim": 4,
    "mask_on": False,
    "short_side": 64,
    "max_side": 128,
    "score_threshold": 0.5,
    "max_detections": 10,
    "version": 1,
    "vocabulary": Vocabulary.parse("dog: head").to_dict(),
}
BOXES = np.array([[2, 2, 40, 40], [4, 4, 20, 20]], np.float32)

SCORES, LABELS = np.array([0.9, 0.8], np.float32), np.array([0, 1])


def graph(
    facts: dict[str, Any] = FACTS_OF_IT,
    boxes: Any = BOXES,
    scores: Any = SCORES,
    labels: Any = LABELS,
    elsewhere: str = "",
) -> bytes:
    """An ONNX file whose answer does not depend on the image; its boxes may be said to be in a file `elsewhere`."""
    import onnx

    helper, kinds = onnx.helper, onnx.TensorProto
    arrays = {"boxes": boxes, "scores": scores, "labels": labels}
    stored = [onnx.numpy_helper.from_array(np.asarray(value), f"w_{name}") for name, value in arrays.items()]
    if elsewhere:
        stored[0].ClearField("raw_data")
        stored[0].data_location = kinds.EXTERNAL
        for key, value in (("location", elsewhere), ("offset", "0"), ("length", str(boxes.nbytes))):
            stored[0].external_data.add(key=key, value=value)
    nodes = [helper.make_node("Identity", [f"w_{name}"], [name]) for name in arrays]
    outputs = [
        helper.make_tensor_value_info(name, tensor.data_type, list(tensor.dims))
        for name, tensor in zip(arrays, stored, strict=True)
    ]
    inputs = [
        helper.make_tensor_value_info("pixels", kinds.FLOAT, [1, 3, None, None]),
        helper.make_tensor_value_info("size_hw", kinds.FLOAT, [2]),
        helper.make_tensor_value_info("threshold", kinds.FLOAT, []),
    ]
    made = helper.make_model(
        helper.make_graph(nodes, "g", inputs, outputs, stored),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=8,
    )
    helper.set_model_props(made, {FACTS: json.dumps(facts)})
    return bytes(made.SerializeToString())
