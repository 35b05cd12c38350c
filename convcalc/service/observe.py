"""The outermost layer: request ids, security headers, one log line and metrics for each request."""

from __future__ import annotations

import json
import logging
import re
import secrets
import sys
import time
import traceback
from collections.abc import Collection
from datetime import UTC, datetime
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from convcalc.service.problems import Problem

#: An id that a proxy has given is kept if it is one, and is then also in the proxy's log.
REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
METHODS = ("GET", "HEAD", "POST", "OPTIONS")

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "font-src 'self'; connect-src 'self'; worker-src 'self'; manifest-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = [
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
]
#: What no browser shows as a document needs less.
DATA = (b"application/json", b"application/problem+json", b"application/x-ndjson", b"text/csv")
DATA_POLICY = "default-src 'none'; frame-ancestors 'none'"
DATA_HEADERS = [
    (b"content-security-policy", DATA_POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
]

logger = logging.getLogger("convcalc.service")


class Metrics:
    """What Prometheus is told; of one server process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "convcalc_requests", "Requests.", ("method", "route", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "convcalc_request_seconds",
            "Time from a request's headers to the end of its answer.",
            ("route",),
            registry=self.registry,
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
        )
        self.now = 0
        in_flight = Gauge("convcalc_in_flight", "Requests now.", registry=self.registry)
        in_flight.set_function(lambda: self.now)
        self.waiting = Gauge(
            "convcalc_waiting", "Requests that wait for a process.", registry=self.registry
        )
        self.processes = Gauge(
            "convcalc_processes", "Computing processes now.", registry=self.registry
        )
        self.ended = Counter(
            "convcalc_processes_ended",
            "Computing processes that ended: deadline, lost, recycled.",
            ("why",),
            registry=self.registry,
        )
        self.remembered = Counter(
            "convcalc_answers_remembered", "Answers that were not computed.", registry=self.registry
        )
        # Finding a counter by its labels takes longer than counting.
        self.request = cache(self.requests.labels)
        self.duration = cache(self.seconds.labels)


class Observe:
    """Wraps everything; what fails inside becomes a problem whose traceback is only logged."""

    def __init__(
        self, app: ASGIApp, metrics: Metrics, routes: Collection[str], access_log: bool
    ) -> None:
        self.app = app
        self.metrics = metrics
        self.routes = frozenset(routes)
        self.access_log = access_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start = time.perf_counter()
        request_id = scope["request_id"] = given_id(scope) or secrets.token_hex(8)
        status, size = 0, 0

        async def observed(message: Message) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = message["headers"]
                more = HEADERS
                for name, value in headers:
                    if name == b"content-type" and value.partition(b";")[0] in DATA:
                        more = DATA_HEADERS
                message["headers"] = [*headers, (b"x-request-id", request_id.encode()), *more]
            else:
                size += len(message.get("body", b""))
            await send(message)

        self.metrics.now += 1
        try:
            await self.app(scope, receive, observed)
        except Exception as error:
            log("error", "failed", request_id=request_id, **where(error))
            if not status:
                await Problem("internal").send(observed, request_id)
        finally:
            seconds = time.perf_counter() - start
            self.metrics.now -= 1
            route = scope["path"] if scope["path"] in self.routes else "other"
            method = scope["method"] if scope["method"] in METHODS else "OTHER"
            self.metrics.request(method, route, str(status)).inc()
            self.metrics.duration(route).observe(seconds)
            if self.access_log:
                log(
                    "info",
                    "request",
                    request_id=request_id,
                    method=method,
                    route=route,
                    status=status,
                    bytes=size,
                    ms=round(1000 * seconds, 2),
                )


def given_id(scope: Scope) -> str | None:
    """The request id that came with the request."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and REQUEST_ID.fullmatch(value):
            found: str = value.decode()
            return found
    return None


def where(error: BaseException) -> dict[str, object]:
    """What failed and where, without the message, which may quote the request."""
    frames = traceback.extract_tb(error.__traceback__)
    return {
        "error": type(error).__name__,
        "at": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames[-12:]],
    }


def log(level: str, event: str, **fields: object) -> None:
    """One line of JSON."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    logger.log(
        logging.getLevelNamesMapping()[level.upper()],
        json.dumps({"time": now, "level": level, "event": event, **fields}),
    )


class Lines(logging.Formatter):
    """Other libraries' records as lines of JSON; ours are lines already."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        if record.name == logger.name:
            return record.getMessage()
        now = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        found: dict[str, object] = {
            "time": now,
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        if record.exc_info and record.exc_info[1] is not None:
            found |= where(record.exc_info[1])
        return json.dumps(found)


def log_to_stderr() -> None:
    """Send our lines and uvicorn's to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Lines())
    for name in (logger.name, "uvicorn", "uvicorn.error"):
        found = logging.getLogger(name)
        found.handlers, found.propagate = [handler], False
        found.setLevel(logging.INFO)
    logging.getLogger("uvicorn.error").handlers = []
    logging.getLogger("uvicorn.error").propagate = True
