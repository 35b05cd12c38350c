"""What an operator can set: `convcalc serve`'s flags, or environment variables CONVCALC_..."""

from __future__ import annotations

import os
from typing import Annotated

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

Names = Annotated[tuple[str, ...], NoDecode]


class ServiceSettings(BaseSettings):
    """Limits are those of one server process (`workers` of them share a port)."""

    model_config = SettingsConfigDict(env_prefix="CONVCALC_", frozen=True)

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    workers: int = Field(1, ge=1, le=64, description="Server processes.")
    processes: int = Field(
        default_factory=lambda: os.cpu_count() or 1,
        ge=1,
        le=256,
        description="Computing processes of each server process.",
    )
    queue: int = Field(64, ge=0, description="Requests that may wait for a computing process.")
    in_flight: int = Field(512, ge=1, description="Requests at once, those being sent included.")
    connections: int = Field(2048, ge=1, description="Open connections; more are closed at once.")
    max_body: int = Field(2**20, ge=1024, description="Bytes of a JSON body.")
    max_upload: int = Field(2**25, ge=1024, description="Bytes of a model file or picture.")
    max_headers: int = Field(2**14, ge=1024, description="Bytes of a request's line and headers.")
    header_seconds: float = Field(10, gt=0, description="Until a request's headers must be there.")
    body_seconds: float = Field(20, gt=0, description="Until its body must be there.")
    deadline: float = Field(30, gt=0, description="Seconds for an answer, waiting included.")
    cpu_seconds: float = Field(20, gt=0, description="Processor seconds of one computation.")
    memory: int = Field(2**30, ge=2**28, description="Bytes of address space of a computation.")
    answers: int = Field(2**25, ge=0, description="Bytes of answers that are remembered.")
    rate: float = Field(0, ge=0, description="Requests a second for each client; 0: no limit.")
    burst: int = Field(20, ge=1, description="Requests that a client may make at once.")
    drain: float = Field(5, ge=0, description="Seconds from SIGTERM to the end of accepting.")
    access_log: bool = Field(True, description="A line for each request on stderr.")
    api_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        (), description="Keys that requests to /v1 and /metrics must show; by environment only."
    )
    cors_origins: Names = Field((), description="Origins of other pages that may call the API.")
    forwarded_allow_ips: str = Field(
        "127.0.0.1", description="Proxies whose X-Forwarded-For is believed."
    )
    verify: bool = Field(False, description="/v1/verify, which runs frameworks; loopback only.")

    @field_validator("api_keys", "cors_origins", mode="before")
    @classmethod
    def split(cls, value: object) -> object:
        """Lists are separated by commas."""
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value
