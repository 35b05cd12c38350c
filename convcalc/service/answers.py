"""From a question to its answer: forms, what is remembered, headers for caches."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel
from pydantic_core import from_json, to_json

from convcalc.service.forms import CSV, JSON, MARKDOWN, Form, negotiate
from convcalc.service.pool import Reply
from convcalc.service.problems import Problem

#: An answer is a function of the question and of this version; a browser may keep it that long.
MAX_AGE = 3600

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


class JsonRequest(Request):
    """A request whose body is strictly JSON: no NaN, no infinity, and nested no deeper than 200."""

    async def json(self) -> Any:
        """The value.

        Raises:
            Problem: it is none.
        """
        try:
            return from_json(await self.body(), allow_inf_nan=False, cache_strings="keys")
        except ValueError:
            raise Problem("malformed") from None


class QuestionRoute(APIRoute):
    """A route that takes JSON and gives what its handler returns as a `Reply`."""

    offers: Sequence[str] = TABLES

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Content types on both sides, and answers that are remembered."""
        validated = super().get_route_handler()
        route = self.path.encode()
        offers = tuple(self.responses[200]["content"])

        async def handle(request: Request) -> Response:
            check_media(request.headers.get("content-type"))
            form = wanted(request, offers)
            answers: Answers = request.app.state.answers
            asked = JsonRequest(request.scope, request.receive)
            if not (body := await asked.body()):
                raise Problem("malformed")
            digest = hashlib.blake2b(body, key=repr((route, form)).encode()[:64], digest_size=20)
            key = digest.digest()
            if (reply := answers.get(key)) is not None:
                request.app.state.metrics.remembered.inc()
                return respond(reply, request)
            asked.state.form = form
            response = await validated(asked)
            if isinstance(response, Answer) and response.cached:
                answers.put(key, response.reply)
            return response

        return handle


class Answer(Response):
    """A response that keeps the reply it was made of."""

    def __init__(self, reply: Reply, headers: dict[str, str], cached: bool = True) -> None:
        super().__init__(reply.body, headers=headers, media_type=reply.media)
        self.reply = reply
        self.cached = cached


def check_media(given: str | None, known: Sequence[str] = (JSON,)) -> str:
    """The body's media type.

    Raises:
        Problem: there is none, or none that is taken.
    """
    media = (given or "").partition(";")[0].strip().lower()
    if media not in known:
        raise Problem("media-type", f"'Content-Type' must be {' or '.join(known)}.")
    return media


def wanted(request: Request, offers: Sequence[str]) -> Form:
    """The form that the request accepts.

    Raises:
        Problem: the answer has none of those.
    """
    form = negotiate(request.headers.get("accept"), offers)
    if form is None:
        raise Problem("not-acceptable", f"The answer can be {', '.join(offers)}.")
    return form


def respond(reply: Reply, request: Request, cache: str = f"private, max-age={MAX_AGE}") -> Response:
    """A reply with what caches need; 304 if a reader has it already."""
    etag = f'"{hashlib.blake2b(reply.body, digest_size=12).hexdigest()}"'
    headers = {"etag": etag, "cache-control": cache, "vary": "accept"}
    if request.method == "GET" and matches(request.headers.get("if-none-match"), etag):
        return Response(status_code=304, headers=headers)
    return Answer(reply, headers)


def matches(given: str | None, etag: str) -> bool:
    """Whether `If-None-Match` names the answer."""
    tags = [tag.strip().removeprefix("W/") for tag in (given or "").split(",")]
    return etag in tags or "*" in tags


async def compute(request: Request, task: str, question: BaseModel, **more: Any) -> Response:
    """The answer of a computing process."""
    form: Form = request.state.form
    given = {**question.model_dump(), "form": form.name, "exact": form.exact, **more}
    return respond(await request.app.state.pool.run(task, to_json(given)), request)
