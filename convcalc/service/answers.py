"""From a question to its answer: forms, what is remembered, headers for caches."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, get_type_hints

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json, to_json
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from convcalc.service.forms import CSV, JSON, MARKDOWN, Form, negotiate
from convcalc.service.observe import log
from convcalc.service.pool import CACHED, Reply
from convcalc.service.problems import Problem, invalid

TABLES = (JSON, CSV, MARKDOWN)


class Answers:
    """The last answers, up to so many bytes; each is a pure function of the request."""

    def __init__(self, most: int) -> None:
        self.left = most
        self.most = most
        self.found: OrderedDict[bytes, Reply] = OrderedDict()

    def get(self, key: bytes) -> Reply | None:
        """The answer to a question that was asked before."""
        if reply := self.found.get(key):
            self.found.move_to_end(key)
        return reply

    def put(self, key: bytes, reply: Reply) -> None:
        """Remember an answer, and forget those that nobody has asked for."""
        if len(reply.body) > self.most // 16 or key in self.found:
            return
        self.found[key] = reply
        self.left -= len(reply.body) + 200
        while self.left < 0:
            _, old = self.found.popitem(last=False)
            self.left += len(old.body) + 200


class Asked(NamedTuple):
    """What an endpoint finds in `request.scope["asked"]`."""

    form: Form
    parts: Parts


class Parts:
    """Sends an answer in parts as they come, so that it is nowhere as a whole."""

    def __init__(self, send: Send) -> None:
        self.send = send
        self.begun = False

    async def __call__(self, reply: Reply) -> None:
        """Pass one on."""
        if not self.begun:
            self.begun = True
            headers = [*common(reply.media), (b"cache-control", CACHED.encode())]
            await self.send({"type": "http.response.start", "status": 200, "headers": headers})
        await self.send({"type": "http.response.body", "body": reply.body, "more_body": True})


class QuestionRoute(APIRoute):
    """A route that takes JSON and whose endpoint gives a `Reply`.

    FastAPI declares it.  It is answered by a plain ASGI application, for the general way takes
    longer than working out a layer.
    """

    def __init__(self, path: str, endpoint: Any, **declared: Any) -> None:
        super().__init__(path, endpoint, **declared)
        model: type[BaseModel] = get_type_hints(endpoint)["question"]
        self.check = model.__pydantic_validator__.validate_python
        self.offers = tuple(self.responses[200]["content"])
        self.salt = path.encode()
        self.app = self.answer

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI.

        Raises:
            Problem, RequestValidationError: the question cannot be answered.
        """
        media = accept = None
        for name, value in scope["headers"]:
            if name == b"content-type":
                media = value.decode("latin-1")
            elif name == b"accept":
                accept = value.decode("latin-1")
        check_media(media)
        form = wanted(accept, self.offers)
        if not (body := await whole(receive)):
            raise Problem("malformed")
        state = scope["app"].state
        answers: Answers = state.answers
        salt = b"%b %b %d" % (self.salt, form.media.encode(), form.exact)
        key = hashlib.blake2b(body, key=salt[:64], digest_size=20).digest()
        if (reply := answers.get(key)) is not None:
            state.metrics.remembered.inc()
            await send_reply(reply, send)
            return
        try:
            value = from_json(body, allow_inf_nan=False, cache_strings="keys")
        except ValueError:
            raise Problem("malformed") from None
        try:
            question = self.check(value)
        except ValidationError as error:
            errors = error.errors(include_url=False, include_input=False)
            raise RequestValidationError(
                [{**item, "loc": ("body", *item["loc"])} for item in errors]
            ) from None
        parts = Parts(send)
        scope["asked"] = Asked(form, parts)
        try:
            reply = await self.endpoint(Request(scope), question)
        except Problem as problem:
            if not parts.begun:
                raise
            # The server closes the connection, and the client sees that the last part is missing.
            log("warning", "cut", request_id=scope.get("request_id"), why=problem.kind)
            return
        if parts.begun:
            await send({"type": "http.response.body", "body": reply.body})
            return
        if reply.cache == CACHED:
            answers.put(key, reply)
        await send_reply(reply, send)


class Questions:
    """Takes questions from below the limits to their routes; everything else is FastAPI's."""

    def __init__(self, app: ASGIApp, routes: Iterable[QuestionRoute]) -> None:
        self.app = app
        self.answers = {route.path: route.answer for route in routes}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        answer = self.answers.get(scope["path"]) if scope.get("method") == "POST" else None
        if answer is None:
            await self.app(scope, receive, send)
            return
        try:
            await answer(scope, receive, send)
        except Problem as problem:
            await problem.send(send, scope.get("request_id"))
        except RequestValidationError as error:
            await invalid(error).send(send, scope.get("request_id"))


async def whole(receive: Receive) -> bytes:
    """The body."""
    parts = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


def check_media(given: str | None, known: Sequence[str] = (JSON,)) -> str:
    """The body's media type.

    Raises:
        Problem: there is none, or none that is taken.
    """
    media = (given or "").partition(";")[0].strip().lower()
    if media not in known:
        raise Problem("media-type", f"'Content-Type' must be {' or '.join(known)}.")
    return media


def wanted(accept: str | None, offers: Sequence[str]) -> Form:
    """The form that the header `Accept` asks for.

    Raises:
        Problem: the answer has none of those.
    """
    form = negotiate(accept, offers)
    if form is None:
        raise Problem("not-acceptable", f"The answer can be {', '.join(offers)}.")
    return form


def common(media: str) -> list[tuple[bytes, bytes]]:
    """What stands before every answer of a media type."""
    charset = "; charset=utf-8" if media.startswith("text/") else ""
    return [(b"content-type", f"{media}{charset}".encode()), (b"vary", b"accept")]


def tagged(reply: Reply) -> list[tuple[bytes, bytes]]:
    """The headers of an answer that is there as a whole."""
    digest = hashlib.blake2b(reply.body, digest_size=12).hexdigest()
    return [
        *common(reply.media),
        (b"content-length", b"%d" % len(reply.body)),
        (b"etag", f'"{digest}"'.encode()),
        (b"cache-control", reply.cache.encode()),
    ]


async def send_reply(reply: Reply, send: Send) -> None:
    """Send an answer as it is."""
    await send({"type": "http.response.start", "status": 200, "headers": tagged(reply)})
    await send({"type": "http.response.body", "body": reply.body})


def respond(reply: Reply, request: Request) -> Response:
    """An answer of the other routes; 304 if a reader has it already."""
    response = Response(reply.body)
    response.raw_headers = tagged(reply)
    if request.method == "GET" and matches(
        request.headers.get("if-none-match"), response.headers["etag"]
    ):
        keep = ("etag", "cache-control", "vary")
        return Response(status_code=304, headers={name: response.headers[name] for name in keep})
    return response


def matches(given: str | None, etag: str) -> bool:
    """Whether `If-None-Match` names the answer."""
    tags = [tag.strip().removeprefix("W/") for tag in (given or "").split(",")]
    return etag in tags or "*" in tags


async def compute(request: Request, task: str, question: BaseModel, **more: Any) -> Reply:
    """The answer of a computing process."""
    asked: Asked = request.scope["asked"]
    form = asked.form
    given = {**question.model_dump(), "form": form.name, "exact": form.exact, **more}
    pool = request.app.state.pool
    found: Reply = await pool.run(task, to_json(given), asked.parts)
    return found
