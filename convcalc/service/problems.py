"""Errors as RFC 9457 problems: what is wrong and what to do, and nothing of what was sent."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Send

MEDIA_TYPE = "application/problem+json"


class Kind(NamedTuple):
    """One kind of problem, the same for every occurrence."""

    status: int
    title: str
    advice: str


KINDS = {
    "malformed": Kind(400, "The body is not valid JSON", "Send one JSON value, without NaN."),
    "bad-request": Kind(400, "The request cannot be understood", "See the documentation."),
    "unauthorized": Kind(401, "A key is needed", "Send it as 'Authorization: Bearer KEY'."),
    "forbidden": Kind(403, "This is not for you", "Ask from the machine itself."),
    "not-found": Kind(404, "There is nothing here", "See /openapi.json for what there is."),
    "method": Kind(405, "This method is not allowed here", "Use one that 'Allow' names."),
    "not-acceptable": Kind(
        406, "The answer has no such form", "Accept one of the media types that are documented."
    ),
    "slow-body": Kind(408, "The body took too long", "Send it faster, or less of it."),
    "too-large": Kind(413, "The body is too large", "Send a smaller one."),
    "media-type": Kind(415, "The body has a wrong media type", "Set 'Content-Type'."),
    "invalid": Kind(422, "The request does not fit its schema", "Correct what 'errors' names."),
    "unusable": Kind(422, "The question makes no sense", "Correct what 'detail' names."),
    "unreadable": Kind(422, "The network cannot be read", "Correct what 'detail' names."),
    "too-expensive": Kind(
        422, "The question takes too much time or memory", "Ask about a smaller network."
    ),
    "inexact": Kind(
        422,
        "The answer has integers beyond 2^53 - 1",
        "JavaScript would round them. Accept 'application/json; integers=exact' to get them.",
    ),
    "rate": Kind(429, "Too many requests", "Wait as long as 'Retry-After' says."),
    "headers": Kind(431, "The headers are too large", "Send fewer or shorter headers."),
    "internal": Kind(500, "Something is broken here", "Report the request id."),
    "missing-extra": Kind(501, "This installation cannot do that", "Ask the operator."),
    "overloaded": Kind(503, "Too much to do", "Try again after 'Retry-After' seconds."),
    "deadline": Kind(503, "The answer took too long", "Try again, or ask about less."),
    "lost": Kind(503, "The computation was lost", "Try again."),
    "draining": Kind(503, "This server is about to stop", "Try again."),
}
BY_STATUS = {404: "not-found", 405: "method", 413: "too-large", 415: "media-type"}


class ProblemError(BaseModel):
    """One field that is wrong."""

    pointer: str = Field(description="Where in the body (a JSON pointer), query or headers.")
    detail: str


class ProblemDetails(BaseModel):
    """An error (RFC 9457)."""

    type: str = Field(description="Which kind; /problems lists them.")
    title: str
    status: int
    detail: str
    request_id: str | None = None
    errors: list[ProblemError] | None = None


class Problem(HTTPException):
    """An error to be told.  It is an HTTPException, which FastAPI lets through everywhere."""

    def __init__(
        self,
        kind: str,
        detail: str | None = None,
        *,
        errors: Sequence[Mapping[str, str]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.kind = kind
        self.errors = errors
        found = KINDS[kind]
        extra = {"retry-after": "1", **(headers or {})} if found.status == 503 else headers
        super().__init__(found.status, detail or found.advice, extra)

    def body(self, request_id: str | None) -> bytes:
        """The problem as JSON."""
        found: dict[str, Any] = {
            "type": f"/problems#{self.kind}",
            "title": KINDS[self.kind].title,
            "status": self.status_code,
            "detail": self.detail,
        }
        if request_id is not None:
            found["request_id"] = request_id
        if self.errors:
            found["errors"] = list(self.errors)
        return json.dumps(found).encode()

    def response(self, request_id: str | None) -> Response:
        """The problem as a response."""
        headers = {"cache-control": "no-store", **(self.headers or {})}
        return Response(self.body(request_id), self.status_code, headers, MEDIA_TYPE)

    async def send(self, send: Send, request_id: str | None) -> None:
        """Answer with the problem from a layer below FastAPI."""
        response = self.response(request_id)
        await send(
            {
                "type": "http.response.start",
                "status": response.status_code,
                "headers": response.raw_headers,
            }
        )
        await send({"type": "http.response.body", "body": response.body})


def install(app: FastAPI) -> None:
    """Make every error of FastAPI and Starlette a problem."""

    @app.exception_handler(HTTPException)
    async def known(request: Request, error: HTTPException) -> Response:
        if not isinstance(error, Problem):
            kind = BY_STATUS.get(error.status_code, "bad-request")
            allow = (error.headers or {}).get("Allow")
            error = Problem(kind, headers={"allow": allow} if allow else None)
        return error.response(request.scope.get("request_id"))

    @app.exception_handler(RequestValidationError)
    async def unfit(request: Request, error: RequestValidationError) -> Response:
        return invalid(error).response(request.scope.get("request_id"))


def invalid(error: RequestValidationError) -> Problem:
    """The problem of a request that does not fit its schema."""
    return Problem("invalid", errors=[described(item) for item in error.errors()[:20]])


def described(error: Mapping[str, Any]) -> dict[str, str]:
    """Where pydantic found what wrong.  Keys that are not ours are input, and left out."""
    kind, where = error["type"], list(error["loc"])
    if kind == "extra_forbidden":
        where.pop()
    parts = [str(part) for part in where[1:] if isinstance(part, int) or str(part).isidentifier()]
    # Names of union members ("list[constrained-int]") are no part of a pointer and drop out above;
    # those of plain ones ("int") are told from fields here.
    parts = [part for part in parts if part not in ("int", "str", "bool", "float")]
    prefix = "#" if where[:1] == ["body"] else str(where[0]) if where else "#"
    if kind == "extra_forbidden":
        detail = "there is a field that is not known here"
    elif kind in ("value_error", "assertion_error"):
        detail = str(error["ctx"]["error"])
    else:
        detail = error["msg"]
    return {"pointer": "/".join([prefix, *parts]), "detail": detail}


def catalogue() -> str:
    """All kinds, as Markdown."""
    lines = ["# Problems", ""]
    for name, kind in KINDS.items():
        lines += [f'<a id="{name}"></a>', f"## {name} ({kind.status})", ""]
        lines += [f"{kind.title}. {kind.advice}", ""]
    return "\n".join(lines)
