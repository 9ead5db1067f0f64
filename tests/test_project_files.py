"""The files around the code say what the code does: lock file, changelog, citation, site."""

from __future__ import annotations

import re
import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any

import vlpart

ROOT = Path(__file__).resolve().parent.parent


def read_toml(name: str) -> dict[str, Any]:
    return tomllib.loads((ROOT / name).read_text(encoding="utf-8"))


def package_name(requirement: str) -> str:
    """`vlpart[clip]>=1` -> `vlpart`, spelled as the lock file does."""
    return re.split(r"[\[<>=;! ]", requirement)[0].replace("_", "-").lower()


def test_the_lock_file_has_every_dependency() -> None:
    project, lock = read_toml("pyproject.toml")["project"], read_toml("uv.lock")
    (own,) = (package for package in lock["package"] if package["name"] == "vlpart")
    wanted = {package_name(each) for each in project["dependencies"]}
    for extra in project["optional-dependencies"].values():
        wanted |= {package_name(each) for each in extra} - {"vlpart"}
    assert {each["name"] for each in own["metadata"]["requires-dist"]} - {"vlpart"} == wanted
    assert wanted <= {package["name"] for package in lock["package"]}


def test_the_lock_file_says_which_of_several_versions_is_meant() -> None:
    """uv refuses the file otherwise."""
    packages = read_toml("uv.lock")["package"]
    names = [package["name"] for package in packages]
    for package in packages:
        extras = package.get("optional-dependencies", {}).values()
        for needed in [*package.get("dependencies", ()), *(each for extra in extras for each in extra)]:
            assert "version" in needed or names.count(needed["name"]) == 1, f"{package['name']} needs {needed['name']}"


def test_the_changelog_has_this_version_and_a_place_for_the_next() -> None:
    sections = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert sections[0] == "Unreleased"
    assert vlpart.__version__ in sections


def test_the_citation_is_of_this_version() -> None:
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {vlpart.__version__}\n" in text


def test_ci_and_the_classifiers_name_the_same_versions_of_python() -> None:
    project = read_toml("pyproject.toml")["project"]
    classified = re.findall(r"Python :: (3\.\d+)", "\n".join(project["classifiers"]))
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    (tested,) = re.findall(r"python: \[(.+)\]", workflow)
    assert re.findall(r"3\.\d+", tested) == classified
    assert project["requires-python"] == f">={classified[0]}"


def pages(nav: list[Any]) -> list[str]:
    """The files of the site's navigation, in order."""
    found = []
    for entry in nav:
        for target in entry.values():
            found += [target] if isinstance(target, str) else pages(target)
    return found


def test_every_page_is_in_the_navigation_of_the_site() -> None:
    listed = pages(read_toml("zensical.toml")["project"]["nav"])
    there = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert set(listed) == there
    assert len(listed) == len(there)


def documented() -> list[str]:
    return re.findall(r"^::: ([\w.]+)$", (ROOT / "docs" / "api.md").read_text(encoding="utf-8"), flags=re.MULTILINE)


def test_the_api_reference_has_every_public_name_once() -> None:
    names = [name.removeprefix("vlpart.") for name in documented() if name.count(".") == 1]
    assert sorted(names) == sorted(set(vlpart.__all__) - {"__version__"})


def test_what_the_api_reference_documents_exists_and_has_a_docstring() -> None:
    for name in documented():
        module, _, attribute = name.rpartition(".")
        assert (getattr(import_module(module), attribute).__doc__ or "").strip(), name


def test_the_tree_in_the_readme_is_the_package() -> None:
    """Every folder and file of the package's first level is named, and every file that is named is there."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (tree,) = re.findall(r"^vlpart/\n((?:  .+\n)+)", text, flags=re.MULTILINE)
    package = ROOT / "vlpart"
    named, folder = set(), package
    for line in tree.splitlines():
        head = re.match(r"  (\S+)", line)
        if head is not None:
            folder = package / head[1] if head[1].endswith("/") else package
            named.add(head[1].rstrip("/"))
        for file in re.findall(r"[\w/]+\.(?:py|json)\b", line):
            assert (folder / file).is_file() or (package / file).is_file(), f"{line.strip()} names {file}"
            named.add(file)
    there = {path.name for path in package.iterdir() if path.is_dir() or path.suffix == ".py"} - {"__pycache__"}
    assert there - named == set()


def test_files_that_the_documents_name_are_there() -> None:
    """`vlpart/x.py`, `tests/x.py`, `benchmarks/x.py` and `scripts/x.py`, wherever they are named."""
    for document in (
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "SECURITY.md",
        *(ROOT / "docs").rglob("*.md"),
    ):
        text = document.read_text(encoding="utf-8")
        for path in re.findall(r"\b((?:vlpart|tests|benchmarks|scripts)/[\w/]+\.(?:py|json))\b", text):
            assert (ROOT / path).is_file(), f"{document.name} names {path}"
