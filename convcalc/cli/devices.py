"""`convcalc devices`: the accelerators that can be named."""

from __future__ import annotations

from convcalc.cli import options
from convcalc.cli.fit import DevicesFile


def devices_command(
    devices: DevicesFile = None,
    format: options.Format = None,
    json: options.Json = False,
    output: options.Output = None,
) -> None:
    """The accelerators that can be named, with memory, bandwidth and peak rates."""
    from json import dumps

    from convcalc.cli.tables import Column, as_csv, as_markdown, as_table, emit
    from convcalc.planning.devices import devices as catalogue

    form = options.output_format(format, json)
    found = catalogue(devices)
    if form == "json":
        emit(dumps([device.model_dump() for device in found.values()], indent=2), output)
        return
    exact = form == "csv"
    dtypes = ("float32", "float16", "bfloat16")
    rows = [
        [
            device.name,
            device.title,
            str(device.memory_bytes) if exact else f"{device.memory_bytes / 2**30:g} GiB",
            str(device.usable_bytes) if exact else f"{device.usable_bytes / 2**30:.4g} GiB",
            "" if device.bandwidth_gbs is None else f"{device.bandwidth_gbs:g}",
            *(
                f"{device.peak_tflops[dtype]:g}" if dtype in device.peak_tflops else ""
                for dtype in dtypes
            ),
        ]
        for device in found.values()
    ]
    if exact:
        rows = [[*row, device.source] for row, device in zip(rows, found.values(), strict=True)]
    columns = [
        Column("name"),
        Column("title"),
        Column("memory", True),
        Column("usable", True),
        Column("GB/s", True),
        *(Column(dtype, True) for dtype in dtypes),
        *([Column("source")] if exact else []),
    ]
    if form == "table":
        emit(as_table(columns, rows, cut=1), output)
    else:
        emit((as_csv if exact else as_markdown)(columns, rows), output)
