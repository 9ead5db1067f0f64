"""Bulk jobs on Ray, with the embedded model: what a single process writes, whatever is lost meanwhile."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("ray", reason='Ray is missing: pip install "vlpart[ray]"')

from tests.bulk.conftest import hashes
from vlpart.bulk.run import bulk
from vlpart.bulk.tables import read_results
from vlpart.errors import VlpartError

pytestmark = [
    pytest.mark.timeout(1800),  # Ray starts a dozen processes, which takes minutes on a busy machine
    pytest.mark.skipif(sys.platform == "win32", reason="Ray is in its beta there"),
]

WORDS = "person: hair, eye"
SCRIPT = Path(__file__).parent / "two_nodes.py"
SECONDS = 800


def environment(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "VLPART_CACHE": str(tmp_path / "cache")}


def command(source: Path, dest: str | Path, size: int) -> list[str]:
    return [
        *(sys.executable, "-m", "vlpart", "bulk", str(source), str(dest), "-v", WORDS, "--short-side", "96"),
        *("--block-size", str(size), "--workers", "1"),
    ]


def in_one_process(source: Path, dest: Path, size: int) -> None:
    bulk(source, dest, vocabulary=WORDS, short_side=96, block_size=size, in_process=True)


@pytest.fixture
def folder(tmp_path: Path, tiny_weights: Path) -> Path:
    """40 photos, one of which is none."""
    made = tmp_path / "photos"
    made.mkdir()
    photo = tiny_weights.parents[1] / "samples" / "astronaut.jpg"
    for i in range(39):
        shutil.copy(photo, made / f"{i:02}.jpg")
    (made / "07b.jpg").write_bytes(b"no image")
    return made


def test_the_command_does_on_ray_what_one_process_does(folder: Path, tmp_path: Path) -> None:
    for path in sorted(folder.iterdir())[10:]:
        path.unlink()
    in_one_process(folder, tmp_path / "expected", 4)
    dest = tmp_path / "out"
    asked = command(folder, f"local://{dest}", 4)  # fsspec's name for this machine: its file systems are used, too
    done = subprocess.run(
        asked, env=environment(tmp_path), capture_output=True, text=True, timeout=SECONDS, cwd=tmp_path
    )
    assert done.returncode == 1, done.stderr  # an image failed
    assert done.stdout.startswith("9 images, ")
    assert ", 1 failed, in " in done.stdout
    assert "Traceback" not in done.stderr
    assert all(line.startswith("blocks: ") for line in done.stderr.splitlines()), done.stderr
    assert hashes(dest) == hashes(tmp_path / "expected")
    assert {group.name for result in read_results(str(dest)) for group in result.objects} == {"person"}


def test_a_ray_that_does_not_come_up_is_one_line(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**options: object) -> None:
        raise Exception("The current node timed out during startup.\nMore of it.")

    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.init", init)
    with pytest.raises(VlpartError, match=r"^cannot use Ray on this machine: The current node timed out .*startup\.$"):
        bulk(str(folder), str(tmp_path / "out"), block_size=4)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds the processes in /proc")
@pytest.mark.parametrize("what", ["process", "node"])
def test_what_is_lost_on_two_nodes_is_done_again_and_nothing_twice(folder: Path, tmp_path: Path, what: str) -> None:
    in_one_process(folder, tmp_path / "expected", 2)
    done = subprocess.run(
        [sys.executable, SCRIPT, folder, tmp_path / "out", what],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["lost"], "nothing was lost, so nothing is shown"
    assert said["lost"][0].endswith("of 2 processes")
    assert (said["blocks"], said["finished"], said["images"], said["failed"]) == (20, 20, 39, 1)
    assert hashes(tmp_path / "out") == hashes(tmp_path / "expected")


@pytest.mark.slow
def test_an_interrupted_command_says_where_it_is_and_goes_on(folder: Path, tmp_path: Path) -> None:
    in_one_process(folder, tmp_path / "expected", 2)
    dest, asked = tmp_path / "out", command(folder, tmp_path / "out", 2)
    running = subprocess.Popen(asked, env=environment(tmp_path), stdout=-1, stderr=-1, text=True, cwd=tmp_path)
    until = time.monotonic() + SECONDS / 2
    while not list(dest.glob("images/*.parquet")) and running.poll() is None and time.monotonic() < until:
        time.sleep(0.2)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=SECONDS / 2)
    assert running.returncode == 130, said
    assert said.splitlines()[-1].endswith(" of 20 blocks finished, the same command goes on with the rest")
    assert "Traceback" not in said
    there = len(list(dest.glob("images/*.parquet")))
    assert 1 <= there < 20
    done = subprocess.run(
        asked, env=environment(tmp_path), capture_output=True, text=True, timeout=SECONDS, cwd=tmp_path
    )
    assert done.returncode == 1, done.stderr
    assert f", {there} of 20 blocks were there, in " in done.stdout
    assert hashes(dest) == hashes(tmp_path / "expected")
