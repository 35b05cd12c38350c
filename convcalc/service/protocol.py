"""uvicorn's HTTP with what it leaves to a proxy: limits on connections, headers, slow senders."""

from __future__ import annotations

from asyncio import TimerHandle, Transport
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
TIMEOUT = b"HTTP/1.1 408 Request Timeout\r\n"
EMPTY = b"content-length: 0\r\nconnection: close\r\n\r\n"


class Protocol(HttpToolsProtocol):
    """One connection."""

    connections_limit: ClassVar[int] = 2048
    header_bytes: ClassVar[int] = 2**14
    header_seconds: ClassVar[float] = 10.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.timer: TimerHandle | None = None
        self.received = 0
        self.headers_missing = True

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """A client is there; it may be one too many."""
        super().connection_made(transport)
        if len(self.connections) > self.connections_limit:
            transport.abort()
            return
        self.wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self.stop()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Some bytes: of headers they are counted, and must all come in time."""
        if self.headers_missing:
            self.received += len(data)
        super().data_received(data)
        if self.headers_missing and self.received:
            # Larger ones that come in one piece reach the application, which counts them too.
            if self.received > self.header_bytes:
                self.refuse(TOO_LARGE)
            elif self.timer is None:
                self.wait()

    def on_headers_complete(self) -> None:
        """Parser's: a request begins."""
        self.headers_missing = False
        self.received = 0
        self.stop()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Parser's: the request is complete, and what comes next are headers."""
        super().on_message_complete()
        self.scope["whole"] = True  # type: ignore[typeddict-unknown-key]
        self.headers_missing = True

    def wait(self) -> None:
        """Begin to count the time."""
        self.timer = self.loop.call_later(self.header_seconds, self.refuse, TIMEOUT)

    def stop(self) -> None:
        """Stop counting."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def refuse(self, status: bytes) -> None:
        """Say why, and close; in the middle of an answer only close."""
        self.stop()
        if self.transport.is_closing():
            return
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is None or cycle.response_complete:
            self.transport.write(status + EMPTY)
        self.transport.close()
