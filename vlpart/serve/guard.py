"""What stands in front of every route: who may ask, how much and how slowly a request may come, and what is counted."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import json
import logging
import time
import traceback
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vlpart.checks import natural
from vlpart.serve.bodies import MAX_VALUES, is_dense
from vlpart.serve.metrics import Metrics
from vlpart.serve.settings import ServeSettings

logger = logging.getLogger("vlpart.serve")

#: Of everything that is answered. The page loads from here alone, talks to here alone, and no other page may frame it.
SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        "media-src 'self' blob:; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
_OPEN = ("/", "/health", "/openapi.json")
"""Paths that need no token; those below `/static/` neither."""

_WITH_BODY = ("POST", "PUT", "PATCH")
_DRAIN_SECONDS = 15.0


class Refusal(Exception):
    """A request that is turned away before any route sees it.

    Args:
        status: of the answer.
        detail: one line for people.
        reason: a word for the metrics.
    """

    def __init__(self, status: int, detail: str, reason: str) -> None:
        super().__init__(detail)
        self.status, self.detail, self.reason = status, detail, reason


class Guard:
    """ASGI middleware. Bodies are read here, whole and bounded, so that no route waits for a slow client.

    Args:
        app: what is guarded.
        settings: the bounds.
        metrics: where answers are counted.
    """

    def __init__(self, app: ASGIApp, settings: ServeSettings, metrics: Metrics) -> None:
        self._app, self._settings, self._metrics = app, settings, metrics
        self._held = 0
        self._hosts = None if settings.hosts is None else {host.lower() for host in settings.hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or the start and end of the server."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer, body, start = _Answer(send), _Body(), time.monotonic()
        try:
            try:
                self._check(scope)
                if scope["method"] in _WITH_BODY:
                    await self._read(scope, receive, body)
                    if not _is_form(scope) and is_dense(body.data):
                        raise Refusal(413, f"the JSON text has more than {MAX_VALUES:,} values", "values")
                await self._app(scope, _replayed(body, receive), answer.send)
            except Refusal as refusal:
                self._metrics.refused.labels(refusal.reason).inc()
                sends_on = scope["method"] in _WITH_BODY and not body.complete and not _waits(scope)
                if sends_on and refusal.reason != "slow":
                    await _drain(receive, 2 * self._settings.max_body)
                await answer.refuse(scope, refusal)
            except _ClientLeftError:
                answer.status = 499
            except Exception as error:
                answer.status = answer.status or 500
                _log(scope, error)
                if answer.started:
                    raise
                await answer.refuse(scope, Refusal(500, "the server failed at this; its log says where", "error"))
        finally:
            self._hold(-body.size)
            path = getattr(scope.get("route"), "path", None) or _known(scope["path"])
            self._metrics.requests.labels(path, _method(scope), str(answer.status)).inc()
            self._metrics.seconds.labels(path).observe(time.monotonic() - start)

    def _check(self, scope: Scope) -> None:
        """Whether this client may ask at all."""
        headers = Headers(scope=scope)
        host = headers.get("host", "").lower()
        if self._hosts is not None and _without_port(host) not in self._hosts:
            raise Refusal(403, f"this server is not called {host!r}: see --allow-host", "host")
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2].lower() != host:
            raise Refusal(403, f"pages from {origin} may not ask this server", "origin")
        if self._settings.token is not None and not _is_open(scope["path"]):
            token = self._settings.token.encode()
            if not any(hmac.compare_digest(given, token) for given in _tokens(headers)):
                raise Refusal(401, "a token is needed: send the header 'Authorization: Bearer TOKEN'", "token")

    async def _read(self, scope: Scope, receive: Receive, body: _Body) -> None:
        """Read a body, as long as it is not too large, too slow, or too much beside what is here."""
        most, seconds = self._settings.max_body, self._settings.body_seconds
        declared = natural(Headers(scope=scope).get("content-length", ""))
        if declared is not None and declared > most:
            raise Refusal(413, f"the request has {declared:,} bytes, more than {most:,}", "size")
        deadline = time.monotonic() + seconds
        while not body.complete:
            try:
                async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                    message = await receive()
            except TimeoutError:
                raise Refusal(408, f"the request took longer than {seconds:g} s to arrive", "slow") from None
            if message["type"] == "http.disconnect":
                self._metrics.refused.labels("broken").inc()
                raise _ClientLeftError
            chunk = message.get("body", b"")
            body.complete = not message.get("more_body", False)
            if body.size + len(chunk) > most:
                raise Refusal(413, f"the request has more than {most:,} bytes", "size")
            if self._held + len(chunk) > self._settings.max_held:
                body.data.clear()
                raise Refusal(429, "the server holds as much as it can: try again later", "memory")
            body.data += chunk
            body.size += len(chunk)
            self._hold(len(chunk))

    def _hold(self, size: int) -> None:
        self._held += size
        self._metrics.held.set(self._held)


@dataclass
class _Body:
    """What has come of a body; its size counts until the request is answered."""

    data: bytearray = field(default_factory=bytearray)
    size: int = 0
    complete: bool = False


class _ClientLeftError(Exception):
    """There is nobody to answer."""


class _Answer:
    """Sends messages on with the security headers, and remembers what was sent."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = 0
        self.started = False

    async def send(self, message: Message) -> None:
        """One message of the application."""
        if message["type"] == "http.response.start":
            self.started, self.status = True, message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in SECURITY_HEADERS.items():
                headers[name] = value
            headers.setdefault("Cache-Control", "no-store")
            headers["Server"] = "vlpart"
        await self._send(message)

    async def refuse(self, scope: Scope, refusal: Refusal) -> None:
        """An answer of our own, after which the connection ends: its client may have more to send."""
        data = json.dumps({"detail": refusal.detail}).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(data)).encode()),
            (b"connection", b"close"),
        ]
        if refusal.status in (429, 503):
            headers.append((b"retry-after", b"1"))
        if refusal.status == HTTPStatus.UNAUTHORIZED:
            headers.append((b"www-authenticate", b"Bearer"))
        await self.send({"type": "http.response.start", "status": refusal.status, "headers": headers})
        await self.send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else data})


def _replayed(body: _Body, receive: Receive) -> Receive:
    """The body that was read as one message, then what comes after it: that the client has left."""
    sent = False

    async def again() -> Message:
        nonlocal sent
        if not sent:
            sent = True
            data = bytes(body.data)
            body.data.clear()  # the application has it now
            return {"type": "http.request", "body": data, "more_body": False}
        return await receive()

    return again


async def _drain(receive: Receive, most: int) -> None:
    """Take what a client still sends, and forget it, so that it reads the answer; not without end."""
    size = 0
    try:
        async with asyncio.timeout(_DRAIN_SECONDS):
            while size < most:
                message = await receive()
                size += len(message.get("body", b""))
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return
    except TimeoutError:
        return


def _log(scope: Scope, error: Exception) -> None:
    """One line: what failed, how and where; with the traceback where that is wanted."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{place.filename}:{place.lineno}"
    kind, debug = type(error).__name__, logger.isEnabledFor(logging.DEBUG)
    logger.error("%s %s failed: %s: %s (%s)", scope["method"], scope["path"], kind, error, where, exc_info=debug)


def _is_form(scope: Scope) -> bool:
    return Headers(scope=scope).get("content-type", "").lower().startswith("multipart/")


def _waits(scope: Scope) -> bool:
    """Whether a client waits for a word before it sends its body."""
    return Headers(scope=scope).get("expect", "").lower() == "100-continue"


def _tokens(headers: Headers) -> list[bytes]:
    """What a client gives for the token, in each of the ways that clients have.

    `Authorization: Bearer TOKEN`; the password of `Authorization: Basic`, whatever the user is called (Label Studio,
    `curl -u`); the header `Token` (X-AnyLabeling).
    """
    kind, _, given = headers.get("authorization", "").partition(" ")
    found = [headers.get("token", "").encode("latin-1")]
    if kind.casefold() == "bearer":
        found.append(given.strip().encode("latin-1"))
    elif kind.casefold() == "basic":
        with suppress(binascii.Error, ValueError):
            found.append(base64.b64decode(given.strip(), validate=True).partition(b":")[2])
    return [token for token in found if token]


def _is_open(path: str) -> bool:
    return path in _OPEN or path.startswith("/static/")


def _without_port(host: str) -> str:
    """The name in a `Host` header."""
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]


def _known(path: str) -> str:
    """A path for the metrics: clients must not make new ones."""
    return "/static" if path.startswith("/static/") else path if path in _OPEN else "other"


def _method(scope: Scope) -> str:
    known: Iterable[str] = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
    return scope["method"] if scope["method"] in known else "other"
