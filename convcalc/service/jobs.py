"""What a computing process does for each route: plain arguments in, a document out."""

from __future__ import annotations

import base64
import csv
import io
import json
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields
from functools import cache, lru_cache
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

from convcalc.analysis import costs
from convcalc.cli.conv import single
from convcalc.errors import ModelError, UsageError
from convcalc.network import Network
from convcalc.report import Model
from convcalc.service.forms import CSV, JSON, MARKDOWN, NDJSON, PNG

#: A media type, and the document or its parts.
Document = tuple[str, bytes]
Parted = tuple[str, bytes | Iterator[bytes]]

#: The largest integer up to which a double has all of them.
SAFE = 2**53 - 1
MAYBE_LARGE = re.compile(rb"[1-9][0-9]{15}")

#: The most configurations of one sweep.
CONFIGURATIONS = 1_000_000

#: Bytes of a sweep's rows that are sent together, and seconds that they wait for each other.
PART, MOMENT = 2**15, 0.1

#: Plans that a network of the zoo remembers; each is up to some MB.
PLANS = 16


class Inexact(Exception):
    """The answer has integers that JavaScript rounds."""


def preload() -> None:
    """Import what most questions need, so that the first one need not wait."""
    for name in (
        "analysis.comparison",
        "analysis.costs",
        "cli.render",
        "memory.profile",
        "planning.devices",
        "readers.configuration",
        "readers.keras",
        "readers.spec",
        "service.mask",
    ):
        import_module(f"convcalc.{name}")
    from convcalc.service.mask import vocabulary

    vocabulary()
    import_module("numpy")
    import_module("pydantic")


def network(source: str | dict[str, Any], input: Any) -> Network:
    """The network that a question names or describes.

    Raises:
        ModelError: there is none of that name, or the description is wrong.
    """
    from convcalc.readers import configuration, resized

    size = {name: tuple(s) for name, s in input.items()} if isinstance(input, dict) else input
    if isinstance(source, str):
        # Never `load`, which takes paths.
        net = from_zoo(source)
        memo = net.memo
        if len(memo) > PLANS:
            for key in [key for key in memo if key.startswith("plan ")]:
                del memo[key]
        return resized(net, tuple(size) if isinstance(size, list) else size)
    size = tuple(size) if isinstance(size, list) else size
    return configuration.read_mapping(source, "the network", size)


@lru_cache(maxsize=16)
def from_zoo(name: str) -> Network:
    """A network of the zoo, with what it remembers."""
    from convcalc import zoo

    try:
        return zoo.load(name)
    except KeyError:
        raise ModelError(f"'{name}' is no network of the zoo; GET /v1/zoo lists them") from None


@cache
def adapter(cls: Any) -> Any:
    """What writes reports of a class."""
    from pydantic import TypeAdapter

    return TypeAdapter(cls)


def as_json(found: Any, exact: bool) -> Document:
    """A report, or plain data.

    Raises:
        Inexact: it has integers beyond 2^53 - 1, and the request does not say that it takes them.
        ModelError: it has numbers that JSON lacks.
    """
    if isinstance(found, Model):
        cls: Any = type(found)
        body: bytes = adapter(cls).dump_json(found)
    else:
        try:
            body = json.dumps(found, allow_nan=False, separators=(",", ":")).encode()
        except ValueError:
            raise ModelError("an attribute is infinite or not a number") from None
    if not exact and MAYBE_LARGE.search(body):
        json.loads(body, parse_int=safe)
    return JSON, body


def safe(digits: str) -> int:
    """An integer of an answer."""
    number = int(digits)
    if abs(number) > SAFE:
        raise Inexact
    return number


def as_text(text: str, form: str) -> Document:
    """CSV or Markdown."""
    return CSV if form == "csv" else MARKDOWN, text.encode() + (b"" if text[-1:] == "\n" else b"\n")


def report_as(report: Any, asked: dict[str, Any]) -> Document:
    """A report in the form that was asked for."""
    if asked["form"] == "json":
        return as_json(report, asked["exact"])
    from convcalc.cli.render import COLUMNS, columns_of, layer_table

    columns = columns_of(",".join(COLUMNS))
    return as_text(layer_table(report, columns, asked["form"], None), asked["form"])


def conv(asked: dict[str, Any]) -> Document:
    """/v1/conv: so little that it is not worth another process."""
    sizes = tuple(asked["input"])
    rank = len(sizes) - 1
    window = {
        "kernel": per_axis(asked["kernel"]),
        "stride": stride(asked["stride"], rank),
        "padding": padding(asked["padding"], rank),
        "dilation": per_axis(asked["dilation"]),
    }
    kinds = (asked["groups"], asked["depthwise"], asked["transposed"], asked["bias"])
    net = single(sizes, asked["filters"], window, *kinds, asked["layout"] == "nchw")
    report = costs.analyze(net, batch=asked["batch"], dtype=asked["dtype"])
    neuron = asked["neuron"]
    if asked["form"] != "json" or not (asked["explain"] or neuron is not None):
        return report_as(report, asked)
    from convcalc.analysis.derivation import derive
    from convcalc.service.reports import ConvReport

    if neuron is not None and len(neuron) != rank:
        raise UsageError(f"'neuron' must have {rank} numbers")
    at = None if neuron is None else tuple(neuron)
    steps = derive(net, net.ops[0], batch=asked["batch"], dtype=asked["dtype"], neuron=at)
    parts = {field.name: getattr(report, field.name) for field in fields(report)}
    return as_json(ConvReport(**parts, derivation=list(steps)), asked["exact"])


def per_axis(value: int | list[int]) -> Any:
    """One number, or one for each axis."""
    return tuple(value) if isinstance(value, list) else value


def stride(value: int | list[int], rank: int) -> Any:
    """A stride; TensorFlow's form has a 1 for samples and one for channels around it.

    Raises:
        UsageError: these are something else.
    """
    if isinstance(value, list) and len(value) == rank + 2:
        if value[0] != 1 or value[-1] != 1:
            raise UsageError("'stride' moves over samples and channels by its ends: they must be 1")
        value = value[1:-1]
    return per_axis(value)


def padding(value: str | int | list[int], rank: int) -> Any:
    """A name, a number for all sides, or one for each: top, bottom, left, right.

    Raises:
        UsageError: there are more or fewer.
    """
    if not isinstance(value, list):
        return value
    if len(value) != 2 * rank:
        raise UsageError(f"'padding' must have {2 * rank} numbers, one for each side")
    return tuple(zip(value[::2], value[1::2], strict=True))


SETTINGS = ("batch", "dtype", "optimizer", "remat", "engine", "device", "convention")


def analyze(asked: dict[str, Any]) -> Document:
    """/v1/analyze"""
    from convcalc.analysis.costs import analyze as run

    net = network(asked["network"], asked["input"])
    return report_as(run(net, **{name: asked[name] for name in SETTINGS}), asked)


def compare(asked: dict[str, Any]) -> Document:
    """/v1/compare"""
    from convcalc.analysis.comparison import compare as run
    from convcalc.analysis.costs import analyze as one
    from convcalc.cli.compare import as_text as table

    sides = []
    for side in ("left", "right"):
        given = dict(asked)
        if side == "right":
            given |= {
                name: asked[f"right_{name}"]
                for name in ("input", *SETTINGS)
                if asked.get(f"right_{name}") is not None
            }
        net = network(asked[side] or asked["left"], given["input"])
        sides.append(one(net, **{name: given[name] for name in SETTINGS if name in given}))
    found = run(*sides)
    if asked["form"] == "json":
        return as_json(found, asked["exact"])
    return as_text(table(found, asked["form"], layers=True), asked["form"])


PLANNED = ("memory", "device", "mode", "batch", "engine", "dtype", "optimizer")


def fit(asked: dict[str, Any]) -> Document:
    """/v1/fit"""
    from convcalc.cli.fit import many, one_budget
    from convcalc.planning.fit import fit as run

    net = network(asked["network"], asked["input"])
    settings = {name: asked[name] for name in (*PLANNED, "remat")}
    largest = "input" if asked["largest_input"] else "batch"
    found = run(net, **settings, largest=largest, step=asked["step"])
    form = asked["form"]
    if form == "json":
        return as_json(found, asked["exact"])
    single = len({row.title for row in found.fits}) == 1 or form == "csv"
    return as_text(one_budget(found, form) if single else many(found, form), form)


def advise(asked: dict[str, Any]) -> Document:
    """/v1/advise"""
    from convcalc.cli.advise import remedies
    from convcalc.planning.advise import advise as run

    net = network(asked["network"], asked["input"])
    found = run(net, **{name: asked[name] for name in PLANNED})
    if asked["form"] == "json":
        return as_json(found, asked["exact"])
    return as_text(remedies(found, asked["form"]), asked["form"])


def sweep(asked: dict[str, Any]) -> Parted:
    """/v1/sweep: a row a line, each sent soon after it was computed."""
    from convcalc.cli.ranges import integers
    from convcalc.planning.sweep import sweep as run

    net = network(asked["network"], None)
    batch = asked["batch"]
    sizes = asked["input"]
    found = run(
        net,
        batch=integers(batch, "'batch'") if isinstance(batch, str) else batch,
        input=None if sizes is None else [tuple(size) for size in sizes],
        dtype=asked["dtype"],
        optimizer=asked["optimizer"],
        engine=asked["engine"],
        width=asked["width"],
        fields=asked["set"],
        where=asked["where"],
        device=asked["device"],
        exact=asked["exact_rows"],
    )
    if len(found) > CONFIGURATIONS:
        raise UsageError(
            f"these are {len(found):,} configurations, and at most {CONFIGURATIONS:,} are tried "
            "here; the command line has no such limit"
        )
    rows = found if asked["pareto"] is None else found.pareto(*asked["pareto"])
    kept = islice(iter(rows), asked["limit_rows"])
    if asked["form"] != "ndjson":
        return as_text(table(list(kept), asked["form"]), asked["form"])
    return NDJSON, parts(as_json(row, asked["exact"])[1] for row in kept)


def parts(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Lines that came within a moment together, up to some KB of them."""
    found: list[bytes] = []
    size, since = 0, time.monotonic()
    for line in lines:
        found += (line, b"\n")
        size += len(line)
        if size >= PART or time.monotonic() - since > MOMENT:
            yield b"".join(found)
            found, size, since = [], 0, time.monotonic()
    yield b"".join(found)


def memory(asked: dict[str, Any]) -> Document:
    """/v1/memory"""
    from convcalc.cli.memory import layers_as
    from convcalc.memory.predict import job_for
    from convcalc.memory.profile import profile

    net = network(asked["network"], asked["input"])
    more = {name: asked[name] for name in ("loss", "remat", "accumulate", "ema")}
    job = job_for(asked["mode"], asked["dtype"], asked["optimizer"], asked["device"], **more)
    found = profile(net, asked["engine"], job, asked["batch"])
    if asked["form"] == "json":
        return as_json(found, asked["exact"])
    return as_text(layers_as(found, asked["form"]), asked["form"])


def filter(asked: dict[str, Any]) -> Document:
    """/v1/filter"""
    import numpy as np

    from convcalc.imaging import encode_png, feature_maps, load_filters, load_image, load_sample

    if (asked["image"] is None) == (asked["sample"] is None):
        raise UsageError("give either 'image' (base64) or 'sample'")
    if asked["sample"] is not None:
        picture = load_sample(asked["sample"])
    else:
        try:
            data = base64.b64decode(asked["image"], validate=True)
        except ValueError:
            raise UsageError("'image' is not base64") from None
        picture = load_image(io.BytesIO(data))
    channels = picture.shape[-1]
    if isinstance(asked["kernel"], str):
        filters = load_filters(asked["kernel"], channels)
    else:
        rows = asked["kernel"]
        if len({len(row) for row in rows}) != 1:
            raise UsageError("'kernel' must have rows of one length")
        filters = np.repeat(np.array(rows, float)[:, :, None, None], channels, axis=2)
    if not 0 <= asked["feature"] < filters.shape[-1]:
        raise UsageError(f"'feature' must be below {filters.shape[-1]}, the number of feature maps")
    step, zeros = stride(asked["stride"], rank=2), padding(asked["padding"], rank=2)
    maps = feature_maps(picture[None], filters, stride=step, padding=zeros)
    return PNG, encode_png(maps[0, :, :, asked["feature"]])


def read(asked: dict[str, Any]) -> Document:
    """/v1/read: a file that the service has put somewhere, or pasted source."""
    from convcalc.readers.spec import write_spec

    path, size = Path(asked["path"]), asked["input"]
    size = {name: tuple(s) for name, s in size.items()} if isinstance(size, dict) else size
    size = tuple(size) if isinstance(size, list) else size
    if asked["source"]:
        from convcalc.readers.source import MAX_BYTES, load_source

        if isinstance(size, dict):
            raise UsageError("source takes one input size, without a name")
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1).decode("utf-8-sig", "replace")
        net = load_source(text, input=size)
    else:
        from convcalc.readers import read_file

        # Messages name the file: by a name that says nothing of the machine.
        os.chdir(path.parent)
        try:
            net = read_file(Path(path.name), size)
        except ModelError as error:
            raise ModelError(str(error).replace(f"'{path.name}'", "the upload")) from None
        finally:
            os.chdir("/")
    return as_json(write_spec(net), asked["exact"])


def spin(asked: dict[str, Any]) -> Document:
    """What a parser that hangs does; no route leads here."""
    until = time.monotonic() + asked["seconds"]
    taken = bytearray(asked.get("bytes", 0))
    while time.monotonic() < until:
        if asked["how"] == "sleep":
            time.sleep(until - time.monotonic())
    if asked["how"] == "die":
        os._exit(1)
    if asked["how"] == "fail":
        raise ZeroDivisionError("SECRET")
    return JSON, str(len(taken)).encode()


def table(rows: list[dict[str, Any]], form: str) -> str:
    """Plain rows as CSV or Markdown."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[plain(row.get(name)) for name in names] for row in rows]
    if form == "markdown":
        from convcalc.cli.tables import Column, as_markdown

        return as_markdown([Column(name) for name in names], cells)
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([names, *cells])
    return out.getvalue()


def plain(value: Any) -> str:
    """One cell."""
    if isinstance(value, (list, tuple)):
        return "x".join(map(str, value))
    return "" if value is None else str(value)


TASKS: dict[str, Callable[[dict[str, Any]], Parted]] = {
    "advise": advise,
    "analyze": analyze,
    "compare": compare,
    "filter": filter,
    "fit": fit,
    "memory": memory,
    "read": read,
    "spin": spin,
    "sweep": sweep,
}
