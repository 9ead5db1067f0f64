"""Many clients at once against `vlpart serve`: good ones, slow, broken, oversized and deaf ones, and some that leave.

    python benchmarks/serve_load.py --clients 200 --rounds 2

Starts a server of its own, and prints what each kind of client was answered, how long good clients waited, and the
largest memory of the server (Linux). Ends with an error if a good client got anything but an answer or "try again", if
the server died, or if it is not idle afterwards.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import re
import subprocess
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path

SAMPLE = Path(__file__).parents[1] / "vlpart" / "assets" / "samples" / "astronaut.jpg"
KINDS = ("good", "good", "leaving", "good", "good", "good", "slow", "broken", "oversized", "deaf")


def request(image: bytes, words: str = "person: hair, eye, nose, mouth") -> bytes:
    """A whole request to predict."""
    field = f'--b\r\nContent-Disposition: form-data; name="vocabulary"\r\n\r\n{words}\r\n'
    field += '--b\r\nContent-Disposition: form-data; name="short_side"\r\n\r\n192\r\n'  # the server is what is tried
    file = '--b\r\nContent-Disposition: form-data; name="image"; filename="x.jpg"\r\n\r\n'
    body = field.encode() + file.encode() + image + b"\r\n--b--\r\n"
    return head(len(body)) + body


def head(length: int) -> bytes:
    lines = ["POST /v1/predict HTTP/1.1", "Host: localhost", "Content-Type: multipart/form-data; boundary=b"]
    return "\r\n".join([*lines, f"Content-Length: {length}", "Connection: close", "", ""]).encode()


async def status_of(reader: asyncio.StreamReader) -> str:
    """The status that is answered, with the seconds of `Retry-After` behind it; "closed" where there is none."""
    try:
        line = await asyncio.wait_for(reader.readline(), 120)
        again = re.search(rb"retry-after: (\d+)", await reader.read(), re.IGNORECASE)
    except ConnectionError:
        return "closed"
    except TimeoutError:
        return "no answer"
    seconds = "" if again is None else f" {again[1].decode()}"
    return line.split()[1].decode() + seconds if line else "closed"


async def client(kind: str, number: int, port: int, image: bytes) -> str:
    """What one client gets."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = asyncio.ensure_future(status_of(reader))
    with contextlib.suppress(ConnectionError):
        await send(kind, number, request(image), writer, answer)
    if kind in ("deaf", "leaving") or (kind == "broken" and number % 3 == 0):
        answer.cancel()
        writer.close()
        return "left"
    status = await answer
    writer.close()
    return status


async def send(kind: str, number: int, whole: bytes, writer: asyncio.StreamWriter, answer: asyncio.Future[str]) -> None:
    """Send what a client of that kind sends, until it is answered."""
    if kind == "slow":  # a byte every now and then, of the head or of the body
        writer.write(whole[: 300 * (number % 4 > 1)])
        for at in range(80):
            if answer.done():
                return
            writer.write(whole[300 + at : 301 + at])
            await asyncio.sleep(0.5)
    elif kind == "broken" and number % 3 == 0:  # leaves in the middle
        writer.write(whole[: len(whole) // 2])
    elif kind == "broken":  # no HTTP, or no image
        writer.write(b"\x16\x03\x01 hello\r\n\r\n" if number % 3 == 1 else request(b"\xff\xd8 no photo"))
    elif kind == "oversized":
        writer.write(head(80_000_000))
        for _ in range(80):
            writer.write(b"x" * 1_000_000)
            await writer.drain()
    else:
        writer.write(whole)
    await writer.drain()
    if kind in ("deaf", "leaving"):  # the first does not listen, the other has gone before it could be its turn
        await asyncio.sleep(10 if kind == "deaf" else 1)


async def storm(
    clients: int, rounds: int, port: int, image: bytes
) -> tuple[dict[str, Counter[str]], list[float], list[int]]:
    """All clients at once; good ones that are told to try again do so."""
    answers: dict[str, Counter[str]] = defaultdict(Counter)
    waits: list[float] = []
    asked_back: list[int] = []

    async def one(number: int) -> None:
        kind = KINDS[number % len(KINDS)]
        for _ in range(rounds):
            begun = time.monotonic()
            while True:
                status = await client(kind, number, port, image)
                status, _, seconds = status.partition(" ")
                answers[kind][status] += 1
                if kind != "good" or status not in ("429", "503"):
                    break
                asked_back.append(int(seconds))
                await asyncio.sleep(int(seconds))
            if kind == "good":
                waits.append(time.monotonic() - begun)

    await asyncio.gather(*(one(number) for number in range(clients)))
    return answers, waits, asked_back


async def get(port: int, path: str) -> str:
    """The body of an answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    text = (await reader.read()).decode()
    writer.close()
    return text.partition("\r\n\r\n")[2]


def memory(process: int, name: str) -> float:
    """MiB of `VmHWM` (the most so far) or `VmRSS` (now)."""
    status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    return int(re.findall(rf"{name}:\s+(\d+)", status)[0]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=1, help="requests of each client")
    parser.add_argument("--port", type=int, default=8765)
    options = parser.parse_args()
    image = SAMPLE.read_bytes()
    command = [sys.executable, "-m", "vlpart", "serve", "--port", str(options.port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None and "studio" in server.stdout.readline()
        asyncio.run(client("good", 0, options.port, image))
        before, begun = memory(server.pid, "VmRSS"), time.monotonic()
        answers, waits, asked_back = asyncio.run(storm(options.clients, options.rounds, options.port, image))
        seconds = time.monotonic() - begun
        alive = server.poll() is None
        figures = asyncio.run(get(options.port, "/metrics")) if alive else ""
        print(f"{options.clients} clients, {options.rounds} request(s) each, {seconds:.1f} s")
        for kind, counted in sorted(answers.items()):
            print(f"  {kind:<10} {', '.join(f'{status}: {count}' for status, count in sorted(counted.items()))}")
        waits.sort()
        print(f"good clients waited {waits[len(waits) // 2]:.1f} s in the middle, {waits[-1]:.1f} s at most")
        if asked_back:
            print(f"asked to come back after {min(asked_back)} to {max(asked_back)} s, {len(asked_back)} times")
        print(
            *(
                line
                for line in figures.splitlines()
                if line.startswith(("vlpart_images_total ", "vlpart_given_up_total{"))
            ),
            sep=", ",
        )
        print(f"memory {before:.0f} MiB before, {memory(server.pid, 'VmHWM'):.0f} MiB at most")
        left = [
            line for line in figures.splitlines() if line.startswith(("vlpart_held_bytes ", "vlpart_queue_images "))
        ]
        print("afterwards:", ", ".join(left), "| serves on:", alive)
        server.terminate()
    bad = set(answers["good"]) - {"200", "429", "503"}
    if bad or not alive or any(not line.endswith(" 0.0") for line in left):
        sys.exit("error: not all was well")


if __name__ == "__main__":
    main()
