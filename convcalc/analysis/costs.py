"""`analyze`: one walk over the network that adds up what its operators say of themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from fractions import Fraction

from convcalc.analysis.receptive_field import AxisField, receptive_fields
from convcalc.analysis.textbook import textbook
from convcalc.arithmetic import INT64_MAX, product, total
from convcalc.errors import ModelError
from convcalc.network import Network, Op
from convcalc.report import (
    Input,
    Layer,
    Memory,
    ReceptiveField,
    Report,
    Settings,
    Totals,
    Uncounted,
)
from convcalc.settings import (
    DTYPES,
    ENGINES,
    OPTIMIZERS,
    REMATS,
    check_batch,
    choose,
    engine_device,
)

TOTALS = tuple(figure.name for figure in fields(Totals))


@dataclass(slots=True)
class Row:
    """A layer while its ops are being added up."""

    type: str
    last: Op
    params: int = 0
    trainable: int = 0
    macs: int = 0
    missing: set[str] = field(default_factory=set)


def analyze(
    net: Network,
    *,
    batch: int = 1,
    dtype: str = "float32",
    optimizer: str = "none",
    remat: str = "none",
    engine: str = "textbook",
    device: str = "gpu",
    convention: str = "macs",
) -> Report:
    """What a network costs: shapes, parameters, arithmetic, receptive fields, memory.

    `macs` and `flops` are those of one sample, bytes those of a batch of `batch`.

    Raises:
        UsageError: a setting is unknown or makes no sense.
        ModelError: a total does not fit 64 bits.
    """
    check_batch(batch)
    width = DTYPES[choose(dtype, DTYPES, "dtype")]
    choose(optimizer, OPTIMIZERS, "optimizer")
    choose(remat, REMATS, "remat")
    choose(engine, ENGINES, "engine")
    engine_device(device)

    rows = net.once(add_up)
    counted = None if convention == "macs" else count_as(net, convention)
    seen = net.once(described_fields)
    layers = []
    for name, row in rows.items():
        made = net.results[row.last.name]
        shape = made[0].shape_at(batch)
        known = "arithmetic" not in row.missing
        flops = 2 * row.macs if counted is None else counted.get(name, 0)
        layers.append(
            Layer(
                name=name,
                type=row.type,
                output_shape=None if shape is None else list(shape),
                params=row.params if known else None,
                trainable_params=row.trainable if known else None,
                macs=row.macs if known else None,
                flops=flops if known else None,
                output_bytes=sum(spec.bytes_at(batch, width) for spec in made)
                if all(spec.known for spec in made)
                else None,
                receptive_field=seen[row.last.name],
            )
        )
    totals = Totals(
        # From the rows, not the layers: what is known of an incomplete layer belongs to the bound.
        params=sum(row.params for row in rows.values()),
        trainable_params=sum(row.trainable for row in rows.values()),
        macs=sum(row.macs for row in rows.values()),
        flops=sum(layer.flops or 0 for layer in layers),
        output_bytes=sum(layer.output_bytes or 0 for layer in layers),
    )
    for what in TOTALS:
        if getattr(totals, what) > INT64_MAX:
            raise ModelError(f"the total of {what} exceeds 2^63 - 1")
    uncounted = gaps(rows)
    memory = Memory(
        textbook=textbook(
            [layer.name for layer in layers], [layer.output_bytes or 0 for layer in layers]
        )
    )
    if engine != "textbook":
        from convcalc.memory.predict import predict_both

        memory.inference, memory.training, memory.notes = predict_both(
            net,
            engine=engine,
            batch=batch,
            dtype=dtype,
            optimizer=optimizer,
            device=device,
            remat=remat,
        )
    return Report(
        status="partial" if uncounted else "complete",
        network=net.name,
        settings=Settings(
            batch=batch,
            dtype=dtype,
            optimizer=optimizer,
            remat=remat,
            engine=engine,
            device=device,
            convention=convention,
        ),
        inputs=[
            Input(name=name, shape=list(spec.shape_at(batch) or ()), dtype=spec.dtype)
            for name, spec in net.inputs.items()
        ],
        layers=layers,
        totals=totals,
        memory=memory,
        uncounted=uncounted,
    )


def count_as(net: Network, convention: str) -> dict[str, int]:
    """Each layer's count under another convention."""
    from convcalc.analysis.conventions import count

    return count(net, convention)[0]


def add_up(net: Network) -> dict[str, Row]:
    """The layers' rows, in order of their first op; each variable counts once."""
    rows: dict[str, Row] = {}
    seen: set[str] = set()
    for op in net.ops:
        row = rows.get(op.layer)
        if row is None:
            row = rows[op.layer] = Row(op.layer_type, op)
        row.last = op
        missing = op_missing(net, op)
        if missing:
            row.missing.update(missing)
        if op.weights not in seen and op.weights in net.params:
            seen.add(op.weights)
            for param in net.params[op.weights]:
                size = product(param.shape)
                row.params = total((row.params, size))
                if param.trainable and op.trainable:
                    row.trainable = total((row.trainable, size))
        if "arithmetic" not in missing:
            row.macs = total((row.macs, op.operator.macs(*net.specs(op))))
    return rows


def op_missing(net: Network, op: Op) -> tuple[str, ...]:
    """What is unknown of one op: its own gaps, or those that it inherits from unknown inputs."""
    own = op.operator.missing()
    if own or net.tensors[op.name].known:
        return own
    return ("shape", "arithmetic", "memory")


def gaps(rows: Mapping[str, Row]) -> list[Uncounted]:
    """What the report must own up to, by layer type."""
    found: dict[str, Uncounted] = {}
    for name, row in rows.items():
        if row.missing:
            entry = found.setdefault(row.type, Uncounted(op=row.type, layers=[], missing=[]))
            entry.layers.append(name)
            entry.missing[:] = sorted({*entry.missing, *row.missing})
    return list(found.values())


def described_fields(net: Network) -> dict[str, ReceptiveField | None]:
    """The receptive field of each op's output; equal ones are one object."""
    described: dict[tuple[AxisField, ...], ReceptiveField] = {}
    fields = receptive_fields(net)
    found: dict[str, ReceptiveField | None] = {}
    for op in net.ops:
        axes = fields[op.name]
        if axes is None:
            found[op.name] = None
            continue
        field = described.get(axes)
        if field is None:
            field = described[axes] = summary(axes)
        found[op.name] = field
    return found


def summary(axes: tuple[AxisField, ...]) -> ReceptiveField:
    """The fields of all axes in the report's form."""
    size: list[int | None] = []
    stride: list[int | float | None] = []
    padding: list[int | float | None] = []
    together = True
    for seen, step, before, aligned, whole in axes:
        size.append(None if whole else seen)
        stride.append(None if whole else plain(step))
        padding.append(None if whole else plain(before))
        together = together and aligned
    return ReceptiveField(size=size, stride=stride, padding=padding, aligned=together)


def plain(value: int | Fraction) -> int | float:
    """An integer where it is one, else a float (an upsampled map has strides below one)."""
    return value if isinstance(value, int) else float(value)
