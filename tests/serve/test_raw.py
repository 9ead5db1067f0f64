"""What comes through a socket without any client library: heads and bodies without end, sizes that are none."""

from __future__ import annotations

import resource
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.serve.conftest import serving

POST = b"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
BLOCK = b"x" * 65_536
ENDLESS = {
    "request line": (b"GET /", BLOCK),
    "header line": (POST + b"X-Long: ", BLOCK),
    "headers": (POST, b"X-More: yes\r\n" * 1000),
    "no head": (b"", b"\0" * 65_536),
    "hello of TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", BLOCK),
    "huge chunk": (CHUNKED + b"ffffffff\r\n", BLOCK),
    "huger chunk": (CHUNKED + b"ffffffffffffffffffff\r\n", BLOCK),
    "negative chunk": (CHUNKED + b"-1\r\n", BLOCK),
    "chunk extension": (CHUNKED + b"1;", BLOCK),
    "small chunks": (CHUNKED, b"1\r\nx\r\n" * 10_000),
    "trailers": (CHUNKED + b"0\r\n", b"X-More: yes\r\n" * 1000),
    "huge length": (POST + b"Content-Length: 99999999999999999\r\n\r\n", BLOCK),
    "huger length": (POST + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", BLOCK),
    "negative length": (POST + b"Content-Length: -1\r\n\r\n", BLOCK),
    "two lengths": (POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", BLOCK),
    "length and chunks": (POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", BLOCK),
}
MOST = 200_000_000


@pytest.fixture(scope="module")
def address(tiny_weights: object) -> Iterator[tuple[str, int]]:
    with serving(max_body=1_000_000, header_seconds=5.0, body_seconds=5.0) as started:
        yield started


def memory() -> int:
    """Bytes that the process had at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


@pytest.mark.parametrize("kind", ENDLESS)
def test_what_never_ends_is_cut_off(kind: str, address: tuple[str, int]) -> None:
    head, piece = ENDLESS[kind]
    before, sent = memory(), 0
    with socket.create_connection(address, timeout=20) as connection, suppress(ConnectionError):
        connection.sendall(head)
        while sent < MOST:
            sent += connection.send(piece)
    assert sent < MOST, "all of it was taken"
    assert memory() - before < 60_000_000
    with socket.create_connection(address, timeout=20) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        assert b" 200 " in connection.makefile("rb").readline()
