"""Primitive operations and the buffers between them: what a network becomes for an engine.

Sizes are kept as an element count, a width and whether the batch multiplies them, so that every
figure made from them is ``fixed + batch * per_sample`` bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import NamedTuple

from convcalc.tensors import DTYPE_BYTES, TensorSpec

#: What a byte is needed for, in the report's words.
KINDS = ("weights", "gradients", "optimizer", "activations", "workspace", "inputs")

FORWARD, BACKWARD, UPDATE = "forward", "backward", "update"


class Size(NamedTuple):
    """``fixed + batch * per_sample`` bytes."""

    fixed: int
    per_sample: int = 0

    def at(self, batch: int) -> int:
        """Bytes at a batch size."""
        return self.fixed + batch * self.per_sample


class Value:
    """One tensor between primitive operations; without batch axis in `spec` it has a fixed size."""

    __slots__ = ("kind", "layer", "name", "node", "size", "spec", "users")

    def __init__(
        self, spec: TensorSpec, width: int, kind: str, name: str = "", layer: str = ""
    ) -> None:
        each = prod(spec.dims) * (width if spec.dtype == "float" else DTYPE_BYTES[spec.dtype])
        self.spec = spec
        self.size = Size(each) if spec.batch_axis is None else Size(0, each)
        self.kind = kind
        self.name = name
        self.layer = layer
        """Whose it is; of a value that an operation makes: that operation's layer."""
        self.node: Node | None = None
        """What makes it; None for what is there before the step."""
        self.users: list[Node] = []

    def __repr__(self) -> str:
        return f"Value({self.name or self.node}, {self.spec})"


class Node:
    """One primitive operation.

    `inplace` lists the inputs whose buffer its first output may take, if nobody reads them later;
    `alias` makes the first output a view of the first input.  `scratch` lives while it runs.
    `after` are operations that it must follow without reading what they make.
    """

    __slots__ = (
        "after", "alias", "index", "inplace", "inputs", "layer", "outputs", "phase", "primitive",
        "scratch",
    )  # fmt: skip

    def __init__(
        self,
        index: int,
        primitive: str,
        layer: str,
        phase: str,
        inputs: Sequence[Value],
        outputs: Sequence[Value],
        inplace: Sequence[int] = (),
        scratch: Sequence[Size] = (),
        after: Sequence[Node] = (),
        alias: bool = False,
    ) -> None:
        self.index = index
        self.primitive = primitive
        self.layer = layer
        self.phase = phase
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self.inplace = tuple(inplace)
        self.scratch = tuple(scratch)
        self.after = tuple(after)
        self.alias = alias

    def __repr__(self) -> str:
        return f"{self.layer}:{self.primitive}#{self.index}"


@dataclass(slots=True)
class Program:
    """The primitive operations of one step, in the order in which they were lowered."""

    nodes: list[Node] = field(default_factory=list)
    resting: list[Value] = field(default_factory=list)
    """What is there before and after the step: weights, slots, inputs, labels."""
    held: list[Value] = field(default_factory=list)
    """What is made in the step and still there at its end: outputs, gradients."""
    assumed: set[str] = field(default_factory=set)
    """Operators without a rule, lowered as if each output were made from all inputs."""

    def add(
        self,
        primitive: str,
        inputs: Iterable[Value | None],
        outputs: Sequence[Value],
        *,
        layer: str,
        phase: str,
        inplace: Sequence[int] = (),
        scratch: Sequence[Size] = (),
        after: Sequence[Node] = (),
        alias: bool = False,
    ) -> Node:
        """Append an operation; inputs that are None are left out."""
        read = [value for value in inputs if value is not None]
        node = Node(
            len(self.nodes), primitive, layer, phase, read, outputs, inplace, scratch, after, alias
        )
        for value in dict.fromkeys(read):
            value.users.append(node)
        for value in outputs:
            value.node = node
            value.layer = value.layer or layer
        self.nodes.append(node)
        return node

    def drop_unread(self, among: Iterable[Node]) -> None:
        """Take out those of `among` whose results nobody reads, and number what is left anew."""
        asked, held, dead = set(among), set(self.held), set()
        for node in reversed(self.nodes):
            read = any(value.users or value in held for value in node.outputs)
            if node in asked and node.outputs and not read:
                dead.add(node)
                for value in dict.fromkeys(node.inputs):
                    value.users.remove(node)
        self.nodes[:] = [node for node in self.nodes if node not in dead]
        for place, node in enumerate(self.nodes):
            node.index = place
