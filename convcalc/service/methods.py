"""HEAD wherever there is GET, and OPTIONS everywhere."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Methods:
    """`allowed` has the methods of each path; other paths are files, which are read only."""

    def __init__(self, app: ASGIApp, allowed: Mapping[str, tuple[str, ...]]) -> None:
        self.app = app
        self.allowed = allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        method = scope.get("method")
        if scope["type"] != "http" or method not in ("HEAD", "OPTIONS"):
            await self.app(scope, receive, send)
            return
        methods = self.allowed.get(scope["path"], ("GET",))
        if method == "OPTIONS":
            await send(
                {
                    "type": "http.response.start",
                    "status": 204,
                    "headers": [(b"allow", allow(methods).encode())],
                }
            )
            await send({"type": "http.response.body", "body": b""})
            return
        if "GET" not in methods:
            await self.app(scope, receive, send)
            return

        async def bodiless(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        # A copy: the server looks at its own to tell that no body may follow.
        await self.app({**scope, "method": "GET"}, receive, bodiless)


def allow(methods: tuple[str, ...]) -> str:
    """The header `Allow`."""
    return ", ".join([*methods, *(["HEAD"] if "GET" in methods else []), "OPTIONS"])
