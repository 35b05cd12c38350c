"""Rules of ONNX' recurrent operators: an op for each direction."""

from __future__ import annotations

from dataclasses import replace

from convcalc.errors import ShapeError
from convcalc.ops.merge import Concat
from convcalc.ops.recurrent import GATES, STATES, Recurrent
from convcalc.ops.shape import ExpandDims, Permute, Slice
from convcalc.readers.onnx_ops import Edge, NotStatic, Use, rule

CELLS = {"LSTM": "lstm", "GRU": "gru", "RNN": "simple"}
#: Inputs: the first states, and an LSTM's peepholes.
FIRST_STATES, PEEPHOLES = (5, 6), 7


@rule(*CELLS)
def recurrence(use: Use) -> list[Edge]:
    """The sequence (steps, directions, batch, units), the last states (directions, batch, units).

    With `layout` 1 the batch comes first everywhere.

    Raises:
        NotStatic: peepholes, weights that are computed, or two directions that other nodes share:
            the operator is kept by its name.
        ShapeError: the weights do not fit the input or each other.
    """
    x, matrix, recurrent, bias = use.edge(0), use.edge(1), use.edge(2), use.maybe(3)
    cell = CELLS[use.op_type]
    weights = [edge for edge in (matrix, recurrent, bias) if edge is not None]
    two = use.text("direction", "forward") == "bidirectional"
    if use.maybe(PEEPHOLES) is not None or not all(edge.constant for edge in weights):
        raise NotStatic
    if two and use.builder.shared(weights):
        raise NotStatic
    check(use, x, weights, 2 if two else 1)
    first = bool(use.integer("layout"))
    steps = x.dims[1 if first else 0]
    source = x if first else use.emit(Permute((1, 0, 2)), x)
    backward = Slice(1, steps, steps - 1, -1)
    operator = Recurrent(
        cell,
        recurrent.dims[-1],
        sequences=True,
        bias=bias is not None,
        second_bias=bias is not None,
        state=use.outputs > 1,
    )
    states = [edge for edge in map(use.maybe, FIRST_STATES) if edge is not None]
    given = [edge for edge in states if not zero(edge)]
    made: list[list[Edge]] = []
    for turned in (False, True) if two else (use.text("direction") == "reverse",):
        seen = use.emit(backward, source) if turned else source
        y, *last = use.builder.emit(operator, [seen, *given], weights)
        # The other direction's are other variables, although they are stored with these.
        weights = [replace(edge, root="") for edge in weights]
        y = use.emit(backward, y) if turned else y
        y = y if first else use.emit(Permute((1, 0, 2)), y)
        given = []  # one tensor holds both directions' first states
        made.append([use.emit(ExpandDims(2 if first else 1), y)])
        made[-1] += [use.emit(ExpandDims(1 if first else 0), state) for state in last]
    if not two:
        return made[0]
    axes = [2 if first else 1] + [1 if first else 0] * STATES[cell]
    return [
        use.emit(Concat(axis), *pair)
        for axis, pair in zip(axes, zip(*made, strict=True), strict=False)
    ]


def zero(state: Edge) -> bool:
    """Whether a first state is nothing: a constant that is no variable, or that holds zeros."""
    if state.constant and state.value is not None:
        return not state.value.any()
    return state.constant and not state.stored


def check(use: Use, x: Edge, weights: list[Edge], directions: int) -> None:
    """Refuse weights that do not fit the input or each other.

    Raises:
        ShapeError: they do not.
    """
    if x.rank != 3:
        raise ShapeError(f"it takes (steps, batch, features), not {x.spec}")
    units = weights[1].dims[-1] if weights[1].rank == 3 else 0
    width = GATES[CELLS[use.op_type]] * units
    wanted = ((directions, width, x.dims[2]), (directions, width, units), (directions, 2 * width))
    for edge, dims in zip(weights, wanted, strict=False):
        if edge.dims != dims or not units:
            shape = "x".join(map(str, dims))
            raise ShapeError(f"its weights of {edge.spec} do not fit; {shape} would")
