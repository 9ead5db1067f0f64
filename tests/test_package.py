"""The public names, the version, and that the README and the CI script say the same."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

import vlpart
from vlpart import errors
from vlpart.cli.doctor import PACKAGES

ROOT = Path(__file__).resolve().parent.parent


def test_every_public_name_resolves() -> None:
    for name in vlpart.__all__:
        assert getattr(vlpart, name) is not None
    assert set(vlpart.__all__) <= set(dir(vlpart))


def test_every_error_is_public_and_derives_from_one() -> None:
    defined = {name for name, value in vars(errors).items() if isinstance(value, type)}
    assert defined <= set(vlpart.__all__) | {"Iterable"}
    assert all(issubclass(getattr(vlpart, name), vlpart.VlpartError) for name in defined)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = vlpart.nothing


def test_the_version_is_that_of_the_distribution() -> None:
    assert vlpart.__version__ == metadata.version("vlpart")


def test_evaluation_needs_no_extra() -> None:
    """`train finetune`, the second command for one's own data, evaluates while it trains."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert any(each.startswith("hotcoco") for each in project["dependencies"])


def test_doctor_knows_every_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {re.split(r"[<>=]", each)[0] for each in project["dependencies"]} == set(PACKAGES)


def test_the_distribution_brings_its_data() -> None:
    package = Path(vlpart.__file__).parent
    for data in ("py.typed", "vocabularies/pascal_part.json", "zoo/models.json", "assets/text/tokenizer.json"):
        assert (package / data).is_file(), data


def test_ci_runs_the_test_command_of_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^pytest.*$", readme, flags=re.MULTILINE)
    assert command in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()


def test_links_of_the_documents_point_at_files() -> None:
    for document in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", document.read_text(encoding="utf-8")):
            if not target.startswith("http"):
                assert (document.parent / target).exists(), f"{document.name}: {target}"
