"""`run`: the application under uvicorn, in one process or several."""

from __future__ import annotations

import sys

import uvicorn
from fastapi import FastAPI

from convcalc.service.app import create_app
from convcalc.service.observe import log_to_stderr
from convcalc.service.protocol import Protocol
from convcalc.service.settings import ServiceSettings


def served() -> FastAPI:
    """The application of one server process, with what the process needs around it."""
    settings = ServiceSettings()
    log_to_stderr()
    Protocol.connections_limit = settings.connections
    Protocol.header_bytes = settings.max_headers
    Protocol.header_seconds = settings.header_seconds
    return create_app(settings)


def run(settings: ServiceSettings) -> None:
    """Serve until told to stop; server processes read the environment."""
    log_to_stderr()
    uvicorn.run(
        "convcalc.service.server:served",
        factory=True,
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        loop="uvloop" if sys.platform != "win32" else "asyncio",
        http=Protocol,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=int(settings.deadline) + 5,
        forwarded_allow_ips=settings.forwarded_allow_ips,
        backlog=1024,
    )
