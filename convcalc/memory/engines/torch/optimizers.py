"""What a step of an optimizer takes beside its slots, from the source of `torch.optim` (2.13).

Over single tensors (`foreach=False`), a local variable of the loop keeps the last tensor's
temporary until the next one's is there.  Over lists (`foreach=True`, the default for CUDA tensors),
a temporary is a copy of all variables at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from convcalc.memory.program import UPDATE, Node, Value

if TYPE_CHECKING:
    from convcalc.memory.engines.torch.lowering import EagerLowering

#: Scalars for each variable: the count of steps, and NAdam's product of momenta.
SCALARS = {
    "rmsprop": 1,
    "adagrad": 1,
    "adam": 1,
    "adamw": 1,
    "nadam": 2,
    "adadelta": 1,
    "adamax": 1,
}

#: For one tensor: what is made one after the other ("keep": until the next tensor's has been made;
#: "drop": until what follows it has been made).
SINGLE: dict[str, tuple[tuple[str, str], ...]] = {
    "rmsprop": (("sqrt", "keep"),),
    "adagrad": (("sqrt", "keep"),),
    "adam": (("sqrt", "drop"), ("div", "keep")),
    "adamw": (("sqrt", "drop"), ("div", "keep")),
    "nadam": (("div", "drop"), ("sqrt", "keep")),
    "adadelta": (("add", "keep"), ("add", "keep")),
    "adamax": (("abs", "drop"),),
}
#: Over lists: the copies that are alive at once.
LISTS: dict[str, tuple[str, ...]] = {
    "rmsprop": ("_foreach_sqrt",),
    "adagrad": ("_foreach_sqrt", "_foreach_mul"),
    "adam": ("_foreach_sqrt",),
    "adamw": ("_foreach_sqrt",),
    "nadam": ("_foreach_sqrt",),
    "adadelta": ("_foreach_add", "_foreach_add"),
    "adamax": ("_foreach_abs",),
}


def step(lowering: EagerLowering) -> None:
    """Emit `optimizer.step()` and `zero_grad(set_to_none=True)`."""
    variables = [v for v in lowering.trainable_in_order() if v in lowering.grads]
    name = lowering.job.optimizer
    if lowering.foreach:
        over_lists(lowering, variables, LISTS.get(name, ()))
    else:
        one_by_one(lowering, variables, SINGLE.get(name, ()))
    emit(lowering, "zero_grad", [lowering.grads[variable] for variable in variables], [])


def emit(
    lowering: EagerLowering, primitive: str, inputs: Sequence[Value], outputs: Sequence[Value]
) -> Node:
    """An operation of the update."""
    layer = outputs[0].layer if outputs else "optimizer"
    return lowering.program.add(primitive, inputs, outputs, layer=layer, phase=UPDATE)


def temporary(lowering: EagerLowering, variable: Value) -> Value:
    """A tensor as large as a variable."""
    width = lowering.job.variable_width
    return Value(variable.spec, width, "workspace", variable.name, variable.layer)


def over_lists(lowering: EagerLowering, variables: Sequence[Value], copies: Sequence[str]) -> None:
    """Each temporary for all variables before the next."""
    made: list[Value] = []
    for primitive in copies:
        made += (copy := [temporary(lowering, variable) for variable in variables])
        emit(lowering, primitive, [], copy)
    emit(lowering, "_foreach_add_", made, [])


def one_by_one(
    lowering: EagerLowering, variables: Sequence[Value], steps: Sequence[tuple[str, str]]
) -> None:
    """Each variable before the next; what is kept dies when its name is bound anew."""
    kept: dict[int, Value] = {}
    for variable in variables:
        before: list[Value] = []
        for place, (primitive, how) in enumerate(steps):
            made = temporary(lowering, variable)
            # The name is bound to the new tensor when that is there.
            old = [kept[place]] if place in kept else []
            emit(lowering, primitive, [*before, *old], [made])
            before = [made] if how == "drop" else []
            if how == "keep":
                kept[place] = made
            elif place == len(steps) - 1:
                emit(lowering, "update", [made], [])
    emit(lowering, "update", list(kept.values()), [])
