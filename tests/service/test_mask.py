"""Messages without what was sent."""

from __future__ import annotations

import pytest

from convcalc.service.mask import MOST, masked


@pytest.mark.parametrize(
    ("message", "given", "told"),
    [
        ("'conv' needs 'kernel'", {}, "'conv' needs 'kernel'"),
        ("layer 1 ('mine'): no", {"network": {}}, "layer 1 ('…'): no"),
        ("'mine' fails", {"network": {"layers": [{"name": "mine"}]}}, "layers[0] fails"),
        (
            "'mine' fails",
            {"left": {"config": {"layers": [{}, {"name": "mine"}]}}},
            "layers[1] fails",
        ),
        ("got mine here", {"network": {"mine": 1}}, "got … here"),
        ("got (mine)", {"network": [{"a": "mine"}]}, "got (…)"),
        ("'relux'; did you mean 'prelu'?", {"network": "relu"}, "'…'; did you mean 'prelu'?"),
        ("--filters is missing", {"filters": None}, "'filters' is missing"),
        ("two\nlines", {}, "two lines"),
        ("x" * 9999, {}, "x" * MOST),
    ],
)
def test_masked(message: str, given: dict[str, object], told: str) -> None:
    assert masked(message, given) == told
