"""A server as `convcalc serve` runs it, in a thread of this process, on a port of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI

from convcalc.service.app import create_app
from convcalc.service.problems import KINDS
from convcalc.service.protocol import Protocol
from convcalc.service.settings import ServiceSettings

LAYER = {"input": [150, 100, 3], "filters": 200, "kernel": 5, "stride": 1, "padding": "same"}


class Live(httpx.Client):
    """A client of a running server, which is at hand as well."""

    app: FastAPI
    port: int


@contextmanager
def serving(settings: ServiceSettings | None = None, **limits: object) -> Iterator[Live]:
    """A server with these settings; two computing processes unless said otherwise."""
    given = {"processes": 2, "access_log": False, **limits}
    settings = settings or ServiceSettings(**given)  # type: ignore[arg-type]
    app = create_app(settings)

    class Connection(Protocol):
        connections_limit = settings.connections
        header_bytes = settings.max_headers
        header_seconds = settings.header_seconds

    quiet = {"log_config": None, "access_log": False, "server_header": False}
    config = uvicorn.Config(app, port=0, http=Connection, ws="none", **quiet)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    client = Live(base_url=f"http://127.0.0.1:{port}", timeout=60)
    client.app, client.port = app, port
    try:
        yield client
    finally:
        client.close()
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


def problem(response: httpx.Response, kind: str) -> dict[str, Any]:
    """The problem that a response must be."""
    assert response.headers["content-type"] == "application/problem+json", response.text
    found: dict[str, Any] = response.json()
    assert found["type"] == f"/problems#{kind}", found
    assert response.status_code == found["status"] == KINDS[kind].status
    assert found["title"] == KINDS[kind].title
    assert found["detail"]
    assert found["request_id"] == response.headers["x-request-id"]
    return found
