"""The operators of the graph in ONNX: the same choices on every engine as in torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import roi_align

from vlpart.export import operators
from vlpart.models.operators import batched_nms

IOU = 0.5


class Both(nn.Module):
    """Both operators, RoIAlign, and the order of what was chosen, on the same boxes."""

    def forward(self, boxes: Tensor, scores: Tensor, groups: Tensor, threshold: Tensor) -> tuple[Tensor, ...]:
        features = torch.linspace(0, 1, 2 * 16 * 16).view(1, 2, 16, 16)
        rois = torch.cat((torch.zeros_like(boxes[:, :1]), boxes), dim=1)
        pooled = roi_align(features, rois, 7, spatial_scale=0.25, sampling_ratio=0, aligned=True)
        stay = operators.unsuppressed_operator(boxes, scores[:, 0], groups, IOU)
        row, label = operators.chosen_operator(scores, boxes, threshold, IOU, 20)
        again = operators.best_first((scores[row, label] * 7) % 1, threshold)
        return stay, row, label, pooled, again


def made_up(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """60 boxes that overlap much, scores for 5 names, 3 groups."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(60, 2, generator=generator) * 40
    boxes = torch.cat((corner, corner + 10 + 20 * torch.rand(60, 2, generator=generator)), dim=1)
    return boxes, torch.rand(60, 5, generator=generator), torch.arange(60).remainder(3).float()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("onnxscript", reason='needs pip install "vlpart[export]"')
    path = tmp_path_factory.mktemp("operators") / "both.onnx"
    from vlpart.export.write import OPSET, _quiet

    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            Both().eval(),
            (*made_up(), torch.tensor(0.3)),
            dynamo=True,
            opset_version=OPSET,
            custom_translation_table=operators.onnx_forms(),
            input_names=["boxes", "scores", "groups", "threshold"],
            output_names=["stay", "row", "label", "pooled", "again"],
            verbose=False,
        )
    assert program is not None
    path.write_bytes(program.model_proto.SerializeToString())
    return path


def answers(engine: str, model: Path, inputs: list[np.ndarray]) -> list[np.ndarray]:
    if engine == "onnxruntime":
        import onnxruntime

        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        names = [each.name for each in session.get_inputs()]
        return list(session.run(None, dict(zip(names, inputs, strict=True))))
    import openvino

    compiled: Any = openvino.Core().compile_model(model, "CPU")
    answer = compiled(inputs)
    return [np.array(answer[output]) for output in compiled.outputs]


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("threshold", [0.3, 0.9, 1.0])
def test_every_engine_chooses_the_same(engine: str, threshold: float, model: Path) -> None:
    pytest.importorskip(engine, reason='needs pip install "vlpart[export]"')
    boxes, scores, groups = made_up(seed=1)
    inputs = [each.numpy() for each in (boxes, scores, groups)]
    stay, row, label, pooled, again = answers(engine, model, [*inputs, np.array(threshold, dtype=np.float32)])
    *_, pooled_here, again_here = Both()(boxes, scores, groups, torch.tensor(threshold))
    np.testing.assert_allclose(pooled, pooled_here, atol=1e-4)
    assert again.tolist() == again_here.tolist()
    expected = batched_nms(boxes, scores[:, 0], groups.long(), IOU)
    assert sorted(np.flatnonzero(stay)) == sorted(expected.tolist())
    rows, labels = operators.chosen(scores, boxes, torch.tensor(threshold), IOU, 20)
    assert list(zip(row, label, strict=True)) == list(zip(rows.tolist(), labels.tolist(), strict=True))
    assert (len(row) == 0) == (threshold == 1.0)


def test_written_out_they_choose_the_same() -> None:
    boxes, scores, groups = made_up(seed=2)
    torch.testing.assert_close(
        operators.unsuppressed(boxes, scores[:, 0], groups, IOU),
        operators.unsuppressed_operator(boxes, scores[:, 0], groups, IOU),
    )
    empty = operators.chosen(scores, boxes, torch.tensor(1.0), IOU, 20)
    assert [len(each) for each in empty] == [0, 0]
