"""The routes: what each takes, gives and may refuse."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import cache, lru_cache
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Query, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import TypeAdapter
from pydantic_core import to_json

from convcalc.analysis.comparison import Comparison
from convcalc.errors import ConvcalcError
from convcalc.report import Advice, Device, FitReport, MemoryProfile, Report
from convcalc.service import jobs, lifecycle
from convcalc.service.answers import (
    TABLES,
    QuestionRoute,
    check_media,
    compute,
    respond,
    wanted,
)
from convcalc.service.forms import CSV, JSON, MARKDOWN, NDJSON, PNG, Form
from convcalc.service.mask import masked
from convcalc.service.pool import Reply
from convcalc.service.problems import KINDS, Problem, ProblemDetails
from convcalc.service.questions import (
    AdviseQuestion,
    AnalyzeQuestion,
    CompareQuestion,
    ConvQuestion,
    FilterQuestion,
    FitQuestion,
    MemoryQuestion,
    Name,
    SweepQuestion,
)
from convcalc.service.reports import ConvReport, Health, NetworkSpec, ZooEntry

#: What every question can be refused for.
ALWAYS = ("malformed", "not-acceptable", "slow-body", "too-large", "media-type", "invalid")
LIMITED = ("rate", "headers", "overloaded")

#: Content types of /v1/read: files of any kind, and code that is read as text.
FILES = (
    "application/octet-stream",
    "application/json",
    "application/yaml",
    "application/zip",
    "application/x-hdf5",
)
SOURCES = ("text/x-python", "text/plain")


def refusals(*kinds: str) -> dict[int | str, dict[str, Any]]:
    """The declaration of problems, by status."""
    found: dict[int | str, dict[str, Any]] = {}
    for kind in kinds:
        status, title, _ = KINDS[kind]
        if status in found:
            title = f"{found[status]['description']}; or: {title}"
        found[status] = {"model": ProblemDetails, "description": title}
    return found


def answer(*media: str, description: str = "The answer.") -> dict[int | str, dict[str, Any]]:
    """The declaration of an answer in several forms; JSON's schema comes from the model."""
    schemas = {PNG: {"type": "string", "format": "binary"}}
    text = {"type": "string"}
    content = {form: {} if form == JSON else {"schema": schemas.get(form, text)} for form in media}
    return {200: {"description": description, "content": content}}


def questions(app: FastAPI) -> APIRouter:
    """The routes that take JSON."""
    router = APIRouter(route_class=QuestionRoute, prefix="/v1", tags=["questions"])
    key = ("unauthorized",) if app.state.settings.api_keys else ()
    common = refusals(*ALWAYS, *LIMITED, *key)
    computed = refusals(*ALWAYS, "unusable", "unreadable", *LIMITED, "deadline", "lost", *key)

    def post(
        path: str, model: Any, media: tuple[str, ...] = TABLES, own: Any = computed
    ) -> Callable[[Any], Any]:
        return router.post(path, response_model=model, responses={**answer(*media), **own})

    @post("/conv", ConvReport, own=common)
    async def conv(request: Request, question: ConvQuestion) -> Reply:
        """One convolution: shape, parameters, multiplications, memory; how, if asked."""
        form: Form = request.scope["asked"].form
        asked = {**question.__dict__, "form": form.name, "exact": form.exact}
        try:
            return Reply(*jobs.conv(asked))
        except ConvcalcError as error:
            raise Problem("unusable", masked(str(error), asked)) from None
        except jobs.Inexact:
            raise Problem("inexact") from None

    @post("/analyze", Report)
    async def analyze(request: Request, question: AnalyzeQuestion) -> Reply:
        """A network, layer by layer: shapes, parameters, arithmetic, receptive fields, memory."""
        return await compute(request, "analyze", question)

    @post("/compare", Comparison)
    async def compare(request: Request, question: CompareQuestion) -> Reply:
        """Two networks, or two settings of one, side by side."""
        return await compute(request, "compare", question)

    @post("/memory", MemoryProfile)
    async def memory(request: Request, question: MemoryQuestion) -> Reply:
        """Where the memory of one step goes, and when."""
        return await compute(request, "memory", question)

    @post("/fit", FitReport)
    async def fit(request: Request, question: FitQuestion) -> Reply:
        """The largest batch, or input, that fits a budget, a device, or every known device."""
        return await compute(request, "fit", question)

    @post("/advise", Advice)
    async def advise(request: Request, question: AdviseQuestion) -> Reply:
        """What to change so that it needs less memory: what each change saves and costs."""
        return await compute(request, "advise", question)

    @post("/sweep", None, (NDJSON, CSV, MARKDOWN))
    async def sweep(request: Request, question: SweepQuestion) -> Reply:
        """Every combination of some settings: a JSON object a line, or a table."""
        return await compute(request, "sweep", question, exact_rows=question.exact)

    @post("/filter", None, (PNG,), {**computed, **refusals("missing-extra")})
    async def filter(request: Request, question: FilterQuestion) -> Reply:
        """A filter applied to a picture: the feature map as PNG."""
        return await compute(request, "filter", question)

    return router


#: The tables are the same for everybody.
PUBLIC = "public, max-age=3600"

SIZES = r"^([A-Za-z0-9_.:/-]{1,100}=)?[1-9][0-9]{0,8}(x[1-9][0-9]{0,8}){0,7}$"


def reading(app: FastAPI) -> APIRouter:
    """The routes that take files, or nothing."""
    router = APIRouter(prefix="/v1")
    key = ("unauthorized",) if app.state.settings.api_keys else ()
    refused = ("bad-request", *ALWAYS[1:], "unreadable", *LIMITED, "deadline", "lost", *key)

    @router.post(
        "/read",
        tags=["networks"],
        response_model=NetworkSpec,
        responses={**answer(JSON), **refusals(*refused, "missing-extra")},
        openapi_extra={
            "requestBody": {
                "required": True,
                "description": "A model file as it is (.keras, .h5, .onnx, Keras' JSON, our YAML "
                "or JSON), or Keras or PyTorch code, which is read and never run.",
                "content": {
                    **{media: {"schema": {}} for media in FILES},
                    **{media: {"schema": {"type": "string"}} for media in SOURCES},
                },
            }
        },
    )
    async def read(
        request: Request,
        input: Annotated[
            list[Annotated[str, Query(pattern=SIZES)]] | None,
            Query(max_length=64, description="224x224x3, or NAME=224x224x3 for each input."),
        ] = None,
    ) -> Response:
        """The network in a file or in code, as convcalc's spec, which the other routes take."""
        media = check_media(request.headers.get("content-type"), (*FILES, *SOURCES))
        form = wanted(request.headers.get("accept"), (JSON,))
        with tempfile.TemporaryDirectory(prefix="convcalc-") as folder:
            path = Path(folder, "upload.py" if media in SOURCES else "upload")
            size = 0
            with path.open("wb") as file:
                async for chunk in request.stream():
                    size += file.write(chunk)
            if not size:
                raise Problem("bad-request", "The body is empty.")
            asked = {
                "path": str(path),
                "source": media in SOURCES,
                "input": named_sizes(input),
                "form": form.name,
                "exact": form.exact,
            }
            reply = await app.state.pool.run("read", to_json(asked))
        return respond(reply._replace(cache="no-store"), request)

    @router.get(
        "/zoo",
        tags=["networks"],
        response_model=dict[str, ZooEntry],
        responses={**answer(*TABLES), **refusals("not-acceptable", *LIMITED, *key)},
    )
    async def zoo(request: Request) -> Response:
        """The networks that can be named."""
        return respond(zoo_as(wanted(request.headers.get("accept"), TABLES).name), request)

    @router.get(
        "/zoo/{name}",
        tags=["networks"],
        response_model=NetworkSpec,
        responses={**answer(JSON), **refusals("invalid", "not-acceptable", *LIMITED, *key)},
    )
    async def zoo_spec(request: Request, name: Name) -> Response:
        """A network of the zoo as convcalc's spec, to look at or to change."""
        wanted(request.headers.get("accept"), (JSON,))
        return respond(zoo_spec_as(name), request)

    @router.get(
        "/devices",
        tags=["networks"],
        response_model=list[Device],
        responses={**answer(*TABLES), **refusals("not-acceptable", *LIMITED, *key)},
    )
    async def devices(request: Request) -> Response:
        """The accelerators that can be named."""
        return respond(devices_as(wanted(request.headers.get("accept"), TABLES).name), request)

    return router


def named_sizes(texts: list[str] | None) -> Any:
    """The sizes of inputs in a query.

    Raises:
        Problem: there are several, and one has no name.
    """
    if not texts:
        return None
    found = {}
    for text in texts:
        name, separator, sizes = text.rpartition("=")
        if len(texts) > 1 and (not separator or name in found):
            raise Problem("unusable", "Of several inputs, each must be named, and once.")
        found[name] = [int(size) for size in sizes.split("x")]
    return found.get("", found)


@cache
def zoo_as(form: str) -> Reply:
    """The zoo's table."""
    from convcalc import zoo

    if form == "json":
        found = TypeAdapter(dict[str, ZooEntry]).validate_python(zoo.index())
        return Reply(JSON, to_json(found), PUBLIC)
    rows = [{"name": name, **entry} for name, entry in zoo.index().items()]
    return Reply(*jobs.as_text(jobs.table(rows, form), form), PUBLIC)


@lru_cache(maxsize=8)
def zoo_spec_as(name: str) -> Reply:
    """The spec of a network of the zoo."""
    from convcalc import zoo

    return Reply(JSON, to_json(zoo.spec(name)), PUBLIC)


@cache
def devices_as(form: str) -> Reply:
    """The catalogue's table."""
    from convcalc.planning.devices import builtin

    found = list(builtin().values())
    if form == "json":
        return Reply(JSON, to_json(found), PUBLIC)
    rows = [
        {name: value for name, value in device.model_dump().items() if not isinstance(value, dict)}
        for device in found
    ]
    return Reply(*jobs.as_text(jobs.table(rows, form), form), PUBLIC)


def operation(app: FastAPI) -> APIRouter:
    """What orchestrators and Prometheus ask."""
    router = APIRouter(tags=["operation"])

    @router.get("/livez", response_model=Health)
    async def livez() -> Response:
        """Whether this process answers at all."""
        return plain(b'{"status":"alive"}', JSON)

    @router.get("/readyz", response_model=Health, responses=refusals("draining"))
    async def readyz() -> Response:
        """Whether requests should be sent here; no longer once it has been told to stop."""
        if lifecycle.draining:
            raise Problem("draining")
        return plain(b'{"status":"ready"}', JSON)

    key = ("unauthorized",) if app.state.settings.api_keys else ()

    @router.get(
        "/metrics",
        response_class=Response,
        responses={
            200: {"description": "Metrics.", "content": {"text/plain": {}}},
            **refusals("headers", "overloaded", *key),
        },
    )
    async def metrics() -> Response:
        """Counters for Prometheus, of this server process."""
        return plain(generate_latest(app.state.metrics.registry), CONTENT_TYPE_LATEST)

    return router


def plain(body: bytes, media: str) -> Response:
    """An answer of this moment."""
    return Response(body, media_type=media, headers={"cache-control": "no-store"})
