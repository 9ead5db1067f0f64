"""Exported files that were tampered with: one typed line; no other file is read or written."""

from __future__ import annotations

import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.export.small_graph import BOXES, FACTS_OF_IT, graph
from vlpart.errors import VlpartError, WeightsError
from vlpart.export.facts import FACTS, Facts
from vlpart.export.predictor import load_exported
from vlpart.export.torchscript_check import checked_archive, forbidden

IMAGE = np.zeros((48, 64, 3), np.uint8)


def small(**changes: Any) -> bytes:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    return graph(**changes)


def answer(data: bytes, path: Path, engine: str | None = None) -> Any:
    path.write_bytes(data)
    return load_exported(path, engine)(IMAGE)


def test_an_untouched_file_answers(tmp_path: Path) -> None:
    assert answer(small(), tmp_path / "a.onnx").names == ["dog", "dog:head"]


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("elsewhere", ["../secret.bin", "absolute", "link.bin", "pipe.bin"])
def test_tensors_are_not_taken_from_other_files(engine: str, elsewhere: str, tmp_path: Path) -> None:
    pytest.importorskip(engine)
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(BOXES.tobytes())
    (folder / "link.bin").symlink_to("../secret.bin")
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "pipe.bin")
    named = str(tmp_path / "secret.bin") if elsewhere == "absolute" else elsewhere
    with pytest.raises(WeightsError, match="cannot be loaded"):
        answer(small(elsewhere=named), folder / "a.onnx", engine)


@pytest.mark.parametrize(
    "change",
    [
        *({"version": value} for value in (2, None, [], "1")),
        *({"short_side": value} for value in (0, -1, "64", None, 10**400, 10**6, True, [])),
        *({"score_threshold": value} for value in (2, -1, "x", None, float("nan"), 10**400)),
        *({"max_detections": value} for value in (0, -1, 1.5, 10**12, None)),
        *({"vocabulary": value} for value in (None, 5, {}, [], {"entries": 5})),
        *({"name": 5}, {"mask_on": "no"}, {"text_input": None}, {"text_dim": 0}, {"text_encoder": 5}),
    ],
)
def test_facts_of_wrong_values(change: dict[str, Any]) -> None:
    Facts.from_json(json.dumps(FACTS_OF_IT), "a.onnx")
    with pytest.raises(WeightsError, match=r"a\.onnx"):
        Facts.from_json(json.dumps({**FACTS_OF_IT, **change}), "a.onnx")


@pytest.mark.parametrize("text", ["", "5", "[]", "null", "{}", "[" * 100_000, "\0"])
def test_facts_that_are_none(text: str) -> None:
    with pytest.raises(WeightsError, match="was not exported"):
        Facts.from_json(text, "a.onnx")


@pytest.mark.parametrize(
    "change",
    [
        {"boxes": BOXES[:1]},
        {"boxes": BOXES[:, :3]},
        {"boxes": BOXES * np.float32("nan")},
        {"boxes": np.float32(1)},
        {"scores": np.array([[0.9, 0.8]], np.float32)},
        {"scores": np.array([0.9, np.inf], np.float32)},
        {"labels": np.array([0, 2])},
        {"labels": np.array([-1, 0])},
        {"labels": np.array([0.5, 1.0], np.float32)},
        {"facts": {**FACTS_OF_IT, "mask_on": True}},
        {"facts": {**FACTS_OF_IT, "text_input": True, "text_encoder": "static", "text_dim": 256}},
    ],
)
def test_answers_of_another_form(change: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(VlpartError) as caught:
        answer(small(**change), tmp_path / "a.onnx")
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.name == "nt", reason="POSIX only")
@pytest.mark.parametrize("ending", ["onnx", "xml", "torchscript"])
def test_what_is_no_file(ending: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / f"pipe.{ending}")
    (tmp_path / f"loop.{ending}").symlink_to(f"loop.{ending}")
    (tmp_path / f"zero.{ending}").symlink_to("/dev/zero")
    for name in ("pipe", "loop", "zero", "a\0b", "absent"):
        with pytest.raises(WeightsError):
            load_exported(tmp_path / f"{name}.{ending}")


# ---- TorchScript


class Saving(torch.nn.Module):
    """Writes a file when it is run."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch.ops.aten.save(x, "written")
        return x


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
def test_torchscript_that_writes_files_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.jit.save(torch.jit.script(Saving()), "a.torchscript", _extra_files={FACTS: json.dumps(FACTS_OF_IT)})
    torch.jit.load("a.torchscript")(torch.zeros(1))
    assert Path("written").exists(), "torch has such an operator"
    Path("written").unlink()
    with pytest.raises(WeightsError, match=r"its code has .*save"):
        load_exported("a.torchscript")(IMAGE)
    assert not Path("written").exists()


@pytest.mark.parametrize(
    "line",
    [
        *("torch.save(x, 'a')", "torch.from_file('a', False, 3)", "x.save('a')", "getattr(x, 'save')('a')", "f('a')"),
        *("ops.aten.save(x, 'a')", "ops.image.read_file('a')", "torch.ops.aten.save(x)", "__torch__.A()", "print(x)"),
        *(
            "while True:\n   pass",
            "for i in x:\n   pass",
            "import os",
            "[y for y in x]",
            "(lambda y: y)(x)",
            "x = (" * 500,
        ),
    ],
)
def test_code_that_does_more_than_compute(line: str) -> None:
    assert forbidden(f"class A(Module):\n def forward(self, x):\n  {line}\n".encode()) is not None


def test_code_that_computes() -> None:
    code = "class A(Module):\n x : Tensor\n def forward(self, x: Tensor) -> Tensor:\n  a = self.b\n"
    assert (
        forbidden(f"{code}  return torch.add((a).forward(x, ), ops.prim.NumToTensor(1), alpha=-1)\n".encode()) is None
    )


@pytest.mark.parametrize("entries", [["a/code/b.py"] * 2, ["a/model.json", "a/code/b.py"], ["a/data.pkl"], []])
def test_archives_of_another_form(entries: list[str], tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in entries:
            with pytest.warns(UserWarning, match="Duplicate") if name in archive.namelist() else io.StringIO():
                archive.writestr(name, "")
    (tmp_path / "a.torchscript").write_bytes(buffer.getvalue())
    with pytest.raises(WeightsError):
        checked_archive(tmp_path / "a.torchscript", 1_000_000)


def test_archives_that_unpack_to_more(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.torchscript", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/code/b.py", "")
        archive.writestr("a/data/0", bytes(10_000_000))
    with pytest.raises(WeightsError, match="unpacks to more"):
        checked_archive(tmp_path / "a.torchscript", 1_000_000)
