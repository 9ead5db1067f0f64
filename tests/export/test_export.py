"""Exported models find what the model finds: the same detections, on other engines, without torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import vlpart
from vlpart.data.preprocess import to_batch
from vlpart.errors import OutputError, VlpartError, VocabularyError, WeightsError
from vlpart.export.graph import DetectorGraph
from vlpart.export.predictor import load_exported, network_input
from vlpart.export.quantise import quantise
from vlpart.export.write import _calibration, _quiet, _write_onnx, export
from vlpart.inference.predictor import Predictor, load
from vlpart.models.backbones.swin import SwinBase
from vlpart.models.build import build_detector
from vlpart.results.result import Result
from vlpart.types import DetectionOptions


class SmallSwin(SwinBase):
    """The backbone of Swin-B with fewer and narrower blocks."""

    out_channels = (8, 16, 32, 64)
    depths = (2, 2, 2, 2)
    heads = (1, 2, 4, 8)


WORDS = "person: hair, nose; car"
SAMPLE = Path(vlpart.__file__).parent / "assets" / "samples" / "astronaut.jpg"


@pytest.fixture(scope="module")
def predictor(tiny_weights: Path) -> Predictor:
    return load("tiny", device="cpu")


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    with Image.open(SAMPLE) as file:
        return np.asarray(file.convert("RGB"))


@pytest.fixture(scope="module")
def onnx_file(predictor: Predictor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tiny` with text vectors as an input."""
    pytest.importorskip("onnxscript", reason='needs pip install "vlpart[export]"')
    return export(predictor, tmp_path_factory.mktemp("export") / "tiny.onnx", vocabulary=WORDS, text_input=True)


def same(found: Result, expected: Result) -> None:
    """As many detections, each with a partner of its name, score and place (IoU of boxes and masks over 0.99)."""
    assert len(found) == len(expected) > 0
    assert found.masks is not None and expected.masks is not None
    for i, name in enumerate(expected.names):
        rivals = [k for k in range(len(found)) if found.names[k] == name]
        partner = min(rivals, key=lambda k: np.abs(found.boxes_xyxy[k] - expected.boxes_xyxy[i]).max())
        assert found.scores[partner] == pytest.approx(expected.scores[i], abs=1e-3)
        np.testing.assert_allclose(found.boxes_xyxy[partner], expected.boxes_xyxy[i], atol=0.05)
        a, b = found.masks[partner], expected.masks[i]
        assert (a & b).sum() >= 0.99 * (a | b).sum()


@pytest.mark.parametrize("architecture", ["tiny", "tiny2", "r50_mask_rcnn"])
@pytest.mark.parametrize("traced", [False, True])
def test_the_graph_is_the_detector(architecture: str, traced: bool) -> None:
    torch.manual_seed(0)
    detector = build_detector(architecture).eval()
    with torch.no_grad():
        for stage in detector.roi_heads.stages:
            if stage.classifier.bias is not None:
                stage.classifier.bias.fill_(-1.0)
    batch = to_batch([np.random.default_rng(0).integers(0, 256, (150, 200, 3), dtype=np.uint8)])
    text = torch.randn(7, detector.roi_heads.stages[0].classifier.linear.out_features)
    options = DetectionOptions(score_threshold=0.2, max_detections=40)
    expected = detector(batch, text, options)[0]
    graph = DetectorGraph(detector, 40, text, traced=traced).eval()
    with torch.no_grad():
        boxes, scores, labels, masks = graph(batch.pixels, torch.tensor([150.0, 200.0]), torch.tensor(0.2))
    assert len(scores) == len(expected.scores) > 0
    torch.testing.assert_close(scores, expected.scores, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(boxes, expected.boxes_xyxy, atol=1e-2, rtol=1e-4)
    assert (labels == expected.labels).float().mean() > 0.95  # equal scores may change places
    assert expected.mask_logits is not None
    torch.testing.assert_close(masks, expected.mask_logits.sigmoid(), atol=1e-3, rtol=1e-3)


@torch.no_grad()
def test_windows_of_swin_are_traced_for_every_size() -> None:
    torch.manual_seed(0)
    network = SmallSwin().eval()
    with _quiet():
        traced = torch.jit.trace(network, torch.randn(1, 3, 64, 96), check_trace=False)
    for height, width in ((32, 64), (224, 96), (96, 256)):  # windows that fit and that do not
        pixels = torch.randn(1, 3, height, width)
        torch.testing.assert_close(traced(pixels), network(pixels), atol=1e-5, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@torch.no_grad()
def test_windows_of_swin_go_through_onnx_for_every_size(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript", reason='needs pip install "vlpart[export]"')
    ort = pytest.importorskip("onnxruntime", reason='needs pip install "vlpart[export]"')

    class TwoStages(SwinBase):
        out_channels = (8, 16)  # type: ignore[assignment]
        depths = (2, 2)  # type: ignore[assignment]
        heads = (1, 2)  # type: ignore[assignment]

    torch.manual_seed(0)
    network = TwoStages().eval()
    rows, columns = (32 * torch.export.Dim(name, min=1, max=100) for name in ("rows", "columns"))
    with _quiet():
        program = torch.onnx.export(
            network, (torch.randn(1, 3, 128, 192),), dynamo=True, dynamic_shapes=({2: rows, 3: columns},), verbose=False
        )
    assert program is not None
    program.save(tmp_path / "swin.onnx")
    session = ort.InferenceSession(tmp_path / "swin.onnx", providers=["CPUExecutionProvider"])
    for height, width in ((32, 32), (96, 320), (224, 448)):  # one window, windows that do not fit, windows that do
        pixels = torch.randn(1, 3, height, width)
        found = session.run(None, {session.get_inputs()[0].name: pixels.numpy()})
        for own, other in zip(found, network(pixels), strict=True):
            np.testing.assert_allclose(own, other.numpy(), atol=1e-4)


@pytest.mark.slow  # tracing with free sizes takes a minute of a core
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_other_engines_find_the_same_at_other_sizes_and_for_other_names(
    predictor: Predictor, onnx_file: Path, photo: np.ndarray, engine: str
) -> None:
    pytest.importorskip(engine, reason='needs pip install "vlpart[export]"')
    exported = load_exported(onnx_file, engine, threads=1)
    assert (exported.name, exported.engine, exported.mask_on) == ("tiny", engine, True)
    for image, words, size in ((photo, None, 352), (photo[:250], "person: eye, mouth; dog", 224)):
        expected = predictor.predict(image, WORDS if words is None else words, 0.3, size)
        same(exported.predict(image, words, 0.3, size), expected)
    assert len(exported.predict(photo, "zebra", 0.99)) == 0


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_openvino_files_are_written_and_read_back(
    predictor: Predictor, onnx_file: Path, photo: np.ndarray, tmp_path: Path
) -> None:
    import onnx

    pytest.importorskip("openvino", reason='needs pip install "vlpart[export]"')
    written = load_exported(onnx_file)
    path = _write_onnx(onnx.load(onnx_file), written._facts, tmp_path / "tiny.xml", as_openvino=True)
    exported = load_exported(path, threads=1)
    assert (exported.engine, exported.vocabulary.names) == ("openvino", written.vocabulary.names)
    for image, words in ((photo, None), (photo[:250], "person: eye, mouth; dog")):
        same(exported.predict(image, words, 0.3), predictor.predict(image, words or WORDS, 0.3))
    before = exported.digest
    path.with_suffix(".bin").write_bytes(path.with_suffix(".bin").read_bytes()[:-4] + b"1234")
    assert exported.digest != before
    path.with_suffix(".bin").unlink()
    with pytest.raises(WeightsError, match=r"there is no exported model .*tiny\.bin"):
        load_exported(path)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_8_bit_integers_find_nearly_the_same(
    predictor: Predictor, onnx_file: Path, photo: np.ndarray, tmp_path: Path
) -> None:
    import onnx

    pytest.importorskip("onnxruntime", reason='needs pip install "vlpart[export]"')
    text = (torch.from_numpy(predictor._text(predictor.vocabulary).numpy()),)
    model = quantise(onnx.load(onnx_file), _calibration(predictor, None, text))
    assert sum(node.op_type == "QuantizeLinear" for node in model.graph.node) > 50
    path = _write_onnx(model, load_exported(onnx_file)._facts, tmp_path / "int8.onnx", as_openvino=False)
    assert path.stat().st_size < 0.7 * onnx_file.stat().st_size
    found = load_exported(path).predict(photo, WORDS, 0.3)
    expected = predictor.predict(photo, WORDS, 0.3)
    assert found.masks is not None and expected.masks is not None
    assert set(expected.names) == {"person", "person:hair", "person:nose"}
    for name, mask in zip(expected.names, expected.masks, strict=True):  # close scores may change places
        rivals = [found.masks[i] for i, own in enumerate(found.names) if own == name]
        assert any((own & mask).sum() > 0.8 * (own | mask).sum() for own in rivals), name
    pytest.importorskip("openvino", reason='needs pip install "vlpart[export]"')
    with pytest.raises(WeightsError, match="8-bit integers, which OpenVINO does not get right: choose onnxruntime"):
        load_exported(path, "openvino")


@pytest.mark.slow  # tracing with free sizes takes a minute of a core
@pytest.mark.timeout(1800)
def test_an_onnx_file_needs_no_torch(onnx_file: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason='needs pip install "vlpart[export]"')
    script = (
        "import sys; sys.modules['torch'] = None\n"
        "from vlpart.export.predictor import load_exported\n"
        f"result = load_exported({str(onnx_file)!r}).predict({str(SAMPLE)!r}, 'person', 0.5)\n"
        "print(result.names[0])"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == ("person\n", "")


@pytest.mark.slow  # tracing with free sizes takes a minute of a core
@pytest.mark.timeout(1800)
def test_the_command_takes_an_exported_file(onnx_file: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason='needs pip install "vlpart[export]"')
    command = [sys.executable, "-m", "vlpart", "predict", str(SAMPLE), "-f", "json", "-o", "out"]
    asked = ["--model", str(onnx_file), "--engine", "onnxruntime", "-v", "person: hair"]
    done = subprocess.run([*command, *asked], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert "person" in Result.load(tmp_path / "out" / "astronaut_parts.json").names


def test_torchscript_finds_the_same_and_has_its_names_inside(
    predictor: Predictor, photo: np.ndarray, tmp_path: Path
) -> None:
    exported = load_exported(export(predictor, tmp_path / "t.torchscript", "torchscript", vocabulary=WORDS))
    same(exported.predict(photo, score_threshold=0.3), predictor.predict(photo, WORDS, 0.3))
    same(exported.predict(photo[:300], None, 0.3, 256), predictor.predict(photo[:300], WORDS, 0.3, 256))
    with pytest.raises(VocabularyError, match="--text-input"):
        exported.predict(photo, "dog")


def test_safetensors_are_a_weight_file(predictor: Predictor, photo: np.ndarray, tmp_path: Path) -> None:
    path = export(predictor, tmp_path / "tiny.safetensors", "safetensors")
    same(load(path, device="cpu").predict(photo, WORDS, 0.3), predictor.predict(photo, WORDS, 0.3))


def test_the_input_is_that_of_the_detector(photo: np.ndarray) -> None:
    image = photo[:100, :150].copy()
    np.testing.assert_allclose(network_input(image), to_batch([image]).pixels.numpy(), atol=1e-5)


def test_what_is_refused(predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OutputError, match="choose from onnx, openvino"):
        export(predictor, tmp_path / "x.onnx", "tflite")
    with pytest.raises(OutputError, match=r"ends in \.torchscript"):
        export(predictor, tmp_path / "x.onnx", "torchscript")
    with pytest.raises(WeightsError, match="there is no exported model"):
        load_exported(tmp_path / "absent.onnx")
    with pytest.raises(WeightsError, match="its ending must be one of"):
        load_exported(tmp_path / "x.pth")
    with pytest.raises(VlpartError, match="does not run"):
        load_exported(tmp_path / "x.torchscript", "openvino")
    pytest.importorskip("onnxruntime", reason='needs pip install "vlpart[export]"')
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    with pytest.raises(WeightsError, match=r"bad\.onnx cannot be loaded"):
        load_exported(tmp_path / "bad.onnx")
    with pytest.raises(OutputError, match="8-bit integers are for the format onnx and the model tiny"):
        export(predictor, tmp_path / "x.torchscript", "torchscript", int8=True)
    monkeypatch.setattr(predictor, "architecture", "swin_b_cascade")
    with pytest.raises(OutputError, match="leave out --int8"):
        export(predictor, tmp_path / "swin.onnx", int8=True)
    assert list(tmp_path.iterdir()) == [tmp_path / "bad.onnx"]
