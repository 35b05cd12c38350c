"""/v1/verify: runs frameworks, so only for whoever sits at the machine, and one at a time."""

from __future__ import annotations

import asyncio
import ipaddress
from typing import Any

from fastapi import APIRouter, Request
from pydantic_core import to_json

from convcalc.errors import ConvcalcError
from convcalc.service import jobs
from convcalc.service.answers import QuestionRoute
from convcalc.service.forms import JSON
from convcalc.service.mask import masked
from convcalc.service.pool import Reply
from convcalc.service.problems import Problem
from convcalc.service.questions import VerifyQuestion
from convcalc.service.routes import ALWAYS, LIMITED, answer, refusals

LOCAL = ("localhost", "127.0.0.1", "[::1]", "::1")


def loopback(host: str) -> bool:
    """Whether an address is this machine's own."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_local(request: Request) -> None:
    """Nothing for a client on this machine, which also calls it by such a name.

    The name keeps out pages of other machines whose name has been made to point here.

    Raises:
        Problem: it is another one.
    """
    client = request.client.host if request.client else ""
    host = request.headers.get("host", "").rsplit(":", 1)[0]
    if not loopback(client) or host not in LOCAL:
        raise Problem("forbidden")


def router() -> APIRouter:
    """The route."""
    found = APIRouter(route_class=QuestionRoute, prefix="/v1", tags=["questions"])
    one = asyncio.Lock()

    @found.post(
        "/verify",
        response_model=list[dict[str, Any]],
        responses={
            **answer(JSON),
            **refusals(
                *ALWAYS, "unusable", "unreadable", "forbidden", "missing-extra", *LIMITED, "lost"
            ),
        },
    )
    async def verify(request: Request, question: VerifyQuestion) -> Reply:
        """Runs the network here with a framework: predicted against measured."""
        check_local(request)
        if one.locked():
            raise Problem("overloaded", headers={"retry-after": "30"})
        async with one:
            try:
                body = await asyncio.to_thread(measured, question)
            except ConvcalcError as error:
                raise refusal(error, question) from None
        return Reply(JSON, body, "no-store")

    return found


def refusal(error: ConvcalcError, question: VerifyQuestion) -> Problem:
    """The problem that an error of a run is."""
    kind = {2: "unusable", 4: "unreadable", 5: "missing-extra"}.get(error.exit_code, "lost")
    return Problem(kind, masked(str(error), question.model_dump()))


def measured(question: VerifyQuestion) -> bytes:
    """What the command `convcalc verify --json` prints."""
    from convcalc.cli.verify import requests_of, verdict_of
    from convcalc.readers.spec import write_spec
    from convcalc.verify.request import Request as Run

    net = jobs.network(question.network, question.input)
    compiled = question.framework == "jax" and question.device == "cpu"
    asked = Run(
        network=write_spec(net),
        framework=question.framework,
        method="compiled" if compiled else "allocator",
        device=question.device,
        batch=question.batch,
        dtype=question.dtype,
        jit=compiled or question.device != "cpu",
        timeout=question.timeout,
    )
    runs = requests_of(asked, question.mode, question.optimizer, single_layer=False)
    return to_json([verdict_of(net, run, None, None).to_json() for run in runs])
