"""Memory and time along a film: `python benchmarks/video.py --frames 5000`, or with a film of your own in its place.

Without one, the sample photo moves through a film made for the run. Every `--every` frames a line has the memory of
this process now (resident, MiB; on Linux) and the CPU seconds per frame since the line before. Both should stay as
they are.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

import vlpart
from vlpart.video.reader import import_av
from vlpart.video.run import VideoFrame, predict_video

SAMPLE = Path(vlpart.__file__).parent / "assets" / "samples" / "astronaut.jpg"


def film_of(path: Path, count: int) -> Path:
    """The sample photo, moving to and fro, 25 frames a second of 256 x 192 pixels."""
    with Image.open(SAMPLE) as file:
        photo = np.asarray(file.convert("RGB").resize((320, 320)))
    with import_av().open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 256, 192, "yuv420p"
        for number in range(count):
            left = abs(number % 128 - 64)
            pixels = np.ascontiguousarray(photo[:192, left : left + 256])
            container.mux(stream.encode(import_av().VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def resident() -> float:
    """MiB of this process in memory now; Linux tells."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("film", nargs="?")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--frames", type=int, default=5000)
    parser.add_argument("--every", type=int, default=500)
    parser.add_argument("--vocabulary", default="person: hair, nose")
    parser.add_argument("--short-side", type=int, default=None)
    options = parser.parse_args()
    count, before = 0, time.process_time()

    def seen(done: VideoFrame) -> None:
        nonlocal count, before
        count += 1
        if count % options.every == 0:
            now = time.process_time()
            print(f"{count}\t{resident():.0f}\t{(now - before) / options.every:.4f}", flush=True)
            before = now

    print("frames\tMiB\tCPU seconds per frame")
    with tempfile.TemporaryDirectory() as folder:
        summary = predict_video(
            vlpart.load(options.model),
            options.film or str(film_of(Path(folder) / "film.mp4", options.frames)),
            output=Path(folder) / "out",
            vocabulary=options.vocabulary,
            short_side=options.short_side,
            on_frame=seen,
        )
    print(f"{summary.frames} frames, {summary.objects} objects, {summary.seconds:.0f} s")


if __name__ == "__main__":
    main()
