from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from vlpart.errors import DataError, OutputError
from vlpart.jobs import Job, Record, rank_and_world


class Squares:
    """A job of squares that remembers what it computed and wrote, and can be stopped."""

    def __init__(self, folder: Path, total: int = 10, **settings: object) -> None:
        self.job = Job(folder=folder / ".work", settings={"power": 2, **settings}, total=total)
        self.computed: list[int] = []
        self.written: list[Record] | None = None

    def run(self, stop_after: int | None = None) -> bool:
        def compute(items: list[int]) -> Iterator[tuple[int, Record]]:
            for item in reversed(items):
                if stop_after is not None and len(self.computed) == stop_after:
                    raise KeyboardInterrupt
                self.computed.append(item)
                yield item, {"square": item**2}

        def write(records: Iterator[Record]) -> None:
            self.written = list(records)

        return self.job.run(compute, write)


def as_process(monkeypatch: pytest.MonkeyPatch, rank: int, world: int) -> None:
    monkeypatch.setenv("RANK", str(rank))
    monkeypatch.setenv("WORLD_SIZE", str(world))


def test_all_at_once(tmp_path: Path) -> None:
    squares = Squares(tmp_path)
    assert squares.run()
    assert squares.written == [{"square": i**2} for i in range(10)]
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_job_goes_on(tmp_path: Path) -> None:
    first, second = Squares(tmp_path), Squares(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        first.run(stop_after=4)
    assert second.run()
    assert sorted(first.computed + second.computed) == list(range(10))
    assert second.written == [{"square": i**2} for i in range(10)]


def test_a_line_cut_off_by_a_crash_is_computed_again(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        Squares(tmp_path).run(stop_after=4)
    file = next((tmp_path / ".work").glob("items-*.jsonl"))
    file.write_bytes(file.read_bytes()[:-9])
    again = Squares(tmp_path)
    assert again.run()
    assert len(again.computed) == 7
    assert again.written == [{"square": i**2} for i in range(10)]


def test_processes_share_the_items_and_the_last_one_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [Squares(tmp_path) for _ in range(3)]
    outcomes = []
    for rank, squares in enumerate(runs):
        as_process(monkeypatch, rank, 3)
        outcomes.append(squares.run())
    assert outcomes == [False, False, True]
    assert [len(squares.computed) for squares in runs] == [4, 3, 3]
    assert runs[2].written == [{"square": i**2} for i in range(10)]


def test_another_number_of_processes_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    as_process(monkeypatch, 1, 3)
    assert not Squares(tmp_path).run()
    as_process(monkeypatch, 0, 1)
    last = Squares(tmp_path)
    assert last.run()
    assert len(last.computed) == 7


def test_work_of_other_settings_is_not_taken_up(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        Squares(tmp_path).run(stop_after=1)
    for other in (Squares(tmp_path, power=3), Squares(tmp_path, total=11)):
        with pytest.raises(OutputError, match="unfinished work of other settings: use --overwrite"):
            other.run()


def test_nothing_to_do(tmp_path: Path) -> None:
    squares = Squares(tmp_path, total=0)
    assert squares.run()
    assert squares.written == []


@pytest.mark.parametrize(("rank", "world"), [("2", "2"), ("x", "2"), ("-1", "1")])
def test_nonsense_from_the_launcher(rank: str, world: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", world)
    with pytest.raises(DataError, match="torchrun"):
        rank_and_world()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        Squares(tmp_path / "file").run()


class Unreliable(Squares):
    """Squares that skips some items."""

    bad: frozenset[int] = frozenset()

    def run(self, stop_after: int | None = None) -> bool:
        def compute(items: list[int]) -> Iterator[tuple[int, Record]]:
            for item in items:
                if stop_after is not None and len(self.computed) == stop_after:
                    raise KeyboardInterrupt
                self.computed.append(item)
                yield item, {"skipped": str(item)} if item in self.bad else {"square": item**2}

        def write(records: Iterator[Record]) -> None:
            self.written = list(records)

        return self.job.run(compute, write)


def test_what_was_skipped_is_tried_again(tmp_path: Path) -> None:
    first, second = Unreliable(tmp_path), Unreliable(tmp_path)
    first.bad, second.bad = frozenset({1, 3}), frozenset({3})  # 1 is mended between the two
    with pytest.raises(KeyboardInterrupt):
        first.run(stop_after=6)
    assert second.run()
    assert sorted(second.computed) == [1, 3, 6, 7, 8, 9]
    assert second.written == [{"skipped": "3"} if i == 3 else {"square": i**2} for i in range(10)]
    assert list(tmp_path.iterdir()) == []


def test_a_process_tries_what_others_skipped_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = Unreliable(tmp_path)
    alone.bad = frozenset({1, 2})
    with pytest.raises(KeyboardInterrupt):
        alone.run(stop_after=9)
    first, second = Unreliable(tmp_path), Unreliable(tmp_path)
    as_process(monkeypatch, 0, 2)
    assert not first.run()  # 1 and 9 are of the other process
    as_process(monkeypatch, 1, 2)
    assert second.run()
    assert (first.computed, second.computed) == ([2], [1, 9])
    assert second.written == [{"square": i**2} for i in range(10)]


def test_work_of_other_settings_can_be_thrown_away(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        Squares(tmp_path).run(stop_after=4)
    other = Squares(tmp_path, power=3)
    other.job = replace(other.job, restart=True)
    assert other.run()
    assert sorted(other.computed) == list(range(10))
    assert list(tmp_path.iterdir()) == []


def test_a_late_process_without_a_share_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    as_process(monkeypatch, 0, 2)
    assert Squares(tmp_path, total=1).run()
    as_process(monkeypatch, 1, 2)
    assert not Squares(tmp_path, total=1).run()
    assert list(tmp_path.iterdir()) == []
