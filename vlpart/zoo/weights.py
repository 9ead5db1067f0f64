"""Weight files, read without running anything that they contain; and interpolation between two sets of weights."""

from __future__ import annotations

import math
import pickle
import struct
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from vlpart.errors import WeightsError
from vlpart.files import is_folder, is_there, open_regular
from vlpart.zoo.pickle_check import PickleRefusedError, check_pickle

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


WRAPPERS = ("model", "state_dict")
CHECKPOINT = "vlpart-checkpoint"  # how the format of a training checkpoint of this package begins
TORCH_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PICKLES = 5  # mark, version, machine, content, names of the storages
MAX_DIRECTORY = 16_000_000
"""Bytes of the table of contents of a torch or safetensors file: over 100,000 tensors."""


def load_state_dict(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a weight file by name, on the CPU, in the number format of the file.

    Of a training checkpoint of this package they are the moving average, where the run kept one.

    Raises:
        WeightsError: the file is missing, damaged, not a checkpoint, or would need arbitrary pickle.
    """
    path = Path(path)
    if not is_there(path) or is_folder(path):
        raise WeightsError(f"There is no weight file '{path}'; give the path of a .pth, .safetensors or .pkl file.")
    try:
        with open_regular(path) as file:
            head = file.read(16)
        kind = _kind(head)
        if kind == "torch":
            content = _read_torch(path)
        elif kind == "safetensors":
            content = _read_safetensors(path)
        elif kind == "pickle":
            content = _read_pickle(path)
        else:
            raise WeightsError(
                f"'{path}' is not a weight file (it begins with {head[:8]!r}); "
                "torch, safetensors and numpy pickle files can be read."
            )
    except OSError as error:
        raise WeightsError(f"'{path}' cannot be read: {error.strerror or error}.") from error
    return _tensors(content, path)


def _kind(head: bytes) -> str:
    if head.startswith(b"PK\x03\x04"):
        return "torch"
    if len(head) > 9 and head[8:9] == b"{":
        return "safetensors"
    if head[:1] == b"\x80":
        return "pickle"
    return ""


def _tensors(content: Any, path: Path) -> dict[str, Tensor]:
    """Unwrap, and check that nothing but named tensors is left."""
    import torch

    content = _averaged(content)
    for key in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not content:
        raise WeightsError(f"'{path}' holds no named tensors (a {type(content).__name__}); a state dict is needed.")
    result: dict[str, Tensor] = {}
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise WeightsError(
                f"'{path}' holds a {type(value).__name__} under {name!r}; a state dict has tensors only."
            )
        if value.layout != torch.strided or value.is_meta or value.is_quantized:
            raise WeightsError(
                f"'{path}' holds a sparse, quantised or empty tensor under {name!r}, which is not supported."
            )
        if value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise WeightsError(
                f"'{path}': {name!r} claims {tuple(value.shape)}, more than the file has; it is damaged."
            )
        result[name] = value.detach()
    return result


def _averaged(checkpoint: Any) -> Any:
    """The model of a training checkpoint with its moving average; anything else as it is."""
    form = checkpoint.get("format") if isinstance(checkpoint, Mapping) else None
    if not isinstance(form, str) or not form.startswith(CHECKPOINT):
        return checkpoint
    average = checkpoint.get("ema")
    shadow = average.get("shadow") if isinstance(average, Mapping) else None
    return {**checkpoint["model"], **(shadow or {})} if isinstance(checkpoint.get("model"), Mapping) else checkpoint


# ---- safetensors and torch


def _read_safetensors(path: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    _check_header(path)
    try:
        return load_file(path)
    except (SafetensorError, ValueError, KeyError, MemoryError, RuntimeError) as error:
        raise _damaged(path, error) from error


def safetensors_metadata(path: Path) -> dict[str, str]:
    """The texts that a safetensors file has about itself.

    Raises:
        WeightsError: it is missing, damaged, or no such file.
    """
    from safetensors import SafetensorError, safe_open

    try:
        _check_header(path)
        with safe_open(path, framework="numpy") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError, ValueError, MemoryError) as error:
        raise WeightsError(f"'{path}' cannot be read: {_line(error)}.") from error


def _check_header(path: Path) -> None:
    """Refuse a table of contents of unlikely length, before it is read.

    Raises:
        WeightsError: it has over `MAX_DIRECTORY` bytes.
        OSError: see `open_regular`.
    """
    with open_regular(path) as file:
        header = int.from_bytes(file.read(8), "little")
    if header > MAX_DIRECTORY:
        raise WeightsError(f"'{path}' is damaged or no weight file (its header claims {header} bytes).")


def _read_torch(path: Path) -> Any:
    """A zip file as torch writes it; entries are stored, so that their sizes cannot exceed the file's."""
    size = path.stat().st_size
    try:
        _check_directory(path)
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, struct.error, NotImplementedError, EOFError, RuntimeError) as error:
        raise _damaged(path, error) from error
    claimed = sum(entry.file_size for entry in entries)
    program = any("/code/" in entry.filename or entry.filename.endswith("/constants.pkl") for entry in entries)
    if program:  # looked at first: the code inside is compressed, the tensors are not
        raise WeightsError(
            f"'{path}' is refused: it is a TorchScript program, not a state dict; save its state_dict() instead."
        )
    if claimed > size:
        raise WeightsError(
            f"'{path}' is refused: it is compressed and claims {claimed} bytes, torch does not write that."
        )
    _check_content(path, [entry for entry in entries if entry.filename.lower().endswith("data.pkl")], size)
    return _torch_load(path)


def _check_directory(path: Path) -> None:
    """Refuse a table of contents of unlikely length, before a list is made of it.

    Raises:
        ValueError: it has over `MAX_DIRECTORY` bytes.
    """
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - (1 << 16) - 22))
        tail = file.read()
    at, at64 = tail.rfind(b"PK\x05\x06"), tail.rfind(b"PK\x06\x06")
    length = int.from_bytes(tail[at + 12 : at + 16], "little") if at >= 0 else 0
    if length == 0xFFFFFFFF or at64 >= 0:
        length = int.from_bytes(tail[at64 + 40 : at64 + 48], "little") if at64 >= 0 else length
    if length > MAX_DIRECTORY:
        raise ValueError(f"its table of contents claims {length} bytes")


def _check_content(path: Path, entries: list[zipfile.ZipInfo], size: int) -> None:
    """Follow the pickle of a torch file, as `pickle_check` does."""
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in entries:
                with archive.open(entry) as file:
                    check_pickle(file, limit=size)
    except PickleRefusedError as error:
        raise WeightsError(f"'{path}' is refused: {error}.") from error
    except Exception as error:  # a damaged pickle can lead anywhere, inside zipfile and pickletools too
        raise _damaged(path, error) from error


def _torch_load(path: Path) -> Any:
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # remarks on kinds of tensors that are refused afterwards
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "truncated" in str(error):
            raise _damaged(path, error) from error
        raise WeightsError(
            f"'{path}' is refused: it holds more than tensors, and reading that could run foreign code "
            f"({_reason(error)})."
        ) from error
    except Exception as error:  # torch's reader lets through whatever a damaged file leads to
        raise _damaged(path, error) from error


def _damaged(path: Path, error: BaseException) -> WeightsError:
    """What is wrong with a file that cannot be read: the file, unless it is the machine."""
    if isinstance(error, MemoryError) or "allocate memory" in str(error) or "not enough memory" in str(error):
        return WeightsError(f"'{path}' cannot be read: not enough memory, or it claims more than it has.")
    return WeightsError(f"'{path}' is damaged or incomplete ({_line(error)}); download it again.")


def _line(error: BaseException) -> str:
    """The first line of a message, not too long."""
    text = str(error).strip().splitlines()
    return text[0][:160] if text else type(error).__name__


def _reason(error: BaseException) -> str:
    """torch's message is long; the line that names what was refused says enough."""
    for line in str(error).splitlines():
        if "WeightsUnpickler error" in line or "Unsupported" in line or "GLOBAL" in line:
            return line.strip()[:160]
    return _line(error)


# ---- pickles of numpy arrays


def _read_pickle(path: Path) -> Any:
    """A dict of numpy arrays, plain values around them allowed; or torch's format from before 2020."""
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            legacy = _is_legacy(file)
            check_pickle(file, pickles=LEGACY_PICKLES if legacy else 1, limit=size)
        if legacy:
            return _torch_load(path)
        with path.open("rb") as file:
            content = _NumpyUnpickler(file).load()
    except PickleRefusedError as error:
        raise WeightsError(f"'{path}' is refused: {error}.") from error
    except WeightsError as error:
        raise WeightsError(f"'{path}' is refused: {error}") from error
    except Exception as error:  # as above: a damaged pickle can lead anywhere
        raise _damaged(path, error) from error
    for key in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict):
        return content
    try:
        return {name: _to_tensor(value) if isinstance(value, _Array) else value for name, value in content.items()}
    except WeightsError as error:
        raise WeightsError(f"'{path}' is damaged: {error}") from error


def _is_legacy(file: IO[bytes]) -> bool:
    """Whether the first pickle of the file is torch's mark of its format from before 2020; goes back to the start."""
    head = file.read(64)
    file.seek(0)
    return b"\x8a\x0a" + TORCH_LEGACY_MAGIC.to_bytes(10, "little") in head[:16]


class _DType:
    """Stands for numpy.dtype; keeps the code and the byte order, computes nothing."""

    def __init__(self, code: object = None, *_: object) -> None:
        self.code = code
        self.order: object = "<"

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) < 2:
            raise WeightsError("a number format is malformed.")
        self.order = state[1]

    def numpy(self) -> np.dtype[Any]:
        import numpy as np

        known = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "b1")
        if self.code not in known or self.order not in ("<", ">", "|", "="):
            shown = repr(self.code)[:20] if isinstance(self.code, str) else "an unknown kind"
            raise WeightsError(f"arrays of {shown} are not supported.")
        order = "" if self.order in ("|", "=") else str(self.order)
        return np.dtype(f"{order}{self.code}")


class _Array:
    """Stands for numpy.ndarray; keeps the shape and the bytes until they are checked against each other."""

    def __init__(self, *_: object) -> None:
        self.state: tuple[Any, ...] = ()

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise WeightsError("an array is malformed.")
        self.state = state

    def numpy(self) -> np.ndarray:
        """The array; `WeightsError` where its content and its shape disagree."""
        import numpy as np

        if not self.state:
            raise WeightsError("an array has no content.")
        _, shape, dtype, fortran, data = self.state
        if not isinstance(dtype, _DType) or not isinstance(shape, tuple):
            raise WeightsError("an array is malformed.")
        form = dtype.numpy()
        if not isinstance(data, bytes):
            raise WeightsError("an array is malformed.")
        if len(shape) > 32 or not all(isinstance(side, int) and 0 <= side < 1 << 48 for side in shape):
            raise WeightsError("an array has an impossible shape.")
        if math.prod(shape) * form.itemsize != len(data):
            raise WeightsError(f"an array claims the shape {shape} but has {len(data)} bytes.")
        return np.frombuffer(data, form).reshape(shape, order="F" if fortran else "C")


def _from_buffer(data: object, dtype: object, shape: object, order: object) -> _Array:
    """Stands for numpy's own function, which arrays use from pickle protocol 5 on."""
    array = _Array()
    array.state = (1, shape, dtype, order == "F", bytes(data) if isinstance(data, bytes | bytearray) else data)
    return array


def _scalar(dtype: object, data: object) -> float | int:
    """Stands for numpy's scalars, which published files have beside their arrays."""
    import numpy as np

    if not isinstance(dtype, _DType) or not isinstance(data, bytes) or len(data) != dtype.numpy().itemsize:
        raise WeightsError("a number is malformed.")
    return np.frombuffer(data, dtype.numpy())[0].item()


def _encode(text: object, encoding: object = "latin1") -> bytes:
    """Stands for _codecs.encode, by which Python 2 and protocol 2 write bytes."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise WeightsError("a byte string is malformed.")
    return text.encode("latin-1")


def _bytes() -> bytes:
    """Stands for bytes, by which protocol 2 writes the empty byte string."""
    return b""


class _NumpyUnpickler(pickle.Unpickler):
    """Every name in the file is looked up here: stand-ins for numpy's arrays, or an error."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file, encoding="latin1")

    def find_class(self, module: str, name: str) -> Any:
        """What stands for a global of the file: arrays alone, nothing is imported."""
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name in ("_reconstruct", "scalar"):
            return _Array if name == "_reconstruct" else _scalar
        if module in ("numpy.core.numeric", "numpy._core.numeric") and name == "_frombuffer":
            return _from_buffer
        known = {("numpy", "ndarray"): _Array, ("numpy", "dtype"): _DType, ("collections", "OrderedDict"): OrderedDict}
        if (module, name) in known:
            return known[module, name]
        if (module, name) == ("_codecs", "encode"):
            return _encode
        if module in ("builtins", "__builtin__") and name == "bytes":
            return _bytes
        raise WeightsError(f"it asks for {module}.{name}, and reading that could run foreign code.")

    def persistent_load(self, pid: object) -> Any:
        raise WeightsError("it refers to data outside the file.")


def _to_tensor(array: _Array) -> Tensor:
    import numpy as np
    import torch

    values = array.numpy()
    native = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("=")).reshape(values.shape)
    return torch.from_numpy(native.copy())


def as_float32(state: Mapping[str, Tensor], where: object) -> dict[str, Tensor]:
    """The tensors as float32, after a look at whether they are usable as such.

    Args:
        state: tensors by name, all of them meant to be weights.
        where: file they are from, for the message.

    Raises:
        WeightsError: a tensor is of whole numbers, booleans, complex numbers or 8-bit floats (which need a scale that
            the file does not give), or has NaN, infinity or a value that float32 cannot hold.
    """
    import torch

    usable = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
    result = {}
    for name, value in state.items():
        if value.dtype not in usable:
            raise WeightsError(f"{where} holds {name!r} as {_kind_of(value)}: weights are float16, bfloat16 or float32")
        result[name] = value.float()
        # A sum is read off in no time, and is finite only if all of it is.
        if not bool(result[name].sum().isfinite()) and not bool(result[name].isfinite().all()):
            kind = "a value beyond float32" if bool(value.isfinite().all()) else "NaN or infinity"
            raise WeightsError(f"{where} has {kind} in {name!r}: it is damaged")
    return result


def _kind_of(value: Tensor) -> str:
    return str(value.dtype).removeprefix("torch.")


def read_torch_file(path: Path) -> Any:
    """What `torch.save` wrote, of tensors and plain values, on the CPU; the file is looked through first.

    Raises:
        WeightsError: missing, damaged, not a torch file, or refused.
    """
    try:
        with open_regular(path) as file:
            head = file.read(16)
        if _kind(head) == "torch":
            return _read_torch(path)
    except OSError as error:
        raise WeightsError(f"'{path}' cannot be read: {error.strerror or error}.") from error
    raise WeightsError(f"'{path}' is not a file of torch (it begins with {head[:8]!r}).")


def interpolated(trained: Mapping[str, Tensor], initial: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """`(1 - share) * trained + share * initial` of every floating-point tensor, computed in float32.

    Args:
        trained: weights after training, by name; their dtypes and devices are those of the result.
        initial: weights before training, with the same names and shapes.
        share: 0..1, 0 gives `trained`.

    Raises:
        WeightsError: the two are not of one model.
    """
    strangers = sorted(set(trained) ^ set(initial))
    if strangers or any(value.shape != initial[name].shape for name, value in trained.items()):
        raise WeightsError(f"the first weights are of another model than the trained ones: {strangers[:3]}")
    result = {}
    for name, value in trained.items():
        if share and value.is_floating_point():
            before = initial[name].to(device=value.device).float()
            value = value.float().lerp(before, share).to(value.dtype)
        result[name] = value
    return result
