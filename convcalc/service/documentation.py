"""The OpenAPI document and the page that shows it, served from here alone."""

from __future__ import annotations

from importlib import resources
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi

from convcalc.service.answers import respond
from convcalc.service.pool import Reply
from convcalc.service.problems import MEDIA_TYPE, Problem, catalogue

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>convcalc API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="api"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
START = """SwaggerUIBundle({
  url: "openapi.json", dom_id: "#api", deepLinking: true, validatorUrl: null,
  presets: [SwaggerUIBundle.presets.apis, SwaggerUIBundle.SwaggerUIStandalonePreset],
});
"""
FILES = {"swagger-ui.css": "text/css", "swagger-ui-bundle.js": "text/javascript"}


def install(app: FastAPI) -> None:
    """/openapi.json, /docs and what it loads, /problems."""
    app.openapi = lambda: document(app)  # type: ignore[method-assign]

    @app.get("/openapi.json", include_in_schema=False)
    async def openapi(request: Request) -> Response:
        from json import dumps

        body = dumps(app.openapi()).encode()
        return respond(Reply("application/json", body, "no-cache"), request)

    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> Response:
        return respond(Reply("text/html", PAGE.encode(), "no-cache"), request)

    @app.get("/docs/start.js", include_in_schema=False)
    async def start(request: Request) -> Response:
        return respond(Reply("text/javascript", START.encode(), "no-cache"), request)

    def serve(name: str, media: str) -> None:
        @app.get(f"/docs/{name}", include_in_schema=False)
        async def file(request: Request) -> Response:
            try:
                found = resources.files("fastapi_offline").joinpath("static", name)
            except ModuleNotFoundError:
                raise Problem("not-found", "Swagger UI is not installed.") from None
            return respond(Reply(media, found.read_bytes(), "max-age=86400"), request)

    for name, media in FILES.items():
        serve(name, media)

    @app.get("/problems", include_in_schema=False)
    async def problems(request: Request) -> Response:
        return respond(Reply("text/markdown", catalogue().encode(), "no-cache"), request)


def document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document."""
    if app.openapi_schema is None:
        found = get_openapi(
            title=app.title,
            version=app.version,
            description=app.description,
            routes=app.routes,
            tags=app.openapi_tags,
        )
        for path in found["paths"].values():
            for operation in path.values():
                for status, answer in operation["responses"].items():
                    if status[0] in "45" and "content" in answer:
                        answer["content"] = {MEDIA_TYPE: answer["content"].pop("application/json")}
        app.openapi_schema = found
    return app.openapi_schema
