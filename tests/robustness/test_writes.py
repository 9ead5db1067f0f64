"""Faults at writes of every command, and two processes of it at once; `scripts/robustness.py --faults` strikes at every
write with every kind of fault.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.robustness.faults import COMMANDS, check_whole, run

EVERY = {"predict": 14, "evaluate": 5, "parse build": 5, "convert": 9, "checkpoints": 6, "download": 2, "annotate": 5}
EVERY["bulk"] = 12
"""Only every so many-th write is struck, by one kind of fault each; of the commands that are not named, every third."""


NEEDED = {
    "predict": ("contourpy",),
    "annotate": ("contourpy",),
    "evaluate": ("hotcoco",),
    "bulk": ("pyarrow",),
    "export openvino": ("onnx", "openvino"),
}


@pytest.mark.skipif(os.name == "nt", reason="POSIX only")
@pytest.mark.parametrize("name", COMMANDS)
def test_faults_leave_whole_files_and_a_way_to_go_on(name: str) -> None:
    for needed in NEEDED.get(name, ()):
        pytest.importorskip(needed)
    cases, wrong = run(name, EVERY.get(name, 3))
    assert cases > 0
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.png", "a.safetensors", "a.pt", "a.bin"])
def test_a_broken_file_is_noticed(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b'{"half": ')
    with pytest.raises(Exception):  # noqa: B017, PT011 - whatever its reader says
        check_whole(tmp_path / name)
