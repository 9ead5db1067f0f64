"""A whole server behind a socket: clients that are slow, broken, too large, or gone."""

from __future__ import annotations

import concurrent.futures
import json
import re
import socket
import time
from typing import Any

from tests.serve.conftest import Start, png, talk


def head(path: str, length: int, kind: str = "application/json", *more: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Type: {kind}", f"Content-Length: {length}", *more]
    return ("\r\n".join([*lines, "", ""])).encode()


def body_of(answer: bytes) -> Any:
    return json.loads(answer.partition(b"\r\n\r\n")[2])


def figures(address: tuple[str, int]) -> dict[str, float]:
    text = talk(address, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").decode()
    lines = [line for line in text.partition("\r\n\r\n")[2].splitlines() if line.startswith("vlpart_")]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


def form(image: bytes, **fields: str) -> tuple[bytes, str]:
    parts = [f'--b\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n'.encode() for k, v in fields.items()]
    start = b'--b\r\nContent-Disposition: form-data; name="image"; filename="x.png"\r\n\r\n'
    return b"".join(parts) + start + image + b"\r\n--b--\r\n", "multipart/form-data; boundary=b"


def test_clients_that_send_too_slowly_or_too_much_get_an_answer(start: Start) -> None:
    address = start(body_seconds=0.5, header_seconds=1.0, max_body=100_000)
    slow = talk(address, head("/v1/predict", 1000), b"{", pause=0.4)
    assert slow.startswith(b"HTTP/1.1 408 ") and "0.5 s" in body_of(slow)["detail"]
    large = talk(address, head("/v1/predict", 150_000), b"x" * 150_000)
    assert large.startswith(b"HTTP/1.1 413 ") and "150,000 bytes" in body_of(large)["detail"]
    asked = talk(address, head("/v1/predict", 10**12, "application/json", "Expect: 100-continue"))
    assert asked.startswith(b"HTTP/1.1 413 ")
    chunked = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    endless = talk(address, chunked, *[b"8000\r\n" + b"x" * 0x8000 + b"\r\n"] * 5, b"0\r\n\r\n")
    assert endless.startswith(b"HTTP/1.1 413 ") and "more than 100,000" in body_of(endless)["detail"]
    assert figures(address)["vlpart_held_bytes"] == 0
    begun = time.monotonic()
    assert talk(address, b"GET / HT") == b""
    assert talk(address) == b""
    assert 1.5 < time.monotonic() - begun < 10


def test_a_client_that_leaves_is_not_computed(start: Start) -> None:
    address = start(queue=4, batch=1)
    data, kind = form(png(600, 400), vocabulary="person", short_side="640")
    waiting = [socket.create_connection(address) for _ in range(4)]
    for connection in waiting:
        connection.sendall(head("/v1/predict", len(data), kind) + data)
    deadline = time.monotonic() + 20
    while figures(address)["vlpart_queue_images"] < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    for connection in waiting:
        connection.close()
    while figures(address)["vlpart_queue_images"] and time.monotonic() < deadline:
        time.sleep(0.02)
    after = figures(address)
    assert after["vlpart_queue_images"] == 0
    assert after['vlpart_given_up_total{reason="client left"}'] >= 2
    assert after["vlpart_held_bytes"] == 0


def test_a_full_queue_says_when_to_come_back(start: Start) -> None:
    address = start(queue=2, batch=1, connections=100)
    data, kind = form(png(300, 200), vocabulary="person", short_side="480")
    request = head("/v1/predict", len(data), kind, "Connection: close") + data
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: talk(address, request), range(16)))
    statuses = [int(answer.split()[1]) for answer in answers]
    assert set(statuses) == {200, 429}
    again = [re.search(rb"retry-after: (\d+)\r", answer) for answer in answers if b" 429 " in answer[:16]]
    assert all(each is not None and 1 <= int(each[1]) <= 30 for each in again)


def test_more_than_the_server_may_hold_is_refused(start: Start) -> None:
    address = start(max_held=50_000, max_body=100_000)
    data, kind = form(b"x" * 80_000)
    answer = talk(address, head("/v1/predict", len(data), kind, "Connection: close") + data)
    assert answer.startswith(b"HTTP/1.1 429 ")
    assert figures(address)["vlpart_held_bytes"] == 0
