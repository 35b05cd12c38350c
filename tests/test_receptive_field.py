"""Receptive fields against published tables and against dependencies followed one by one."""

from __future__ import annotations

import csv
import time
from collections import defaultdict
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from convcalc.analysis.receptive_field import AxisField, Seen, receptive_fields, seen_by
from convcalc.errors import ModelError, UsageError
from convcalc.network import Network, Op
from convcalc.ops import create
from convcalc.tensors import TensorSpec
from tests.slim_networks import NETWORKS, Builder, slim

TABLE = Path(__file__).parent / "data" / "receptive_field.csv"


def published() -> dict[tuple[str, str], list[dict[str, str]]]:
    """The published rows by network and resolution."""
    rows: dict[tuple[str, str], list[dict[str, str]]] = defaultdict(list)
    with TABLE.open() as file:
        for row in csv.DictReader(file):
            rows[row["CNN"], row["resolution"]].append(row)
    return rows


PUBLISHED = published()


def test_the_table_is_whole() -> None:
    assert sum(map(len, PUBLISHED.values())) == 561
    assert {name for name, _ in PUBLISHED} == set(NETWORKS)


@pytest.mark.parametrize(("name", "resolution"), PUBLISHED, ids="-".join)
def test_published(name: str, resolution: str) -> None:
    """Size, stride and padding at every end point.

    SAME's padding depends on whether sizes are odd.  Where the table leaves the resolution open it
    leaves open such paddings too; sizes and strides are the same at all, so 224 does.
    """
    net = slim(name, 224 if resolution == "None" else int(resolution))
    fields = receptive_fields(net)
    for row in PUBLISHED[name, resolution]:
        found = fields[row["end-point"]]
        assert found is not None
        padding = row["effective padding"]
        for axis in found:
            assert (axis.size, axis.stride) == (int(row["RF"]), int(row["effective stride"]))
            assert padding == "None" or axis.padding == int(padding)
            assert axis.aligned
            assert not axis.whole
