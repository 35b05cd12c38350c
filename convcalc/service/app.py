"""The application: routes, and around them what holds for all of them."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.middleware.cors import CORSMiddleware

from convcalc import __version__
from convcalc.service import documentation, lifecycle, page, problems, routes, verify
from convcalc.service.answers import Answers, QuestionRoute, Questions
from convcalc.service.limits import Limits
from convcalc.service.methods import Methods
from convcalc.service.observe import Metrics, Observe
from convcalc.service.pool import Pool
from convcalc.service.settings import ServiceSettings

DESCRIPTION = """What a convolutional network costs, known before it is run.

Sizes are height, width, channels; bytes are integers; errors are RFC 9457 problems. Answers with
integers beyond 2^53 - 1 are refused unless asked for with `Accept: application/json;
integers=exact`. Every POST is a pure function of its body: it may be sent again at any time."""


def create_app(settings: ServiceSettings | None = None) -> FastAPI:
    """The service; its settings come from the environment if none are given."""
    settings = settings or ServiceSettings()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.pool = Pool(settings, metrics)
        await app.state.pool.start()
        # What has been loaded stays: looking through it again and again took a tenth of the time.
        gc.collect()
        gc.freeze()
        try:
            with lifecycle.drained(settings.drain):
                yield
        finally:
            gc.unfreeze()
            await app.state.pool.stop()

    app = FastAPI(
        title="convcalc",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        openapi_tags=[
            {"name": "questions", "description": "What a network costs."},
            {"name": "networks", "description": "Where networks come from."},
            {"name": "operation", "description": "For orchestrators and Prometheus."},
        ],
    )
    metrics = Metrics()
    app.state.settings, app.state.metrics = settings, metrics
    app.state.answers = Answers(settings.answers)
    routers = [routes.questions(app), routes.reading(app), routes.operation(app)]
    if settings.verify:
        routers.append(verify.router())
    for router in routers:
        # As they are: a router that is included is asked for each of its routes in its own way.
        app.router.routes.extend(router.routes)
    documentation.install(app)
    problems.install(app)
    allowed: dict[str, tuple[str, ...]] = {}
    for route in app.router.routes:
        if isinstance(route, APIRoute):
            allowed[route.path] = tuple(sorted(route.methods or ()))
    page.install(app)

    # The last one added is the outermost.
    app.add_middleware(Methods, allowed=allowed)
    asked = [route for route in app.router.routes if isinstance(route, QuestionRoute)]
    app.add_middleware(Questions, routes=asked)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["content-type", "authorization", "x-api-key"],
            expose_headers=["etag", "retry-after", "x-request-id"],
        )
    app.add_middleware(Limits, settings=settings)
    app.add_middleware(
        Observe, metrics=metrics, routes=tuple(allowed), access_log=settings.access_log
    )
    return app
