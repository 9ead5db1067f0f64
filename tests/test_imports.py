"""Imports point one way, and what is light stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import vlpart

PACKAGE = Path(vlpart.__file__).parent

# From the bottom to the top: a module or package imports only what stands in a line above its own. Packages in one line
# may import each other, as long as their modules do not form a circle.
LAYERS = [
    {"checks", "errors", "types"},
    {"files", "names", "runtime", "signals"},
    {"web"},
    {"jobs", "masks"},
    {"zoo"},
    {"text"},
    {"data"},
    {"models", "results", "visualize"},
    {"inference", "losses"},
    {"integrations"},
    {"annotation_parser", "evaluation", "export", "video"},
    {"bulk", "serve", "training"},
    {"recipes"},
    {"cli"},
    {"__main__"},
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}


def owner(module: str) -> str:
    """The first name below `vlpart`."""
    return module.split(".")[1] if "." in module else ""


def imported(tree: ast.AST) -> Iterator[str]:
    """Modules of this package that are imported at run time, anywhere in a file (inside functions too)."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "vlpart")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "vlpart":
            yield from ([f"vlpart.{a.name}" for a in node.names] if node.module == "vlpart" else [str(node.module)])
        yield from imported(node)


def files() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def test_every_module_has_its_place() -> None:
    tops = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in files()}
    assert tops <= set(RANK)


@pytest.mark.parametrize("path", files(), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_point_down(path: Path) -> None:
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    wrong = []
    for module in imported(ast.parse(path.read_text(encoding="utf-8"))):
        other = owner(module)
        if other in ("", own, "__version__"):
            continue
        if RANK[other] > RANK[own] or (RANK[other] == RANK[own] and not {own, other} <= {"results", "visualize"}):
            wrong.append(module)
    assert wrong == []


def test_no_module_is_imported_in_a_circle() -> None:
    """Imports for types and those inside of functions count, too."""
    modules = {".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path for path in files()}
    modules = {name.removesuffix(".__init__"): path for name, path in modules.items()}
    needs = {name: imported_modules(path, set(modules)) - {name} for name, path in modules.items()}
    while free := {name for name, needed in needs.items() if not needed & set(needs)}:
        needs = {name: needed for name, needed in needs.items() if name not in free}
    used = {name for needed in needs.values() for name in needed}
    assert {name: sorted(needed & set(needs)) for name, needed in needs.items() if name in used} == {}


def imported_modules(path: Path, modules: set[str]) -> set[str]:
    """Which of `modules` a file imports, in any way."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= names & modules or {node.module}
    return found & modules


def test_the_test_sees_imports_inside_functions_and_skips_those_for_types() -> None:
    source = """
from vlpart import cli
if TYPE_CHECKING:
    import vlpart.results.result
def function():
    from vlpart.models import detector
    import torch
"""
    assert list(imported(ast.parse(source))) == ["vlpart.cli", "vlpart.models"]


@pytest.mark.parametrize(
    ("statement", "heavy"),
    [
        ("import vlpart", ("torch", "torchvision", "timm", "numpy", "PIL", "typer")),
        ("import vlpart.cli.main", ("torch", "torchvision", "timm", "numpy", "PIL")),
        ("import vlpart; vlpart.Vocabulary.load('lvis_v1')", ("torch", "torchvision", "timm")),
        (
            "import vlpart; vlpart.Result, vlpart.list_models(), vlpart.predict_to_folder",
            ("torch", "torchvision", "timm"),
        ),
    ],
)
def test_light_things_import_nothing_heavy(statement: str, heavy: tuple[str, ...], tmp_path: Path) -> None:
    script = f"{statement}\nimport sys\nprint([name for name in {heavy!r} if name in sys.modules])"
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout == "[]\n"
