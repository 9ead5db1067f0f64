"""What the code in a TorchScript file may do, looked at before torch reads it.

TorchScript is a language: torch has operators that write files (`aten::save`) or map them (`aten::from_file`), methods
of text and of tensors, and loops. What `vlpart export` traces is none of that: classes, assignments, the `forward` of
submodules, and operators that compute. Anything else is refused.
"""

from __future__ import annotations

import ast
import io
import zipfile
from pathlib import Path

from vlpart.errors import WeightsError
from vlpart.files import read_regular, why

_FUNCTIONS = {"getattr", "annotate", "int", "float", "bool", "unchecked_cast", "len", "min", "max", "abs", "round"}
_WITH_FILES = {"save", "from_file", "load", "warn", "_print"}
"""Of torch's own operators those that do more than compute: as of torch 2.14 all whose schema has a name of a file."""

_OPERATORS = {"torchvision.roi_align", "torchvision.nms"}
_NODES = (
    *(ast.Module, ast.ClassDef, ast.FunctionDef, ast.arguments, ast.arg, ast.Return, ast.Assign, ast.AnnAssign),
    *(ast.Name, ast.Attribute, ast.Subscript, ast.Call, ast.keyword, ast.Constant, ast.Tuple, ast.List),
    *(ast.UnaryOp, ast.USub, ast.Not, ast.Load, ast.Store, ast.Expr),
)
_MOST_CODE = 20_000_000
_UNPACKED = 10  # times the size of the file; what is exported is not packed


def checked_archive(path: Path, limit: int) -> io.BytesIO:
    """The content of a TorchScript file whose code only computes, as a file in memory.

    It is packed anew, so that torch reads the very entries that were looked at.

    Args:
        path: the file.
        limit: bytes that it may have.

    Raises:
        WeightsError: it cannot be read, is damaged, or its code does something else.
    """
    try:
        data = read_regular(path, limit)
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return _repacked(archive, path, len(data))
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise WeightsError(f"{path} cannot be loaded: {why(error)}") from error


def _repacked(archive: zipfile.ZipFile, path: Path, size: int) -> io.BytesIO:
    entries = archive.infolist()
    names = [entry.filename for entry in entries]
    code = [entry for entry in entries if entry.filename.endswith(".py")]
    if len(set(names)) < len(names) or any(name.endswith("model.json") for name in names) or not code:
        raise WeightsError(f"{path} is no TorchScript file of vlpart export")
    if sum(entry.file_size for entry in entries) > _UNPACKED * size or sum(e.file_size for e in code) > _MOST_CODE:
        raise WeightsError(f"{path} is refused: it unpacks to more than a model has")
    copy = io.BytesIO()
    with zipfile.ZipFile(copy, "w") as packed:
        for entry in entries:
            content = archive.read(entry)
            if entry in code and (wrong := forbidden(content)) is not None:
                raise WeightsError(f"{path} is refused: its code has {wrong}, which no exported model needs")
            packed.writestr(zipfile.ZipInfo(entry.filename), content)
    copy.seek(0)
    return copy


def forbidden(code: bytes) -> str | None:
    """The first thing in TorchScript code that does more than compute; None if there is none."""
    try:
        tree = ast.parse(code.decode())
        for node in ast.walk(tree):
            if not isinstance(node, _NODES):
                return type(node).__name__.lower()
            if isinstance(node, ast.Call) and not _computes(node.func):
                return ast.unparse(node.func)[:60]
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return f"something unreadable ({type(error).__name__})"
    return None


def _computes(function: ast.expr) -> bool:
    if isinstance(function, ast.Name):
        return function.id in _FUNCTIONS
    if not isinstance(function, ast.Attribute):
        return False
    name = ast.unparse(function)
    if name.startswith("torch."):
        return name.count(".") == 1 and name.removeprefix("torch.") not in _WITH_FILES
    if name.startswith("ops."):
        operator = name.removeprefix("ops.")
        return operator in _OPERATORS or (operator.startswith("prim.") and operator != "prim.Print")
    return function.attr.startswith("forward")
