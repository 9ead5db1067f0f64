"""One function over many items: in order, with progress, and a clear end if a process dies."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vlpart.data.check.leaks import digest
from vlpart.errors import DataError
from vlpart.jobs import default_processes, run_over


def test_order_and_progress_in_one_process() -> None:
    seen: list[tuple[str, int, int]] = []
    found = list(run_over(abs, [-3, 1, -2], label="work", progress=lambda *step: seen.append(step)))
    assert found == [3, 1, 2]
    assert seen == [("work", 0, 3), ("work", 1, 3), ("work", 2, 3), ("work", 3, 3)]
    assert list(run_over(abs, [])) == []


def test_two_processes_keep_the_order(tmp_path: Path) -> None:
    paths = [tmp_path / str(i) for i in range(5)]
    for path in paths[:4]:
        path.write_text(path.name)
    found = list(run_over(digest, paths, processes=2, chunk=1))
    assert found == [digest(path) for path in paths]
    assert found[4] is None
    assert len(set(found)) == 5


def test_a_process_that_dies_is_an_error_not_a_hang() -> None:
    with pytest.raises(DataError, match="fewer --processes"):
        list(run_over(os._exit, [1, 1, 1], processes=2, chunk=1))


def test_default() -> None:
    assert 1 <= default_processes() <= 8
