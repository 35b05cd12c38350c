"""The schema: what is dumped is what is validated, and nothing else gets in."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

import convcalc
from convcalc.report import Report


def test_a_report_survives_its_json() -> None:
    report = convcalc.analyze("lenet5", batch=4)
    assert Report.model_validate(report.model_dump()) == report
    assert Report.model_validate(json.loads(report.model_dump_json())) == report


def test_what_is_no_report_is_refused() -> None:
    data = convcalc.analyze("lenet5").model_dump()
    with pytest.raises(ValidationError, match="status"):
        Report.model_validate({**data, "status": "perhaps"})
    del data["layers"]
    with pytest.raises(ValidationError, match="layers"):
        Report.model_validate(data)


def test_the_json_schema_describes_what_is_dumped() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = Report.model_json_schema()
    data = json.loads(convcalc.analyze("unet").model_dump_json())
    jsonschema.validate(data, schema)
    data["totals"]["params"] = "many"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(data, schema)
