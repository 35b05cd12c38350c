"""`convcalc serve`: the API and the page."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from convcalc.errors import MissingExtra, UsageError


def serve_command(
    host: Annotated[str | None, typer.Option(help="Address to listen on.  [127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.  [8000]")] = None,
    workers: Annotated[int | None, typer.Option(help="Server processes.  [1]")] = None,
    processes: Annotated[
        int | None, typer.Option(help="Computing processes of each.  [one a core]")
    ] = None,
    queue: Annotated[
        int | None, typer.Option(help="Requests that may wait for one, then 503.  [64]")
    ] = None,
    deadline: Annotated[float | None, typer.Option(help="Seconds for an answer.  [30]")] = None,
    memory: Annotated[
        str | None, typer.Option(help="Memory of a computing process.  [1GiB]")
    ] = None,
    max_body: Annotated[str | None, typer.Option(help="Largest JSON body.  [1MiB]")] = None,
    max_upload: Annotated[
        str | None, typer.Option(help="Largest model file or picture.  [32MiB]")
    ] = None,
    rate: Annotated[
        float | None, typer.Option(help="Requests a second for each client; 0: any.  [0]")
    ] = None,
    drain: Annotated[
        float | None, typer.Option(help="Seconds from SIGTERM to the last new request.  [5]")
    ] = None,
    verify: Annotated[
        bool | None, typer.Option("--verify", help="Offer /v1/verify; on loopback only.")
    ] = None,
) -> None:
    """Serves the API, its documentation at /docs, and the page.

    Every flag is also an environment variable, CONVCALC_PORT and so on; docs/api.md lists them with
    those that have no flag.
    """
    from convcalc.settings import parse_bytes

    try:
        from pydantic import ValidationError

        from convcalc.service.server import run
        from convcalc.service.settings import ServiceSettings
    except ImportError:
        raise MissingExtra("serve") from None
    flags = {
        "host": host,
        "port": port,
        "workers": workers,
        "processes": processes,
        "queue": queue,
        "deadline": deadline,
        "memory": None if memory is None else parse_bytes(memory),
        "max_body": None if max_body is None else parse_bytes(max_body),
        "max_upload": None if max_upload is None else parse_bytes(max_upload),
        "rate": rate,
        "drain": drain,
        "verify": verify,
    }
    # By the environment, for server processes read it as well.
    os.environ.update(
        {f"CONVCALC_{name.upper()}": str(v) for name, v in flags.items() if v is not None}
    )
    try:
        settings = ServiceSettings()
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    if settings.verify:
        from convcalc.service.verify import loopback

        if not loopback(settings.host):
            raise UsageError(f"--verify runs code: it needs a loopback --host, not {settings.host}")
    run(settings)
