"""Servers that mean no good: time-outs that cannot be stretched, redirects, credentials, private addresses."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from vlpart import web
from vlpart.data.images import read_image
from vlpart.errors import DownloadError, ImageError
from vlpart.zoo.download import download_file

Talk = Callable[[socket.socket, threading.Event], None]
Serve = Callable[..., str]
OK = b"HTTP/1.1 200 OK\r\n"


def drip(head: bytes, piece: bytes) -> Talk:
    """Send `head`, then `piece` ten times a second for ever."""

    def talk(line: socket.socket, over: threading.Event) -> None:
        line.sendall(head)
        while not over.wait(0.1):
            line.sendall(piece)

    return talk


def say(answer: bytes) -> Talk:
    """Send one answer."""
    return lambda line, over: line.sendall(answer)


SLOW = {
    "body": drip(OK + b"Content-Length: 1000000\r\n\r\n", b"x"),
    "headers": drip(OK, b"X-More: yes\r\n"),
    "status": drip(b"HTTP/1.1", b" "),
    "chunks": drip(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    "chunk_size": drip(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"0"),
    "continue": drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "unknown_length": drip(OK + b"\r\n", b"x"),
}


def flood(head: bytes, piece: bytes, sent: list[int]) -> Talk:
    """Send `head`, then `piece` as fast as it is taken, up to 100 MB."""

    def talk(line: socket.socket, over: threading.Event) -> None:
        line.sendall(head)
        while sum(sent) < 100_000_000 and not over.is_set():
            sent.append(line.send(piece))

    return talk


CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
FLOODS = {
    "status line": (b"HTTP/1.1 200 ", b"x" * 65_536),
    "header line": (OK + b"X-Long: ", b"x" * 65_536),
    "headers": (OK, b"X-More: yes\r\n" * 1000),
    "huge chunk": (CHUNKED + b"ffffffffffffffff\r\n", b"x" * 65_536),
    "huger chunk": (CHUNKED + b"f" * 5000 + b"\r\n", b"x" * 65_536),
    "negative chunk": (CHUNKED + b"-1\r\n", b"x" * 65_536),
    "more negative chunk": (CHUNKED + b"-ffffffffffffffff\r\n", b"x" * 65_536),
    "chunk extension": (CHUNKED + b"1;", b"x" * 65_536),
    "huge length": (OK + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", b"x" * 65_536),
    "no length": (OK + b"Content-Length: \xb2\r\n\r\n", b"x" * 65_536),
    "negative length": (OK + b"Content-Length: -1\r\n\r\n", b"x" * 65_536),
}


@pytest.mark.parametrize("kind", FLOODS)
def test_fast_servers_are_bounded(
    kind: str, serve: Callable[[Talk], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of what never ends, no more is taken than an image may have, whatever the server calls it."""
    monkeypatch.setattr("vlpart.data.images.MAX_DOWNLOAD_BYTES", 1_000_000)
    sent: list[int] = []
    with pytest.raises(ImageError) as refused:
        read_image(f"{serve(flood(*FLOODS[kind], sent))}/a.png", timeout=10)
    assert "took over" not in str(refused.value)
    assert sum(sent) < 30_000_000  # some are on the way
    with pytest.raises(DownloadError):
        download_file(f"{serve(flood(*FLOODS[kind], []))}/a", tmp_path / "a", size=1_000_000, timeout=10)


@pytest.mark.parametrize("kind", SLOW)
def test_no_server_outlasts_the_limit_of_an_image(kind: str, serve: Callable[[Talk], str]) -> None:
    started = time.monotonic()
    with pytest.raises(ImageError, match="took over|broken answer|bytes came"):
        read_image(serve(SLOW[kind]) + "/a.jpg", timeout=0.3)
    assert time.monotonic() - started < 20


@pytest.mark.parametrize("kind", SLOW)
def test_no_server_outlasts_the_limit_of_a_download(kind: str, serve: Callable[[Talk], str], tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(DownloadError, match="could not be downloaded"):
        download_file(serve(SLOW[kind]) + "/a.pth", tmp_path / "a.pth", timeout=0.2)
    assert time.monotonic() - started < 30
    assert not (tmp_path / "a.pth").exists()


def test_a_download_of_known_size_stops_at_it(serve: Callable[[Talk], str], tmp_path: Path) -> None:
    url = serve(drip(OK + b"\r\n", b"x" * 1000))
    with pytest.raises(DownloadError, match="more than the 500 bytes"):
        download_file(url, tmp_path / "a.pth", size=500, timeout=5)
    assert not (tmp_path / "a.pth.part").exists()


@pytest.mark.parametrize(
    "target",
    ["file:///etc/passwd", "ftp://127.0.0.1/a", "data:text/plain,x", "http://[bad/", "http:///x", "gopher://a/b"],
)
def test_redirects_lead_to_http_alone(target: str, serve: Callable[[Talk], str], tmp_path: Path) -> None:
    url = serve(say(f"HTTP/1.1 302 Found\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n".encode()))
    with pytest.raises(ImageError, match="cannot fetch"):
        read_image(url, timeout=5)
    with pytest.raises(DownloadError):
        download_file(url, tmp_path / "a.pth", timeout=5)


def test_redirects_in_a_circle_end(serve: Callable[[Talk], str]) -> None:
    url = serve(say(b"HTTP/1.1 302 Found\r\nLocation: /again\r\nContent-Length: 0\r\n\r\n"))
    with pytest.raises(ImageError, match="HTTP 302"):
        read_image(url, timeout=5)


def test_credentials_are_sent_but_not_shown(serve: Callable[..., str], tmp_path: Path) -> None:
    asked: list[bytes] = []
    away: list[bytes] = []
    other = serve(say(b"HTTP/1.1 404 Gone\r\nContent-Length: 0\r\n\r\n"), away)
    found = f"HTTP/1.1 302 Found\r\nLocation: {other}/x\r\nContent-Length: 0\r\n\r\n".encode()
    address = serve(say(found), asked).replace("http://", "http://anna:geheim@") + "/a.jpg?token=wort&size=3"
    with pytest.raises(ImageError) as caught:
        read_image(address, timeout=5)
    with pytest.raises(DownloadError) as failed:
        download_file(address, tmp_path / "a.pth", timeout=5)
    for message in (str(caught.value), str(failed.value)):
        assert "geheim" not in message
        assert "wort" not in message
        assert "size=3" in message
        assert "404" in message
    assert all(b"Authorization: Basic YW5uYTpnZWhlaW0=" in request for request in asked)
    assert away
    assert not any(b"uthorization" in request for request in away)


def test_shown() -> None:
    assert (
        web.shown("https://a:b@example.com/c?x=1&X-Amz-Signature=2")
        == "https://***@example.com/c?x=1&X-Amz-Signature=***"
    )
    assert web.shown("http://a:b@[bad/c") == "http://***@[bad/c"
    assert "\x1b" not in web.shown("http://example.com/\x1b[31m")


def test_control_sequences_of_a_server_are_escaped(serve: Callable[[Talk], str]) -> None:
    url = serve(say(b"HTTP/1.1 404 \x1b]52;c;YQ==\x07 gone\r\nContent-Length: 0\r\n\r\n"))
    with pytest.raises(ImageError) as caught:
        read_image(url, timeout=5)
    assert "\x1b" not in str(caught.value)
    assert "404" in str(caught.value)


PRIVATE = [
    "127.0.0.1",
    "10.1.2.3",
    "192.168.0.1",
    "172.16.9.9",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.0",
    "224.0.0.1",
]
PRIVATE += ["::1", "::", "fe80::1%eth0", "fd00::1", "::ffff:127.0.0.1", "2002:7f00:1::", "ff02::1"]


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses(address: str) -> None:
    assert web.is_private(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_public_addresses(address: str) -> None:
    assert not web.is_private(address)


def test_private_addresses_are_refused_where_asked(serve: Callable[..., str]) -> None:
    asked: list[bytes] = []
    url = serve(say(OK + b"Content-Length: 2\r\n\r\nok"), asked)
    with web.Watch(10) as watch, web.open_url(url, watch, timeout=5) as answer:
        assert answer.read() == b"ok"
    for name in (url, url.replace("127.0.0.1", "localhost")):
        with (
            pytest.raises(OSError, match="private network"),
            web.Watch(10) as watch,
            web.open_url(name, watch, timeout=5, allow_private=False),
        ):
            pass
    assert len(asked) == 1
