"""The rows of a sweep that no other row beats in every respect, found chunk by chunk."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Any

import numpy as np
import numpy.typing as npt

from convcalc.errors import UsageError
from convcalc.planning.sweep import PEAKS, RESULTS, UNKNOWN, Sweep, from_recipe
from convcalc.planning.sweep_jobs import Progress, in_order

Array = npt.NDArray[Any]


def pareto(
    table: Sweep,
    objectives: Sequence[str],
    executor: Executor | None,
    workers: int,
    progress: Progress | None,
) -> list[dict[str, Any]]:
    """See `Sweep.pareto`."""
    if not objectives:
        raise UsageError("a Pareto front needs at least one column, such as macs")
    names = [objective.removeprefix("-") for objective in objectives]
    for name in names:
        if name not in table.names or name in table.labels:
            raise UsageError(f"'{name}' is no column of numbers; known: {numbers(table)}")
    if set(names) & set(PEAKS) and set(table.axes.engine) == {"textbook"}:
        raise UsageError("the textbook predicts no peaks: choose an engine")
    signs = [-1 if objective.startswith("-") else 1 for objective in objectives]
    best: tuple[Array, Array] | None = None
    tasks = ((start, stop, names, signs) for start, stop in table.chunks())
    results = in_order(executor, workers, table, chunk_front, tasks)
    for (_, stop), (rows, values) in zip(table.chunks(), results, strict=True):
        if best is not None:
            rows = np.concatenate([best[0], rows])
            values = np.concatenate([best[1], values])
        kept = front(values)
        best = rows[kept], values[kept]
        if progress is not None:
            progress(stop, len(table))
    assert best is not None
    order = np.lexsort((best[0], *best[1].T[::-1]))
    return [table[int(row)] for row in best[0][order]]


def numbers(table: Sweep) -> str:
    """The names of the columns of numbers."""
    return ", ".join(name for name in table.names if name not in table.labels)


def chunk_front(
    recipe: str | Sweep, start: int, stop: int, names: Sequence[str], signs: Sequence[int]
) -> tuple[Array, Array]:
    """The rows of a chunk's own front, and their values."""
    table = recipe if isinstance(recipe, Sweep) else from_recipe(recipe)
    block = table.block(start, stop, list(dict.fromkeys(names)))
    values = np.stack([block.columns[name] for name in names], axis=1)
    results = [name in RESULTS for name in names]
    known = ~(values[:, results] == UNKNOWN).any(axis=1)
    rows, values = block.columns["row"][known], values[known] * np.array(signs)
    kept = front(values)
    return rows[kept], values[kept]


def front(values: Array) -> Array:
    """Positions of the rows of `values` that no other is as small as in all columns."""
    if not len(values):
        return np.empty(0, np.int64)
    order = np.lexsort(values.T[::-1])
    ordered = values[order]
    if values.shape[1] <= 2:
        # In order of the first column, each must be lower in the last than all before it.
        last = ordered[:, -1] if values.shape[1] == 2 else np.zeros(len(ordered), np.int64)
        lowest = np.minimum.accumulate(last)
        found: Array = order[np.r_[True, last[1:] < lowest[:-1]]]
        return found
    kept: list[int] = []
    waiting = np.arange(len(ordered))
    while len(waiting):
        # The first in order is beaten by none: nothing before it is left, nothing behind is less.
        first = waiting[0]
        kept.append(int(order[first]))
        waiting = waiting[(ordered[waiting] < ordered[first]).any(axis=1)]
    return np.array(kept, np.int64)
