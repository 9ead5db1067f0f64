"""Patterns: what they match, in which order, and trees whose links lead in circles."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vlpart.data.image_files import has_pattern, matching_files

SUFFIXES = (".jpg", ".png")


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("x.jpg", "a/y.JPG", "a/b/z.png", "c[1]/b/w.jpg", ".git/h.jpg", "a/.h.jpg", "notes.txt"):
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path / "tree"


ALL = ["tree/a/b/z.png", "tree/a/y.JPG", "tree/c[1]/b/w.jpg", "tree/x.jpg"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("tree/**/*", ALL),
        ("tree/**", ALL),
        ("**/*.*", ALL),
        ("t*/**/*.jp*", ["tree/c[1]/b/w.jpg", "tree/x.jpg"]),
        ("tree/**/b/*", ["tree/a/b/z.png", "tree/c[1]/b/w.jpg"]),
        ("tree/**/b/**/*.png", ["tree/a/b/z.png"]),
        ("tree/*/y.JPG", ["tree/a/y.JPG"]),
        ("tree/**/x.jpg", ["tree/x.jpg"]),
        ("tree/.git/**/*", ["tree/.git/h.jpg"]),
        ("tree/c[[]1]/b/*", ["tree/c[1]/b/w.jpg"]),
        ("nowhere/**/*", []),
    ],
)
def test_matches_by_name(tree: Path, pattern: str, expected: list[str]) -> None:
    assert [path.as_posix() for path in matching_files(pattern, SUFFIXES)] == expected
    absolute = matching_files(tree.parent / pattern, SUFFIXES)
    assert [path.relative_to(tree.parent).as_posix() for path in absolute] == expected


def test_links_that_lead_in_circles_give_every_file_once(tree: Path) -> None:
    """glob would try 2 ** 40 paths here."""
    (tree / "a" / "up").symlink_to("..")
    (tree / "a" / "b" / "up").symlink_to("../..")
    assert [path.as_posix() for path in matching_files("tree/**/*", SUFFIXES)] == ALL
    (tree / "link.jpg").symlink_to("x.jpg")
    assert [path.name for path in matching_files("tree/*.jpg", SUFFIXES)] == ["link.jpg"]


def test_links_to_folders_elsewhere_are_followed(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    (tmp_path / "elsewhere" / "deep" / "v.jpg").touch()
    (tree / "album").symlink_to(tmp_path / "elsewhere")
    assert matching_files("tree/**/v.jpg", SUFFIXES) == [Path("tree/album/deep/v.jpg")]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="permissions do not bind the superuser")
def test_a_folder_that_cannot_be_listed_matches_nothing(tree: Path) -> None:
    (tree / "a").chmod(0)
    found = [path.as_posix() for path in matching_files("tree/**/*", SUFFIXES)]
    (tree / "a").chmod(0o700)
    assert found == ["tree/c[1]/b/w.jpg", "tree/x.jpg"]


def test_what_is_a_pattern() -> None:
    assert has_pattern("a/*.jpg")
    assert has_pattern(Path("a[1].jpg"))
    assert not has_pattern("a/b.jpg")
