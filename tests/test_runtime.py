from __future__ import annotations

import pytest
import torch

from vlpart import runtime
from vlpart.errors import VlpartError
from vlpart.runtime import autocast, choose_device, choose_precision


def test_without_a_name_a_gpu_is_taken_if_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert choose_device() == torch.device("cpu")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert choose_device() == torch.device("cuda")
    monkeypatch.setenv("LOCAL_RANK", "3")  # more processes than GPUs: they share
    assert choose_device() == torch.device("cuda:1")


@pytest.mark.parametrize("name", ["nonsense", "cpu:x", ""])
def test_a_device_that_does_not_exist(name: str) -> None:
    with pytest.raises(VlpartError, match=f"^device '{name}' cannot be used here .*; leave it out or use cpu$"):
        choose_device(name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize("name", ["cuda", "cuda:1"])
def test_a_device_that_is_not_here(name: str) -> None:
    with pytest.raises(VlpartError, match=name):
        choose_device(name)


def test_a_device_that_is_here() -> None:
    assert choose_device("cpu") == choose_device(torch.device("cpu")) == torch.device("cpu")


def test_precisions() -> None:
    cpu = torch.device("cpu")
    assert [choose_precision(each, cpu) for each in ("float32", "bf16", "auto")] == ["float32", "bf16", "float32"]
    for wrong in ("fp16", "BF16", ""):
        with pytest.raises(VlpartError, match=f"no precision '{wrong}' here: use one of auto, float32, bf16"):
            choose_precision(wrong, cpu)


def test_autocast() -> None:
    weight = torch.ones(2, 2)
    for precision, dtype in (("float32", torch.float32), ("bf16", torch.bfloat16)):
        with autocast(torch.device("cpu"), precision):
            assert (weight @ weight).dtype == dtype


@pytest.mark.parametrize(
    ("asked", "instructions", "precision", "reason"),
    [
        ("auto", ["amx_bf16"], "bf16", "this processor computes in bf16"),
        ("auto", [], "float32", "this processor has no bf16 instructions"),
        ("float32", ["amx_bf16"], "float32", "as asked for"),
        ("bf16", ["avx512_bf16"], "bf16", "as asked for"),
        ("bf16", [], "bf16", "float32 is many times faster"),
    ],
)
def test_training_takes_bf16_where_the_processor_has_it(asked, instructions, precision, reason, monkeypatch):
    monkeypatch.setattr(runtime, "bf16_instructions", lambda: instructions)
    chosen, why = runtime.training_precision(asked, "cpu")
    assert chosen == precision and reason in why
