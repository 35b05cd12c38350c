"""XLA's instruction fusion on a CPU: which operations disappear into those that read them.

`xla/service/instruction_fusion.cc` with the rules of `xla/service/cpu/cpu_instruction_fusion.cc`.
Consumers are visited in reverse post-order and take in their producers, the latest first, as often
as needed: a producer with several readers is computed in each of them, unless it is expensive or
would be computed from several full-size operands and cannot disappear everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto
from functools import cache
from math import prod

from convcalc.memory.engines.xla.schedule import operands, post_order
from convcalc.memory.program import Node, Program, Value


class Kind(Enum):
    """What fusion asks of an operation."""

    # Members are themselves only; an enumeration's own way of hashing them, by name, is slow.
    __hash__ = object.__hash__

    CALL = auto()
    """A convolution, a product, a large reduction: reads and writes buffers."""
    FOLDED = auto()
    """A call that XLA makes anew, after all others, since it pads what it reads by itself."""
    ELEMENTWISE = auto()
    EXPENSIVE = auto()
    """Element by element with exp, divide, rsqrt: never computed twice."""
    MOVE = auto()
    """A transposition, a slice."""
    PAD = auto()
    """Numbers around: branches for each element."""
    RESHAPE = auto()
    """The same bytes in another shape: a view where nothing is fused with it."""
    BROADCAST = auto()
    CONCAT = auto()
    REDUCE = auto()
    """A small reduction, in a loop of its own."""
    SOURCE = auto()
    """Made from nothing: iota, zeros."""
    UPDATE = auto()
    """Writes a variable in place: no memory of its own."""
    VIEW = auto()


FUSIBLE = {
    Kind.ELEMENTWISE, Kind.EXPENSIVE, Kind.MOVE, Kind.PAD, Kind.RESHAPE, Kind.BROADCAST,
    Kind.CONCAT, Kind.REDUCE,
}  # fmt: skip
MOVING = {Kind.MOVE, Kind.PAD, Kind.RESHAPE, Kind.CONCAT, Kind.BROADCAST}
#: What branches for each element (`ElementalIrEmitter::OpInvalidatesCache`): with several readers
#: it is not computed within a fusion (`FusionNodeIndexingEvaluation::CodeDuplicationTooHigh`).
BRANCHING = {Kind.CONCAT, Kind.PAD}
#: A concatenation of more pieces, or with more bytes in its innermost axis, is not fused.
MOST_PIECES = 8
MOST_INNERMOST = 511


@cache
def rank(shape: tuple[int, ...]) -> int:
    """Axes that are longer than one."""
    return sum(size > 1 for size in shape)


class Fusion:
    """The pass over one program whose operations have one result each."""

    def __init__(
        self, program: Program, kinds: dict[Node, Kind], roots: Sequence[Node], batch: int
    ) -> None:
        self.program = program
        self.kinds = kinds
        self.roots = roots
        self.batch = batch
        self.ops: dict[Node, list[Node]] = {}
        self.outside: dict[Node, list[Value]] = {}
        """The inputs that rest: they keep nothing alive."""
        self.users: dict[Node, list[Node]] = {}
        self.shapes: dict[Node, tuple[int, ...]] = {}
        self.spread: dict[Node, set[Node]] = {}
        self.fused: set[Node] = set()
        self.moved: dict[Node, set[Node]] = {}
        """Operands that something else than element by element reads: no result takes their place.

        `HloDataflowAnalysis::CanShareOperandBufferWithUser`, for fusions by each parameter.
        """
        self.kept: set[Node] = set()
        """Operations that must not be duplicated."""
        self.cache: dict[tuple[Node, Node], bool] = {}

    def run(self) -> list[Node]:
        """Fuse; the operations that are left, in post-order, with their new inputs."""
        order = post_order(self.program, self.roots, all_nodes=False)
        self.connect(set(order))
        self.mark_costly()
        place = {node: i for i, node in enumerate(order)}
        dead: set[Node] = set()
        for consumer in reversed(order):
            if self.kinds[consumer] not in FUSIBLE or not self.users[consumer]:
                continue
            while True:
                for producer in sorted(self.ops[consumer], key=place.__getitem__, reverse=True):
                    if producer not in self.kept and self.may_fuse(consumer, producer):
                        self.fused.add(consumer)
                        self.take_in(consumer, producer, dead)
                        break
                else:
                    break
        left = [node for node in order if node not in dead]
        self.write_back(left)
        return left

    def connect(self, needed: set[Node]) -> None:
        """Operands and readers as lists that can change; only what is needed reads."""
        nodes = self.program.nodes
        for node in nodes:
            self.ops[node] = operands(node)
            self.outside[node] = [v for v in node.inputs if v.node is None]
            self.users[node] = []
        # What is made anew reads its operands after those that were there before.
        for node in sorted(nodes, key=lambda node: self.kinds[node] is Kind.FOLDED):
            if node in needed:
                for operand in self.ops[node]:
                    self.users[operand].append(node)

    def shape(self, node: Node) -> tuple[int, ...]:
        """The result's sizes at this batch."""
        if node not in self.shapes:
            sizes = node.outputs[0].spec.shape_at(self.batch) if node.outputs else None
            self.shapes[node] = sizes or ()
        return self.shapes[node]

    def wide_concat(self, node: Node) -> bool:
        """A concatenation that is not worth fusing (it would branch for each element)."""
        if self.kinds[node] is not Kind.CONCAT:
            return False
        shape = self.shape(node)
        width = node.outputs[0].size.at(self.batch) // max(prod(shape), 1)
        return len(self.ops[node]) > MOST_PIECES or (
            len(shape) > 1 and width * shape[-1] > MOST_INNERMOST
        )

    def may_fuse(self, consumer: Node, producer: Node) -> bool:
        """Whether a producer may be computed inside a consumer."""
        if self.kinds[producer] not in FUSIBLE or self.kinds[consumer] not in FUSIBLE:
            return False
        if self.wide_concat(producer) or self.wide_concat(consumer):
            return False
        several = len(self.users[producer]) > 1
        if self.kinds[producer] in BRANCHING and consumer in self.fused and several:
            return False
        costly = self.kinds[producer] in (Kind.EXPENSIVE, Kind.REDUCE)
        return not (costly and (several or producer in self.spread_in(consumer)))

    def spread_in(self, consumer: Node) -> set[Node]:
        """Operands each of whose elements an operation or a fusion reads several times.

        `HloInstruction::ReusesOperandElements`: what is broadcast, here to larger results.  A
        padding or a concatenation is larger than its operands, too, but reads each once.
        """
        if consumer not in self.spread:
            whole, elements = self.kinds[consumer] in BRANCHING, prod(self.shape(consumer))
            self.spread[consumer] = {
                operand
                for operand in self.ops[consumer]
                if not whole and prod(self.shape(operand)) < elements
            }
        return self.spread[consumer]

    def moved_in(self, consumer: Node) -> set[Node]:
        """See `moved`."""
        if consumer not in self.moved:
            every = self.kinds[consumer] not in (Kind.ELEMENTWISE, Kind.EXPENSIVE)
            self.moved[consumer] = set(self.ops[consumer]) if every else set()
        return self.moved[consumer]

    def places(self, node: Node) -> tuple[int, ...]:
        """The inputs whose memory an operation's result may take.

        Not that of a view: `HeapSimulator` asks for a direct user of what made it.
        """
        moved = self.moved_in(node)
        return tuple(
            place
            for place, operand in enumerate(self.ops[node])
            if operand not in moved and not operand.alias
        )

    def mark_costly(self) -> None:
        """Operations with several full-size operands that cannot disappear into all readers.

        `InstructionFusion::ComputeGloballyUnfusible`: fusing them would only add reads.
        """
        reach: dict[Node, int] = {}
        for node in self.program.nodes:
            bits = 1 << node.index
            for operand in self.ops[node]:
                bits |= reach[operand]
            reach[node] = bits
        for producer in reversed(self.program.nodes):
            if self.kinds[producer] not in FUSIBLE:
                continue
            shapes, mine = self.operand_shapes(producer), rank(self.shape(producer))
            full = [
                shape
                for operand, shape in shapes
                if rank(shape) >= mine
                and (operand is None or self.kinds[operand] not in (Kind.BROADCAST, Kind.SOURCE))
            ]
            if len(full) <= 1:
                continue
            read = sum(prod(shape) for _, shape in shapes)
            if read > prod(self.shape(producer)) and not all(
                self.disappears(producer, user, reach) for user in self.users[producer]
            ):
                self.kept.add(producer)

    def operand_shapes(self, node: Node) -> list[tuple[Node | None, tuple[int, ...]]]:
        """The operands, resting ones included, with their shapes."""
        found: list[tuple[Node | None, tuple[int, ...]]] = [
            (operand, self.shape(operand)) for operand in self.ops[node]
        ]
        found += [(None, v.spec.shape_at(self.batch) or ()) for v in self.outside[node]]
        return found

    def disappears(self, producer: Node, consumer: Node, reach: dict[Node, int]) -> bool:
        """Whether every path from a producer into a consumer can be fused."""
        stack = [(producer, consumer)]
        while stack:
            pair = stack.pop()
            _, user = pair
            if user is producer or self.cache.get(pair):
                continue
            if self.kinds[user] not in FUSIBLE or self.cache.get(pair) is False:
                return False
            self.cache[pair] = True
            for operand in self.ops[user]:
                if reach[operand] >> producer.index & 1:
                    if operand in self.kept or not self.may_fuse(user, operand):
                        self.cache[pair] = False
                        return False
                    stack.append((producer, operand))
        return True

    def take_in(self, consumer: Node, producer: Node, dead: set[Node]) -> None:
        """Move a producer's operands to a consumer; drop it if nobody else reads it."""
        read = set(self.ops[producer])
        for found in (self.spread_in, self.moved_in):
            passed = found(consumer)
            passed |= read if producer in passed else found(producer)
            passed.discard(producer)
        self.ops[consumer].remove(producer)
        for operand in self.ops[producer]:
            if operand not in self.ops[consumer]:
                self.ops[consumer].append(operand)
                self.users[operand].append(consumer)
        for value in self.outside[producer]:
            if value not in self.outside[consumer]:
                self.outside[consumer].append(value)
        self.forget(producer, consumer)
        if not self.users[producer]:
            for operand in self.ops[producer]:
                self.forget(operand, producer)
            self.ops[producer] = []
            dead.add(producer)

    def forget(self, producer: Node, user: Node) -> None:
        """HloInstruction::RemoveUser: the last user takes the freed place."""
        users = self.users[producer]
        place = users.index(user)
        users[place] = users[-1]
        users.pop()

    def write_back(self, left: Sequence[Node]) -> None:
        """Make the program say what fusion has left."""
        for node in left:
            node.alias |= self.kinds[node] is Kind.RESHAPE and node not in self.fused
            for value in node.outputs:
                value.users = self.users[node]
            node.inputs = (
                *(operand.outputs[0] for operand in self.ops[node] if operand.outputs),
                *self.outside[node],
            )
        self.program.nodes[:] = left
