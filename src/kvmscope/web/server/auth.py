"""Access control: users and passwords of the web configuration, its headers, and its rate limit.

Source: exporter-toolkit, web/handler.go: a hash is also compared for unknown users, so the time of a response does
not reveal which names exist; results are cached, since a comparison takes about 70 ms.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import os
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .web_config import ConfigSource, RateLimit, WebConfig

_KEPT: Final = 100
_COMPARED_AT_ONCE: Final = 2
_LONGEST_PASSWORD_BYTES: Final = 72
"""bcrypt hashes no more than this many bytes."""

_NOBODY: Final = b"$2y$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi"
"""The hash that exporter-toolkit compares with for an unknown user."""


class AccessGuard:
    """ASGI middleware that requires a password if the configuration has users."""

    def __init__(self, app: ASGIApp, config: ConfigSource) -> None:
        self._app = app
        self._config = config
        self._passwords = PasswordCheck()
        self._bucket = TokenBucket()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        config = self._config()
        send = _with_headers(send, config)
        if config.rate_limit is not None and not self._bucket.take(config.rate_limit):
            await PlainTextResponse("Too Many Requests\n", 429)(scope, receive, send)
        elif config.users and not await self._passwords.is_right(config, _authorization(scope)):
            challenge = {"WWW-Authenticate": "Basic"}
            await PlainTextResponse("Unauthorized\n", 401, challenge)(scope, receive, send)
        else:
            await self._app(scope, receive, send)


class PasswordCheck:
    """Compares passwords with hashes, few at a time, and caches results under a keyed hash of this process."""

    def __init__(self) -> None:
        self._key = os.urandom(32)
        self._results: OrderedDict[bytes, bool] = OrderedDict()
        self._turn = asyncio.Semaphore(_COMPARED_AT_ONCE)

    async def is_right(self, config: WebConfig, header: str) -> bool:
        """Whether the value of an ``Authorization`` header has a user's name and password."""
        name, password = _credentials(header)
        hashed = config.users.get(name, _NOBODY)
        key = hmac.new(self._key, b"\0".join((name.encode(), hashed, password)), hashlib.sha256).digest()
        if key not in self._results:
            async with self._turn:
                found = await run_in_threadpool(_compare, password, hashed)
            self._results[key] = found and name in config.users
            while len(self._results) > _KEPT:
                self._results.popitem(last=False)
        return self._results[key]


class TokenBucket:
    """Limits requests to a rate; for use by one thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._tokens: float | None = None
        self._at_s = 0.0

    def take(self, limit: RateLimit) -> bool:
        """Whether one more request is within the rate."""
        now_s = self._clock()
        tokens = limit.burst if self._tokens is None else self._tokens + (now_s - self._at_s) / limit.interval_s
        tokens = min(float(limit.burst), tokens)
        self._at_s, self._tokens = now_s, tokens - 1 if tokens >= 1 else tokens
        return tokens >= 1


def _compare(password: bytes, hashed: bytes) -> bool:
    import bcrypt

    if len(password) > _LONGEST_PASSWORD_BYTES or b"\0" in password:
        return False
    return bcrypt.checkpw(password, hashed)


def _authorization(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"authorization":
            text: str = value.decode("latin-1")
            return text
    return ""


def _credentials(header: str) -> tuple[str, bytes]:
    scheme, _, encoded = header.partition(" ")
    try:
        decoded = base64.b64decode(encoded.strip(), validate=True) if scheme.lower() == "basic" else b""
        name, _, password = decoded.partition(b":")
        return name.decode(), password
    except (binascii.Error, UnicodeDecodeError):
        return "", b""


def _with_headers(send: Send, config: WebConfig) -> Send:
    if not config.headers:
        return send
    added = [(name.lower().encode(), value.encode("latin-1", "replace")) for name, value in config.headers.items()]
    names = {name for name, _ in added}

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            own = [pair for pair in message.get("headers", ()) if pair[0].lower() not in names]
            message = {**message, "headers": [*own, *added]}
        await send(message)

    return send_with_headers
