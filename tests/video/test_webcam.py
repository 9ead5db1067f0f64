"""Webcams through FFmpeg's own reader, with a camera that `webcam.c` puts before the C library."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.video.conftest import MakeVideo, frames_of

av = pytest.importorskip("av", reason='needs pip install "vlpart[video]"')
pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("cc") is None, reason="the camera is built with a C compiler, for Linux"
)
OnCamera = Callable[..., "subprocess.Popen[str]"]

#: Prints the times of some frames, without the network; what is refused goes to standard error.
WATCH = """
import sys
from vlpart.errors import VideoError
from vlpart.video.live import Appetite, lasting_video
try:
    shown = lasting_video("0", Appetite(8), reconnect=float(sys.argv[1]), on_lost=print, end=float(sys.argv[2]))
    print(next(shown).live)
    for frame in shown:
        print(frame.seconds, *frame.pixels.shape)
except VideoError as error:
    sys.exit(str(error))
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("webcam") / "webcam.so"
    source = Path(__file__).with_name("webcam.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", path, source, "-ldl"], check=True)
    return path


@pytest.fixture
def on_camera(library: Path, make_video: MakeVideo, tmp_path: Path) -> OnCamera:
    """Start Python where there is a camera that shows the film of the tests."""
    raw = tmp_path / "frames.yuv"
    with raw.open("wb") as file:
        for pixels in frames_of(make_video(count=8)):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuyv422")
            file.write(frame.to_ndarray().tobytes())

    def start(*arguments: str, **camera: str) -> subprocess.Popen[str]:
        environment = {**os.environ, "LD_PRELOAD": str(library), "WEBCAM_FRAMES": str(raw), **camera}
        command = [sys.executable, *arguments]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return start


def test_ctrl_c_ends_the_recording_of_a_webcam(on_camera: OnCamera, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    process = on_camera("-m", "vlpart", "predict", "0", "-o", str(folder), "-v", "person", "--short-side", "64")
    lines = folder / "camera0_parts.jsonl"
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and not (lines.exists() and lines.read_bytes().count(b"\n") >= 3):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130, said
    times = [json.loads(line)["seconds"] for line in lines.read_text().splitlines()]
    assert len(times) >= 3 and times[0] == 0 and times == sorted(times)
    played = frames_of(folder / "camera0_parts.mp4")
    assert len(played) == len(times) and np.ptp(played[0]) > 100


def test_the_frames_of_a_webcam(on_camera: OnCamera) -> None:
    said, wrong = on_camera("-c", WATCH, "0", "1").communicate(timeout=100)
    live, *frames = said.splitlines()
    assert (live, wrong) == ("True", "")
    times = [float(line.split()[0]) for line in frames]
    assert {line.split(maxsplit=1)[1] for line in frames} == {"192 256 3"}
    assert times == sorted(times) and times[0] == 0 and times[-1] < 1


@pytest.mark.parametrize(
    ("camera", "message"),
    [
        ({"WEBCAM_BUSY": "1"}, "cannot read camera 0 (/dev/video0): another program has it"),
        ({"WEBCAM_LEAVES": "4"}, "cannot read camera 0 (/dev/video0): it is gone"),
    ],
    ids=["busy", "pulled out"],
)
def test_a_webcam_that_fails(on_camera: OnCamera, camera: dict[str, str], message: str) -> None:
    process = on_camera("-c", WATCH, "0", "1", **camera)
    said, wrong = process.communicate(timeout=100)
    assert (process.returncode, wrong.strip()) == (1, message)
    assert len(said.splitlines()) == (0 if "WEBCAM_BUSY" in camera else 5)


def test_a_webcam_that_does_not_come_back(on_camera: OnCamera) -> None:
    process = on_camera("-c", WATCH, "1", "30", WEBCAM_LEAVES="4")
    said, wrong = process.communicate(timeout=100)
    assert process.returncode == 1 and wrong.startswith("cannot read camera 0")
    assert said.splitlines()[5] == "cannot read camera 0 (/dev/video0): it is gone"
