"""What code and documents cite is in the repository: documents by name, and sections of docs/method.md by title."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("vlpart", "tests", "docs", "benchmarks", "scripts", ".github", ".ci")
SUFFIXES = {".py", ".md", ".toml", ".yml", ".yaml", ".json", ".css", ".cff", ""}

#: A document whose name is in capitals is a text for people: README.md, and not the zoo.md that a command writes.
DOCUMENT = re.compile(r"\b[A-Z][A-Z_]+\.md\b|\bdocs/[\w/-]+\.md\b")

#: docs/method.md, 'A title' and 'Another': the titles that a docstring cites.
METHOD = re.compile(r"docs/method\.md((?:(?:,| and) '[^']+')+)")


def texts() -> Iterator[tuple[Path, str]]:
    files = [path for path in ROOT.iterdir() if path.is_file()]
    files += [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.is_file()]
    for path in files:
        if path.suffix in SUFFIXES and path.stat().st_size < 1_000_000 and path.name != ".git":
            yield path, path.read_text(encoding="utf-8")


def cited_titles(text: str) -> list[str]:
    """Titles of the method's sections in a text, also where a line breaks within one."""
    joined = re.sub(r"\s*\n\s*(?:#\s*)?", " ", text)
    return [title for found in METHOD.finditer(joined) for title in re.findall(r"'([^']+)'", found[1])]


def titles() -> set[str]:
    page = (ROOT / "docs" / "method.md").read_text(encoding="utf-8")
    return set(re.findall(r"^#+ (.+)$", page, flags=re.MULTILINE))


def test_every_cited_document_is_in_the_repository() -> None:
    there = {path.name for path, _ in texts()}
    missing = {
        f"{path.relative_to(ROOT)}: {name}"
        for path, text in texts()
        for name in DOCUMENT.findall(text)
        if not ((ROOT / name).is_file() if "/" in name else name in there)
    }
    assert not missing


def test_every_cited_section_of_the_method_exists() -> None:
    known = titles()
    cited = [
        (path, title) for path, text in texts() if path.is_relative_to(ROOT / "vlpart") for title in cited_titles(text)
    ]
    assert len(cited) > 40, "the citations are not found any more"
    assert not [f"{path.relative_to(ROOT)}: {title}" for path, title in cited if title not in known]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("see docs/method.md, 'Input'.", ["Input"]),
        ("(docs/method.md, 'Losses of image\n    labels' and 'Input')", ["Losses of image labels", "Input"]),
        ("# docs/method.md, 'Losses of\n# the cascade'", ["Losses of the cascade"]),
        ("docs/method.md says more, 'Input' for one", []),
    ],
)
def test_titles_are_found_across_lines(text: str, expected: list[str]) -> None:
    assert cited_titles(text) == expected


def test_titles_are_unique_so_that_a_citation_is_one_place() -> None:
    page = (ROOT / "docs" / "method.md").read_text(encoding="utf-8")
    found = re.findall(r"^#+ (.+)$", page, flags=re.MULTILINE)
    assert len(found) == len(set(found))
    anchors = set(re.findall(r"\]\(#([\w-]+)\)", page))
    assert anchors <= {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in found}
