from __future__ import annotations

import json
from pathlib import Path

import pytest

import vlpart
from tests.cli.conftest import Run
from vlpart.cli import doctor


def test_report_of_a_sound_installation(run: Run, tiny_weights: Path, private_cache: Path) -> None:
    outcome = run("doctor", "--json")
    report = json.loads(outcome.out)
    assert outcome.code == 0, report["checks"]
    assert report["system"]["vlpart"].startswith(vlpart.__version__)
    assert report["cache"]["folder"] == str(private_cache)
    assert report["variables"]["VLPART_CACHE"] == str(private_cache)
    assert report["packages"]["torch"][0].isdigit()
    assert all(check["ok"] for check in report["checks"].values())
    assert list(private_cache.rglob("probe")) == []


def test_text_report_names_what_failed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> str:
        raise RuntimeError("operator torchvision::nms does not exist")

    for check in ("_check_weights", "_check_prediction"):
        monkeypatch.setattr(doctor, check, lambda: "fine")
    monkeypatch.setattr(doctor, "_check_operators", broken)
    outcome = run("doctor")
    assert outcome.code == 1
    (line,) = [line for line in outcome.out.splitlines() if "FAILED" in line]
    assert "RuntimeError: operator torchvision::nms does not exist" in line
    for heading in ("system", "packages", "compute", "cache", "variables", "checks"):
        assert heading in outcome.out.splitlines()


def test_a_missing_extra_is_named_with_its_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "EXTRAS", {"surely-not-installed": "clip"})
    assert doctor._packages()["surely-not-installed"] == 'not installed (optional: pip install "vlpart[clip]")'


def test_a_changed_weight_file_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_weights: Path) -> None:
    from dataclasses import replace

    from vlpart.zoo import catalogue

    entry = replace(catalogue.get_model("tiny"), sha256="0" * 64)
    monkeypatch.setattr(catalogue, "get_model", lambda name: entry)
    assert "reinstall" in doctor._run(doctor._check_weights)["detail"]
