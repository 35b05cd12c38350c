"""Limits that hold before anything is parsed: bytes, time to send them, how many at once."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections import OrderedDict
from collections.abc import Iterable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from convcalc.service.problems import Problem
from convcalc.service.settings import ServiceSettings

#: Paths whose body is a file.
UPLOADS = ("/v1/read", "/v1/filter")

#: What an orchestrator asks is answered however much there is to do.
PROBES = ("/livez", "/readyz")

#: Clients that a rate limit remembers.
CLIENTS = 10_000


class Limits:
    """Refuses what is too large, too slow, too often, too much at once, or without a key."""

    def __init__(self, app: ASGIApp, settings: ServiceSettings) -> None:
        self.app = app
        self.settings = settings
        self.now = 0
        self.keys = [key.get_secret_value().encode() for key in settings.api_keys]
        self.clients: OrderedDict[str, tuple[float, float]] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http" or scope["path"] in PROBES:
            await self.app(scope, receive, send)
            return
        try:
            limit = self.admit(scope)
        except Problem as problem:
            await problem.send(send, scope.get("request_id"))
            return
        self.now += 1
        try:
            await self.app(scope, self.bounded(scope, receive, limit), send)
        finally:
            self.now -= 1

    def admit(self, scope: Scope) -> int:
        """The most bytes that the body may have.

        Raises:
            Problem: the request is refused.
        """
        settings, path = self.settings, scope["path"]
        headers = scope["headers"]
        size = len(scope.get("raw_path") or b"") + len(scope["query_string"])
        declared = None
        for name, value in headers:
            size += len(name) + len(value) + 4
            if name == b"content-length":
                declared = value
        if size > settings.max_headers:
            raise Problem("headers", headers={"connection": "close"})
        if self.keys and (path.startswith("/v1/") or path == "/metrics"):
            check_key(headers, self.keys)
        if settings.rate and path.startswith("/v1/"):
            self.count(scope["client"][0] if scope.get("client") else "", time.monotonic())
        if self.now >= settings.in_flight:
            raise Problem("overloaded", headers={"connection": "close"})
        limit = settings.max_upload if path in UPLOADS else settings.max_body
        if declared is not None and (not declared.isdigit() or int(declared[:20]) > limit):
            raise too_large(limit)
        return limit

    def bounded(self, scope: Scope, receive: Receive, limit: int) -> Receive:
        """`receive` that counts bytes, whatever was declared, and time until all are there."""
        end = asyncio.get_running_loop().time() + self.settings.body_seconds
        left, complete = limit, False

        async def counted() -> Message:
            nonlocal left, complete
            if complete:
                return await receive()
            if "whole" in scope:
                # The protocol has all of it: nothing is waited for.
                message = await receive()
            else:
                try:
                    async with asyncio.timeout_at(end):
                        message = await receive()
                except TimeoutError:
                    raise Problem("slow-body", headers={"connection": "close"}) from None
            left -= len(message.get("body", b""))
            complete = not message.get("more_body", False)
            if left < 0:
                raise too_large(limit)
            return message

        return counted

    def count(self, client: str, now: float) -> None:
        """Take one of the client's tokens; they come back at the rate.

        Raises:
            Problem: there is none.
        """
        rate, burst = self.settings.rate, self.settings.burst
        tokens, then = self.clients.pop(client, (float(burst), now))
        tokens = min(burst, tokens + (now - then) * rate)
        self.clients[client] = (max(tokens - 1, tokens % 1), now)
        if len(self.clients) > CLIENTS:
            self.clients.popitem(last=False)
        if tokens < 1:
            wait = max(1, round((1 - tokens) / rate + 0.5))
            raise Problem("rate", headers={"retry-after": str(wait)})


def too_large(limit: int) -> Problem:
    """The problem of a body over the limit."""
    return Problem(
        "too-large", f"A body here has at most {limit:,} bytes.", headers={"connection": "close"}
    )


def check_key(headers: Iterable[tuple[bytes, bytes]], keys: Iterable[bytes]) -> None:
    """Nothing if the request shows one of the keys.

    Raises:
        Problem: it does not.
    """
    shown = b""
    for name, value in headers:
        if name == b"authorization" and value[:7].lower() == b"bearer ":
            shown = value[7:].strip()
        elif name == b"x-api-key":
            shown = value.strip()
    # Every key is compared, so that the time taken says nothing.
    if not sum(hmac.compare_digest(shown, key) for key in keys):
        raise Problem("unauthorized", headers={"www-authenticate": "Bearer"})
