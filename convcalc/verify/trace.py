"""The measured timeline: every allocation of one TensorFlow step, by the op that asked for it.

TensorFlow's profiler at host level 3 logs what the allocator does, on a CPU as well.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from convcalc.verify.request import Event

#: Names of profiler events that look like "op:type" and are none.
NO_OPS = ("ThreadpoolListener", "ExecutorState", "EagerLocal", "EagerExecute", "Iterator")


class Entry(NamedTuple):
    """One event of the profiler's log."""

    time: int
    """Picoseconds."""
    name: str
    stats: dict[str, Any]


def trace(tf: Any, step: Callable[[], Any]) -> list[Event]:  # pragma: no cover - child process
    """What one step allocates and releases."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    options = tf.profiler.experimental.ProfilerOptions(
        host_tracer_level=3, python_tracer_level=0, device_tracer_level=0
    )
    with tempfile.TemporaryDirectory(prefix="convcalc-") as folder:
        tf.profiler.experimental.start(folder, options=options)
        step()
        tf.profiler.experimental.stop()
        space = xplane_pb2.XSpace()
        for file in Path(folder).rglob("*.xplane.pb"):
            space.ParseFromString(file.read_bytes())
    return events(entries(space))


def entries(space: Any) -> list[Entry]:  # pragma: no cover - child process
    """The log's events in order of time; `space` is the profiler's protocol buffer."""
    found = []
    for plane in space.planes:
        for line in plane.lines:
            for event in line.events:
                stats = {}
                for stat in event.stats:
                    value = getattr(stat, stat.WhichOneof("value"))
                    if stat.WhichOneof("value") == "ref_value":
                        value = plane.stat_metadata[value].name
                    stats[plane.stat_metadata[stat.metadata_id].name] = value
                time = line.timestamp_ns * 1000 + event.offset_ps
                found.append(Entry(time, plane.event_metadata[event.metadata_id].name, stats))
    return sorted(found, key=lambda entry: entry.time)


def events(log: Iterable[Entry]) -> list[Event]:
    """The allocator's events in the log; a release carries the name of its allocation."""
    log = list(log)
    kinds: dict[str, str] = {}
    for entry in log:
        op, colon, kind = entry.name.rpartition(":")
        if colon and not op.startswith(NO_OPS):
            kinds.setdefault(op, kind)
    moves = [e for e in log if e.name in ("MemoryAllocation", "MemoryDeallocation")]
    names: dict[Any, str] = {}
    found = []
    for entry in moves:
        stats = entry.stats
        taken = entry.name == "MemoryAllocation"
        place = stats["addr"]
        if taken:
            names[place] = stats.get("tf_op") or ""
        op = names.get(place, "") if taken else names.pop(place, "")
        size = stats["allocation_bytes"]
        found.append(
            Event(
                time=(entry.time - moves[0].time) // 1000,
                op=op,
                bytes=stats["bytes_allocated"],
                delta=size if taken else -size,
                kind=kinds.get(op, ""),
            )
        )
    return found
