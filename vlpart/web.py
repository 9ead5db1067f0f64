"""Answers of web servers, held to a deadline that no server can stretch, and addresses as they may be shown.

A time-out of a socket starts anew with every byte, so a server that sends one every few seconds is never cut off by it.
Here a watch closes the connection when the time is over, whatever the server does: headers, chunks, or "100 Continue"
without end. (Looking up a name is the system's affair, with its own limit.)
"""

from __future__ import annotations

import base64
import functools
import http.client
import ipaddress
import re
import socket
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any

from vlpart.names import printable

FAILURES = (OSError, ValueError, http.client.HTTPException)
"""What `open_url` and reading from it raise: no connection, no such name, a malformed address or answer, time over."""

_SECRET = re.compile(r"(?i)(token|key|secret|sig|signature|passw|auth|credential|session)")


class Watch:
    """A time limit of a connection, as a context; when it is over, the connection is closed."""

    def __init__(self, seconds: float) -> None:
        self.expired = False
        self._until = time.monotonic() + seconds
        self._sockets: list[socket.socket] = []
        self._over = threading.Event()
        self._lock = threading.Lock()

    def extend(self, until: float) -> None:
        """Move the end to a value of `time.monotonic()`; only later."""
        self._until = max(self._until, until)

    def hold(self, connection: socket.socket) -> None:
        """Close this connection in time."""
        with self._lock:
            self._sockets.append(connection)
        if self.expired:
            _cut(connection)

    def __enter__(self) -> Watch:
        threading.Thread(target=self._wait, daemon=True, name="vlpart-watch").start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()

    def _wait(self) -> None:
        while (left := self._until - time.monotonic()) > 0:
            if self._over.wait(left):
                return
        self.expired = True
        with self._lock:
            for connection in self._sockets:
                _cut(connection)


def _cut(connection: socket.socket) -> None:
    with suppress(OSError):  # it is closed already
        socket.socket.shutdown(connection, socket.SHUT_RDWR)  # not the method of TLS sockets, which waits for a lock


@contextmanager
def open_url(
    url: str,
    watch: Watch,
    *,
    timeout: float,
    headers: Mapping[str, str] | None = None,
    allow_private: bool = True,
) -> Iterator[Any]:
    """The answer of a server to GET, as a context; at most ten redirects are followed, to http and https alone.

    A name and a password in the address go into a header for that server, not for one that it redirects to.

    Args:
        watch: the time limit of the whole answer; entered by the caller.
        timeout: seconds in which something must come from the server.
        headers: of the request.
        allow_private: whether the server may have an address that only this machine or its network reaches
            (`is_private`); a proxy, where one is set up, is not asked.

    Raises:
        OSError, ValueError, http.client.HTTPException: see `FAILURES`; `urllib.error.HTTPError` for an answer of 400
            and above. Use `reason_of` for a message, which has no credentials.
    """
    request = _request(url, headers or {})
    handlers = [
        urllib.request.ProxyHandler(),
        _Http(watch, allow_private),
        _Https(watch, allow_private),
        _Redirects(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
    ]
    opener = urllib.request.OpenerDirector()
    for handler in handlers:
        opener.add_handler(handler)
    try:
        with opener.open(request, timeout=timeout) as answer:
            yield answer
    except FAILURES as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()
        if watch.expired:
            raise TimeoutError("it took too long") from error
        raise


def reason_of(error: BaseException) -> str:
    """What went wrong, in one line without control characters and without credentials."""
    if isinstance(error, urllib.error.HTTPError):
        if 300 <= error.code < 400:
            return f"HTTP {error.code}, a redirect that leads nowhere"
        return f"HTTP {error.code} {printable(' '.join(str(error.reason).split()))[:200]}".strip()
    if isinstance(error, http.client.HTTPException) and not isinstance(error, http.client.InvalidURL):
        return f"broken answer ({type(error).__name__})"
    reason = getattr(error, "reason", None) or error
    strerror = getattr(reason, "strerror", None)
    text = str(strerror or reason) or type(error).__name__
    return printable(_without_credentials(text))[:200]


def shown(url: str) -> str:
    """An address for messages and records: no user, no password, no values of parameters that look like secrets."""
    try:
        parts = urllib.parse.urlsplit(url)
    except ValueError:
        return printable(_without_credentials(url))
    netloc = f"***@{parts.netloc.rpartition('@')[2]}" if "@" in parts.netloc else parts.netloc
    pieces = []
    for piece in parts.query.split("&"):
        name, equals, _ = piece.partition("=")
        pieces.append(f"{name}=***" if equals and _SECRET.search(name) else piece)
    return printable(urllib.parse.urlunsplit(parts._replace(netloc=netloc, query="&".join(pieces))))


def quoted(url: str) -> str:
    """An address as people copy it, with spaces and letters of any script, in the form that servers are asked with.

    Raises:
        ValueError: the host is no name, or the address is not http(s).
    """
    parts = urllib.parse.urlsplit(url)
    if parts.scheme.lower() not in ("http", "https") or not parts.hostname:
        raise ValueError("not an http or https address")
    host = parts.netloc if parts.netloc.isascii() else parts.netloc.encode("idna").decode("ascii")
    # What is quoted already stays, and so does all that has a meaning in an address.
    path, query = (urllib.parse.quote(part, safe="%/:@!$&'()*+,;=?[]~") for part in (parts.path, parts.query))
    return urllib.parse.urlunsplit((parts.scheme, host, path, query, ""))


def is_private(address: str) -> bool:
    """Whether an IP address is reached by this machine or its network alone: loopback, private, link-local (where cloud
    machines keep their credentials), reserved, multicast; also as IPv4 inside IPv6.

    Raises:
        ValueError: not an IP address.
    """
    found = ipaddress.ip_address(address.partition("%")[0])
    inner = getattr(found, "ipv4_mapped", None) or getattr(found, "sixtofour", None)
    found = inner or found
    return not found.is_global or found.is_multicast


# ---- inside


def _without_credentials(text: str) -> str:
    return re.sub(r"//[^/\s@]*@", "//***@", text)


def _request(url: str, headers: Mapping[str, str]) -> urllib.request.Request:
    parts = urllib.parse.urlsplit(quoted(url))
    user, at, host = parts.netloc.rpartition("@")
    request = urllib.request.Request(urllib.parse.urlunsplit(parts._replace(netloc=host)), headers=dict(headers))
    if at:
        plain = urllib.parse.unquote(user).encode("utf-8")
        request.add_unredirected_header("Authorization", f"Basic {base64.b64encode(plain).decode('ascii')}")
    return request


class _Redirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        """Follow to http and https; an address that cannot be one is an error of the server."""
        try:
            target = quoted(newurl)
        except ValueError as error:
            fp.close()
            raise urllib.error.URLError(f"it redirects to {shown(newurl)[:200]!r}, which is not followed") from error
        return super().redirect_request(req, fp, code, msg, headers, target)


class _Http(urllib.request.HTTPHandler):
    def __init__(self, watch: Watch, allow_private: bool) -> None:
        super().__init__()
        self.make = functools.partial(_connection, http.client.HTTPConnection, watch, allow_private)

    def http_open(self, req: Any) -> Any:
        """Ask."""
        return self.do_open(functools.partial(self.make, proxied=req.has_proxy()), req)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, watch: Watch, allow_private: bool) -> None:
        super().__init__()
        self.make = functools.partial(_connection, http.client.HTTPSConnection, watch, allow_private)

    def https_open(self, req: Any) -> Any:
        """Ask."""
        proxied = bool(getattr(req, "_tunnel_host", None))
        return self.do_open(functools.partial(self.make, proxied=proxied), req)


class _Answer(http.client.HTTPResponse):
    """An answer whose chunks have no negative sizes: -1 would read into memory whatever comes."""

    def _read_next_chunk_size(self) -> int:
        size: int = super()._read_next_chunk_size()  # type: ignore[misc]
        if size < 0:
            self.close()
            raise ValueError("a negative chunk size")
        return size


def _connection(kind: Any, watch: Watch, allow_private: bool, host: str, *, proxied: bool, **options: Any) -> Any:
    connection = kind(host, **options)
    connection.response_class = _Answer

    def connect(address: tuple[str, int], timeout: Any = None, source: Any = None) -> socket.socket:
        """A connection to an address that is allowed, watched over."""
        if not allow_private and not proxied:
            address = _public(address)
        made = socket.create_connection(address, timeout, source)
        watch.hold(made)
        return made

    connection._create_connection = connect
    return connection


def _public(address: tuple[str, int]) -> tuple[str, int]:
    """The first IP address of a server, of which all must be public: asked once, so that the answer cannot change."""
    addresses = [str(entry[4][0]) for entry in socket.getaddrinfo(*address, type=socket.SOCK_STREAM)]
    if any(map(is_private, addresses)):
        raise PermissionError(f"{address[0]} is an address of a private network")
    return addresses[0], address[1]
