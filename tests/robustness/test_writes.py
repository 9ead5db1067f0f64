"""Faults at writes of every command, and two processes of it at once; `scripts/robustness.py --faults` strikes at every
write with every kind of fault.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.robustness.faults import COMMANDS, check_whole, run

NEEDED = {
    "predict": ("contourpy",),
    "annotate": ("contourpy",),
    "evaluate": ("hotcoco",),
    "bulk": ("pyarrow",),
    "export openvino": ("onnx", "openvino"),
}
HEAVY = [name for name in COMMANDS if name in NEEDED or name in ("parse build", "export")]
LIGHT = [name for name in COMMANDS if name not in HEAVY]


@pytest.mark.skipif(os.name == "nt", reason="POSIX only")
@pytest.mark.parametrize("names", [*([name] for name in HEAVY), LIGHT], ids=lambda names: ", ".join(names[:2]))
def test_faults_leave_whole_files_and_a_way_to_go_on(names: list[str]) -> None:
    """Every kind of fault strikes every command once."""
    for name in names:
        for needed in NEEDED.get(name, ()):
            pytest.importorskip(needed)
    outcomes = run(names, "--once")
    assert set(outcomes) == set(names)
    for name, (cases, wrong) in outcomes.items():
        assert cases > 0, name
        assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.png", "a.safetensors", "a.pt", "a.bin"])
def test_a_broken_file_is_noticed(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b'{"half": ')
    with pytest.raises(Exception):  # noqa: B017, PT011 - whatever its reader says
        check_whole(tmp_path / name)
