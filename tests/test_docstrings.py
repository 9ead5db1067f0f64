"""Examples in the docstrings of the public names run as printed, with the embedded model and the sample photo."""

from __future__ import annotations

import doctest
import shutil
from pathlib import Path

import pytest

import vlpart

SAMPLE = Path(vlpart.__file__).parent / "assets" / "samples" / "astronaut.jpg"

#: Names that a user copies an example of.
WITH_EXAMPLE = ("Predictor", "Result", "Vocabulary", "list_models", "load", "predict_to_folder")


def examples(name: str) -> list[doctest.DocTest]:
    """The examples of a public name and of its methods."""
    value = vlpart if name == "vlpart" else getattr(vlpart, name)
    module = vlpart if name == "vlpart" else __import__(value.__module__, fromlist=["_"])
    found = doctest.DocTestFinder(recurse=name != "vlpart").find(value, name, module=module, globs=dict(vars(module)))
    return [test for test in found if test.examples]


@pytest.mark.parametrize("name", ["vlpart", *WITH_EXAMPLE])
def test_examples_run(name: str, tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(SAMPLE, tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    tests = examples(name)
    assert tests, f"{name} has no example"
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.REPORT_NDIFF)
    for test in tests:
        assert not any(doctest.SKIP in example.options for example in test.examples), f"{test.name} skips an example"
        runner.run(test, out=report.append)
    assert runner.failures == 0, "".join(report)


def test_every_public_name_has_a_docstring() -> None:
    for name in vlpart.__all__:
        if not name.startswith("__"):
            assert (getattr(vlpart, name).__doc__ or "").strip(), name
