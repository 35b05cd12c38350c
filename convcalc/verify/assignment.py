"""XLA's buffer assignment as a timeline: who is alive when, by the name of the Keras layer.

XLA writes three texts of a compiled module: the scheduled instructions with their metadata, the
buffers with their place in memory, and from which instruction to which each value lives.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from convcalc.verify.request import Event

ALLOCATION = re.compile(r"^allocation \d+: size (\d+),(.*):$")
VALUE = re.compile(r"^ value: <\d+ (\S+) @\d+> \(size=(\d+),offset=(\d+)\)")
RANGE = re.compile(r"^    (\S+?)(\{[\d,]*\}):(\d+)-(\d+)$")
INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%(\S+) = (?:\(.*?\)|\S+) ([\w-]+)\((?:%([^\s,)]+))?")
NAME = re.compile(r'metadata={[^}]*op_name="([^"]*)"')


class Value(NamedTuple):
    """One value: its place and its time."""

    name: str
    block: int
    offset: int
    size: int
    start: int
    end: int


def read(folder: Path, arguments: Mapping[str, str]) -> list[Event]:
    """The timeline of the largest module that XLA dumped into `folder`; empty if it dumped none.

    `arguments` gives better names to the arguments: "weights[4]" is "conv_3/kernel".
    """
    found = sorted(folder.glob("*after_optimizations.txt"), key=lambda path: path.stat().st_size)
    if not found:
        return []
    module = found[-1]
    kinds = ("buffer-assignment", "live-range")
    paths = [module, *(module.with_name(f"{module.stem}-{kind}.txt") for kind in kinds)]
    if not all(path.exists() for path in paths):
        return []
    text, buffers, ranges = (path.read_text(encoding="utf-8") for path in paths)
    return events(text, buffers, ranges, arguments)


def events(
    module: str, buffers: str, ranges: str, arguments: Mapping[str, str] | None = None
) -> list[Event]:
    """What each instruction of the schedule adds and what has ended before it.

    `bytes` counts the arguments and what lives in the temporaries' block and in outputs that are no
    arguments.  Values in the memory of a donated argument add nothing, and of values that share a
    place at one moment the bytes count once.
    """
    resting, values = placed(buffers, lifetimes(ranges))
    ops = described(module, arguments or {})
    starts, ends = defaultdict(list), defaultdict(list)
    for value in values:
        starts[value.start].append(value)
        ends[value.end].append(value)
    alive: dict[tuple[int, int], list[Value]] = defaultdict(list)
    in_use, found = resting, []

    def change(time: int, value: Value, delta: int) -> None:
        nonlocal in_use
        if delta:
            in_use += delta
            op, kind = ops.get(value.name.partition("{")[0], (value.name, ""))
            found.append(Event(time, op, in_use, delta, kind))

    for time in sorted({*starts, *(end + 1 for end in ends)}):
        for value in ends[time - 1]:
            place = alive[value.block, value.offset]
            place.remove(value)
            left = max((other.size for other in place), default=0)
            change(time, value, -max(value.size - left, 0))
        for value in starts[time]:
            place = alive[value.block, value.offset]
            there = max((other.size for other in place), default=0)
            place.append(value)
            change(time, value, max(value.size - there, 0))
    return found


def lifetimes(text: str) -> dict[str, tuple[int, int]]:
    """First and last instruction of each value, by name and index ("conv.1{0}")."""
    matches = map(RANGE.match, text.partition("BufferLiveRange:")[2].splitlines())
    return {m[1] + m[2]: (int(m[3]), int(m[4])) for m in matches if m}


def placed(text: str, lives: Mapping[str, tuple[int, int]]) -> tuple[int, list[Value]]:
    """Bytes of the arguments, and the values that have a place elsewhere."""
    arguments, values, block, counts = 0, [], -1, False
    for line in text.splitlines():
        if head := ALLOCATION.match(line):
            block += 1
            argument = "parameter" in head[2]
            arguments += int(head[1]) if argument else 0
            counts = not argument and ("temp" in head[2] or "live-out" in head[2])
        elif counts and (value := VALUE.match(line)):
            name = value[1] if value[1].endswith("}") else value[1] + "{}"
            if name in lives:
                values.append(Value(name, block, int(value[3]), int(value[2]), *lives[name]))
    return arguments, values


def described(module: str, arguments: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """(op by layer, opcode) of each instruction by its name.

    What XLA adds itself, such as copies, has no name; it gets that of its first operand.
    """
    found: dict[str, tuple[str, str]] = {}
    for line in module.splitlines():
        if instruction := INSTRUCTION.match(line):
            own, kind, operand = instruction.groups()
            if name := NAME.search(line):
                op = arguments.get(name[1]) or plain(name[1])
            else:
                op = found.get(operand, (own, ""))[0]
            found[own] = (op, kind)
    return found


def plain(name: str) -> str:
    """JAX's path of an operation as layer/op: without its transformations.

    "jit(train)/transpose(jvp(conv_3))/reduce_sum" is "gradient/conv_3/reduce_sum".
    """
    parts = []
    for part in name.split("/"):
        if part.startswith("jit("):
            continue
        backward = part.startswith("transpose(")
        inner = re.sub(r"^(?:transpose\()?(?:jvp\()?([^()]*)\)*$", r"\1", part)
        parts += ["gradient", inner] if backward and inner else [inner] if inner else []
    return "/".join(parts) or name
