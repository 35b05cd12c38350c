"""schemathesis: whatever the OpenAPI document allows or forbids, the service keeps to it.

CONVCALC_SCHEMA_EXAMPLES sets how many cases each route gets: thousands on demand.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from service_server import Live, serving

EXAMPLES = int(os.environ.get("CONVCALC_SCHEMA_EXAMPLES", "8"))
#: Seconds for an answer: what is slow here only because the machine is busy is no fault.
PATIENCE = 300
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
PATHS = (
    *("/v1/conv", "/v1/analyze", "/v1/compare", "/v1/memory", "/v1/filter", "/v1/read"),
    *("/v1/fit", "/v1/advise", "/v1/sweep"),
    *("/v1/zoo", "/v1/zoo/{name}", "/v1/devices", "/livez", "/readyz", "/metrics"),
)


POSITIVE, NEGATIVE = GenerationMode.POSITIVE, GenerationMode.NEGATIVE
#: A route that takes nothing cannot be given anything wrong.
CASES = [
    *((path, POSITIVE) for path in PATHS),
    *(
        (path, NEGATIVE)
        for path in PATHS
        if path.startswith("/v1/") and path not in ("/v1/zoo", "/v1/devices")
    ),
]


@pytest.fixture(scope="module")
def patient() -> Iterator[Live]:
    with serving(deadline=PATIENCE) as client:
        yield client


@pytest.mark.parametrize(("path", "mode"), CASES, ids=lambda part: getattr(part, "value", part))
def test_a_route_keeps_to_its_declaration(patient: Live, path: str, mode: GenerationMode) -> None:
    document = patient.get("/openapi.json").json()
    (method,) = document["paths"][path]
    call = schemathesis.openapi.from_dict(document)[path][method.upper()]
    strategy = call.as_strategy(generation_mode=mode)
    checks = [*CHECKS, negative_data_rejection] if mode.is_negative else CHECKS

    @settings(
        max_examples=EXAMPLES,
        suppress_health_check=list(HealthCheck),
        deadline=None,
        database=None,
        derandomize=EXAMPLES < 100,
    )
    @given(case=strategy)
    def run(case: Any) -> None:
        response = case.call(base_url=str(patient.base_url), timeout=PATIENCE)
        case.validate_response(response, checks=checks)

    run()


def test_every_route_is_tried(service: Live) -> None:
    assert set(service.get("/openapi.json").json()["paths"]) == set(PATHS)
