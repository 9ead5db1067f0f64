"""Weight files: what is read, what is refused without running anything, what is damaged."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import warnings
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from vlpart.errors import WeightsError
from vlpart.zoo.weights import as_float32, load_state_dict

STATE = {"layer.weight": torch.arange(12, dtype=torch.float32).reshape(3, 4), "layer.bias": torch.ones(3).half()}
ARRAYS = {
    "weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "fortran": np.asfortranarray(np.arange(6, dtype=np.float64).reshape(2, 3)),
    "steps": np.array(7, dtype=np.int64),
    "big_endian": np.arange(3, dtype=">f4"),
    "empty": np.zeros((0, 3), np.float32),
    "half": np.ones(2, np.float16),
}


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.mark),)


def refuse(path: Path, *needed: str) -> None:
    """The file must be refused with one clear line."""
    with pytest.raises(WeightsError) as caught:
        load_state_dict(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    for part in needed:
        assert part in message


# ---- what is read


@pytest.mark.parametrize("wrapped", [None, "model", "state_dict"])
@pytest.mark.parametrize("legacy", [False, True])
def test_torch_files(wrapped: str | None, legacy: bool, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    content = STATE if wrapped is None else {wrapped: OrderedDict(STATE), "iteration": 3, "optimizer": {"lr": [0.1]}}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    found = load_state_dict(path)
    assert found.keys() == STATE.keys()
    for name, value in STATE.items():
        assert torch.equal(found[name], value)
        assert found[name].dtype == value.dtype


def test_no_such_file(tmp_path: Path) -> None:
    for name in ("nothing.pth", "n" * 300 + ".pth"):
        with pytest.raises(WeightsError, match="There is no weight file"):
            load_state_dict(tmp_path / name)


def test_parameters_come_back_as_plain_tensors(tmp_path: Path) -> None:
    torch.save({"w": torch.nn.Parameter(torch.ones(2))}, tmp_path / "w.pth")
    assert not load_state_dict(tmp_path / "w.pth")["w"].requires_grad


def test_safetensors_whatever_the_name(tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    save_file(STATE, path)
    found = load_state_dict(str(path))
    assert all(torch.equal(found[name], value) for name, value in STATE.items())


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("wrapped", [True, False])
def test_numpy_pickle(protocol: int, wrapped: bool, tmp_path: Path) -> None:
    path = tmp_path / "backbone.pkl"
    content = {"model": ARRAYS, "__author__": "x", "scale": np.float32(2), "ok": True} if wrapped else ARRAYS
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    found = load_state_dict(path)
    assert found.keys() == ARRAYS.keys()
    for name, value in ARRAYS.items():
        np.testing.assert_array_equal(found[name].numpy(), value)
        assert found[name].shape == value.shape


def test_old_numpy_names(tmp_path: Path) -> None:
    """Files written with numpy 1 say numpy.core, newer ones numpy._core."""
    data = pickle.dumps(ARRAYS, protocol=2).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    assert b"numpy._core" not in data
    (tmp_path / "old.pkl").write_bytes(data)
    np.testing.assert_array_equal(load_state_dict(tmp_path / "old.pkl")["weight"].numpy(), ARRAYS["weight"])


# ---- what is refused, without running it


@pytest.mark.parametrize("place", ["model", "beside"])
@pytest.mark.parametrize("kind", ["torch", "legacy", "pickle"])
def test_foreign_code_is_not_run(kind: str, place: str, tmp_path: Path) -> None:
    mark, path = tmp_path / "mark", tmp_path / "evil.pkl"
    evil = Evil(mark)
    content = {"model": {**STATE, "x": evil}} if place == "model" else {"model": STATE, "hook": evil}
    if kind == "pickle":
        path.write_bytes(pickle.dumps({"model": {"x": evil}} if place == "model" else {"model": ARRAYS, "x": evil}))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind == "torch")
    refuse(path, "is refused", "foreign code", "mkdir")
    assert not mark.exists()


@pytest.mark.parametrize(
    "program",
    [
        b"\x80\x04cbuiltins\neval\n(V1\ntR.",
        b"\x80\x02cnumpy\nload\n(Vx\ntR.",
        b"\x80\x02c_codecs\nlookup\n(Vx\ntR.",
        b"\x80\x02c_codecs\nencode\n(Vx\nVzlib\ntR.",
        b"\x80\x02cnumpy.core.multiarray\nfromstring\n(Vx\ntR.",
        b"\x80\x02Vsome id\nQ.",
        b"\x80\x04\x8c\x08builtins\x8c\x07getattr\x93.",
    ],
)
def test_pickle_programs(program: bytes, tmp_path: Path) -> None:
    path = tmp_path / "program.pkl"
    path.write_bytes(program)
    refuse(path, "is refused")


def test_arrays_of_objects(tmp_path: Path) -> None:
    path = tmp_path / "objects.pkl"
    path.write_bytes(pickle.dumps({"w": np.array([{}, []], dtype=object)}, protocol=4))
    refuse(path, "'O8'")


def test_modules_and_programs(tmp_path: Path) -> None:
    path = tmp_path / "module.pth"
    torch.save(torch.nn.Linear(2, 2), path)
    refuse(path, "is refused", "Linear")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer versions of torch call it deprecated
        torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)).save(str(path))
    refuse(path, "TorchScript")


def test_a_program_with_compressed_code(tmp_path: Path) -> None:
    path = tmp_path / "module.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("module/code/__torch__.py", b"class Module:\n" * 10_000)
    refuse(path, "TorchScript")


# ---- false claims


def test_a_tensor_larger_than_its_file(tmp_path: Path) -> None:
    path = tmp_path / "huge.pth"
    torch.save({"w": torch.zeros(1).expand(10**12)}, path)
    assert path.stat().st_size < 10_000
    refuse(path, "claims")


def test_a_compressed_archive(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"0" * 10**7)
    refuse(path, "compressed")


def test_arrays_that_claim_too_much(tmp_path: Path) -> None:
    path = tmp_path / "huge.pkl"
    data = pickle.dumps({"w": np.zeros((2, 3), np.uint8)}, protocol=2)
    assert data.count(b"K\x02K\x03\x86") == 1
    path.write_bytes(data.replace(b"K\x02K\x03\x86", b"J\xff\xff\xff\x7fK\x03\x86"))
    refuse(path, "claims the shape (2147483647, 3)")
    path.write_bytes(data.replace(b"K\x02K\x03\x86", b"J\xff\xff\xff\xffK\x03\x86"))
    refuse(path, "impossible shape")


def test_lengths_beyond_the_file(tmp_path: Path) -> None:
    path = tmp_path / "long.pkl"
    path.write_bytes(b"\x80\x04\x8e" + (2**46).to_bytes(8, "little") + b"abc.")
    refuse(path, "claims more than it has")
    path = tmp_path / "long.safetensors"
    path.write_bytes((2**40).to_bytes(8, "little") + b"{}")
    refuse(path, "damaged")


# ---- damage, and other files


@pytest.mark.parametrize("kind", ["torch", "legacy", "safetensors", "pickle"])
def test_truncated(kind: str, tmp_path: Path) -> None:
    whole, path = tmp_path / "whole", tmp_path / "cut"
    if kind == "safetensors":
        save_file(STATE, whole)
    elif kind == "pickle":
        whole.write_bytes(pickle.dumps({"model": ARRAYS}, protocol=4))
    else:
        torch.save({"model": STATE}, whole, _use_new_zipfile_serialization=kind == "torch")
    data = whole.read_bytes()
    for length in sorted({0, 1, 3, 9, 20, *range(40, len(data) - 1, max(1, len(data) // 25)), len(data) - 1}):
        path.write_bytes(data[:length])
        refuse(path)


@pytest.mark.parametrize("kind", ["torch", "pickle"])
def test_flipped_bytes_never_crash(kind: str, tmp_path: Path) -> None:
    whole, path = tmp_path / "whole", tmp_path / "flipped"
    if kind == "pickle":
        whole.write_bytes(pickle.dumps(ARRAYS, protocol=2))
    else:
        torch.save(STATE, whole)
    data = whole.read_bytes()
    rng = np.random.default_rng(0)
    for position in rng.integers(0, len(data), 120):
        broken = bytearray(data)
        broken[position] ^= int(rng.integers(1, 256))
        path.write_bytes(broken)
        message = ""
        try:
            found = load_state_dict(path)
        except WeightsError as error:
            message = str(error)
        else:
            assert all(isinstance(value, torch.Tensor) for value in found.values())
        assert "\n" not in message


@pytest.mark.parametrize("content", [b"", b"<html>", b"\x89PNG\r\n\x1a\n00000000", b"{}", b"version https://git-lfs"])
def test_not_a_checkpoint(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    path.write_bytes(content)
    refuse(path, "not a weight file")


def test_missing_and_folders(tmp_path: Path) -> None:
    refuse(tmp_path / "gone.pth", "no weight file")
    refuse(tmp_path, "no weight file")


@pytest.mark.parametrize(
    "content", [[1, 2], {}, {"model": {"w": 1}}, {"model": {3: torch.ones(1)}}, torch.ones(2), {"w": [torch.ones(1)]}]
)
def test_no_state_dict(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "x.pth")
    refuse(tmp_path / "x.pth", "holds")


def test_sparse_tensors(tmp_path: Path) -> None:
    torch.save({"w": torch.eye(3).to_sparse()}, tmp_path / "x.pth")
    refuse(tmp_path / "x.pth", "not supported")


# ---- what would take for ever, or cannot be weights

NESTED = b"N" + b"2\x86" * 60  # a tuple of 2^60 leaves


def pickled(body: bytes) -> bytes:
    return b"\x80\x02" + body + b"."


HOSTILE = {
    "hash": (b"}" + NESTED + b"K\x01s", "repeats"),
    "tuple_key": (b"}K\x01K\x02\x86K\x01s", "key"),
    "float_key": (b"}G?\xf0\x00\x00\x00\x00\x00\x00K\x01s", "key"),
    "memo": (b"Nr\xff\xff\xff\x0f", "memo"),
    "nested": (b"N" + b"\x85" * 1000, "levels"),
    "long": (b"\x8a\xff" + b"\x01" * 255, "80 bits"),
    "circle": (b"]q\x00h\x00a", "holds itself"),
    "ordered": (b"ccollections\nOrderedDict\n]K\x01K\x02\x86K\x03\x86a\x85R", "key"),
    "extension": (b"\x82\x01", "EXT1"),
    "operations": (b"N0" * 300_000 + b"N", "operations"),
    "bytearray": (b"cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R", "bytearray"),
}

RUNNER = """
import resource, sys
from pathlib import Path
import torch
from vlpart.errors import WeightsError
from vlpart.zoo.weights import as_float32, load_state_dict
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 500_000_000,) * 2)
for path in sys.argv[1:]:
    try:
        load_state_dict(path)
        print("read")
    except WeightsError as error:
        print(error)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the memory bound is set where /proc tells the size")
def test_hostile_pickles_end_in_bounded_time_and_memory(tmp_path: Path) -> None:
    paths = []
    for name, (body, _) in HOSTILE.items():
        paths.append(tmp_path / f"{name}.pkl")
        paths[-1].write_bytes(pickled(body))
        paths.append(tmp_path / f"{name}.pth")
        with zipfile.ZipFile(paths[-1], "w") as archive:
            archive.writestr("archive/data.pkl", pickled(body))
            archive.writestr("archive/version", "3\n")
    command = [sys.executable, "-c", RUNNER, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == len(paths), done.stdout
    for line, path in zip(lines, paths, strict=True):
        assert HOSTILE[path.stem][1] in line, f"{path.name}: {line}"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_a_pipe_is_no_weight_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pth")
    refuse(tmp_path / "pipe.pth", "a pipe")
    refuse(Path("/dev/zero"), "a device")


@pytest.mark.parametrize(
    ("value", "needed"),
    [
        (torch.full((2,), 1e300, dtype=torch.float64), "beyond float32"),
        (torch.tensor([1.0, float("nan")]), "NaN"),
        (torch.ones(2, dtype=torch.int64), "int64"),
        (torch.ones(2, dtype=torch.bool), "bool"),
        (torch.ones(2, dtype=torch.complex64), "complex64"),
        (torch.ones(2).to(torch.float8_e4m3fn), "float8_e4m3fn"),
    ],
)
def test_numbers_that_are_no_weights(value: torch.Tensor, needed: str) -> None:
    with pytest.raises(WeightsError, match=needed):
        as_float32({"layer": value}, "weights.pth")


def test_every_float_becomes_float32() -> None:
    state = {str(kind): torch.ones(2, dtype=kind) for kind in (torch.float16, torch.bfloat16, torch.float64)}
    assert all(torch.equal(value, torch.ones(2)) for value in as_float32(state, "w").values())
