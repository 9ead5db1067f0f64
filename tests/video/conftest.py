"""Small videos made in the tests: a window that moves over the sample photo."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vlpart

av = pytest.importorskip("av", reason='needs pip install "vlpart[video]"')
pytest.importorskip("trackers", reason='needs pip install "vlpart[video]"')

MakeVideo = Callable[..., Path]


@pytest.fixture
def make_video(tmp_path: Path) -> MakeVideo:
    """A film of `count` frames of 256 x 192 pixels, 10 a second, in which the photo moves to the left."""
    with Image.open(Path(vlpart.__file__).parent / "assets" / "samples" / "astronaut.jpg") as file:
        photo = np.asarray(file.convert("RGB").resize((320, 320)))

    def make(name: str = "film.mp4", count: int = 12) -> Path:
        path = tmp_path / name
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=10)
            stream.width, stream.height, stream.pix_fmt = 256, 192, "yuv420p"
            for number in range(count):
                left = min(4 * number, 64)
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(photo[:192, left : left + 256]), format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return path

    return make


def frames_of(path: Path) -> list[np.ndarray]:
    """All frames of a video, (H, W, 3) uint8 RGB."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
